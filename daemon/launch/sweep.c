/*
 * See sweep.h. Owns nothing. Invariants: never kills by pid, session or group number, which may have been reused;
 * checks only processes of the attempt's user that started with the attempt or later for its nonce.
 */
#include "daemon/launch/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/base/process.h"

static bool lives(const struct proc *known) {
        struct proc now;

        return known->pid > 0 && proc_stat(known->pid, &now) == 0 && now.start == known->start && !proc_is_dead(&now);
}

static void mark(struct procs *procs, const struct proc *known, enum proc_mark mark) {
        struct proc *p = known->pid > 0 ? procs_find(procs, known->pid) : NULL;

        if (p && p->start == known->start && !proc_is_dead(p))
                p->mark = mark;
}

static void mark_kin(struct procs *procs, void *userdata) {
        const struct sweep *s = userdata;

        mark(procs, &s->keeper, PROC_ROOT);
        mark(procs, &s->shim, PROC_OURS);
}

static void mark_carriers(struct procs *procs, void *userdata) {
        const struct sweep *s = userdata;

        mark_kin(procs, userdata);
        for (size_t i = 0; i < procs->n; i++) {
                struct proc *p = &procs->list[i];
                if (p->mark == PROC_UNKNOWN && p->start >= s->shim.start && !proc_is_dead(p) && p->pid != getpid() &&
                    proc_has_uid(p->pid, s->uid) && process_has_variable(p->pid, BERTD_ENV_NONCE, s->nonce))
                        p->mark = PROC_OURS;
        }
}

ssize_t sweep_run(const struct sweep *sweep) {
        uint64_t deadline = clock_boottime_usec() + sweep->limit_usec;

        if (lives(&sweep->keeper) || lives(&sweep->shim)) /* a pass over a large /proc is expensive */
                (void) procs_end_all(mark_kin, (void *) sweep, sweep->limit_usec);
        uint64_t now = clock_boottime_usec();
        return procs_end_all(mark_carriers, (void *) sweep, deadline > now ? deadline - now : 0);
}

/* Otherwise it might never finish a list that grows among hundreds of busy processes. Nice values only apply within a
 * session if the kernel groups by session. */
static void come_first(void) {
        static const char nice[] = "-15";

        (void) setsid();
        (void) setpriority(PRIO_PROCESS, 0, -15);
        cleanup_close int group = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
        if (group >= 0)
                (void) !write(group, nice, strlen(nice));
}

static __attribute__((noreturn)) void helper(const struct sweep *sweep, pid_t parent) {
        sigset_t none;

        come_first();
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        /* A hanging helper may outlive bertd: it must not keep bertd's socket or a client's connection open. */
        (void) close_range(STDERR_FILENO + 1, ~0U, 0);
        _exit(sweep_run(sweep) != 0);
}

pid_t sweep_start(const struct sweep *sweep) {
        pid_t parent = getpid(), pid = fork();

        if (pid == 0)
                helper(sweep, parent);
        return pid < 0 ? -errno : pid;
}
