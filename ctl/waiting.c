/* See client.h. Role: waits for what bertd answers late. Owns nothing between calls. */
#include <errno.h>
#include <string.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/client_internal.h"

#define PING_INTERVAL_USEC (2 * USEC_PER_SEC) /* while an answer may be long in coming */
#define PING_TIMEOUT_USEC (USEC_PER_SEC * 15 / 2)

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        *(sd_bus_message **) userdata = sd_bus_message_ref(m);
        return 0;
}

/* Is it still there? An answer counts, whatever it says. Never on another connection: what is waited for comes on this one. */
static int ping(struct client *client, struct error *error) {
        cleanup_message sd_bus_message *message = NULL;

        bool again;

        int r = client_new_call(client, "GetDaemon", &message, error);
        return r < 0 ? r : send_once(client, message, clock_monotonic_usec() + PING_TIMEOUT_USEC, NULL, &again, error);
}

/* The answer to a call that may be answered late, by a bertd that lives meanwhile. */
static int await_answer(struct client *client, sd_bus_message *message, sd_bus_message **ret_reply,
                        struct error *error) {
        cleanup_slot sd_bus_slot *slot = NULL;
        uint64_t next_ping = clock_monotonic_usec() + PING_INTERVAL_USEC;

        int r = sd_bus_call_async(client->bus, &slot, message, on_answer, ret_reply, UINT64_MAX);
        while (r >= 0 && !*ret_reply) {
                uint64_t now = clock_monotonic_usec();
                if (now >= next_ping) {
                        r = ping(client, error);
                        if (r < 0)
                                return r;
                        next_ping = clock_monotonic_usec() + PING_INTERVAL_USEC;
                        continue;
                }
                r = sd_bus_process(client->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(client->bus, next_ping - now);
                r = r == -EINTR ? 0 : r;
        }
        const sd_bus_error *e = r < 0 ? NULL : sd_bus_message_get_error(*ret_reply);
        if (e)
                r = sd_bus_is_open(client->bus) > 0 ? -sd_bus_error_get_errno(e) : -ECONNRESET;
        return r < 0 ? call_failed(client, r, e, sd_bus_message_get_member(message), error) : 0;
}

static int wait_once(struct client *client, uint64_t id, char **ret_state, struct error *error) {
        cleanup_message sd_bus_message *message = NULL, *reply = NULL;
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
        r = await_answer(client, message, &reply, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &state);
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
                /* Only a lost connection is worth another try, and one that is lost at once each time is not for ever. */
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
