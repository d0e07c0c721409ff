/*
 * `bertd-gang rank --ranks R --hosts K [--grace SEC] [--last] -- PROGRAM…`: runs the program of a command's rank, with
 * the variables that torch.distributed, DeepSpeed and others read: mpirun's would not be known to them. MASTER_ADDR and
 * MASTER_PORT come with mpirun's -x.
 *
 * A rank ends with its program, as a job of one host does: Open MPI would wait for as long as any process has the
 * rank's output open. What lives two seconds later was left behind, and is stopped; with --last it is waited for, and
 * fails the rank if it fails.
 *
 * A stop is announced by LEASH_STOP_MARK, before the shim or the leash sends SIGTERM to the topmost processes and,
 * through shells, to those below; what comes to the top later is asked here. Nothing is killed here in a stop: the shim
 * and the leash have the grace time. mpirun kills all ranks once one has failed, also one that still saves, so a rank
 * that ends by a stop ends with 0 here, and with a line in the log, by which the shim knows it.
 *
 * This process must not be taken for the rank: /proc/PID/environ does not show the rank's variables.
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
#include "common/proc_program.h"
#include "daemon/gang/gang.h"

#define LEFT_USEC (2 * USEC_PER_SEC) /* as shim/left.c */

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
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* Open MPI gives rank 0 a pipe */
        (void) dup2(null_fd, STDIN_FILENO);
        (void) signal(LEASH_STOP_MARK, SIG_IGN); /* it may have come already, for the parent */
        (void) sigprocmask(SIG_SETMASK, signals, NULL);
        (void) signal(LEASH_STOP_MARK, SIG_DFL);
        (void) execvp(argv[0], argv);
        int code = errno;
        (void) fprintf(stderr, "%s: %s\n", argv[0], code == ENOENT ? "command not found" : strerror(code));
        _exit(code == ENOENT ? 127 : 126);
}

/* ---- what lives below this process, a subreaper ---- */

struct rank {
        pid_t program;
        bool last, ended, stopping, asked_left;
        int status;                    /* of the program; with `last` of the first that failed */
        uint64_t grace_usec, due_usec; /* due: what is left is looked at; 0: only when something ends */
        struct procs asked;            /* in a stop */
};

static void mark_self(struct procs *procs, void *userdata) {
        struct proc *self = procs_find(procs, getpid());

        if (self)
                self->mark = PROC_ROOT;
}

/* Those that the shim or the leash asks, as they choose. */
static void note_asked(struct rank *rank, const struct procs *procs, pid_t parent) {
        for (size_t i = 0; i < procs->n; i++) {
                const struct proc *p = &procs->list[i];
                if (p->parent != parent || proc_ends_with_writer(procs, p))
                        continue;
                (void) procs_add(&rank->asked, p);
                if (proc_is_shell(p->pid))
                        note_asked(rank, procs, p->pid);
        }
}

static void begin_stop(struct rank *rank) {
        struct procs procs = {};

        rank->stopping = true;
        rank->due_usec = 0;
        if (procs_read_ours(&procs, mark_self, NULL) >= 0)
                note_asked(rank, &procs, getpid());
        procs_free(&procs);
}

/* SIGTERM to what is left; in a stop to what is at the top and was not asked. */
static void ask_left(struct rank *rank) {
        const char *number = getenv("OMPI_COMM_WORLD_RANK");
        struct procs procs = {};
        char name[PROC_NAME_SIZE] = "";

        if (procs_read_ours(&procs, mark_self, NULL) < 0)
                procs.n = 0;
        if (procs.n > 0 && !rank->stopping) {
                proc_name(procs.list[0].pid, name);
                (void) fprintf(stderr, "bertd: rank %s left %zu process%s behind, stopped: %s%s\n",
                               number ? number : "?", procs.n, procs.n > 1 ? "es" : "", name,
                               procs.n > 1 ? " and others" : "");
        }
        for (size_t i = 0; i < procs.n; i++) {
                const struct proc *p = &procs.list[i];
                bool asked = procs_have(&rank->asked, p) && proc_catches(p->pid, SIGTERM); /* else it would be dead */
                bool waits = rank->stopping && (asked || p->parent != getpid() || proc_ends_with_writer(&procs, p));
                if (waits)
                        continue;
                (void) proc_signal(p, SIGTERM);
                if (!procs_have(&rank->asked, p))
                        (void) procs_add(&rank->asked, p);
        }
        procs_free(&procs);
}

/* False: nobody is left. */
static bool reap(struct rank *rank) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid == rank->program) {
                        rank->ended = true;
                        rank->status = status;
                } else if (rank->ended && rank->last && rank->status == 0) {
                        rank->status = status;
                }
        }
        return pid == 0;
}

/* Something is left, and it is time. */
static void look(struct rank *rank, uint64_t now) {
        if (rank->stopping) {
                ask_left(rank);
                rank->due_usec = now + LEASH_STOP_PAUSE_USEC;
        } else if (!rank->asked_left) {
                ask_left(rank);
                rank->asked_left = true;
                rank->due_usec = now + (rank->status == 0 ? rank->grace_usec : LEFT_USEC); /* the other ranks wait */
        } else {
                (void) procs_end_all(mark_self, NULL, LEFT_USEC);
                rank->due_usec = now + LEFT_USEC;
        }
}

/* Waits for one of these signals, at most that long. */
static void wait_for(struct rank *rank, bool child, uint64_t usec) {
        const struct timespec limit = { .tv_sec = (time_t) (usec / USEC_PER_SEC),
                                        .tv_nsec = (long) (usec % USEC_PER_SEC * 1000) };
        sigset_t signals;

        (void) sigemptyset(&signals);
        (void) sigaddset(&signals, LEASH_STOP_MARK);
        if (child)
                (void) sigaddset(&signals, SIGCHLD);
        if (sigtimedwait(&signals, NULL, &limit) == LEASH_STOP_MARK && !rank->stopping)
                begin_stop(rank);
}

/* The mark comes before what it announces: it counts for a program that has ended by that, if both are seen at once. */
static void wait_for_all(struct rank *rank) {
        for (;;) {
                wait_for(rank, false, 0);
                if (!reap(rank))
                        return;
                uint64_t now = clock_boottime_usec();
                if (rank->ended && rank->due_usec == 0 && (rank->stopping || !rank->last))
                        rank->due_usec = now + (rank->stopping ? LEASH_STOP_PAUSE_USEC : LEFT_USEC);
                if (rank->due_usec > 0 && now >= rank->due_usec)
                        look(rank, now);
                else
                        wait_for(rank, true, rank->due_usec > 0 ? rank->due_usec - now : 60 * USEC_PER_SEC);
        }
}

/* ---- its end ---- */

/* Exit codes of what a user has to mend are kept, and signals that nobody sends to stop a program. */
static bool ended_by_stop(const struct rank *rank) {
        static const int kept[] = { BERTD_EXIT_DATA, BERTD_EXIT_INPUT, BERTD_EXIT_BAD_CHECKPOINT, BERTD_EXIT_NAN,
                                    BERTD_EXIT_CONFIG };
        static const int asking[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
        int status = rank->status;

        if (!rank->stopping || status == 0)
                return false;
        for (size_t i = 0; WIFSIGNALED(status) && i < ELEMENTSOF(asking); i++)
                if (WTERMSIG(status) == asking[i])
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                if (WIFEXITED(status) && WEXITSTATUS(status) == kept[i])
                        return false;
        return WIFEXITED(status);
}

static int end_by_stop(int status) {
        const char *number = getenv("OMPI_COMM_WORLD_RANK");

        (void) fprintf(stderr, RANK_WAS_STOPPED "%s by a stop: %s %d\n", number ? number : "?",
                       WIFSIGNALED(status) ? "signal" : "exit code",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        return 0;
}

/* As the program did. Other signals stay blocked: one may wait. */
static int end_by(int status) {
        const struct rlimit no_core = {};
        sigset_t one;

        if (!WIFSIGNALED(status))
                return WEXITSTATUS(status);
        (void) setrlimit(RLIMIT_CORE, &no_core);
        (void) signal(WTERMSIG(status), SIG_DFL);
        (void) sigemptyset(&one);
        (void) sigaddset(&one, WTERMSIG(status));
        (void) raise(WTERMSIG(status));
        (void) sigprocmask(SIG_UNBLOCK, &one, NULL);
        return 128 + WTERMSIG(status);
}

/* Signals reach the program by themselves: they are sent to the rank's process group, or to each of its processes. A
 * SIGTERM that came before there was a program is handed on. */
static int run(char **argv, struct rank *rank, const sigset_t *before) {
        pid_t parent = getpid();
        sigset_t waiting;

        (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
        bool asked = sigpending(&waiting) == 0 && sigismember(&waiting, SIGTERM) == 1;
        rank->program = fork();
        if (rank->program < 0) {
                (void) fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
                return BERTD_EXIT_OSERR;
        }
        if (rank->program == 0)
                become_program(argv, parent, before);
        if (asked)
                (void) kill(rank->program, SIGTERM);
        wait_for_all(rank);
        procs_free(&rank->asked);
        return ended_by_stop(rank) ? end_by_stop(rank->status) : end_by(rank->status);
}

int rank_main(int argc, char **argv) {
        static const struct option options[] = { { "ranks", required_argument, NULL, 'r' },
                                                 { "hosts", required_argument, NULL, 'k' },
                                                 { "grace", required_argument, NULL, 'g' },
                                                 { "last", no_argument, NULL, 'l' },
                                                 {} };
        uint64_t ranks = 0, hosts = 0, grace_sec = 0;
        struct rank rank = {};
        sigset_t all, before;
        bool good = true;

        (void) sigfillset(&all);
        (void) sigprocmask(SIG_BLOCK, &all, &before);
        for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
                rank.last = rank.last || c == 'l';
                good = good && (c == 'r'   ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &ranks) == 0
                                : c == 'k' ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &hosts) == 0
                                : c == 'g' ? parse_u64(optarg, 0, UINT32_MAX, &grace_sec) == 0
                                           : c == 'l');
        }
        if (!good || ranks == 0 || hosts == 0 || optind >= argc) {
                (void) fprintf(stderr,
                               "usage: bertd-gang rank --ranks R --hosts K [--grace SEC] [--last] -- PROGRAM... "
                               "(mpirun calls it)\n");
                return BERTD_EXIT_USAGE;
        }
        if (move_environment() < 0) {
                (void) fprintf(stderr, "bertd-gang rank: %s\n", strerror(ENOMEM));
                return BERTD_EXIT_OSERR;
        }
        rank.grace_usec = grace_sec * USEC_PER_SEC;
        set_variables(ranks, hosts);
        restore_words(argv + optind);
        return run(argv + optind, &rank, &before);
}
