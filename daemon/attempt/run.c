/*
 * See run.h. Owns: job->run and everything in it.
 */
#include "daemon/attempt/run.h"

#include <stdlib.h>

#include "daemon/launch/launcher.h"

const struct launcher *attempt_run_launcher(const struct attempt_run *run) {
        return run->node->launchers[run->job->launcher];
}

struct attempt_run *attempt_run_new(struct node *node, struct job *job, enum attempt_phase phase) {
        struct attempt_run *run = calloc(1, sizeof(*run));

        if (run) {
                *run = (struct attempt_run) { .node = node, .job = job, .phase = phase };
                job->run = run;
        }
        return run;
}

void attempt_run_deadline(struct attempt_run *run, uint64_t usec, loop_handler_t handler) {
        uint64_t deadline = loop_boottime() + usec;

        if (timer_is_armed(&run->timer) && run->deadline_usec <= deadline)
                return;
        run->deadline_usec = deadline;
        loop_after(run->node->loop, &run->timer, usec, handler, run);
}

int attempt_run_watch(struct attempt_run *run, int pidfd, loop_ready_t handler) {
        run->pidfd = source_free(run->pidfd);
        return loop_watch(run->node->loop, pidfd, EPOLLIN, handler, run, &run->pidfd);
}

void attempt_run_free(struct attempt_run *run) {
        if (!run)
                return;
        (void) source_free(run->pidfd);
        timer_disarm(&run->timer);
        (void) source_free(run->sweeper);
        const struct launcher *launcher = attempt_run_launcher(run);
        if (launcher)
                launcher->forget(run->launch);
        free(run->cgroup);
        free(run->newer);
        free(run->slowest);
        run->job->run = NULL;
        free(run);
}
