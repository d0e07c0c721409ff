/*
 * The smallest bertd that a shim can talk to: prints what it is told, one line each, and does what it reads from stdin.
 *
 *   fake_bertd SOCKET [go|stop|mute]     how AttemptHello is answered
 *   stdin: "stop USEC", "checkpoint", "answer go|stop|mute"; the end of stdin ends the program
 *   stdout: "hello JOB ATTEMPT NONCE", "report KEY=VALUE ...", "gone", "done METHOD"
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "bertd/bus.h"

struct fake {
        sd_event *event;
        sd_bus *bus; /* the latest connection */
        char answer[8];
};

static int on_hello(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct fake *fake = userdata;
        uint64_t job;
        uint32_t attempt;
        const char *nonce, *version;
        int r = sd_bus_message_read(m, "tuss", &job, &attempt, &nonce, &version);

        if (r < 0)
                return r;
        (void) printf("hello %" PRIu64 " %u %s\n", job, attempt, nonce);
        if (strcmp(fake->answer, "mute") == 0)
                return 1;
        bool stop = strcmp(fake->answer, "stop") == 0;
        return sd_bus_reply_method_return(m, "u", stop ? BERTD_ATTEMPT_STOP : BERTD_ATTEMPT_GO);
}

static int print_value(sd_bus_message *m, const char *key) {
        union {
                uint64_t t;
                uint32_t u;
                int32_t i;
                double d;
                const char *s;
        } value;
        const char *type;
        char kind;
        int r = sd_bus_message_peek_type(m, &kind, &type);

        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'v', type);
        if (r >= 0)
                r = sd_bus_message_read_basic(m, type[0], &value);
        if (r < 0)
                return r;
        if (type[0] == 't')
                (void) printf(" %s=%" PRIu64, key, value.t);
        else if (type[0] == 's')
                (void) printf(" %s=%s", key, value.s);
        else if (type[0] == 'd')
                (void) printf(" %s=%g", key, value.d);
        else
                (void) printf(" %s=%d", key, value.i);
        return sd_bus_message_exit_container(m);
}

static int on_report(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *key;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        (void) printf("report");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0)
                        r = print_value(m, key);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        (void) printf("\n");
        return r < 0 ? r : sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("AttemptHello", "tuss", "u", on_hello, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("AttemptReport", "a{sv}", "", on_report, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int on_any(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", "Disconnected"))
                (void) printf("gone\n");
        return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct fake *fake = userdata;
        sd_id128_t id = SD_ID128_MAKE(01, 02, 03, 04, 05, 06, 07, 08, 09, 10, 11, 12, 13, 14, 15, 16);
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (peer < 0)
                return 0;
        sd_bus_close_unref(fake->bus);
        fake->bus = NULL;
        int r = sd_bus_new(&fake->bus);
        if (r >= 0)
                r = sd_bus_set_fd(fake->bus, peer, peer);
        if (r >= 0)
                r = sd_bus_set_server(fake->bus, 1, id);
        if (r >= 0)
                r = sd_bus_add_filter(fake->bus, NULL, on_any, fake);
        if (r >= 0)
                r = sd_bus_add_object_vtable(fake->bus, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, vtable, fake);
        if (r >= 0)
                r = sd_bus_start(fake->bus);
        return r < 0 ? r : sd_bus_attach_event(fake->bus, fake->event, 0);
}

static int on_done(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        (void) printf("done %s\n", sd_bus_message_is_method_error(m, NULL) ? "error" : "ok");
        return 0;
}

static int on_command(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct fake *fake = userdata;
        char line[128];
        uint64_t usec;

        ssize_t n = read(fd, line, sizeof(line) - 1);
        if (n <= 0)
                return sd_event_exit(fake->event, 0);
        line[n] = '\0';
        if (!fake->bus)
                return 0;
        if (sscanf(line, "stop %" SCNu64, &usec) == 1)
                (void) sd_bus_call_method_async(fake->bus, NULL, NULL, BERTD_BUS_ATTEMPT_PATH,
                                                BERTD_BUS_ATTEMPT_INTERFACE, "Stop", on_done, fake, "t", usec);
        else if (strncmp(line, "checkpoint", 10) == 0)
                (void) sd_bus_call_method_async(fake->bus, NULL, NULL, BERTD_BUS_ATTEMPT_PATH,
                                                BERTD_BUS_ATTEMPT_INTERFACE, "Checkpoint", on_done, fake, "");
        else
                (void) sscanf(line, "answer %7s", fake->answer);
        return 0;
}

int main(int argc, char **argv) {
        struct fake fake = { .answer = "go" };
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (argc < 2 || strlen(argv[1]) >= sizeof(address.sun_path))
                return 2;
        if (argc > 2)
                (void) snprintf(fake.answer, sizeof(fake.answer), "%s", argv[2]);
        (void) setvbuf(stdout, NULL, _IOLBF, 0);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
        (void) unlink(argv[1]);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 8) < 0)
                return 1;
        int r = sd_event_new(&fake.event);
        if (r >= 0)
                r = sd_event_add_io(fake.event, NULL, fd, EPOLLIN, on_connection, &fake);
        if (r >= 0)
                r = sd_event_add_io(fake.event, NULL, 0, EPOLLIN, on_command, &fake);
        if (r >= 0)
                r = sd_event_loop(fake.event);
        sd_bus_close_unref(fake.bus);
        sd_event_unref(fake.event);
        (void) close(fd);
        return r < 0;
}
