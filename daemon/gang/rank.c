/*
 * `bertd-gang rank --ranks R --hosts K [--grace SEC] [--last] -- PROGRAM…`: runs the program of a command's rank, with
 * the variables that torch.distributed, DeepSpeed and others read: mpirun's would not be known to them. MASTER_ADDR and
 * MASTER_PORT come with mpirun's -x.
 *
 * A rank ends with its program, as a job of one host does: Open MPI would wait for as long as any process has the
 * rank's output open. What lives two seconds later was left behind, and is stopped; with --last it is waited for, and
 * fails the rank if it fails. This process must not be taken for the rank: /proc/PID/environ does not show the rank's
 * variables.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/leash.h"
#include "common/parse.h"
#include "common/proc.h"
#include "common/proc_files.h"
#include "daemon/gang/gang.h"

#define LEFT_USEC (2 * USEC_PER_SEC)       /* as shim/left.c */
#define STOP_PAUSE_USEC (USEC_PER_SEC / 5) /* as shim/term.h */

static void set_number(const char *name, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        (void) setenv(name, text, 1);
}

/* One of mpirun's variables under another name. */
static void hand_on(const char *from, const char *to) {
        const char *value = getenv(from);

        if (value)
                (void) setenv(to, value, 1);
}

static void set_variables(uint64_t ranks, uint64_t hosts) {
        const char *rank = getenv("OMPI_COMM_WORLD_RANK");
        uint64_t number;

        hand_on("OMPI_COMM_WORLD_RANK", "RANK");
        hand_on("OMPI_COMM_WORLD_SIZE", "WORLD_SIZE");
        hand_on("OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK");
        hand_on("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE");
        set_number("NNODES", hosts);
        if (rank && parse_u64(rank, 0, INT32_MAX, &number) == 0)
                set_number("NODE_RANK", number / ranks);
}

/* Before any variable is set: all of them are where the kernel put them and shows them. */
static int move_environment(void) {
        size_t n = 0;

        while (environ[n])
                n++;
        char **copy = calloc(n + 1, sizeof(*copy));
        for (size_t i = 0; i < n; i++)
                if (!copy || !(copy[i] = strdup(environ[i])))
                        return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                explicit_bzero(environ[i], strlen(environ[i]));
        environ = copy;
        return 0;
}

/* A word ":" would be mpirun's own: see add_word in mpirun.c. */
static void restore_words(char **words) {
        for (; *words; words++) {
                size_t n = strspn(*words, "=");
                if (n > 0 && strcmp(*words + n, ":") == 0)
                        (*words)++;
        }
}

static __attribute__((noreturn)) void become_program(char **argv, pid_t parent, const sigset_t *signals) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(1);
        (void) sigprocmask(SIG_SETMASK, signals, NULL);
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* Open MPI gives rank 0 a pipe */
        (void) dup2(null_fd, STDIN_FILENO);
        (void) execvp(argv[0], argv);
        int code = errno;
        (void) fprintf(stderr, "%s: %s\n", argv[0], code == ENOENT ? "command not found" : strerror(code));
        _exit(code == ENOENT ? 127 : 126);
}

static void mark_self(struct procs *procs, void *userdata) {
        struct proc *self = procs_find(procs, getpid());

        if (self)
                self->mark = PROC_ROOT;
}

/* Signals are blocked: the mark waits. */
static bool is_stopping(void) {
        sigset_t waiting;

        return sigpending(&waiting) == 0 && sigismember(&waiting, LEASH_STOP_MARK) == 1;
}

/* SIGTERM to what is left. */
static void ask_left(void) {
        const char *rank = getenv("OMPI_COMM_WORLD_RANK");
        struct procs procs = {};
        char name[PROC_NAME_SIZE];

        if (procs_read_ours(&procs, mark_self, NULL) < 0 || procs.n == 0)
                return;
        proc_name(procs.list[0].pid, name);
        if (!is_stopping())
                (void) fprintf(stderr, "bertd: rank %s left %zu process%s behind, stopped: %s%s\n", rank ? rank : "?",
                               procs.n, procs.n > 1 ? "es" : "", name, procs.n > 1 ? " and others" : "");
        for (size_t i = 0; i < procs.n; i++)
                (void) proc_signal(&procs.list[i], SIGTERM);
        procs_free(&procs);
}

/* Orphans are children of this process, a subreaper. False: some live. */
static bool wait_for_all(uint64_t limit_usec) {
        const struct timespec nap = { .tv_nsec = 50000000 };
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        pid_t pid;

        while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && clock_boottime_usec() < deadline)
                if (pid == 0)
                        (void) nanosleep(&nap, NULL);
        return pid < 0;
}

/* In a stop the shim or the leash has asked the program and, through a shell, what it started. */
static void end_left(const char *program, uint64_t grace_usec) {
        static const char *const shells[] = { "sh", "bash", "dash", "zsh", "ksh" };
        const char *slash = strrchr(program, '/');
        bool shell = false;

        for (size_t i = 0; i < ELEMENTSOF(shells); i++)
                shell = shell || strcmp(slash ? slash + 1 : program, shells[i]) == 0;
        if (wait_for_all(is_stopping() ? STOP_PAUSE_USEC : LEFT_USEC))
                return;
        if (!is_stopping() || !shell)
                ask_left();
        if (!wait_for_all(grace_usec))
                (void) procs_end_all(mark_self, NULL, LEFT_USEC);
}

/* mpirun kills the other ranks once one has failed, also those that still save: who ends by a stop has not. bertd knows
 * that it was one. */
static bool ended_by_stop(int status) {
        bool asked = WIFSIGNALED(status)
                             ? WTERMSIG(status) == SIGTERM
                             : WEXITSTATUS(status) == 128 + SIGTERM || WEXITSTATUS(status) == BERTD_EXIT_STOPPED;
        return asked && is_stopping();
}

/* Until the last one has ended; the first failure counts. */
static int wait_for_last(int status) {
        for (int later; waitpid(-1, &later, 0) > 0;)
                status = status != 0 ? status : later;
        return status;
}

/* As the program did. */
static int end_by(int status) {
        const struct rlimit no_core = {};
        sigset_t none;

        if (!WIFSIGNALED(status))
                return WEXITSTATUS(status);
        (void) setrlimit(RLIMIT_CORE, &no_core);
        (void) signal(WTERMSIG(status), SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) raise(WTERMSIG(status));
        return 128 + WTERMSIG(status);
}

/* Signals reach the program by themselves: they are sent to the rank's process group, or to each of its processes. */
static int run(char **argv, bool last, uint64_t grace_usec) {
        sigset_t all, before;
        pid_t parent = getpid(), pid;
        int status = 0;

        (void) sigfillset(&all);
        (void) sigprocmask(SIG_BLOCK, &all, &before);
        (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
        pid_t program = fork();
        if (program < 0) {
                (void) fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
                return BERTD_EXIT_OSERR;
        }
        if (program == 0)
                become_program(argv, parent, &before);
        while ((pid = waitpid(-1, &status, 0)) != program && (pid > 0 || errno == EINTR))
                ;
        if (last)
                status = wait_for_last(status);
        else
                end_left(argv[0], grace_usec);
        return ended_by_stop(status) ? 0 : end_by(status);
}

int rank_main(int argc, char **argv) {
        static const struct option options[] = { { "ranks", required_argument, NULL, 'r' },
                                                 { "hosts", required_argument, NULL, 'k' },
                                                 { "grace", required_argument, NULL, 'g' },
                                                 { "last", no_argument, NULL, 'l' },
                                                 {} };
        uint64_t ranks = 0, hosts = 0, grace_sec = 0;
        bool good = true, last = false;

        for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
                last = last || c == 'l';
                good = good && (c == 'r'   ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &ranks) == 0
                                : c == 'k' ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &hosts) == 0
                                : c == 'g' ? parse_u64(optarg, 0, UINT32_MAX, &grace_sec) == 0
                                           : c == 'l');
        }
        if (!good || ranks == 0 || hosts == 0 || optind >= argc) {
                (void) fprintf(stderr, "usage: bertd-gang rank --ranks R --hosts K -- PROGRAM... (mpirun calls it)\n");
                return BERTD_EXIT_USAGE;
        }
        if (move_environment() < 0) {
                (void) fprintf(stderr, "bertd-gang rank: %s\n", strerror(ENOMEM));
                return BERTD_EXIT_OSERR;
        }
        set_variables(ranks, hosts);
        restore_words(argv + optind);
        return run(argv + optind, last, grace_sec * USEC_PER_SEC);
}
