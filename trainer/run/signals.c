/* See signals.h. The flags are the only mutable globals of the program: a handler has no other way to speak. */
#include "trainer/run/signals.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

#include "bertd/exit.h"

#define NCCL_DUMP "NCCL_PROXY_DUMP_SIGNAL"

static volatile sig_atomic_t stop_wanted, checkpoint_wanted;

static void on_signal(int number) {
        if (number == SIGUSR2)
                checkpoint_wanted = 1;
        else
                stop_wanted = 1;
}

/* Alone, a terminal's signals are meant for us. Ctrl-C again ends it at once; one that nohup ignores stays ignored. */
static void take_over_terminal(const struct sigaction *action) {
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
        struct sigaction now, once = *action;

        once.sa_flags |= (int) SA_RESETHAND;
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                if (numbers[i] == SIGTERM || (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN))
                        (void) sigaction(numbers[i], numbers[i] == SIGINT ? &once : action, NULL);
}

static void take_over_users(const struct sigaction *action) {
        sigset_t users;

        (void) sigemptyset(&users);
        (void) sigaddset(&users, SIGUSR1);
        (void) sigaddset(&users, SIGUSR2);
        (void) sigaction(SIGUSR1, action, NULL);
        (void) sigaction(SIGUSR2, action, NULL);
        (void) pthread_sigmask(SIG_UNBLOCK, &users, NULL); /* the program that started us may have blocked them */
}

static struct sigaction make_action(void) {
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

        (void) sigemptyset(&action.sa_mask);
        return action;
}

void signals_install(bool alone) {
        struct sigaction action = make_action(), ignore = { .sa_handler = SIG_IGN };

        take_over_users(&action);
        if (alone)
                take_over_terminal(&action);
        (void) sigaction(SIGPIPE, &ignore, NULL); /* a closed terminal must not end training */
}

void signals_take_back(void) {
        struct sigaction action = make_action();

        take_over_users(&action);
}

/* As NCCL reads it: "0xa" is 10, and "10th" too. */
int signals_check_nccl(struct error *error) {
        const char *text = getenv(NCCL_DUMP);
        long long number = text ? strtoll(text, NULL, 0) : -1;

        if (number != SIGUSR1 && number != SIGUSR2)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG,
                           NCCL_DUMP ": %s is %s, which asks a run %s: unset it, or choose another signal", text,
                           number == SIGUSR1 ? "SIGUSR1" : "SIGUSR2",
                           number == SIGUSR1 ? "to stop" : "for a checkpoint");
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
