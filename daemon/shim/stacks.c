/*
 * See stacks.h. Owns nothing of the shim's. Invariants: files are created, never opened (O_EXCL, O_NOFOLLOW, below a
 * new folder); the collector and its debuggers die with the shim (PDEATHSIG) and each debugger has its own deadline.
 * Order, for all processes: first the files of /proc that never block; then those that read their memory (environ,
 * cmdline) and may block; then the debuggers, which stop the process.
 */
#include "daemon/shim/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/proc_files.h"
#include "common/proc_stacks.h"

#define FOLDERS_MAX 99
#define PROCESSES_MAX 256
#define WHOLE_LIMIT_USEC ((EVIDENCE_LIMIT_SEC - 2) * USEC_PER_SEC)

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
                        proc_write_state(fds[i], procs->list[i].pid);
        }
        for (size_t i = 0; i < n; i++) {
                ranks[i] = proc_rank(procs->list[i].pid);
                name_after_rank(folder, procs->list[i].pid, ranks[i]);
                count_rank(&found, &procs->list[i], ranks[i]);
        }
        (void) write_all(ranks_fd, &found, sizeof(found));
        for (size_t i = 0; i < n; i++)
                if (fds[i] >= 0)
                        proc_write_file(fds[i], procs->list[i].pid, "cmdline");
        for (int pass = 0; pass < 2; pass++) /* ranks first */
                for (size_t i = 0; i < n && clock_monotonic_usec() < deadline; i++)
                        if (fds[i] >= 0 && (ranks[i] >= 0) == (pass == 0))
                                proc_write_stacks(fds[i], procs->list[i].pid, deadline);
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
