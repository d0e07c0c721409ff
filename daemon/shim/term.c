/*
 * See term.h. Reads only links and `status` below /proc/PID: never blocks on a process or its files. Invariant: a
 * process that cannot be remembered gets no signal.
 */
#include "daemon/shim/term.h"

#include <signal.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/leash.h"
#include "common/proc_program.h"
#include "daemon/shim/tree.h"

struct round {
        struct term *term;
        const struct procs *procs;
        bool cycle; /* all that is left reads from each other: nobody's end is waited for */
        size_t asked;
};

/* ---- kinds of processes ---- */

static bool has_name(const struct proc *proc, const char *const *names, size_t n_names) {
        return proc_runs(proc->pid, names, n_names);
}

static bool is_shell(const struct proc *proc) { return proc_is_shell(proc->pid); }

static bool has_child(const struct procs *procs, const struct proc *proc, const char *const *names, size_t n_names) {
        for (size_t i = 0; i < procs->n; i++)
                if (procs->list[i].parent == proc->pid && (!names || has_name(&procs->list[i], names, n_names)))
                        return true;
        return false;
}

static const char *const mpirun_names[] = { "mpirun", "mpiexec", "orterun", "prterun" };
static const char *const gang_names[] = { "bertd-gang" };

static bool is_below_mpirun(const struct procs *procs, const struct proc *proc) {
        const struct proc *parent = procs_find(procs, proc->parent);

        return parent && has_name(parent, mpirun_names, ELEMENTSOF(mpirun_names));
}

/* Below mpirun; its agents, of the same name, have no child. */
static bool runs_rank(const struct procs *procs, const struct proc *proc) {
        return has_name(proc, gang_names, ELEMENTSOF(gang_names)) && is_below_mpirun(procs, proc) &&
               has_child(procs, proc, NULL, 0);
}

/* What connects a gang to its other hosts, and ends with it: the ssh of bertd-gang, and its agents below mpirun. */
static bool is_link(const struct procs *procs, const struct proc *proc) {
        const struct proc *parent = procs_find(procs, proc->parent);

        if (!parent || parent->pid == getpid())
                return false;
        if (has_name(proc, gang_names, ELEMENTSOF(gang_names)))
                return is_below_mpirun(procs, proc) && !runs_rank(procs, proc);
        return has_name(parent, gang_names, ELEMENTSOF(gang_names)) && !is_below_mpirun(procs, parent) &&
               !has_name(proc, mpirun_names, ELEMENTSOF(mpirun_names));
}

/* A carrier ends with its children and must not get the signal before them: Open MPI's mpirun, su and runuser give them
 * only a second or two, timeout and dumb-init signal their whole group, script and expect hang up the terminal, unshare
 * and strace forward nothing. Ranks on other hosts can only be reached through mpirun. */
static bool is_carrier(const struct procs *procs, const struct proc *proc) {
        static const char *const remote[] = { "ssh", "srun" };
        static const char *const names[] = { "timeout", "coreutils", "su",        "runuser", "sudo",   "doas",
                                             "script",  "expect",    "dumb-init", "unshare", "strace", "bertd-gang" };

        if (has_name(proc, mpirun_names, ELEMENTSOF(mpirun_names)))
                return has_child(procs, proc, NULL, 0) && !has_child(procs, proc, remote, ELEMENTSOF(remote));
        return has_name(proc, names, ELEMENTSOF(names)) && has_child(procs, proc, NULL, 0);
}

/* A carrier that ends when its command does, and kills remaining processes: by SIGKILL, or with the terminal. */
static bool takes_along(const struct proc *proc) {
        static const char *const names[] = { "su", "runuser", "sudo", "doas", "script", "expect" };

        return has_name(proc, names, ELEMENTSOF(names));
}

/* ---- sending SIGTERM ---- */

/* A shell gets it before its children, or it would run its next command. A carrier only notices the end of its
 * children, and gets the signal if they belong to another user; likewise a shell whose end would kill its children
 * (`taken`). Returns whether any process got it. */
static bool ask_from(struct round *round, const struct proc *top, bool taken) {
        const struct procs *procs = round->procs;
        bool below = false;

        if (procs_have(&round->term->asked, top) || is_link(procs, top) ||
            (!round->cycle && proc_ends_with_writer(procs, top)))
                return false;
        bool shell = is_shell(top), through = shell || is_carrier(procs, top);
        bool carrier = through && (!shell || (taken && has_child(procs, top, NULL, 0)));
        taken = taken || (carrier && takes_along(top));
        if (!procs_add(&round->term->asked, top))
                return false;
        bool asked = !carrier && proc_signal(top, SIGTERM) >= 0;
        round->asked++;
        for (size_t i = 0; through && i < procs->n; i++)
                if (procs->list[i].parent == top->pid && ask_from(round, &procs->list[i], taken))
                        below = true;
        if (carrier && !below)
                asked = proc_signal(top, SIGTERM) >= 0;
        return asked || below;
}

static void ask_next(struct round *round, pid_t main) {
        const struct proc *first = main > 0 ? procs_find(round->procs, main) : NULL;
        pid_t self = getpid();

        if (first && !procs_have(&round->term->asked, first)) {
                (void) ask_from(round, first, false);
                return;
        }
        for (size_t i = 0; i < round->procs->n; i++)
                if (round->procs->list[i].parent == self)
                        (void) ask_from(round, &round->procs->list[i], false);
}

static bool asked_live(const struct term *term, const struct procs *procs) {
        for (size_t i = 0; i < procs->n; i++)
                if (procs_have(&term->asked, &procs->list[i]))
                        return true;
        return false;
}

static void begin_round(struct term *term, const struct procs *procs, pid_t main) {
        struct round round = { .term = term, .procs = procs };

        ask_next(&round, main);
        if (round.asked == 0) {
                round.cycle = true;
                ask_next(&round, main);
        }
}

static void continue_all(const struct procs *procs) {
        for (size_t i = 0; i < procs->n; i++)
                if (procs->list[i].state == 'T')
                        (void) proc_signal(&procs->list[i], SIGCONT);
}

int64_t term_look(struct term *term, pid_t main, uint64_t now_usec) {
        struct procs procs = {};
        bool first = term->asked.n == 0;

        int r = tree_read_job(main, &procs);
        if (r < 0) {
                procs_free(&procs);
                return r;
        }
        if (asked_live(term, &procs))
                term->next_usec = 0;
        else if (!first && term->next_usec == 0)
                term->next_usec = now_usec + TERM_PAUSE_USEC;
        else if (now_usec >= term->next_usec) {
                term->next_usec = 0;
                begin_round(term, &procs, main);
        }
        continue_all(&procs);
        procs_free(&procs);
        return (int64_t) term->next_usec;
}

void term_mark_stop(pid_t main) {
        struct procs procs = {};

        if (tree_read_job(main, &procs) < 0)
                return;
        for (size_t i = 0; i < procs.n; i++)
                if (runs_rank(&procs, &procs.list[i]))
                        (void) proc_signal(&procs.list[i], LEASH_STOP_MARK);
        procs_free(&procs);
}

int term_continue(pid_t main) {
        struct procs procs = {};
        int r = tree_read_job(main, &procs);

        if (r >= 0)
                continue_all(&procs);
        procs_free(&procs);
        return r;
}

void term_free(struct term *term) {
        procs_free(&term->asked);
        *term = (struct term) {};
}
