/* See proc.h. Owns nothing between calls. Invariant: every read and every number of passes is bounded. */
#include "common/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/parse.h"
#include "common/proc_files.h"

#define STAT_SIZE 4096     /* enough for `stat` and `status` */
#define STOP_PASSES_MAX 16 /* a process that others keep continuing is killed as it runs */
#define PAUSE_MIN_USEC 20000
#define PAUSE_MAX_USEC 320000

int proc_stat(pid_t pid, struct proc *ret) {
        char text[STAT_SIZE];
        int parent;

        if (!proc_read_text(pid, "stat", text, sizeof(text)))
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -ESRCH;
        const char *after_name = strrchr(text, ')'); /* the name may contain anything */
        *ret = (struct proc) { .pid = pid };
        if (!after_name ||
            sscanf(after_name + 1, " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d %*s %" SCNu64,
                   &ret->state, &parent, &ret->threads, &ret->start) != 4)
                return -ESRCH;
        ret->parent = parent;
        return 0;
}

bool proc_is_dead(const struct proc *proc) { return proc->state == 'X' || (proc->state == 'Z' && proc->threads <= 1); }

bool proc_has_uid(pid_t pid, uid_t uid) {
        char text[STAT_SIZE];
        unsigned ids[4];
        const char *line = proc_read_text(pid, "status", text, sizeof(text)) ? strstr(text, "\nUid:") : NULL;

        if (!line || sscanf(line, " Uid: %u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) != 4)
                return false;
        return ids[0] == uid || ids[1] == uid || ids[2] == uid || ids[3] == uid;
}

bool proc_catches(pid_t pid, int signal) {
        char text[STAT_SIZE];
        uint64_t caught;
        const char *line = proc_read_text(pid, "status", text, sizeof(text)) ? strstr(text, "\nSigCgt:") : NULL;

        return line && sscanf(line, " SigCgt: %" SCNx64, &caught) == 1 && (caught >> (signal - 1) & 1);
}

int proc_signal(const struct proc *proc, int signal) {
        struct proc now;
        cleanup_close int fd = (int) syscall(SYS_pidfd_open, proc->pid, 0);

        if (fd < 0)
                return -errno;
        int r = proc_stat(proc->pid, &now);
        if (r < 0)
                return r;
        if (now.start != proc->start || proc_is_dead(&now))
                return -ESRCH;
        return syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0 ? -errno : 0;
}

/* ---- the list ---- */

bool procs_add(struct procs *procs, const struct proc *proc) {
        if (array_reserve(&procs->list, &procs->room, procs->n + 1, sizeof(*procs->list)) < 0)
                return false;
        procs->list[procs->n++] = *proc;
        return true;
}

static int compare_pids(const void *a, const void *b) {
        pid_t x = ((const struct proc *) a)->pid, y = ((const struct proc *) b)->pid;
        return (x > y) - (x < y);
}

int procs_read(struct procs *procs) {
        cleanup_closedir DIR *dir = opendir("/proc");
        int r = dir ? 0 : -errno;
        uint64_t pid;

        procs->n = 0;
        for (struct dirent *entry; r >= 0 && (entry = readdir(dir));) {
                struct proc proc;
                if (parse_u64(entry->d_name, 1, INT32_MAX, &pid) < 0)
                        continue;
                r = proc_stat((pid_t) pid, &proc);
                if (r == -ESRCH)
                        r = 0; /* gone meanwhile */
                else if (r >= 0 && !procs_add(procs, &proc))
                        r = -ENOMEM;
        }
        if (r < 0)
                procs->n = 0;
        else if (procs->n > 0)
                qsort(procs->list, procs->n, sizeof(*procs->list), compare_pids);
        return r;
}

struct proc *procs_find(const struct procs *procs, pid_t pid) {
        struct proc key = { .pid = pid };

        return procs->n == 0 ? NULL : bsearch(&key, procs->list, procs->n, sizeof(key), compare_pids);
}

/* Decides each process once, together with its undecided ancestors. Parents read at different moments may form a cycle,
 * hence the bound. */
void procs_spread(struct procs *procs) {
        for (size_t i = 0; i < procs->n; i++) {
                struct proc *top = &procs->list[i];
                for (size_t steps = 0; top && top->mark == PROC_UNKNOWN && steps < procs->n; steps++)
                        top = procs_find(procs, top->parent);
                bool ours = top && (top->mark == PROC_ROOT || top->mark == PROC_OURS);
                for (struct proc *p = &procs->list[i]; p && p->mark == PROC_UNKNOWN; p = procs_find(procs, p->parent))
                        p->mark = ours ? PROC_OURS : PROC_OTHER;
        }
}

void procs_free(struct procs *procs) {
        free(procs->list);
        *procs = (struct procs) {};
}

/* ---- killing ---- */

bool procs_have(const struct procs *procs, const struct proc *proc) {
        for (size_t i = 0; i < procs->n; i++)
                if (procs->list[i].pid == proc->pid && procs->list[i].start == proc->start)
                        return true;
        return false;
}

int procs_read_ours(struct procs *procs, procs_marker_t *mark, void *userdata) {
        pid_t self = getpid();
        size_t kept = 0;

        int r = procs_read(procs);
        if (r < 0)
                return r;
        mark(procs, userdata);
        procs_spread(procs);
        for (size_t i = 0; i < procs->n; i++) {
                const struct proc *p = &procs->list[i];
                if (p->mark == PROC_OURS && p->pid != self && !proc_is_dead(p))
                        procs->list[kept++] = *p;
        }
        procs->n = kept;
        return 0;
}

/* Number of processes that may have run since. One that hangs in the kernel (D) does not run, like a stopped one. */
static size_t stop_all(const struct procs *procs) {
        size_t ran = 0;

        for (size_t i = 0; i < procs->n; i++) {
                const struct proc *p = &procs->list[i];
                if (p->state != 'T' && p->state != 't' && proc_signal(p, SIGSTOP) == 0 && p->state != 'D')
                        ran++;
        }
        return ran;
}

/* Number of living processes, or −errno if one could not be checked (no free descriptor). */
static ssize_t kill_all(const struct procs *procs) {
        ssize_t found = 0;
        int problem = 0;

        for (size_t i = 0; i < procs->n; i++) {
                int r = proc_signal(&procs->list[i], SIGKILL);
                found += r >= 0;
                if (r < 0 && r != -ESRCH && r != -EPERM)
                        problem = r;
        }
        return problem < 0 ? problem : found;
}

ssize_t procs_end(procs_marker_t *mark, void *userdata) {
        struct procs procs = {};
        int r = procs_read_ours(&procs, mark, userdata);

        for (unsigned i = 1; r >= 0 && i < STOP_PASSES_MAX && stop_all(&procs) > 0; i++)
                r = procs_read_ours(&procs, mark, userdata);
        ssize_t found = r < 0 ? r : kill_all(&procs);
        procs_free(&procs);
        return found;
}

ssize_t procs_end_all(procs_marker_t *mark, void *userdata, uint64_t limit_usec) {
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        ssize_t found;

        for (uint64_t pause = PAUSE_MIN_USEC; (found = procs_end(mark, userdata)) != 0;
             pause = MIN(pause * 2, (uint64_t) PAUSE_MAX_USEC)) {
                const struct timespec nap = { .tv_nsec = (long) pause * 1000 };
                if (clock_boottime_usec() + pause >= deadline)
                        break;
                (void) nanosleep(&nap, NULL);
        }
        return found;
}
