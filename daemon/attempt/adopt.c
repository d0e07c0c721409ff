/*
 * See adopt.h. Owns nothing.
 */
#include "daemon/attempt/adopt.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/attempt/end.h"
#include "daemon/attempt/folder.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/run.h"
#include "daemon/attempt/start.h"
#include "daemon/base/log.h"
#include "daemon/base/process.h"

#define ADOPT_PAUSE_USEC (5 * USEC_PER_SEC)

static void adopt(struct attempt_run *run);

static void on_adopt_again(void *userdata) { adopt(userdata); }

/* A shim that cannot be checked because no descriptor is free does not count as dead. */
static void adopt(struct attempt_run *run) {
        struct node *node = run->node;
        struct job *job = run->job;
        struct attempt *a = &job->attempt;

        if (strcmp(a->boot_id, node->boot_id) != 0) {
                attempt_over(run, EXIT_CLASS_REBOOT, "the host was rebooted");
                return;
        }
        int pidfd = process_pidfd_checked(a->pid, a->pid_start);
        if (pidfd >= 0 && attempt_watch_shim(run, pidfd) >= 0) {
                log_info("job %" PRIu64 " attempt %u: adopted, pid %d", job->id, a->number, (int) a->pid);
                attempt_note_cgroup(run, a->pid);
                if (job->state == JOB_STOPPING)
                        attempt_stop(job);
        } else if (a->pid > 0 && pidfd < 0 && pidfd != -ESRCH) {
                log_error("job %" PRIu64 " attempt %u cannot be adopted yet: %s", job->id, a->number, strerror(-pidfd));
                attempt_run_deadline(run, ADOPT_PAUSE_USEC, on_adopt_again);
        } else if (a->pid == 0 && files_is_locked(node->jobs_fd, job)) {
                attempt_await_hello(run);
        } else {
                attempt_over(run, EXIT_CLASS_LOST,
                             a->pid == 0 ? "bertd exited while starting the attempt"
                                         : "bertd-shim died without an exit record");
        }
}

void attempt_adopt(struct node *node, struct job *job) {
        struct attempt_run *run = attempt_run_new(node, job, PHASE_LAUNCHING);

        if (!run) {
                log_error("job %" PRIu64 " cannot be adopted: out of memory", job->id);
                return;
        }
        run->adopted = true;
        adopt(run);
}
