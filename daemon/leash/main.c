/*
 * See leash.h: the program, its loop and its end. `bertd-leash --channel NAME` takes the channel from bertctl lease;
 * without --channel it is standard input and output, of a host without bertd.
 */
#include "daemon/leash/leash.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/handover.h"
#include "common/inherited.h"
#include "common/own_cgroup.h"
#include "common/parse.h"
#include "common/proc.h"

#define HANDOVER_USEC (10 * USEC_PER_SEC)
#define KILL_USEC (3 * USEC_PER_SEC) /* together below the 5 s that the head and bertd wait */
#define LAST_USEC (1 * USEC_PER_SEC)
#define LINES_A_TURN 64
#define READS_A_TURN 4

struct options {
        const char *channel, *of;
        uint64_t timeout_sec;
};

/* ---- the end ---- */

static void mark_self(struct procs *procs, void *userdata) {
        struct proc *self = procs_find(procs, getpid());

        if (self)
                self->mark = PROC_ROOT;
}

static void push_until(struct leash *leash, uint64_t deadline) {
        for (uint64_t now; (now = clock_boottime_usec()) < deadline;) {
                struct pollfd out = { .fd = leash->out, .events = POLLOUT };
                if (leash_writer_push(&leash->writer, leash->out) <= 0)
                        return;
                (void) poll(&out, 1, (int) ((deadline - now) / 1000) + 1);
        }
}

/* The ending first: killing may take a while. */
static int end_all(struct leash *leash) {
        (void) leash_writer_push(&leash->writer, leash->out);
        ssize_t left = procs_end_all(mark_self, NULL, KILL_USEC);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        if (left == 0)
                (void) leash_writer_add(&leash->writer, leash_line(LEASH_FREED));
        push_until(leash, clock_boottime_usec() + LAST_USEC);
        (void) dprintf(STDERR_FILENO, "bertd-leash: %s\n", leash->reason);
        return left == 0 && !leash->failed ? BERTD_EXIT_OK : BERTD_EXIT_FAILURE;
}

/* ---- lines of the head ---- */

static void on_line(struct leash *leash, const json_t *line) {
        uint64_t signal;

        switch (leash_type_of(line)) {
        case LEASH_RUN:
                leash_command_start(leash, line);
                break;
        case LEASH_SIGNAL:
                if (leash_number(line, "signal", 64, &signal) && signal > 0)
                        leash_helper_signal(leash, (int) signal, json_is_true(json_object_get(line, "caught")),
                                            json_is_true(json_object_get(line, "stop")));
                break;
        case LEASH_STACKS:
                leash_helper_stacks(leash);
                break;
        case LEASH_QUIT:
                leash_end(leash, false, false, "ended by its head");
                break;
        default: /* a beat, or of a newer head */
                break;
        }
}

static void read_lines(struct leash *leash) {
        json_t *line;
        int r = 0;

        for (unsigned i = 0; i < LINES_A_TURN && !leash->over && (r = leash_reader_next(&leash->reader, &line)) > 0;
             i++) {
                on_line(leash, line);
                json_decref(line);
        }
        if (r < 0)
                leash_end(leash, true, true, "the head sent what is not a line of a leash");
}

static void read_channel(struct leash *leash) {
        ssize_t n = leash_reader_fill(&leash->reader, leash->in);

        if (n > 0)
                leash->heard_usec = clock_boottime_usec();
        else if (n == 0)
                leash_end(leash, true, false, "the connection was closed");
        else if (n != -EAGAIN && n != -ENOBUFS)
                leash_end(leash, true, false, "the connection broke: %s", strerror((int) -n));
        read_lines(leash);
}

/* ---- time ---- */

/* Never waits for the shim, which may be stopped. It recreates its socket if that was removed. */
static void notify(const struct leash *leash, const char *text) {
        for (int i = 0; i < 2 && leash->notify_fd >= 0; i++) {
                if (send(leash->notify_fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN)
                        return;
                (void) connect(leash->notify_fd, (const struct sockaddr *) &leash->notify, leash->notify_size);
        }
}

/* The shim's only message: why the head should go. No one else can send one to a connected socket. */
static void read_shim(struct leash *leash) {
        char reason[BERTD_DRAIN_REASON_MAX + 1];

        ssize_t n = recv(leash->notify_fd, reason, sizeof(reason) - 1, MSG_DONTWAIT);
        if (n <= 0)
                return;
        reason[n] = '\0';
        leash_send(leash, leash_drain(reason, true));
}

static void look_at_memory(struct leash *leash) {
        uint64_t kills = memory_oom_kills();

        if (kills > leash->oom_kills)
                leash_send(leash, json_pack("{sssI}", "type", "oom", "kills", (json_int_t) (kills - leash->oom_kills)));
        leash->oom_kills = MAX(kills, leash->oom_kills);
}

/* Returns the time of the next call. */
static uint64_t look_at_clock(struct leash *leash, uint64_t now) {
        uint64_t silent = now - leash->heard_usec;

        if (silent >= leash->timeout_usec)
                leash_end(leash, true, true, "its head was silent for %.1f s", (double) silent / USEC_PER_SEC);
        if (now >= leash->next_beat_usec) {
                leash->next_beat_usec = now + LEASH_BEAT_USEC;
                leash_send(leash, leash_line(LEASH_BEAT));
                notify(leash, "WATCHDOG=1");
                look_at_memory(leash);
        }
        uint64_t helpers = leash_helpers_look(leash, now);
        return MIN(MIN(leash->next_beat_usec, leash->heard_usec + leash->timeout_usec), helpers);
}

/* ---- the loop ---- */

static void reap(struct leash *leash) {
        int status;

        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (!leash_command_exited(leash, pid, status))
                        (void) leash_helper_exited(leash, pid);
}

static void read_signals(struct leash *leash) {
        struct signalfd_siginfo si;
        struct utsname host = {};

        (void) uname(&host);
        while (read(leash->signal_fd, &si, sizeof(si)) == (ssize_t) sizeof(si)) {
                if (si.ssi_signo == SIGCHLD)
                        reap(leash);
                else
                        leash_end(leash, false, true, "the lease was ended on %s", host.nodename);
        }
}

enum { AT_IN, AT_OUT, AT_SIGNALS, AT_SHIM, AT_COMMANDS };
#define POLLS_MAX (AT_COMMANDS + 2 * LEASH_RUNS_MAX + LEASH_HELPERS_MAX)

static int fill_polls(const struct leash *leash, struct pollfd polls[POLLS_MAX]) {
        int n = AT_COMMANDS;

        polls[AT_IN] = (struct pollfd) { .fd = leash->in, .events = POLLIN };
        polls[AT_OUT] =
                (struct pollfd) { .fd = leash_writer_left(&leash->writer) > 0 ? leash->out : -1, .events = POLLOUT };
        polls[AT_SIGNALS] = (struct pollfd) { .fd = leash->signal_fd, .events = POLLIN };
        polls[AT_SHIM] = (struct pollfd) { .fd = leash->notify_fd, .events = POLLIN };
        for (int i = 0; i < 2 * LEASH_RUNS_MAX; i++)
                polls[n++] = (struct pollfd) { .fd = leash->commands[i / 2].streams[i % 2], .events = POLLIN };
        for (int i = 0; i < LEASH_HELPERS_MAX; i++)
                polls[n++] = (struct pollfd) { .fd = leash->helpers[i].fd, .events = POLLIN };
        return n;
}

static void handle_polls(struct leash *leash, const struct pollfd polls[POLLS_MAX]) {
        if (polls[AT_IN].revents)
                read_channel(leash);
        else
                read_lines(leash); /* left from the last turn */
        for (int i = 0; i < 2 * LEASH_RUNS_MAX; i++)
                if (polls[AT_COMMANDS + i].revents)
                        leash_command_read(leash, &leash->commands[i / 2], i % 2);
        for (int i = 0; i < LEASH_HELPERS_MAX; i++)
                if (polls[AT_COMMANDS + 2 * LEASH_RUNS_MAX + i].revents)
                        leash_helper_read(leash, &leash->helpers[i]);
        if (polls[AT_SHIM].revents)
                read_shim(leash);
        if (polls[AT_SIGNALS].revents)
                read_signals(leash);
        ssize_t left = leash_writer_push(&leash->writer, leash->out);
        if (left < 0)
                leash_end(leash, true, false, "the connection broke: %s", strerror((int) -left));
}

static void loop(struct leash *leash) {
        struct pollfd polls[POLLS_MAX];

        while (!leash->over) {
                uint64_t now = clock_boottime_usec(), next = look_at_clock(leash, now);
                int n = fill_polls(leash, polls);
                bool more = leash->reader.scanned < leash->reader.used;
                int wait = more || next <= now ? 0 : (int) MIN((next - now) / 1000 + 1, (uint64_t) 60000);
                if (poll(polls, (nfds_t) n, wait) > 0 || more)
                        handle_polls(leash, polls);
        }
}

/* ---- the start ---- */

static int open_channel(struct leash *leash, const struct options *o, struct error *error) {
        int fds[2] = { STDIN_FILENO, STDOUT_FILENO };

        if (o->channel) {
                leash->connection = handover_take(o->channel, HANDOVER_USEC, fds, error);
                if (leash->connection < 0)
                        return leash->connection;
        } else {
                for (int i = 0; i < 2; i++)
                        if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
                                return error_errno(error, errno, "the connection to the head");
        }
        leash->in = fds[0];
        leash->out = fds[1];
        for (int i = 0; i < 2; i++)
                if (fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK) < 0)
                        return error_errno(error, errno, "the connection to the head");
        return 0;
}

/* The shim's socket: its variable must not reach a rank, whose reports it would take for the lease's. */
static void open_notify(struct leash *leash) {
        const char *path = getenv("NOTIFY_SOCKET");
        size_t size = path ? strlen(path) : 0;

        if (size > 1 && size < sizeof(leash->notify.sun_path)) {
                leash->notify.sun_family = AF_UNIX;
                memcpy(leash->notify.sun_path, path, size);
                if (path[0] == '@')
                        leash->notify.sun_path[0] = '\0';
                leash->notify_size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size);
                leash->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                const struct sockaddr any = { .sa_family = AF_UNIX }; /* the kernel chooses: for answers */
                (void) bind(leash->notify_fd, &any, sizeof(any.sa_family));
                (void) connect(leash->notify_fd, (const struct sockaddr *) &leash->notify, leash->notify_size);
        }
        (void) unsetenv("NOTIFY_SOCKET");
        (void) unsetenv("WATCHDOG_USEC");
        (void) unsetenv("WATCHDOG_PID");
}

static int watch_signals(struct leash *leash, struct error *error) {
        static const int watched[] = { SIGCHLD, SIGTERM, SIGINT };
        sigset_t set;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(watched); i++) {
                (void) signal(watched[i], SIG_DFL);
                (void) sigaddset(&set, watched[i]);
        }
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return error_errno(error, errno, "signals");
        leash->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (leash->signal_fd < 0)
                return error_errno(error, errno, "signals");
        return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? error_errno(error, errno, "PR_SET_CHILD_SUBREAPER") : 0;
}

static void grant(struct leash *leash) {
        const char *id = getenv(BERTD_ENV_JOB_ID);
        uint64_t lease = 0; /* without bertd */
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        cleanup_free char *copy = visible ? strdup(visible) : NULL;
        json_t *gpus = json_array();
        char *rest = NULL;

        if (leash->connection >= 0 && id)
                (void) parse_u64(id, 1, INT64_MAX, &lease);
        for (char *gpu = copy ? strtok_r(copy, ",", &rest) : NULL; gpu; gpu = strtok_r(NULL, ",", &rest))
                (void) json_array_append_new(gpus, json_string(gpu));
        leash_send(leash, json_pack("{sssIso}", "type", "granted", "lease", (json_int_t) lease, "gpus", gpus));
}

static int run(struct leash *leash, const struct options *o, struct error *error) {
        open_notify(leash);
        int r = watch_signals(leash, error);
        if (r >= 0)
                r = open_channel(leash, o, error);
        if (r < 0)
                return r;
        if (o->channel) /* else it would be seen on the head */
                (void) dprintf(STDERR_FILENO, "bertd-leash: leased to %s\n", o->of);
        leash->timeout_usec = o->timeout_sec * USEC_PER_SEC;
        leash->heard_usec = clock_boottime_usec();
        leash->oom_kills = memory_oom_kills();
        notify(leash, "READY=1");
        grant(leash);
        loop(leash);
        return 0;
}

static bool parse(int argc, char **argv, struct options *o) {
        static const struct option options[] = {
                { "channel", required_argument, NULL, 'c' },
                { "of", required_argument, NULL, 'o' },
                { "host-timeout", required_argument, NULL, 't' },
                { "version", no_argument, NULL, 'v' },
                {},
        };

        for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
                bool good = c == 'c'   ? handover_name_is_valid(o->channel = optarg)
                            : c == 'o' ? (o->of = optarg) != NULL
                            : c == 't' ? parse_u64(optarg, LEASH_TIMEOUT_MIN, LEASH_TIMEOUT_MAX, &o->timeout_sec) == 0
                                       : false;
                if (c == 'v') {
                        (void) printf("bertd-leash %s\n", BERTD_VERSION);
                        exit(BERTD_EXIT_OK);
                }
                if (!good)
                        return false;
        }
        return optind == argc && o->of;
}

int main(int argc, char **argv) {
        struct options o = { .timeout_sec = LEASH_TIMEOUT_DEFAULT };
        struct leash leash = { .in = -1, .out = -1, .connection = -1, .signal_fd = -1, .notify_fd = -1 };
        struct error error = {};

        inherited_begin_service();
        for (size_t i = 0; i < LEASH_RUNS_MAX; i++)
                leash.commands[i].streams[0] = leash.commands[i].streams[1] = -1;
        for (size_t i = 0; i < LEASH_HELPERS_MAX; i++)
                leash.helpers[i].fd = -1;
        if (!parse(argc, argv, &o)) {
                (void) fprintf(stderr, "usage: bertd-leash --of HOST:JOB [--channel NAME] [--host-timeout SEC] "
                                       "(bertd or bertctl lease starts it)\n");
                return BERTD_EXIT_USAGE;
        }
        if (run(&leash, &o, &error) < 0)
                return error_report(&error);
        return end_all(&leash);
}
