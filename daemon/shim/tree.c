/*
 * See tree.h. Without a free descriptor, the main child's group is killed by number (it is a child of the shim: its pid
 * cannot be reused) and the pass is repeated.
 */
#include "daemon/shim/tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define PASS_PAUSE_NSEC 20000000

static void mark_self(struct procs *procs, void *userdata) {
        struct proc *self = procs_find(procs, getpid());

        if (self)
                self->mark = PROC_ROOT;
}

int tree_read(struct procs *procs) { return procs_read_ours(procs, mark_self, NULL); }

/* Helpers stay in the shim's session, which no process of the job can join: the first one leaves it (perhaps not yet).
 */
static bool is_helper(pid_t pid) { return getsid(pid) == getsid(0); }

static void mark_job(struct procs *procs, void *userdata) {
        const pid_t *main = userdata, self = getpid();

        mark_self(procs, NULL);
        for (size_t i = 0; i < procs->n; i++) {
                struct proc *p = &procs->list[i];
                if (p->parent == self && p->pid != *main && is_helper(p->pid))
                        p->mark = PROC_OTHER;
        }
}

int tree_read_job(pid_t main, struct procs *procs) { return procs_read_ours(procs, mark_job, &main); }

bool tree_lives(pid_t main) {
        siginfo_t si = {};
        struct procs procs = {};

        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
                return false; /* all others are below a child of the shim */
        bool lives = tree_read_job(main, &procs) < 0 || procs.n > 0;
        procs_free(&procs);
        return lives;
}

pid_t tree_reap(int *ret_status, bool *ret_helper) {
        siginfo_t si = {};

        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
                return 0;
        *ret_helper = is_helper(si.si_pid);
        return waitpid(si.si_pid, ret_status, 0);
}

/* The number of living processes; −1: unknown. `main`: 0 once reaped. */
static ssize_t kill_pass(pid_t main) {
        ssize_t found = procs_end(mark_self, NULL);

        if (found < 0 && main > 0 && kill(-main, SIGKILL) < 0)
                (void) kill(main, SIGKILL);
        return found < 0 ? -1 : found;
}

unsigned tree_kill(pid_t main, uint64_t limit_usec, int *main_status) {
        const struct timespec pause = { .tv_nsec = PASS_PAUSE_NSEC };
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        pid_t left = main;
        ssize_t alive;
        int status;

        *main_status = -1;
        for (;;) {
                alive = kill_pass(left);
                for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                        if (pid == main) {
                                *main_status = status;
                                left = 0;
                        }
                if (alive == 0 || (alive < 0 && left == 0) || clock_boottime_usec() >= deadline)
                        break; /* bertd sweeps again when it closes the attempt */
                (void) nanosleep(&pause, NULL);
        }
        return alive < 0 ? 0 : (unsigned) alive;
}
