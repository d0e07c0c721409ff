/* See inherited.h. Owns nothing. */
#include "common/inherited.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "common/file.h"

static void set_handler(int number, void (*handler)(int)) {
        struct sigaction sa = { .sa_handler = handler };

        (void) sigemptyset(&sa.sa_mask);
        (void) sigaction(number, &sa, NULL); /* fails for signals reserved by the C library */
}

void inherited_drop_signals(void) {
        struct sigaction was;
        sigset_t none;

        /* Exec resets handlers: an existing one is e.g. a sanitizer's. */
        for (int i = 1; i < NSIG; i++)
                if (sigaction(i, NULL, &was) == 0 && was.sa_handler == SIG_IGN)
                        set_handler(i, SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static void ignore_strays(void) {
        static const int strays[] = { SIGHUP,   SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
                                      SIGPOLL,  SIGPWR,  SIGXCPU, SIGXFSZ, SIGTTOU, SIGTTIN,
#ifdef SIGSTKFLT
                                      SIGSTKFLT
#endif
        };

        for (size_t i = 0; i < ELEMENTSOF(strays); i++)
                set_handler(strays[i], SIG_IGN);
        for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
                set_handler(i, SIG_IGN);
}

static const __rlimit_resource_t raised[] = { RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC };
static struct {
        rlim_t soft;
        bool changed;
} inherited[ELEMENTSOF(raised)]; /* as `raised` */

static void raise_limits(void) {
        struct rlimit limit;

        for (size_t i = 0; i < ELEMENTSOF(raised); i++) {
                if (getrlimit(raised[i], &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                        continue;
                inherited[i].soft = limit.rlim_cur;
                limit.rlim_cur = limit.rlim_max;
                inherited[i].changed = setrlimit(raised[i], &limit) == 0;
        }
}

void inherited_hand_on_limits(void) {
        struct rlimit limit;

        for (size_t i = 0; i < ELEMENTSOF(raised); i++) {
                if (!inherited[i].changed || getrlimit(raised[i], &limit) < 0)
                        continue;
                limit.rlim_cur = inherited[i].soft;
                (void) setrlimit(raised[i], &limit);
        }
}

void inherited_begin_service(void) {
        file_hold_standard();
        inherited_drop_signals();
        ignore_strays();
        raise_limits();
}

void inherited_begin_command(void) {
        static const int terminals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU };
        struct sigaction was[ELEMENTSOF(terminals)];

        file_hold_standard();
        for (size_t i = 0; i < ELEMENTSOF(terminals); i++)
                (void) sigaction(terminals[i], NULL, &was[i]);
        inherited_drop_signals();
        for (size_t i = 0; i < ELEMENTSOF(terminals); i++)
                if (was[i].sa_handler == SIG_IGN)
                        set_handler(terminals[i], SIG_IGN);
}
