/*
 * See shim.h. Processes that outlive the job's first process. With ends_with last they keep the job running. Else they
 * were left behind: after a short time to exit by themselves they are named in the reason, and stopped like a job.
 * Reading a command line may hang with the process, so a separate process reads them, with a limit of a second.
 */
#include "daemon/shim/shim.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/proc_files.h"
#include "daemon/shim/tree.h"

#define LEFT_USEC (2 * USEC_PER_SEC)     /* helpers and readers of a pipe exit within this time */
#define RUNS_ON_USEC (5 * USEC_PER_SEC)  /* between two counts of remaining processes */
#define COMMANDS_LIMIT_USEC USEC_PER_SEC /* to read command lines */
#define NAMED_MAX 3
#define NAME_BYTES 64 /* per process in a reason */
static_assert(NAMED_MAX * (NAME_BYTES + 1) + sizeof(" and others") <= sizeof(((struct shim_left *) 0)->names), "room");
#define GRACE_OVER "grace time expired, killed: "
#define CURE "; do not end a job's script with \"&\", or submit with --ends-with last"

struct name {
        char text[NAME_BYTES];
        bool of_rank; /* known of command lines alone */
};

/* ---- names ---- */

/* `file`: comm, or cmdline without the folder of the program; arguments are separated by blanks. */
static void read_name(pid_t pid, const char *file, struct name *ret) {
        cleanup_free char *text = NULL;
        ssize_t n = proc_read_file(pid, file, 4096, &text), from = 0;

        while (n > 0 && (text[n - 1] == '\0' || text[n - 1] == '\n'))
                n--;
        if (n > 0 && text[0] == '/')
                from = strrchr(text, '/') + 1 - text;
        for (ssize_t i = from; i < n; i++)
                if (text[i] == '\0')
                        text[i] = ' ';
        (void) shim_clean_text(ret->text, sizeof(ret->text), n > 0 ? text + from : "", (size_t) MAX(n - from, 0));
}

static void write_commands(int fd, const struct procs *procs, size_t n, pid_t parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                return;
        for (size_t i = 0; i < n; i++) {
                struct name name = { .of_rank = proc_rank(procs->list[i].pid) >= 0 };
                read_name(procs->list[i].pid, "cmdline", &name);
                (void) write_all(fd, &name, sizeof(name));
        }
}

static size_t receive_commands(int fd, struct name *to, size_t n) {
        const uint64_t deadline = clock_boottime_usec() + COMMANDS_LIMIT_USEC;
        size_t bytes = 0;

        while (bytes < n * sizeof(*to)) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                uint64_t now = clock_boottime_usec();
                if (now >= deadline || poll(&p, 1, (int) ((deadline - now) / 1000) + 1) <= 0)
                        break;
                ssize_t more = read(fd, (char *) to + bytes, n * sizeof(*to) - bytes);
                if (more <= 0)
                        break;
                bytes += (size_t) more;
        }
        return bytes / sizeof(*to);
}

/* The command lines of the first n processes. Returns their number. */
static size_t read_commands(const struct procs *procs, size_t n, struct name *to) {
        int fds[2];
        pid_t parent = getpid();

        if (pipe2(fds, O_CLOEXEC) < 0)
                return 0;
        cleanup_close int from = fds[0], into = fds[1];
        pid_t pid = fork();
        if (pid == 0) {
                write_commands(into, procs, n, parent);
                _exit(0);
        }
        cleanup_close_p(&into);
        into = -1;
        size_t got = pid < 0 ? 0 : receive_commands(from, to, n);
        if (pid > 0 && got < n)
                (void) kill(pid, SIGKILL); /* on_child reaps it */
        return got;
}

/* "python train.py, tee log and others": each text once. */
static void list_names(const struct name *names, size_t n, bool more, char *buffer, size_t size) {
        size_t used = 0, listed = 0;

        buffer[0] = '\0';
        for (size_t i = 0; i < n; i++) {
                bool again = names[i].text[0] == '\0';
                for (size_t k = 0; k < i; k++)
                        again = again || strcmp(names[k].text, names[i].text) == 0;
                if (again)
                        continue;
                if (listed++ == NAMED_MAX) {
                        more = true;
                        break;
                }
                used += (size_t) snprintf(buffer + used, size - used, "%s%s", used > 0 ? ", " : "", names[i].text);
        }
        if (more)
                (void) snprintf(buffer + used, size - used, " and others");
}

/* Of a gang's processes its ranks', if there are any: what starts them ends with it, and means nothing to a user.
 * Returns their number. */
static size_t keep_ranks(struct name *names, struct name *commands, size_t n) {
        size_t kept = 0;

        for (size_t i = 0; i < n; i++)
                if (commands[i].of_rank) {
                        names[kept] = names[i];
                        commands[kept++] = commands[i];
                }
        return kept > 0 ? kept : n;
}

static void name_all(struct shim *shim, const struct procs *procs) {
        struct shim_left *left = &shim->left;
        struct name names[LEFT_LOOKED_AT_MAX], commands[LEFT_LOOKED_AT_MAX], read[LEFT_LOOKED_AT_MAX];
        size_t n = MIN(procs->n, (size_t) LEFT_LOOKED_AT_MAX);

        for (size_t i = 0; i < n; i++) {
                read_name(procs->list[i].pid, "comm", &names[i]);
                names[i].of_rank = false;
                if (!names[i].text[0])
                        (void) snprintf(names[i].text, sizeof(names[i].text),
                                        "?"); /* the process may have cleared its name */
        }
        memcpy(commands, names, sizeof(*names) * n);
        size_t got = read_commands(procs, n, read);
        for (size_t i = 0; i < got; i++) {
                commands[i].of_rank = read[i].of_rank;
                if (read[i].text[0])
                        commands[i] = read[i];
        }
        bool more = procs->n > n;
        left->n = procs->n;
        if (shim->gang.is)
                n = keep_ranks(names, commands, n);
        list_names(names, n, more, left->names, sizeof(left->names));
        list_names(commands, n, more, left->commands, sizeof(left->commands));
}

/* ---- the reason ---- */

static void add_more(char reason[EXIT_RECORD_REASON_MAX], const char *base, const char *more) {
        char text[EXIT_RECORD_REASON_MAX];

        int n = snprintf(text, sizeof(text), "%.*s; %s", EXIT_RECORD_REASON_MAX - EXIT_RECORD_MORE_MAX, base, more);
        (void) shim_clean_text(reason, EXIT_RECORD_REASON_MAX, text, MIN((size_t) n, sizeof(text) - 1));
}

static void tell_left(const struct shim_left *left, const char *names, const char *cure,
                      char ret[EXIT_RECORD_MORE_MAX]) {
        char text[EXIT_RECORD_MORE_MAX];
        int n = left->killed ? snprintf(text, sizeof(text), GRACE_OVER "%s", names)
                             : snprintf(text, sizeof(text), "ended %zu process%s left behind: %s%s", left->n,
                                        left->n == 1 ? "" : "es", names, cure);

        (void) shim_clean_text(ret, EXIT_RECORD_MORE_MAX, text, MIN((size_t) n, sizeof(text) - 1));
}

void shim_left_describe(const struct shim *shim, struct exit_verdict *v) {
        const struct shim_left *left = &shim->left;
        bool finished = v->exit_class == EXIT_CLASS_FINISHED;
        const char *code = "exit code 0";

        if (left->n == 0)
                return;
        tell_left(left, left->names, finished ? CURE : "", v->more);
        tell_left(left, left->commands, finished ? CURE : "", v->more_private);
        add_more(v->private, finished ? code : v->private[0] ? v->private : v->reason, v->more_private);
        add_more(v->reason, finished ? code : v->reason, v->more);
}

void shim_left_killed(struct shim *shim) {
        struct procs procs = {};

        if (tree_read_job(shim_first(shim), &procs) >= 0 && procs.n > 0) {
                name_all(shim, &procs);
                shim->left.killed = true;
                shim_log_note(&shim->log, GRACE_OVER "%s", shim->left.commands);
        }
        procs_free(&procs);
}

/* ---- stopping them ---- */

/* Stops them like a job. */
static void end_left(struct shim *shim) {
        struct procs procs = {};

        if (tree_read_job(shim_first(shim), &procs) >= 0 && procs.n > 0) {
                name_all(shim, &procs);
                shim_log_note(&shim->log, "the first process has ended; %zu process%s left behind: %s", procs.n,
                              procs.n == 1 ? " is" : "es are", shim->left.commands);
                (void) snprintf(shim->progress.status, sizeof(shim->progress.status),
                                "ending %zu process%s left behind", procs.n, procs.n == 1 ? "" : "es");
                shim_bus_changed(shim, true);
        }
        procs_free(&procs);
        shim_end_all(shim, shim->attempt.grace_usec);
}

static int on_left(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        shim->left.timer = sd_event_source_disable_unref(shim->left.timer);
        if (shim->state != SHIM_RUNNING || shim->killed || shim->stop_until_usec != 0)
                return 0;
        if (shim->attempt.ends_with == ENDS_WITH_LAST)
                shim_left_look(shim);
        else
                end_left(shim);
        return 0;
}

static void count_running(struct shim *shim) {
        struct procs procs = {};

        if (tree_read_job(shim_first(shim), &procs) >= 0 && procs.n != shim->left.running) {
                shim->left.running = procs.n;
                shim_bus_changed(shim, false);
        }
        procs_free(&procs);
}

void shim_left_look(struct shim *shim) {
        bool last = shim->attempt.ends_with == ENDS_WITH_LAST;

        if (last)
                count_running(shim);
        if (!shim->left.timer && sd_event_add_time_relative(shim->event, &shim->left.timer, CLOCK_BOOTTIME,
                                                            last ? RUNS_ON_USEC : LEFT_USEC, 0, on_left, shim) < 0)
                shim_kill_all(shim); /* no timer would check again */
}
