/*
 * See gang.h: another host, its ssh and its leash. Owns the fields of struct gang_host. Invariants: every state but
 * HOST_IDLE, HOST_HELD and HOST_GONE has a time limit; a held lease is given up after host_timeout_sec of silence; the
 * end of ssh gives the lease back.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/host_verdict.h"
#include "daemon/gang/gang.h"

#define CALL_LIMIT_USEC (45 * USEC_PER_SEC) /* ssh and the check of the inputs there */
#define TAKE_LIMIT_USEC (30 * USEC_PER_SEC)
#define PAUSE_USEC (USEC_PER_SEC / 2) /* before a busy host is asked again */

void host_set_state(struct gang_host *host, enum gang_host_state state) {
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
void host_lost(struct gang_host *host, const struct gang_verdict *verdict) {
        struct gang *gang = host->gang;
        bool leaving = host->state == HOST_LEAVING;

        host_close(host);
        if (leaving || gang->phase == GANG_ENDING)
                return;
        if (host == &gang->self)
                start_continue(gang);
        else if (gang->phase == GANG_RUNNING)
                gang_end(gang, verdict);
        else
                start_failed(gang, host, verdict);
}

static enum exit_class lost_class(const struct gang_host *host) {
        return host->gang->phase == GANG_RUNNING ? EXIT_CLASS_HOST_LOST : EXIT_CLASS_WAIT;
}

/* A verdict of common/host_verdict.h, whose text names the host. */
static struct gang_verdict verdict_of(const struct gang_host *host, const struct host_verdict *from) {
        bool passes = from->grade == HOST_WAITS;
        struct gang_verdict v = gang_verdict(passes ? EXIT_CLASS_WAIT : EXIT_CLASS_USER_ERROR, NULL, "%s", from->text);

        (void) snprintf(v.host, sizeof(v.host), "%.*s", (int) sizeof(v.host) - 1, host->name);
        return v;
}

/* ssh has ended without an answer. */
static void unanswered(struct gang_host *host) {
        struct host_verdict judged;

        (void) last_said(host); /* ends the text */
        const struct host_end end = { .status = host->ssh_status, .said = host->said, .ran = host->gang->plan.ran };
        host_judge_end(host->name, &end, &judged);
        struct gang_verdict v = verdict_of(host, &judged);
        host_lost(host, &v);
}

/* The output of ssh has ended. Without an answer its exit status, which comes later, is the reason. */
static void closed(struct gang_host *host) {
        const char *said = last_said(host);

        if (host->state == HOST_CALLED) {
                host->closed = true;
                host->lines.in_source = sd_event_source_disable_unref(host->lines.in_source);
                if (host->ssh == 0)
                        unanswered(host);
                return;
        }
        struct gang_verdict v =
                gang_verdict(lost_class(host), host->name, "the connection was closed%s%s", said[0] ? ": " : "", said);
        host_lost(host, &v);
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
        json_decref(host->line);
        host->line = json_incref(line);
        host_set_state(host, HOST_THERE);
        if (host == &host->gang->self)
                host_close(host);
        start_continue(host->gang);
}

bool host_is_fit(struct gang_host *host) {
        const struct gang_plan *p = &host->gang->plan;
        const struct host_facts facts = { .host = host->name,
                                          .line = host->line,
                                          .head = host->gang->self.line,
                                          .head_name = p->head,
                                          .slots = (uint64_t) p->ranks * MAX(p->threads, 1u),
                                          .gpus = p->gpus,
                                          .ran = p->ran,
                                          .unmanaged = p->unmanaged };
        struct host_verdict judged;

        host->judged = true;
        host_judge(&facts, &judged);
        if (judged.grade == HOST_GOOD)
                return true;
        struct gang_verdict v = verdict_of(host, &judged);
        host_lost(host, &v);
        return false;
}

static void on_refused(struct gang_host *host, json_t *line) {
        cleanup_free char *reason = leash_text(line, "reason"), *class = leash_text(line, "class");
        uint64_t now = clock_boottime_usec();
        struct host_verdict judged;

        host->busy_usec = leash_class_of(line) != LEASH_CLASS_BUSY ? 0 : host->busy_usec > 0 ? host->busy_usec : now;
        host_judge_refused(host->name, class ? class : "", reason ? reason : "", &judged);
        if (host->busy_usec > 0 && now - host->busy_usec < start_patience(host->gang, host)) {
                gang_status(host->gang, "starting: %s", judged.text);
                host_close(host);
                host_set_state(host, HOST_PAUSED);
                return;
        }
        struct gang_verdict v = verdict_of(host, &judged);
        host_lost(host, &v);
}

static void on_granted(struct gang_host *host, json_t *line) {
        host_set_state(host, HOST_HELD);
        gang_note(host->gang, "%s: lease granted", host->name);
        start_continue(host->gang);
}

static void on_oom(struct gang_host *host, json_t *line) {
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
                        host_lost(host, &v);
        }
}

static void on_freed(struct gang_host *host, json_t *line) {
        struct gang_verdict v = gang_verdict(lost_class(host), host->name, "the lease ended");

        host->freed = true;
        host_lost(host, &v);
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

int host_on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
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
                host_lost(host, &v);
        } else if (n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS)) {
                closed(host);
        }
        return 0;
}

void host_take(struct gang_host *host) {
        host_set_state(host, HOST_TAKING);
        host->heard_usec = clock_boottime_usec();
        host_send(host, leash_line(LEASH_TAKE));
}

void host_leave(struct gang_host *host) {
        if (host->state == HOST_HELD || host->state == HOST_TAKING) {
                host_set_state(host, HOST_LEAVING);
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
        host_lost(host, &v);
}

static void look_at_limit(struct gang_host *host, uint64_t now, uint64_t limit, const char *what) {
        if (now - host->since_usec <= limit)
                return;
        struct gang_verdict v =
                gang_verdict(EXIT_CLASS_WAIT, host->name, "%s within %u s", what, (unsigned) (limit / USEC_PER_SEC));
        host_lost(host, &v);
}

void host_look(struct gang_host *host, uint64_t now) {
        bool beats = host->state == HOST_HELD || host->state == HOST_LEAVING;

        if (beats && now - host->beat_usec >= LEASH_BEAT_USEC) {
                host->beat_usec = now;
                host_send(host, leash_line(LEASH_BEAT));
        }
        if (host->state == HOST_PAUSED && now - host->since_usec > PAUSE_USEC)
                host_call(host);
        else if (host->state == HOST_HELD)
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
        if (host->closed && host->state == HOST_CALLED)
                unanswered(host);
}

void host_close(struct gang_host *host) {
        if (host->ssh > 0)
                (void) kill(host->ssh, SIGKILL);
        lines_close(&host->lines);
        host->error_source = sd_event_source_disable_unref(host->error_source);
        cleanup_close_p(&host->error_fd);
        host->error_fd = -1;
        host_set_state(host, HOST_GONE);
}

void host_free(struct gang_host *host) {
        host_close(host);
        json_decref(host->line);
        host->line = NULL;
}
