/* See gang.h. Owns shim->gang. Invariants: never waits for bertd-gang; its texts are checked like a program's. */
#include "daemon/shim/gang.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/names.h"
#include "daemon/shim/shim.h"

#define FD_VARIABLE "BERTD_GANG_FD"
#define READS_MAX 64 /* of 64 KiB, after its end */

/* ---- to bertd-gang ---- */

/* Few and small: they always fit into an empty socket buffer. */
static void send_line(struct shim *shim, json_t *line) {
        cleanup_free char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
        cleanup_free char *whole = text ? format_string("%s\n", text) : NULL;

        json_decref(line);
        if (whole && shim->gang.fd >= 0)
                (void) !send(shim->gang.fd, whole, strlen(whole), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void shim_gang_ask(struct shim *shim, const char *type, int signal) {
        send_line(shim, json_pack("{sssisb}", "type", type, "signal", signal, "ready", (int) shim->progress.ready));
}

void shim_gang_ask_stacks(struct shim *shim) {
        struct shim_gang *g = &shim->gang;

        if (!g->is || g->fd < 0 || !g->in_use)
                return;
        for (const char *p = g->in_use; *p; p++)
                g->stacks_due += *p == ',';
        if (g->stacks_due > 0)
                send_line(shim, json_pack("{ss}", "type", "stacks"));
}

/* ---- from bertd-gang ---- */

static void take_text(char *to, size_t size, const json_t *line, const char *key) {
        cleanup_free char *text = leash_text(line, key);

        (void) shim_clean_text(to, size, text ? text : "", text ? strlen(text) : 0);
}

static void on_verdict(struct shim *shim, const json_t *line) {
        struct shim_gang *g = &shim->gang;
        char name[32];

        take_text(name, sizeof(name), line, "class");
        int class = exit_class_from_name(name);
        g->judged = true;
        g->weak = json_is_true(json_object_get(line, "weak"));
        g->verdict = (struct exit_verdict) { .exit_class = class >= 0 ? (enum exit_class) class : EXIT_CLASS_LAUNCH,
                                             .exit_code = -1,
                                             .first_rank = -1 };
        take_text(g->verdict.host, sizeof(g->verdict.host), line, "host");
        take_text(g->verdict.reason, sizeof(g->verdict.reason), line, "reason");
        shim_log_note(&shim->log, "%s", g->verdict.reason);
}

/* Appends a name to a list with commas, within its bound. */
static void add_name(char **list, const char *name) {
        if (!name[0] || strchr(name, ',') || (*list && strlen(*list) + strlen(name) > GANG_NAMES_MAX))
                return;
        char *longer = format_string("%s%s%s", *list ? *list : "", *list ? "," : "", name);
        if (longer) {
                free(*list);
                *list = longer;
        }
}

static void on_hosts(struct shim *shim, const json_t *line) {
        const json_t *names = json_object_get(line, "in_use");
        const json_t *value;
        size_t i;

        uint64_t ranks = 0;

        (void) leash_number(line, "ranks", INT32_MAX, &ranks);
        shim->gang.ranks_of_host = (unsigned) ranks;
        free(steal_pointer(&shim->gang.in_use));
        json_array_foreach(names, i, value) {
                char name[256];
                const char *text = json_string_value(value);
                add_name(&shim->gang.in_use,
                         shim_clean_text(name, sizeof(name), text ? text : "", text ? strlen(text) : 0));
        }
        shim_bus_changed(shim, true);
}

static void on_status(struct shim *shim, const json_t *line) {
        if (shim->progress.ready)
                return;
        take_text(shim->progress.status, sizeof(shim->progress.status), line, "text");
        shim->gang.gave_status = true;
        shim_bus_changed(shim, true);
}

static void on_note(struct shim *shim, const json_t *line) {
        cleanup_free char *text = leash_text(line, "text");

        if (text)
                shim_log_note(&shim->log, "%s", text);
}

/* Both names of the host: the spec's, and its own, which Open MPI prints. */
static void on_oom(struct shim *shim, const json_t *line) {
        char name[256];

        if (shim->gang.oom && strlen(shim->gang.oom) > GANG_NAMES_MAX / 2)
                return; /* repeated */
        take_text(name, sizeof(name), line, "host");
        add_name(&shim->gang.oom, name);
        take_text(name, sizeof(name), line, "node");
        add_name(&shim->gang.oom, name);
}

/* The attempt stops with a checkpoint, and the next one starts on other hosts. */
static void on_drain(struct shim *shim, const json_t *line) {
        char host[EXIT_RECORD_HOST_MAX], reason[256];

        if (shim->stop_asked || shim->gang.drain[0])
                return;
        take_text(host, sizeof(host), line, "host");
        take_text(reason, sizeof(reason), line, "reason");
        (void) snprintf(shim->gang.drain, sizeof(shim->gang.drain), "host %.200s drains%s%s", host,
                        reason[0] ? ": " : "", reason);
        shim_log_note(&shim->log, "%s", shim->gang.drain);
        shim_stop(shim, shim->attempt.grace_usec);
}

static void write_stacks(struct shim *shim, const char *host, const json_t *line) {
        const char *text = json_string_value(json_object_get(line, "text"));
        cleanup_free char *name = format_string("%s.txt", host);
        cleanup_close int folder = -1, fd = -1;

        for (char *p = name; p && *p; p++)
                if (*p == '/' || (p == name && *p == '.'))
                        *p = '_';
        folder = openat(shim->dir_fd, shim->hang.folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder >= 0 && name)
                fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 && text)
                (void) write_all(fd, text, MIN(strlen(text), LEASH_STACKS_MAX));
}

static void on_stacks(struct shim *shim, const json_t *line) {
        struct shim_gang *g = &shim->gang;
        uint64_t ranks = 0, stopped = 0, rank = 0;
        char host[EXIT_RECORD_HOST_MAX];

        if (g->stacks_due == 0)
                return;
        g->stacks_due--;
        take_text(host, sizeof(host), line, "host");
        if (shim->hang.folder[0])
                write_stacks(shim, host, line);
        (void) leash_number(line, "ranks", INT32_MAX, &ranks);
        (void) leash_number(line, "stopped", INT32_MAX, &stopped);
        g->ranks.ranks += (unsigned) ranks;
        g->ranks.stopped += (unsigned) stopped;
        if (stopped == 1 && leash_number(line, "rank", INT32_MAX, &rank)) {
                g->ranks.rank = (int) rank;
                (void) snprintf(g->stopped_host, sizeof(g->stopped_host), "%s", host);
        }
        if (g->stacks_due == 0)
                shim_hang_gathered(shim);
}

static const struct {
        const char *type;
        void (*handle)(struct shim *shim, const json_t *line);
} rules[] = {
        { "verdict", on_verdict }, { "hosts", on_hosts }, { "status", on_status }, { "note", on_note },
        { "oom", on_oom },         { "drain", on_drain }, { "stacks", on_stacks },
};

static void on_line(struct shim *shim, const json_t *line) {
        const char *type = json_string_value(json_object_get(line, "type"));

        for (size_t i = 0; type && i < ELEMENTSOF(rules); i++)
                if (strcmp(type, rules[i].type) == 0)
                        rules[i].handle(shim, line);
}

/* False: nothing more can be read now. */
static bool read_lines(struct shim *shim) {
        struct shim_gang *g = &shim->gang;
        ssize_t n = leash_reader_fill(&g->reader, g->fd);
        json_t *line;
        int r;

        while ((r = leash_reader_next(&g->reader, &line)) > 0) {
                on_line(shim, line);
                json_decref(line);
        }
        if (r < 0 || n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS))
                g->source = sd_event_source_disable_unref(g->source);
        return n > 0 || n == -ENOBUFS;
}

void shim_gang_read(struct shim *shim) {
        for (unsigned i = 0; i < READS_MAX && shim->gang.source; i++)
                if (!read_lines(shim))
                        return;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) read_lines(userdata);
        return 0;
}

bool shim_gang_verdict(const struct shim *shim, const struct exit_verdict *judged, struct exit_verdict *ret) {
        bool blamed = judged && (judged->first_rank >= 0 || judged->exit_class == EXIT_CLASS_STOPPED);

        if (!shim->gang.judged || (shim->gang.weak && (!judged || blamed)))
                return false;
        *ret = shim->gang.verdict;
        if (shim->stop_asked && ret->exit_class != EXIT_CLASS_HOST_LOST)
                ret->exit_class = EXIT_CLASS_STOPPED;
        return true;
}

/* ---- its life ---- */

int shim_gang_open(struct shim *shim) {
        struct shim_gang *g = &shim->gang;
        char text[16];
        int fds[2];

        g->is = faccessat(shim->dir_fd, "gang.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        if (!g->is)
                return 0;
        shim->attempt.ends_with = ENDS_WITH_FIRST; /* of bertd-gang; each rank waits for its own last process */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -errno;
        g->fd = fds[0];
        g->peer = fds[1];
        (void) snprintf(text, sizeof(text), "%d", g->peer);
        attempt_default_env(&shim->attempt, FD_VARIABLE, text);
        attempt_setenv(&shim->attempt, FD_VARIABLE, text);
        return sd_event_add_io(shim->event, &g->source, g->fd, EPOLLIN, on_readable, shim);
}

void shim_gang_started(struct shim *shim) {
        cleanup_close_p(&shim->gang.peer);
        shim->gang.peer = -1;
}

void shim_gang_close(struct shim *shim) {
        struct shim_gang *g = &shim->gang;

        g->source = sd_event_source_disable_unref(g->source);
        cleanup_close_p(&g->fd);
        cleanup_close_p(&g->peer);
        g->fd = g->peer = -1;
        leash_reader_free(&g->reader);
        free(steal_pointer(&g->in_use));
        free(steal_pointer(&g->oom));
}
