/*
 * See shim_tree.h. Processes are killed through pidfds, checked after they were opened: a pid that was used again is never hit.
 * Where no descriptor is free, the main child's group is killed by number (it is our child: its pid cannot be reused) and the
 * pass is repeated.
 */
#include "daemon/shim_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/parse.h"

#define ENVIRON_MAX (2u << 20)
#define PASS_PAUSE_NSEC 20000000

ssize_t tree_read_proc(pid_t pid, const char *name, size_t max, char **ret) {
        char path[96];
        size_t size = 0, room = 0;
        cleanup_free char *data = NULL;

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        while (size < max) {
                if (size == room) {
                        char *more = realloc(data, (room = MAX(room * 2, (size_t) 4096)) + 1);
                        if (!more)
                                return -1;
                        data = more;
                }
                ssize_t n = read(fd, data + size, MIN(room, max) - size);
                if (n < 0)
                        return -1;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        if (!data)
                return -1;
        data[size] = '\0';
        *ret = steal_pointer(&data);
        return (ssize_t) size;
}

static bool read_stat(pid_t pid, struct tree_process *ret) {
        cleanup_free char *text = NULL;
        char state;
        int parent;

        if (tree_read_proc(pid, "stat", 4096, &text) <= 0)
                return false;
        const char *after_name = strrchr(text, ')'); /* the name may hold anything */
        if (!after_name || sscanf(after_name + 1, " %c %d", &state, &parent) != 2)
                return false;
        *ret = (struct tree_process) {
                .pid = pid, .parent = parent, .state = state, .zombie = state == 'Z' || state == 'X'
        };
        return true;
}

char *tree_getenv(pid_t pid, const char *name) {
        char path[64];
        struct stat st;
        cleanup_free char *text = NULL;
        size_t n = strlen(name);

        (void) snprintf(path, sizeof(path), "/proc/%d", (int) pid);
        if (stat(path, &st) < 0 || st.st_uid != geteuid())
                return NULL;
        ssize_t size = tree_read_proc(pid, "environ", ENVIRON_MAX, &text);
        if (size < 0)
                return NULL;
        for (const char *p = text, *end = text + size; p < end; p += strlen(p) + 1)
                if (strncmp(p, name, n) == 0 && p[n] == '=')
                        return strdup(p + n + 1);
        return NULL;
}

int tree_rank(pid_t pid) {
        static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "RANK" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                cleanup_free char *value = tree_getenv(pid, names[i]);
                uint64_t rank;
                if (value && parse_u64(value, 0, INT32_MAX, &rank) == 0)
                        return (int) rank;
        }
        return -1;
}

static bool carries_nonce(pid_t pid, const char *nonce) {
        cleanup_free char *value = tree_getenv(pid, BERTD_ENV_NONCE);

        return value && strcmp(value, nonce) == 0;
}

static bool add_process(struct tree *tree, const struct tree_process *process) {
        if (tree->n == tree->room) {
                size_t room = MAX(tree->room * 2, (size_t) 256);
                struct tree_process *more = realloc(tree->list, room * sizeof(*more));
                if (!more)
                        return false;
                tree->list = more;
                tree->room = room;
        }
        tree->list[tree->n++] = *process;
        return true;
}

static bool list_all(struct tree *tree) {
        cleanup_closedir DIR *dir = opendir("/proc");
        uint64_t pid;

        tree->n = 0;
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                struct tree_process process;
                if (parse_u64(entry->d_name, 1, INT32_MAX, &pid) == 0 && read_stat((pid_t) pid, &process) &&
                    !add_process(tree, &process))
                        return false;
        }
        return tree->n > 0; /* we are there ourselves */
}

static int compare_pids(const void *a, const void *b) {
        pid_t x = ((const struct tree_process *) a)->pid, y = ((const struct tree_process *) b)->pid;
        return (x > y) - (x < y);
}

/* Repeated until a pass marks none. */
static void mark_descendants(struct tree *tree) {
        pid_t self = getpid();

        if (tree->n > 0)
                qsort(tree->list, tree->n, sizeof(*tree->list), compare_pids);
        for (bool again = true; again;) {
                again = false;
                for (size_t i = 0; i < tree->n; i++) {
                        struct tree_process *p = &tree->list[i], key = { .pid = p->parent };
                        if (p->ours)
                                continue;
                        const struct tree_process *parent =
                                bsearch(&key, tree->list, tree->n, sizeof(*tree->list), compare_pids);
                        if (p->parent == self || (parent && parent->ours))
                                p->ours = again = true;
                }
        }
}

bool tree_read(struct tree *tree, const char *nonce) {
        pid_t self = getpid();
        size_t kept = 0;

        if (!list_all(tree))
                return false;
        mark_descendants(tree);
        for (size_t i = 0; i < tree->n; i++) {
                struct tree_process *p = &tree->list[i];
                if (p->pid != self && !p->zombie && (p->ours || carries_nonce(p->pid, nonce)))
                        tree->list[kept++] = *p;
        }
        tree->n = kept;
        return true;
}

void tree_free(struct tree *tree) {
        free(tree->list);
        *tree = (struct tree) {};
}

static void kill_process(const struct tree_process *process, const char *nonce) {
        cleanup_close int fd = (int) syscall(SYS_pidfd_open, process->pid, 0);
        struct tree_process now;

        if (fd < 0)
                return;
        bool same = process->ours ? read_stat(process->pid, &now) && now.parent == process->parent
                                  : carries_nonce(process->pid, nonce);
        if (same)
                (void) syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

/* The number of processes that lived; −1: nobody knows. `main`: 0 once it has been reaped. */
static ssize_t kill_pass(struct tree *tree, pid_t main, const char *nonce) {
        if (!tree_read(tree, nonce)) {
                if (main > 0 && kill(-main, SIGKILL) < 0)
                        (void) kill(main, SIGKILL);
                return -1;
        }
        for (size_t i = 0; i < tree->n; i++)
                kill_process(&tree->list[i], nonce);
        return (ssize_t) tree->n;
}

unsigned tree_kill(pid_t main, const char *nonce, uint64_t limit_usec, int *main_status) {
        const struct timespec pause = { .tv_nsec = PASS_PAUSE_NSEC };
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        struct tree tree = {};
        pid_t left = main;
        ssize_t alive;
        int status;

        *main_status = -1;
        for (;;) {
                alive = kill_pass(&tree, left, nonce);
                for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                        if (pid == main) {
                                *main_status = status;
                                left = 0;
                        }
                if (alive == 0 || (alive < 0 && left == 0) || clock_boottime_usec() >= deadline)
                        break; /* whom we cannot see bertd will, when the attempt is closed */
                (void) nanosleep(&pause, NULL);
        }
        tree_free(&tree);
        return alive < 0 ? 0 : (unsigned) alive;
}
