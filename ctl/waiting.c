/* See client.h. Role: waits for what bertd answers late. Owns nothing between calls. */
#include <errno.h>
#include <string.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/client_internal.h"
#include "ctl/silence.h"

#define LOOK_INTERVAL_USEC (2 * USEC_PER_SEC)
#define PING_INTERVAL_USEC (60 * USEC_PER_SEC)
#define PING_TIMEOUT_USEC (USEC_PER_SEC * 15 / 2)

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        *(sd_bus_message **) userdata = sd_bus_message_ref(m);
        return 0;
}

/* Whether bertd is alive: any answer counts, errors too. Never on another connection: the awaited answer comes on this
 * one. */
static int ping(struct client *client, struct error *error) {
        cleanup_message sd_bus_message *message = NULL;
        bool again;

        int r = client_new_call(client, "GetDaemon", &message, error);
        return r < 0 ? r : send_once(client, message, clock_monotonic_usec() + PING_TIMEOUT_USEC, NULL, &again, error);
}

static int late_send(struct client *client, sd_bus_message *message, struct late *late, struct error *error) {
        uint64_t now = clock_monotonic_usec();

        *late = (struct late) { .next_look = now + LOOK_INTERVAL_USEC, .next_ping = now + PING_INTERVAL_USEC };
        int r = sd_bus_call_async(client->bus, &late->slot, message, on_answer, &late->reply, UINT64_MAX);
        return r < 0 ? call_failed(client, r, NULL, sd_bus_message_get_member(message), error) : 0;
}

/* A bertd that sleeps waits for calls, and need not be woken to know that; one that does not may hang, or is stopped.
 */
static int look(struct client *client, struct late *late, uint64_t now, struct error *error) {
        late->next_look = now + LOOK_INTERVAL_USEC;
        if (now < late->next_ping && silence_is_sleep(sd_bus_get_fd(client->bus)))
                return 0;
        late->next_ping = now + PING_INTERVAL_USEC;
        return ping(client, error);
}

static int late_failed(struct client *client, int r, const struct late *late, const char *method, struct error *error) {
        const sd_bus_error *e = r < 0 ? NULL : sd_bus_message_get_error(late->reply);

        /* An older bertd answers when it exits; a newer one closes the connection. */
        bool gone = e && (sd_bus_error_has_name(e, BERTD_ERROR_STOPPING) || sd_bus_is_open(client->bus) <= 0);
        if (e)
                r = gone ? -ECONNRESET : -sd_bus_error_get_errno(e);
        return r < 0 ? call_failed(client, r, e, method, error) : 1;
}

/* 1: late->reply is the answer; 0: none has come by then. */
static int late_await(struct client *client, struct late *late, const char *method, uint64_t until,
                      struct error *error) {
        int r = 0;

        while (r >= 0 && !late->reply) {
                uint64_t now = clock_monotonic_usec();
                if (now >= until)
                        return 0;
                if (now >= late->next_look) {
                        r = look(client, late, now, error);
                        if (r < 0)
                                return r;
                        continue;
                }
                r = sd_bus_process(client->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(client->bus, MIN(until, late->next_look) - now);
                r = r == -EINTR ? 0 : r;
        }
        return late_failed(client, r, late, method, error);
}

static void cleanup_late_p(struct late *late) { late_clear(late); }

/* ---- changes ---- */

static int send_wait_change(struct client *client, uint64_t serial, struct error *error) {
        cleanup_message sd_bus_message *message = NULL;

        int r = client_new_call(client, "WaitChange", &message, error);
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "t", serial);
        return r < 0 ? client_bad_message(error, r, "WaitChange") : late_send(client, message, &client->change, error);
}

static int read_serial(sd_bus_message *reply, uint64_t *ret, struct error *error) {
        int r = sd_bus_message_read(reply, "t", ret);

        return r <= 0 ? client_bad_message(error, r, "WaitChange") : 1;
}

int client_next_change(struct client *client, uint64_t *serial, uint64_t usec, struct error *error) {
        const uint64_t until = clock_monotonic_usec() + usec;
        cleanup_message sd_bus_message *reply = NULL;
        int r;

        if (*serial == 0) {
                r = client_call(client, "WaitChange", &reply, error, "t", UINT64_C(0));
                return r < 0 ? r : read_serial(reply, serial, error);
        }
        r = client->change.slot ? 0 : send_wait_change(client, *serial, error);
        if (r >= 0)
                r = late_await(client, &client->change, "WaitChange", until, error);
        if (r > 0)
                r = read_serial(client->change.reply, serial, error);
        if (r != 0)
                late_clear(&client->change);
        return r;
}

/* ---- a job's end ---- */

static int wait_once(struct client *client, uint64_t id, char **ret_state, struct error *error) {
        cleanup_message sd_bus_message *message = NULL;
        cleanup(cleanup_late_p) struct late late = {};
        const char *state;

        int r = ping(client, error);
        if (r == 0)
                r = client_check_protocol(client, error);
        if (r == 0)
                r = client_new_call(client, "Wait", &message, error);
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "t", id);
        if (r < 0)
                return client_bad_message(error, r, "Wait");
        r = late_send(client, message, &late, error);
        if (r >= 0)
                r = late_await(client, &late, "Wait", UINT64_MAX, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(late.reply, "s", &state);
        if (r <= 0)
                return client_bad_message(error, r, "Wait");
        *ret_state = strdup(state);
        return *ret_state ? 0 : error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
}

int client_wait_job(struct client *client, uint64_t id, char **ret_state, struct error *error) {
        uint64_t lost_since = 0;

        for (;;) {
                uint64_t began = clock_monotonic_usec();
                int r = wait_once(client, id, ret_state, error);
                /* Retries only after a lost connection, and not without limit if each is lost at once. */
                if (r == 0 || error->exit != BERTCTL_EXIT_NO_DAEMON || client->silent)
                        return r;
                uint64_t now = clock_monotonic_usec();
                if (lost_since == 0 || now - began > USEC_PER_SEC)
                        lost_since = now;
                if (now - lost_since > CLIENT_PATIENCE_USEC)
                        return r;
                *error = (struct error) {};
                pause_before_retry();
                r = client_reconnect(client, CLIENT_PATIENCE_USEC, error);
                if (r < 0)
                        return r;
        }
}
