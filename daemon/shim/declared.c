/*
 * See shim.h. A program's declarations (contract C5): its main process, the signals that this process handles, and the
 * processes that write their stacks. Owns shim->declared. Invariants: a signal goes only to a living process of the
 * attempt; an invalid declaration changes nothing.
 */
#include "daemon/shim/shim.h"

#include <signal.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"
#include "daemon/shim/tree.h"

/* USR1, SIGUSR1; 0: not a signal that a program may choose (KILL and STOP cannot be handled). */
static int parse_signal(const char *name, size_t n) {
        static const struct {
                const char *name;
                int number;
        } signals[] = { { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "HUP", SIGHUP },  { "INT", SIGINT },
                        { "QUIT", SIGQUIT }, { "URG", SIGURG },   { "TERM", SIGTERM } };

        if (n > 3 && strncmp(name, "SIG", 3) == 0) {
                name += 3;
                n -= 3;
        }
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (strlen(signals[i].name) == n && strncmp(signals[i].name, name, n) == 0)
                        return signals[i].number;
        return 0;
}

/* A living process of the attempt. */
static bool find_ours(const struct shim *shim, pid_t pid, struct proc *ret) {
        struct procs procs = {};

        if (pid <= 0 || tree_read_job(shim_first(shim), &procs) < 0)
                return false;
        const struct proc *found = procs_find(&procs, pid);
        if (found)
                *ret = *found;
        procs_free(&procs);
        return found != NULL;
}

/* Reading the host's processes is expensive: declarations beyond a bound are ignored. */
static bool may_declare(struct shim *shim) { return shim->declared.n_declarations++ < DECLARATIONS_MAX; }

static void set_main(struct shim *shim, pid_t pid) {
        struct proc found;

        if (pid != shim->declared.main.pid && may_declare(shim) && find_ours(shim, pid, &found))
                shim->declared.main = found;
}

void shim_declared_main(struct shim *shim, const char *value) {
        uint64_t pid;

        if (parse_u64(value, 1, INT32_MAX, &pid) == 0)
                set_main(shim, (pid_t) pid);
}

/* "stop:USR1,checkpoint:USR2" */
void shim_declared_signals(struct shim *shim, pid_t sender, const char *value) {
        struct shim_declared *d = &shim->declared;

        for (const char *word = value; *word;) {
                size_t n = strcspn(word, ","), key = strcspn(word, ":");
                int signal = key < n ? parse_signal(word + key + 1, n - key - 1) : 0;
                if (key == 4 && strncmp(word, "stop", key) == 0)
                        d->stop = signal;
                else if (key == 10 && strncmp(word, "checkpoint", key) == 0)
                        d->checkpoint = signal;
                word += n + (word[n] == ',');
        }
        if (d->main.pid == 0)
                set_main(shim, sender);
}

void shim_declared_stacks(struct shim *shim, pid_t sender, const char *value) {
        struct shim_declared *d = &shim->declared;
        int signal = parse_signal(value, strlen(value));

        if (!d->stacks)
                d->stacks = calloc(DECLARED_STACKS_MAX, sizeof(*d->stacks));
        if (!d->stacks || signal == 0 || sender <= 0)
                return;
        unsigned i = 0;
        while (i < d->n_stacks && d->stacks[i].pid != sender)
                i++;
        if (i == DECLARED_STACKS_MAX)
                return;
        d->stacks[i] = (struct declared_stacks) { .pid = sender, .signal = signal };
        d->n_stacks = MAX(d->n_stacks, i + 1);
}

bool shim_declared_lives(const struct shim *shim) {
        struct proc found;

        return find_ours(shim, shim->declared.main.pid, &found) && found.start == shim->declared.main.start;
}

bool shim_declared_signal(const struct shim *shim, int signal) {
        return signal != 0 && shim->declared.main.pid > 0 && proc_signal(&shim->declared.main, signal) == 0;
}

void shim_declared_ask_stacks(const struct shim *shim) {
        const struct shim_declared *d = &shim->declared;
        struct procs procs = {};

        if (d->n_stacks == 0 || tree_read_job(shim_first(shim), &procs) < 0)
                return;
        for (unsigned i = 0; i < d->n_stacks; i++) {
                const struct proc *p = procs_find(&procs, d->stacks[i].pid);
                if (p)
                        (void) proc_signal(p, d->stacks[i].signal);
        }
        procs_free(&procs);
}
