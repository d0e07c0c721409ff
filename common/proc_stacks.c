/* See proc_stacks.h. Invariant: a debugger dies with its parent (PDEATHSIG) and has its own deadline. */
#include "common/proc_stacks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/proc_files.h"

#define THREADS_MAX 64
#define PROC_FILE_MAX (16u << 10)
#define DEBUGGER_BYTES_MAX (1u << 20)
#define DEBUGGER_LIMIT_USEC (10 * USEC_PER_SEC)

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
void proc_write_file(int fd, pid_t pid, const char *name) {
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
                        proc_write_file(fd, pid, name);
                }
        }
}

void proc_write_state(int fd, pid_t pid) {
        static const char *const names[] = { "status", "wchan", "syscall", "stack" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                proc_write_file(fd, pid, names[i]);
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

void proc_write_stacks(int fd, pid_t pid, uint64_t deadline) {
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
