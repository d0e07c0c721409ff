/* See signals.h. The flags are the only mutable globals of the program: a handler has no other way to speak. */
#include "trainer/signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stop_wanted, checkpoint_wanted;

static void on_signal(int number) {
        if (number == SIGUSR2)
                checkpoint_wanted = 1;
        else
                stop_wanted = 1;
}

/* Alone, what a terminal says is meant for us. Ctrl-C again ends it at once; one that nohup ignores stays ignored. */
static void take_over_terminal(const struct sigaction *action) {
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
        struct sigaction now, once = *action;

        once.sa_flags |= (int) SA_RESETHAND;
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                if (numbers[i] == SIGTERM || (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN))
                        (void) sigaction(numbers[i], numbers[i] == SIGINT ? &once : action, NULL);
}

void signals_install(bool alone) {
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART },
                         ignore = { .sa_handler = SIG_IGN };

        (void) sigemptyset(&action.sa_mask);
        (void) sigaction(SIGUSR1, &action, NULL);
        (void) sigaction(SIGUSR2, &action, NULL);
        if (alone)
                take_over_terminal(&action);
        (void) sigaction(SIGPIPE, &ignore, NULL); /* a closed terminal must not end training */
}

uint64_t signals_wanted(void) {
        return (stop_wanted ? SIGNALS_STOP : 0) | (checkpoint_wanted ? SIGNALS_CHECKPOINT : 0);
}

void signals_clear(uint64_t bits) {
        if (bits & SIGNALS_STOP)
                stop_wanted = 0;
        if (bits & SIGNALS_CHECKPOINT)
                checkpoint_wanted = 0;
}
