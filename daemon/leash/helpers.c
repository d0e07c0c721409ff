/*
 * See leash.h. Reading another process's environment or stacks waits as long as that process hangs in the kernel: a
 * helper process does it, with a limit, and is killed after it. Helpers stay in the leash's session, commands do not.
 */
#include "daemon/leash/leash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/nccl_ras.h"
#include "common/proc.h"
#include "common/proc_files.h"
#include "common/proc_program.h"
#include "common/proc_stacks.h"

#define SIGNAL_LIMIT_USEC (5 * USEC_PER_SEC)
#define RAS_USEC (3 * USEC_PER_SEC)
#define RAS_BYTES ((size_t) 64 << 10)
#define STACKS_USEC (20 * USEC_PER_SEC) /* for all ranks of this host */

static struct leash_helper *free_helper(struct leash *leash) {
        for (struct leash_helper *h = leash->helpers; h < leash->helpers + LEASH_HELPERS_MAX; h++)
                if (h->pid == 0)
                        return h;
        return NULL;
}

/* In the child: 0. Else the pid, or −errno. */
static pid_t fork_helper(struct leash *leash) {
        pid_t parent = getpid(), pid = fork();

        if (pid != 0)
                return pid < 0 ? -errno : pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        inherited_drop_signals();
        cleanup_close_p(&leash->in);
        cleanup_close_p(&leash->out);
        cleanup_close_p(&leash->connection);
        return 0;
}

static void mark_commands(struct procs *procs, void *userdata) {
        const pid_t leash = *(const pid_t *) userdata;
        struct proc *top = procs_find(procs, leash), *self = procs_find(procs, getpid());

        if (top)
                top->mark = PROC_ROOT;
        if (self)
                self->mark = PROC_OTHER;
}

/* To what runs the ranks' programs (gang/rank.c), and time to look at those that the signal will reach. */
static void mark_stop(pid_t leash) {
        static const char *const names[] = { "bertd-gang" };
        const struct timespec pause = { .tv_nsec = LEASH_STOP_PAUSE_USEC * 1000 };
        struct procs procs = {};

        if (procs_read_ours(&procs, mark_commands, &leash) < 0)
                return;
        for (size_t i = 0; i < procs.n; i++)
                if (proc_runs(procs.list[i].pid, names, ELEMENTSOF(names)))
                        (void) proc_signal(&procs.list[i], LEASH_STOP_MARK);
        procs_free(&procs);
        (void) nanosleep(&pause, NULL);
}

static bool has_rank(const struct procs *procs, const int *ranks, pid_t pid) {
        const struct proc *p = procs_find(procs, pid);

        return p && ranks[p - procs->list] >= 0;
}

/* A rank's own processes inherit its variables: the topmost gets the signal, and those below a shell, which would not
 * pass it on. `caught`: those that handle it get it, and no other. All are chosen before the first gets it: a shell
 * that has ended is not known as one. */
static void signal_ranks(pid_t leash, int number, bool caught, bool stop) {
        struct procs procs = {};

        if (stop)
                mark_stop(leash);
        if (procs_read_ours(&procs, mark_commands, &leash) < 0)
                return;
        cleanup_free int *ranks = calloc(procs.n + 1, sizeof(int));
        cleanup_free bool *chosen = calloc(procs.n + 1, sizeof(bool));
        for (size_t i = 0; ranks && i < procs.n; i++)
                ranks[i] = proc_rank(procs.list[i].pid);
        for (size_t i = 0; ranks && chosen && i < procs.n; i++) {
                const struct proc *p = &procs.list[i];
                bool inside = has_rank(&procs, ranks, p->parent),
                     reader = ranks[i] >= 0 && !caught && proc_ends_with_writer(&procs, p);
                chosen[i] = ranks[i] >= 0 && !reader &&
                            (caught ? proc_catches(p->pid, number) : !inside || proc_is_shell(p->parent));
        }
        for (size_t i = 0; chosen && i < procs.n; i++)
                if (chosen[i])
                        (void) proc_signal(&procs.list[i], number);
        procs_free(&procs);
}

void leash_helper_signal(struct leash *leash, int number, bool caught, bool stop) {
        struct leash_helper *helper = free_helper(leash);
        pid_t self = getpid(), pid = helper ? fork_helper(leash) : -EAGAIN;

        if (pid == 0) {
                signal_ranks(self, number, caught, stop);
                _exit(0);
        }
        if (pid > 0)
                *helper = (struct leash_helper) { .pid = pid,
                                                  .fd = -1,
                                                  .deadline_usec = clock_boottime_usec() + SIGNAL_LIMIT_USEC };
}

/* ---- stacks ---- */

/* The ranks of a host, as struct evidence_ranks of the shim; the first line of a collector's text. */
struct seen {
        int ranks, stopped, rank; /* rank: the last that is stopped */
};

static void write_rank(int fd, const struct proc *p, int rank, bool stacks, uint64_t deadline) {
        (void) dprintf(fd, "==== rank %d, pid %d\n", rank, (int) p->pid);
        if (stacks) {
                proc_write_stacks(fd, p->pid, deadline);
                return;
        }
        proc_write_file(fd, p->pid, "wchan");
        proc_write_file(fd, p->pid, "stack");
        proc_write_file(fd, p->pid, "cmdline");
}

static void write_ras(int fd) {
        char text[RAS_BYTES];
        ssize_t n = nccl_ras_status(text, sizeof(text), NCCL_RAS_PORT, RAS_USEC);

        if (n <= 0)
                return;
        (void) dprintf(fd, "==== NCCL RAS\n");
        (void) write_all(fd, text, (size_t) n);
        (void) dprintf(fd, "\n");
}

/* The states first: a debugger may take its whole time. */
static void collect_stacks(pid_t leash, int fd) {
        uint64_t deadline = clock_monotonic_usec() + STACKS_USEC;
        struct procs procs = {};
        struct seen seen = { .rank = -1 };

        if (procs_read_ours(&procs, mark_commands, &leash) < 0)
                return;
        cleanup_free int *ranks = calloc(procs.n + 1, sizeof(int));
        for (size_t i = 0; ranks && i < procs.n; i++) {
                ranks[i] = proc_rank(procs.list[i].pid);
                seen.ranks += ranks[i] >= 0;
                if (ranks[i] >= 0 && procs.list[i].state == 'T') {
                        seen.stopped++;
                        seen.rank = ranks[i];
                }
        }
        (void) dprintf(fd, "%d %d %d\n", seen.ranks, seen.stopped, seen.rank);
        if (seen.ranks > 0)
                write_ras(fd);
        for (int stacks = 0; stacks < 2; stacks++)
                for (size_t i = 0; ranks && i < procs.n && clock_monotonic_usec() < deadline; i++)
                        if (ranks[i] >= 0)
                                write_rank(fd, &procs.list[i], ranks[i], stacks, deadline);
        procs_free(&procs);
}

void leash_helper_stacks(struct leash *leash) {
        struct leash_helper *helper = free_helper(leash);
        pid_t self = getpid(), pid = -EAGAIN;
        int ends[2];

        if (!helper || pipe2(ends, O_CLOEXEC) < 0) {
                leash_send(leash, leash_stacks("bertd-leash: no helper is free\n"));
                return;
        }
        pid = fork_helper(leash);
        if (pid == 0) {
                collect_stacks(self, ends[1]);
                _exit(0);
        }
        (void) close(ends[1]);
        (void) fcntl(ends[0], F_SETFL, O_NONBLOCK);
        *helper = (struct leash_helper) { .pid = MAX(pid, 0),
                                          .fd = ends[0],
                                          .deadline_usec = clock_boottime_usec() + STACKS_USEC + USEC_PER_SEC };
        if (pid > 0)
                return;
        leash_send(leash, leash_stacks("bertd-leash: no process can be started\n"));
        cleanup_close_p(&helper->fd);
        helper->fd = -1;
}

/* Its first line has the numbers; a command line ends with a NUL. */
static void send_stacks(struct leash *leash, char *text, size_t size) {
        struct seen seen = { .rank = -1 };
        int at = 0;

        for (size_t i = 0; i < size; i++)
                if (text[i] == '\0')
                        text[i] = '\n';
        if (sscanf(text, "%d %d %d%n", &seen.ranks, &seen.stopped, &seen.rank, &at) != 3)
                at = 0;
        json_t *line = leash_stacks(text + at + (text[at] == '\n')),
               *numbers = json_pack("{sisisi}", "ranks", seen.ranks, "stopped", seen.stopped, "rank", seen.rank);
        if (line)
                (void) json_object_update(line, numbers);
        json_decref(numbers);
        leash_send(leash, line);
}

/* ---- both ---- */

void leash_helper_read(struct leash *leash, struct leash_helper *helper) {
        bool fits = helper->size < LEASH_STACKS_MAX && array_resize(&helper->text, LEASH_STACKS_MAX + 1, 1) >= 0;

        ssize_t n = fits ? read(helper->fd, helper->text + helper->size, LEASH_STACKS_MAX - helper->size) : 0;
        if (n > 0)
                helper->size += (size_t) n;
        else if (n == 0 || errno != EAGAIN) {
                (void) close(helper->fd);
                helper->fd = -1;
        }
}

bool leash_helper_exited(struct leash *leash, pid_t pid) {
        for (struct leash_helper *h = leash->helpers; h < leash->helpers + LEASH_HELPERS_MAX; h++) {
                if (h->pid != pid)
                        continue;
                if (h->fd >= 0)
                        leash_helper_read(leash, h);
                if (h->text) {
                        h->text[h->size] = '\0';
                        send_stacks(leash, h->text, h->size);
                }
                cleanup_close_p(&h->fd);
                free(h->text);
                *h = (struct leash_helper) { .fd = -1 };
                return true;
        }
        return false;
}

uint64_t leash_helpers_look(struct leash *leash, uint64_t now) {
        uint64_t next = UINT64_MAX;

        for (struct leash_helper *h = leash->helpers; h < leash->helpers + LEASH_HELPERS_MAX; h++) {
                if (h->pid == 0)
                        continue;
                if (now >= h->deadline_usec)
                        (void) kill(h->pid, SIGKILL);
                next = MIN(next, h->deadline_usec > now ? h->deadline_usec : now + USEC_PER_SEC);
        }
        return next;
}
