/* See init.h. Owns nothing. Invariant: waits only for children and signals. */
#include "daemon/init.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int status_of(int wait_status) {
        return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/* Returns false when there are no children. */
static bool reap(pid_t bertd, bool *lives, int *status) {
        pid_t pid;
        int s;

        while ((pid = waitpid(-1, &s, WNOHANG)) > 0)
                if (pid == bertd) {
                        *lives = false;
                        *status = status_of(s);
                }
        return pid == 0;
}

/* After bertd exits, the jobs it left running continue; a second signal exits here, which kills them all. */
static __attribute__((noreturn)) void be_first(pid_t bertd, const sigset_t *signals) {
        bool lives = true;
        int status = EXIT_FAILURE, number;

        while (reap(bertd, &lives, &status)) {
                if (sigwait(signals, &number) != 0 || number == SIGCHLD)
                        continue;
                if (!lives)
                        break;
                (void) kill(bertd, number);
        }
        _exit(status);
}

int init_split(struct error *error) {
        sigset_t signals, old;

        if (getpid() != 1)
                return 0;
        (void) sigemptyset(&signals);
        (void) sigaddset(&signals, SIGCHLD);
        (void) sigaddset(&signals, SIGTERM);
        (void) sigaddset(&signals, SIGINT);
        (void) sigaddset(&signals, SIGQUIT);
        (void) sigprocmask(SIG_BLOCK, &signals, &old);
        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "fork");
        if (pid > 0)
                be_first(pid, &signals);
        (void) setpgid(0, 0); /* a terminal's ^C is passed on once */
        (void) sigprocmask(SIG_SETMASK, &old, NULL);
        return 1;
}
