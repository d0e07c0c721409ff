/*
 * See stacks.h. Owns nothing of the shim's. Invariants: files are created, never opened (O_EXCL, O_NOFOLLOW, below a
 * new folder); the collector and its debuggers die with the shim (PDEATHSIG) and each debugger has its own deadline.
 * Order, for all processes: first the files of /proc that never block; then those that read their memory (environ,
 * cmdline) and may block; then the debuggers, which stop the process.
 */
#include "daemon/shim/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/proc_files.h"

#define FOLDERS_MAX 99
#define PROCESSES_MAX 256
#define THREADS_MAX 64
#define PROC_FILE_MAX (16u << 10)
#define DEBUGGER_BYTES_MAX (1u << 20)
#define DEBUGGER_LIMIT_USEC (10 * USEC_PER_SEC)
#define WHOLE_LIMIT_USEC ((EVIDENCE_LIMIT_SEC - 2) * USEC_PER_SEC)

static void say(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(int fd, const char *format, ...) {
        char text[512];
        va_list ap;

        va_start(ap, format);
        int n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        (void) write_all(fd, text, MIN((size_t) MAX(n, 0), sizeof(text) - 1));
}

/* One file below /proc/PID as a section; NULs between arguments become blanks. */
static void copy_proc(int fd, pid_t pid, const char *name) {
        cleanup_free char *text = NULL;
        ssize_t n = proc_read_file(pid, name, PROC_FILE_MAX, &text);

        say(fd, "== %s\n", name);
        if (n < 0) {
                say(fd, "(%s)\n", strerror(errno));
                return;
        }
        for (ssize_t i = 0; i + 1 < n; i++)
                if (text[i] == '\0')
                        text[i] = ' ';
        (void) write_all(fd, text, (size_t) n);
        say(fd, "\n");
}

static void copy_threads(int fd, pid_t pid) {
        static const char *const names[] = { "comm", "wchan", "syscall", "stack" };
        char path[64];
        uint64_t tid;
        unsigned n = 0;

        (void) snprintf(path, sizeof(path), "/proc/%d/task", (int) pid);
        cleanup_closedir DIR *dir = opendir(path);
        for (struct dirent *entry; dir && n < THREADS_MAX && (entry = readdir(dir));) {
                if (parse_u64(entry->d_name, 1, INT32_MAX, &tid) < 0)
                        continue;
                n++;
                for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                        char name[64];
                        (void) snprintf(name, sizeof(name), "task/%d/%s", (int) tid, names[i]);
                        copy_proc(fd, pid, name);
                }
        }
}

static void write_proc(int fd, pid_t pid) {
        static const char *const names[] = { "status", "wchan", "syscall", "stack" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                copy_proc(fd, pid, names[i]);
        copy_threads(fd, pid);
}

/* In the child. */
static void become_debugger(char *const *argv, int output_fd, pid_t parent) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(output_fd, 1) < 0 ||
            dup2(output_fd, 2) < 0)
                _exit(126);
        (void) unsetenv("DEBUGINFOD_URLS"); /* it would use the network */
        (void) execvp(argv[0], argv);
        _exit(127);
}

/* Copies output until it ends, or until the deadline or the bound. */
static void copy_output(int from, int to, uint64_t deadline) {
        char buffer[8192];

        for (size_t total = 0; total < DEBUGGER_BYTES_MAX;) {
                uint64_t now = clock_monotonic_usec();
                struct pollfd p = { .fd = from, .events = POLLIN };
                if (now >= deadline || poll(&p, 1, (int) ((deadline - now) / 1000) + 1) <= 0) {
                        say(to, "(timed out)\n");
                        return;
                }
                ssize_t n = read(from, buffer, sizeof(buffer));
                if (n <= 0)
                        return;
                (void) write_all(to, buffer, (size_t) n);
                total += (size_t) n;
        }
}

/* The debugger's exit code, or −1. */
static int run_debugger(char *const *argv, int fd, uint64_t deadline) {
        int pipe_fds[2], status;
        pid_t parent = getpid();

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -1;
        cleanup_close int from = pipe_fds[0], to = pipe_fds[1];
        pid_t pid = fork();
        if (pid < 0)
                return -1;
        if (pid == 0)
                become_debugger(argv, to, parent);
        (void) close(steal_fd(&to));
        copy_output(from, fd, deadline);
        (void) kill(pid, SIGKILL); /* it has closed its output, or its time is over */
        return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_stacks(int fd, pid_t pid, uint64_t deadline) {
        char number[16];
        char *eu_stack[] = { (char *) "eu-stack", (char *) "-p", number, NULL };
        char *gdb[] = { (char *) "gdb",
                        (char *) "-nx",
                        (char *) "-batch",
                        (char *) "-iex",
                        (char *) "set auto-load no",
                        (char *) "-p",
                        number,
                        (char *) "-ex",
                        (char *) "thread apply all bt 64",
                        NULL };

        deadline = MIN(deadline, clock_monotonic_usec() + DEBUGGER_LIMIT_USEC);
        (void) snprintf(number, sizeof(number), "%d", (int) pid);
        say(fd, "== stacks\n");
        if (run_debugger(eu_stack, fd, deadline) == 127 && run_debugger(gdb, fd, deadline) == 127)
                say(fd, "(neither eu-stack nor gdb is installed)\n");
}

static void name_file(char name[64], pid_t pid, int rank) {
        if (rank >= 0)
                (void) snprintf(name, 64, "rank-%d.pid-%d.txt", rank, (int) pid);
        else
                (void) snprintf(name, 64, "pid-%d.txt", (int) pid);
}

static int create_file(int folder, pid_t pid) {
        char name[64];

        name_file(name, pid, -1);
        return openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void name_after_rank(int folder, pid_t pid, int rank) {
        char old[64], name[64];

        name_file(old, pid, -1);
        name_file(name, pid, rank);
        if (rank >= 0)
                (void) renameat(folder, old, folder, name);
}

static void count_rank(struct evidence_ranks *ranks, const struct proc *process, int rank) {
        ranks->ranks += rank >= 0;
        if (rank < 0 || process->state != 'T')
                return;
        ranks->stopped++;
        ranks->rank = rank;
}

static void collect(int folder, const struct procs *procs, int ranks_fd) {
        uint64_t deadline = clock_monotonic_usec() + WHOLE_LIMIT_USEC;
        size_t n = MIN(procs->n, (size_t) PROCESSES_MAX);
        int fds[PROCESSES_MAX], ranks[PROCESSES_MAX];
        struct evidence_ranks found = {};

        for (size_t i = 0; i < n; i++) {
                fds[i] = create_file(folder, procs->list[i].pid);
                if (fds[i] >= 0)
                        write_proc(fds[i], procs->list[i].pid);
        }
        for (size_t i = 0; i < n; i++) {
                ranks[i] = proc_rank(procs->list[i].pid);
                name_after_rank(folder, procs->list[i].pid, ranks[i]);
                count_rank(&found, &procs->list[i], ranks[i]);
        }
        (void) write_all(ranks_fd, &found, sizeof(found));
        for (size_t i = 0; i < n; i++)
                if (fds[i] >= 0)
                        copy_proc(fds[i], procs->list[i].pid, "cmdline");
        for (int pass = 0; pass < 2; pass++) /* ranks first */
                for (size_t i = 0; i < n && clock_monotonic_usec() < deadline; i++)
                        if (fds[i] >= 0 && (ranks[i] >= 0) == (pass == 0))
                                write_stacks(fds[i], procs->list[i].pid, deadline);
        for (size_t i = 0; i < n; i++)
                if (fds[i] >= 0)
                        (void) close(fds[i]);
}

static int make_folder(int dir_fd, char ret_name[EVIDENCE_NAME_MAX]) {
        for (int i = 1; i <= FOLDERS_MAX; i++) {
                (void) snprintf(ret_name, EVIDENCE_NAME_MAX, "hang-%d", i);
                if (mkdirat(dir_fd, ret_name, 0700) == 0)
                        return openat(dir_fd, ret_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (errno != EEXIST)
                        break;
        }
        return -1;
}

pid_t evidence_start(int dir_fd, const struct procs *procs, char ret_name[EVIDENCE_NAME_MAX], int *ret_ranks_fd) {
        pid_t parent = getpid();
        sigset_t none;
        int fds[2];

        cleanup_close int folder = make_folder(dir_fd, ret_name);
        if (folder < 0) {
                ret_name[0] = '\0';
                return -errno;
        }
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid > 0) {
                *ret_ranks_fd = steal_fd(&reader);
                return pid;
        }
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        collect(folder, procs, writer);
        _exit(0);
}
