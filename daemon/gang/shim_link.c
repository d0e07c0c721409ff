/*
 * See gang.h: the socket pair to this attempt's shim. Down come stop, checkpoint and stacks; up go the verdict, the
 * hosts in use, statuses, notes, and what the hosts report. Without it (started by hand) notes go to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/names.h"
#include "common/parse.h"
#include "daemon/gang/gang.h"

static void tell(struct gang *gang, json_t *line) {
        if (gang->shim.out < 0) {
                json_decref(line);
                return;
        }
        lines_send(&gang->shim, line);
}

/* ---- up ---- */

void shim_link_verdict(struct gang *gang, const struct gang_verdict *v) {
        if (gang->shim.out < 0)
                (void) fprintf(stderr, "bertd-gang: %s\n", v->reason);
        tell(gang, json_pack("{sssbssssss}", "type", "verdict", "weak", (int) v->weak, "class",
                             exit_class_name((int) v->exit_class), "host", v->host, "reason", v->reason));
}

void shim_link_hosts(struct gang *gang) {
        json_t *names = json_array();

        (void) json_array_append_new(names, json_string(gang->plan.head));
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD)
                        (void) json_array_append_new(names, json_string(gang->hosts[i].name));
        tell(gang, json_pack("{sssiso}", "type", "hosts", "ranks", (int) gang->plan.ranks, "in_use", names));
}

void shim_link_text(struct gang *gang, const char *type, const char *host, const char *key, const char *text) {
        tell(gang, json_pack("{ssss*ss}", "type", type, "host", host, key, text));
}

void shim_link_forward(struct gang *gang, const struct gang_host *host, const json_t *line) {
        json_t *copy = json_copy((json_t *) line);

        if (copy)
                (void) json_object_set_new(copy, "host", json_string(host->name));
        tell(gang, copy);
}

static __attribute__((format(printf, 3, 0))) void say(struct gang *gang, const char *type, const char *format,
                                                      va_list ap) {
        char text[LEASH_REASON_MAX];

        (void) vsnprintf(text, sizeof(text), format, ap);
        tell(gang, json_pack("{ssss}", "type", type, "text", text));
        if (gang->shim.out < 0)
                (void) fprintf(stderr, "bertd-gang: %s\n", text);
}

void gang_status(struct gang *gang, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        say(gang, "status", format, ap);
        va_end(ap);
}

void gang_note(struct gang *gang, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        say(gang, "note", format, ap);
        va_end(ap);
}

/* ---- down ---- */

static void to_all(struct gang *gang, const json_t *line) {
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD)
                        host_send(&gang->hosts[i], json_copy((json_t *) line));
}

/* Of a trainer mpirun forwards the signal; of a command each host's leash gives it to the ranks there, and the shim to
 * those of this host. A trainer that is not ready has no handler yet. */
static void forward(struct gang *gang, const json_t *line, int trainers_signal) {
        uint64_t number = SIGTERM;
        json_t *signal;

        if (gang->plan.kind != JOB_COMMAND) {
                if (gang->mpirun > 0 && json_is_true(json_object_get(line, "ready")))
                        (void) kill(gang->mpirun, trainers_signal);
                return;
        }
        bool declared = leash_number(line, "signal", 64, &number) && number > 0;
        signal = leash_signal(declared ? (int) number : SIGTERM, trainers_signal == SIGUSR1);
        if (signal && declared)
                (void) json_object_set_new(signal, "caught", json_true());
        if (signal)
                to_all(gang, signal);
        json_decref(signal);
}

static void on_line(struct gang *gang, const json_t *line) {
        const char *type = json_string_value(json_object_get(line, "type"));

        if (strcmp(type, "stop") == 0 && gang->phase < GANG_RUNNING) {
                struct gang_verdict v = gang_verdict(EXIT_CLASS_STOPPED, NULL, "stopped before it was started");
                gang_end(gang, &v);
        } else if (strcmp(type, "stop") == 0) {
                forward(gang, line, SIGUSR1);
        } else if (strcmp(type, "checkpoint") == 0) {
                forward(gang, line, SIGUSR2);
        } else if (strcmp(type, "stacks") == 0) {
                json_t *request = leash_line(LEASH_STACKS);
                if (request)
                        to_all(gang, request);
                json_decref(request);
        }
}

/* The end of file is the shim's end: then this process gets SIGKILL. */
static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang *gang = userdata;
        ssize_t n = leash_reader_fill(&gang->shim.reader, fd);
        json_t *line;
        int r;

        while ((r = leash_reader_next(&gang->shim.reader, &line)) > 0) {
                on_line(gang, line);
                json_decref(line);
        }
        if (r < 0 || n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS)) {
                lines_close(&gang->shim);
                gang_end(gang, NULL);
        }
        return 0;
}

int shim_link_open(struct gang *gang) {
        const char *text = getenv("BERTD_GANG_FD");
        uint64_t fd;

        if (!text)
                return 0;
        int r = parse_u64(text, 3, INT32_MAX, &fd);
        (void) unsetenv("BERTD_GANG_FD");
        if (r < 0)
                return -EINVAL;
        (void) fcntl((int) fd, F_SETFD, FD_CLOEXEC);
        return lines_open(&gang->shim, gang->event, (int) fd, (int) fd, on_readable, gang);
}
