/*
 * See gang.h: another host, its ssh and its leash. Owns the fields of struct gang_host. Invariants: every state but
 * HOST_IDLE, HOST_HELD and HOST_GONE has a time limit; a held lease is given up after host_timeout_sec of silence; the
 * end of ssh gives the lease back.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/inherited.h"
#include "daemon/gang/gang.h"

#define CALL_LIMIT_USEC (60 * USEC_PER_SEC) /* ssh and the check of the inputs there */
#define TAKE_LIMIT_USEC (30 * USEC_PER_SEC)
#define ENVIRONMENT_DROPPED \
        { "SSH_AUTH_SOCK", "KRB5CCNAME", "DISPLAY" }
#define WORDS_MAX 64

static void set_state(struct gang_host *host, enum gang_host_state state) {
        host->state = state;
        host->since_usec = clock_boottime_usec();
}

void host_send(struct gang_host *host, json_t *line) { lines_send(&host->lines, line); }

/* ---- its failure ---- */

/* The last line that ssh printed. */
static const char *last_said(struct gang_host *host) {
        char *text = host->said;

        while (host->n_said > 0 && (unsigned char) host->said[host->n_said - 1] <= ' ')
                host->n_said--;
        host->said[host->n_said] = '\0';
        for (char *p = text; *p; p++)
                if ((unsigned char) *p < 0x20 && *p != '\n')
                        *p = ' ';
        const char *newline = strrchr(text, '\n');
        return newline ? newline + 1 : text;
}

/* Before mpirun the host can be replaced; afterwards the gang ends. */
static void lost(struct gang_host *host, const struct gang_verdict *verdict) {
        struct gang *gang = host->gang;
        bool leaving = host->state == HOST_LEAVING;

        host_close(host);
        if (leaving || gang->phase == GANG_ENDING)
                return;
        if (gang->phase == GANG_RUNNING)
                gang_end(gang, verdict);
        else
                start_failed(gang, host, verdict);
}

static enum exit_class lost_class(const struct gang_host *host) {
        return host->gang->phase == GANG_RUNNING ? EXIT_CLASS_HOST_LOST : EXIT_CLASS_WAIT;
}

/* ssh has ended, or closed its output. */
static void closed(struct gang_host *host) {
        const char *said = last_said(host);
        struct gang_verdict v;

        if (host->state == HOST_CALLED)
                v = gang_verdict(EXIT_CLASS_WAIT, host->name, "%s", said[0] ? said : "ssh ended without an answer");
        else
                v = gang_verdict(lost_class(host), host->name, "the connection was closed%s%s", said[0] ? ": " : "",
                                 said);
        lost(host, &v);
}

/* ---- its lines ---- */

static void take_text(char *to, size_t size, const json_t *line, const char *key) {
        cleanup_free char *text = leash_text(line, key);

        (void) snprintf(to, size, "%s", text ? text : "");
}

static void on_host_line(struct gang_host *host, json_t *line) {
        const json_t *network = json_object_get(line, "network");

        take_text(host->node, sizeof(host->node), line, "host");
        take_text(host->address, sizeof(host->address), network, "address");
        set_state(host, HOST_THERE);
        start_continue(host->gang);
}

static void on_refused(struct gang_host *host, json_t *line) {
        cleanup_free char *reason = leash_text(line, "reason");
        enum leash_class class = leash_class_of(line);
        bool for_good = class == LEASH_CLASS_FORBIDDEN || class == LEASH_CLASS_FORK || class == LEASH_CLASS_USAGE ||
                        (class == LEASH_CLASS_INPUT && !host->gang->plan.ran);
        struct gang_verdict v;

        v = gang_verdict(for_good ? EXIT_CLASS_USER_ERROR : EXIT_CLASS_WAIT, NULL, "%s", reason ? reason : "refused");
        (void) snprintf(v.host, sizeof(v.host), "%.*s", (int) sizeof(v.host) - 1, host->name);
        lost(host, &v);
}

static void on_granted(struct gang_host *host, json_t *line) {
        set_state(host, HOST_HELD);
        gang_note(host->gang, "%s: lease granted", host->name);
        start_continue(host->gang);
}

static void on_oom(struct gang_host *host, json_t *line) {
        host->oom = true;
        shim_link_text(host->gang, "oom", host->name, "node", host->node);
}

static void on_drain(struct gang_host *host, json_t *line) {
        cleanup_free char *reason = leash_text(line, "reason");

        if (json_is_true(json_object_get(line, "move")))
                shim_link_text(host->gang, "drain", host->name, "reason", reason ? reason : "");
}

static void on_ending(struct gang_host *host, json_t *line) {
        cleanup_free char *reason = leash_text(line, "reason");
        struct gang_verdict v = gang_verdict(lost_class(host), host->name, "%s", reason ? reason : "the lease ended");

        if (host->state != HOST_LEAVING && host->gang->phase != GANG_ENDING) {
                if (host->gang->phase == GANG_RUNNING)
                        gang_end(host->gang, &v);
                else
                        lost(host, &v);
        }
}

static void on_freed(struct gang_host *host, json_t *line) {
        struct gang_verdict v = gang_verdict(lost_class(host), host->name, "the lease ended");

        host->freed = true;
        lost(host, &v);
}

static void on_stacks(struct gang_host *host, json_t *line) { shim_link_forward(host->gang, host, line); }

static const struct line_rule {
        unsigned states; /* in which it may come */
        void (*handle)(struct gang_host *host, json_t *line);
} rules[LEASH_TYPE_MAX] = {
        [LEASH_HOST] = { 1u << HOST_CALLED, on_host_line },
        [LEASH_REFUSED] = { 1u << HOST_CALLED | 1u << HOST_THERE | 1u << HOST_TAKING, on_refused },
        [LEASH_GRANTED] = { 1u << HOST_TAKING, on_granted },
        [LEASH_OUTPUT] = { 1u << HOST_HELD | 1u << HOST_LEAVING, agents_output },
        [LEASH_EXITED] = { 1u << HOST_HELD | 1u << HOST_LEAVING, agents_exited },
        [LEASH_OOM] = { 1u << HOST_HELD | 1u << HOST_LEAVING, on_oom },
        [LEASH_DRAIN] = { 1u << HOST_HELD, on_drain },
        [LEASH_ENDING] = { 1u << HOST_TAKING | 1u << HOST_HELD, on_ending },
        [LEASH_FREED] = { 1u << HOST_TAKING | 1u << HOST_HELD | 1u << HOST_LEAVING, on_freed },
        [LEASH_STACKS] = { 1u << HOST_HELD, on_stacks },
};

/* A line that cannot come now is ignored: the other side is not trusted. */
static void on_line(struct gang_host *host, json_t *line) {
        enum leash_type type = leash_type_of(line);

        if (type < LEASH_TYPE_MAX && rules[type].handle && (rules[type].states & 1u << host->state))
                rules[type].handle(host, line);
        json_decref(line);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang_host *host = userdata;
        ssize_t n = leash_reader_fill(&host->lines.reader, fd);
        json_t *line;
        int r = 0;

        if (n > 0)
                host->heard_usec = clock_boottime_usec();
        while (host->lines.in >= 0 && (r = leash_reader_next(&host->lines.reader, &line)) > 0)
                on_line(host, line);
        if (host->lines.in < 0)
                return 0;
        if (r < 0) {
                struct gang_verdict v = gang_verdict(lost_class(host), host->name,
                                                     "what it sends is not a leash's; look there for a "
                                                     "~/.bashrc that prints");
                lost(host, &v);
        } else if (n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS)) {
                closed(host);
        }
        return 0;
}

/* ---- its ssh ---- */

static int on_said(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang_host *host = userdata;
        char buffer[1024];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n <= 0) {
                if (n == 0 || errno != EAGAIN)
                        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                return 0;
        }
        size_t keep = MIN(host->n_said, sizeof(host->said) - 1 - (size_t) n); /* of a flood its end */
        memmove(host->said, host->said + host->n_said - keep, keep);
        memcpy(host->said + keep, buffer, (size_t) n);
        host->n_said = keep + (size_t) n;
        return 0;
}

static void put(char **argv, unsigned *n, char *word) {
        if (*n + 1 < WORDS_MAX)
                argv[(*n)++] = word;
}

/* The words after the host are one command line for the remote shell; none of them needs quoting. */
static char *lease_command(const struct gang *gang) {
        const struct gang_plan *p = &gang->plan;

        return format_string("bertctl lease --of %s:%llu --attempt %u --ranks %u --gpus %u --threads %u "
                             "--host-timeout %u%s%s%s",
                             p->head, (unsigned long long) p->job, p->attempt, p->ranks, p->gpus, p->threads,
                             p->host_timeout_sec, p->network ? " --network " : "", p->network ? p->network : "",
                             p->unmanaged ? " --unmanaged" : "");
}

static __attribute__((noreturn)) void become_ssh(char **argv, int in, int out, int error, pid_t parent) {
        static const char *const dropped[] = ENVIRONMENT_DROPPED;

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(1);
        (void) setsid();
        inherited_drop_signals();
        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                (void) unsetenv(dropped[i]);
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0)
                _exit(1);
        (void) execvp(argv[0], argv);
        (void) dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
}

static int spawn(struct gang_host *host, char **argv) {
        int down[2] = { -1, -1 }, up[2] = { -1, -1 }, error[2] = { -1, -1 };
        pid_t parent = getpid();

        int r = pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0 ? -errno : 0;
        cleanup_close int down_read = down[0], down_write = down[1], up_read = up[0], up_write = up[1],
                          error_read = error[0], error_write = error[1];
        if (r < 0)
                return r;
        host->ssh = fork();
        if (host->ssh < 0) {
                host->ssh = 0;
                return -errno;
        }
        if (host->ssh == 0)
                become_ssh(argv, down_read, up_write, error_write, parent);
        host->error_fd = steal_fd(&error_read);
        (void) fcntl(host->error_fd, F_SETFL, O_NONBLOCK);
        r = sd_event_add_io(host->gang->event, &host->error_source, host->error_fd, EPOLLIN, on_said, host);
        int opened = lines_open(&host->lines, host->gang->event, steal_fd(&up_read), steal_fd(&down_write), on_readable,
                                host);
        return MIN(r, opened);
}

void host_call(struct gang_host *host) {
        static char *const options[] = {
                (char *) "ssh",
                (char *) "-T",
                (char *) "-oBatchMode=yes",
                (char *) "-oConnectTimeout=5",
                (char *) "-oServerAliveInterval=10",
                (char *) "-oServerAliveCountMax=3",
                (char *) "-oControlMaster=no",
                (char *) "-oControlPath=none",
                (char *) "-oClearAllForwardings=yes",
                (char *) "-oForwardAgent=no",
                (char *) "-oForwardX11=no",
        };
        char *argv[WORDS_MAX] = {};
        unsigned n = 0;
        cleanup_free char *command = lease_command(host->gang);

        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                put(argv, &n, options[i]);
        put(argv, &n, (char *) "--");
        put(argv, &n, (char *) host->name);
        put(argv, &n, command);
        host->heard_usec = host->beat_usec = clock_boottime_usec();
        set_state(host, HOST_CALLED);
        int r = command ? spawn(host, argv) : -ENOMEM;
        if (r < 0) {
                struct gang_verdict v =
                        gang_verdict(EXIT_CLASS_WAIT, host->name, "ssh could not be started: %s", strerror(-r));
                host_close(host);
                start_failed(host->gang, host, &v);
        }
}

void host_take(struct gang_host *host) {
        set_state(host, HOST_TAKING);
        host->heard_usec = clock_boottime_usec();
        host_send(host, leash_line(LEASH_TAKE));
}

void host_leave(struct gang_host *host) {
        if (host->state == HOST_HELD || host->state == HOST_TAKING) {
                set_state(host, HOST_LEAVING);
                host_send(host, leash_line(LEASH_QUIT));
        } else if (host->state != HOST_IDLE && host->state != HOST_LEAVING && host->state != HOST_GONE) {
                host_close(host); /* it holds nothing */
        }
}

static void look_at_silence(struct gang_host *host, uint64_t now) {
        uint64_t silent = now - host->heard_usec;

        if (silent <= host->gang->plan.host_timeout_sec * USEC_PER_SEC)
                return;
        struct gang_verdict v =
                gang_verdict(lost_class(host), host->name, "silent for %.1f s (limit %u s)",
                             (double) silent / (double) USEC_PER_SEC, host->gang->plan.host_timeout_sec);
        lost(host, &v);
}

static void look_at_limit(struct gang_host *host, uint64_t now, uint64_t limit, const char *what) {
        if (now - host->since_usec <= limit)
                return;
        struct gang_verdict v =
                gang_verdict(EXIT_CLASS_WAIT, host->name, "%s within %u s", what, (unsigned) (limit / USEC_PER_SEC));
        lost(host, &v);
}

void host_look(struct gang_host *host, uint64_t now) {
        bool beats = host->state == HOST_HELD || host->state == HOST_LEAVING;

        if (beats && now - host->beat_usec >= LEASH_BEAT_USEC) {
                host->beat_usec = now;
                host_send(host, leash_line(LEASH_BEAT));
        }
        if (host->state == HOST_HELD)
                look_at_silence(host, now);
        else if (host->state == HOST_CALLED)
                look_at_limit(host, now, CALL_LIMIT_USEC, "no answer");
        else if (host->state == HOST_TAKING)
                look_at_limit(host, now, TAKE_LIMIT_USEC, "no answer to the request of a lease");
        else if (host->state == HOST_LEAVING && now - host->since_usec > LEASH_FREED_USEC)
                host_close(host);
}

/* What ssh printed is read before its end is judged, which its closed output shows. */
void host_reaped(struct gang_host *host, int status) {
        host->ssh = 0;
        host->ssh_status = status;
}

void host_close(struct gang_host *host) {
        if (host->ssh > 0)
                (void) kill(host->ssh, SIGKILL);
        lines_close(&host->lines);
        host->error_source = sd_event_source_disable_unref(host->error_source);
        cleanup_close_p(&host->error_fd);
        host->error_fd = -1;
        set_state(host, HOST_GONE);
}
