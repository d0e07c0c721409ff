/* See client.h. Role: calls, and what their failures mean. Owns nothing between calls. */
#include "ctl/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/nearest.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/utf8.h"
#include "ctl/client_internal.h"
#include "ctl/format.h"
#include "ctl/silence.h"

int client_bad_message(struct error *error, int r, const char *what) {
        if (r == 0)
                r = -EBADMSG;
        return error_input(
                error, BERTCTL_EXIT_FAILED,
                "%s: protocol error (%s); check that bertd and bertctl are the same version: bertctl version", what,
                strerror(-r));
}

static const struct {
        const char *name;
        int exit;
} error_exits[] = {
        { BERTD_ERROR_NO_SUCH_JOB, BERTCTL_EXIT_NO_SUCH_JOB },
        { BERTD_ERROR_INVALID_SPEC, BERTCTL_EXIT_USAGE },
};

static int exit_of_error(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(error_exits); i++)
                if (strcmp(error_exits[i].name, name) == 0)
                        return error_exits[i].exit;
        return BERTCTL_EXIT_FAILED;
}

/* Of a request that bertd may have taken although its answer did not come. */
static const struct {
        const char *method, *text;
} unanswered[] = {
        { "Submit", "; the job may have been accepted, see `bertctl list`" },
        { "Cancel", "; it may still cancel the job" },
        { "Pause", "; it may still pause the job" },
        { "Resume", "; it may still resume the job" },
        { "Remove", "; it may still remove the job" },
        { "Shutdown", "; it may still stop" },
};

static const char *unanswered_text(const char *method) {
        for (size_t i = 0; method && i < ELEMENTSOF(unanswered); i++)
                if (strcmp(unanswered[i].method, method) == 0)
                        return unanswered[i].text;
        return "";
}

/* Before a call was sent: nothing can have come of it. */
static int not_ready(struct client *client, int r, struct error *error) {
        if (r == -ETIMEDOUT) {
                client->silent = true;
                return silence_error(error, client->socket, sd_bus_get_fd(client->bus), "");
        }
        return silence_stranger(error, client->socket, sd_bus_get_fd(client->bus), r);
}

static int went_away(const struct client *client, const char *method, struct error *error) {
        enum unit_state state = strcmp(client->socket, BERTD_SYSTEM_SOCKET) == 0 ? unit_service_state() : UNIT_NONE;
        bool down = state == UNIT_FAILED || state == UNIT_INACTIVE || state == UNIT_CHANGING;

        return error_input(error, BERTCTL_EXIT_NO_DAEMON, "bertd at %s closed the connection before it answered%s%s%s",
                           client->socket, unanswered_text(method), down ? ": " : "", down ? start_cure(state) : "");
}

int call_failed(struct client *client, int r, const sd_bus_error *bus_error, const char *method, struct error *error) {
        if (r == -ETIMEDOUT) {
                client->silent = true;
                return silence_error(error, client->socket, sd_bus_get_fd(client->bus), unanswered_text(method));
        }
        if (is_lost(r))
                return went_away(client, method, error);
        if (sd_bus_error_has_name(bus_error, SD_BUS_ERROR_UNKNOWN_METHOD))
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "this bertd has no method %s; check that bertd and bertctl are the same version: "
                                   "bertctl version",
                                   method);
        if (sd_bus_error_is_set(bus_error) && bus_error->message)
                return error_input(error, exit_of_error(bus_error->name), "%s", bus_error->message);
        return error_input(error, BERTCTL_EXIT_FAILED, "%s: %s", method, strerror(-r));
}

int client_new_call(struct client *client, const char *method, sd_bus_message **ret_message, struct error *error) {
        int r = sd_bus_message_new_method_call(client->bus, ret_message, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE,
                                               method);
        return r < 0 ? call_failed(client, r, NULL, is_lost(r) ? NULL : method, error) : 0;
}

/* sd-bus itself waits for 90 s. */
static int wait_until_ready(sd_bus *bus, uint64_t deadline) {
        int r;

        while ((r = sd_bus_is_ready(bus)) == 0) {
                uint64_t now = clock_monotonic_usec();
                if (now >= deadline)
                        return -ETIMEDOUT;
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, deadline - now);
                if (r < 0 && r != -EINTR)
                        break;
        }
        return MIN(r, 0);
}

static const char *protocol_cure(const struct client *client, int protocol) {
        bool service = strcmp(client->socket, BERTD_SYSTEM_SOCKET) == 0 && unit_service_state() != UNIT_NONE;

        if (protocol > BERTD_PROTOCOL)
                return "use the bertctl of the same version as bertd";
        return service ? "use the bertctl of the same version as bertd, or restart bertd (jobs keep running): "
                         "systemctl restart bertd"
                       : "use the bertctl of the same version as bertd, or restart bertd (jobs keep running): bertctl "
                         "shutdown, then bertd "
                         "--detach";
}

static int refuse_protocol(struct client *client, int protocol, struct error *error) {
        cleanup_daemon_info struct daemon_info daemon = {};

        int r = client_get_daemon(client, &daemon, error);
        return r < 0 ? r
                     : error_input(error, BERTCTL_EXIT_FAILED,
                                   "bertd at %s is %s (protocol %d), this bertctl is %s (protocol %d): %s",
                                   client->socket, text_of(daemon.version), protocol, BERTD_VERSION, BERTD_PROTOCOL,
                                   protocol_cure(client, protocol));
}

int client_check_protocol(struct client *client, struct error *error) {
        static const size_t n = sizeof(BERTD_BUS_ID) - 1;
        sd_id128_t id;

        int r = sd_bus_get_bus_id(client->bus, &id);
        if (r < 0)
                return call_failed(client, r, NULL, "connect", error);
        int protocol = memcmp(id.bytes, BERTD_BUS_ID, n) == 0 ? id.bytes[n] : 1;
        return protocol == BERTD_PROTOCOL ? 0 : refuse_protocol(client, protocol, error);
}

/* The same in every protocol: how versions are compared, and how an old bertd is ended. */
static bool is_of_every_protocol(const char *method) {
        return strcmp(method, "GetDaemon") == 0 || strcmp(method, "Shutdown") == 0;
}

int send_once(struct client *client, sd_bus_message *message, uint64_t deadline, sd_bus_message **ret_reply,
              bool *ret_again, struct error *error) {
        const char *method = sd_bus_message_get_member(message);
        sd_bus_error bus_error = SD_BUS_ERROR_NULL;

        int r = wait_until_ready(client->bus, deadline);
        *ret_again = is_lost(r);
        if (r < 0)
                return is_lost(r) ? call_failed(client, r, NULL, NULL, error) : not_ready(client, r, error);
        r = is_of_every_protocol(method) ? 0 : client_check_protocol(client, error);
        if (r < 0)
                return r;
        uint64_t now = clock_monotonic_usec();
        r = now < deadline ? sd_bus_call(client->bus, message, deadline - now, &bus_error, ret_reply) : -ETIMEDOUT;
        method = sd_bus_message_get_member(message); /* sending has moved the message's texts */
        *ret_again = is_lost(r) && unanswered_text(method)[0] == '\0';
        if (r < 0)
                r = call_failed(client, r, &bus_error, method, error);
        sd_bus_error_free(&bus_error);
        return r < 0 ? r : 0;
}

/* The same call on a new connection, which takes the place of the lost one. */
static int call_again(struct client *client, sd_bus_message *message, sd_bus_message **ret_message) {
        cleanup_message sd_bus_message *copy = NULL;
        sd_bus *bus = NULL;

        int r = open_bus(client->socket, -1, &bus);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, &copy, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE,
                                           sd_bus_message_get_member(message));
        if (r >= 0 && sd_bus_message_is_empty(message) == 0) {
                (void) sd_bus_message_seal(message, 1, 0); /* only what is sealed can be copied */
                r = sd_bus_message_rewind(message, 1);
                if (r >= 0)
                        r = sd_bus_message_copy(copy, message, 1);
        }
        if (r < 0) {
                (void) sd_bus_close_unref(bus);
                return r;
        }
        client_disconnect(client);
        client->bus = bus;
        *ret_message = steal_pointer(&copy);
        return 0;
}

int client_send(struct client *client, sd_bus_message *message, sd_bus_message **ret_reply, struct error *error) {
        const uint64_t deadline = clock_monotonic_usec() + CLIENT_CALL_TIMEOUT_USEC;
        cleanup_message sd_bus_message *copy = NULL;
        bool again;

        int r = send_once(client, message, deadline, ret_reply, &again, error);
        for (unsigned i = 0; r < 0 && again && i < LOSSES_MAX; i++) {
                cleanup_message sd_bus_message *last = steal_pointer(&copy);
                if (i > 0)
                        pause_before_retry();
                int x = call_again(client, last ? last : message, &copy);
                *error = x < 0 ? *error : (struct error) {};
                if (x < 0)
                        return is_nobody_there(x) ? no_daemon(error, x, client->socket) : r;
                r = send_once(client, copy, deadline, ret_reply, &again, error);
        }
        return r;
}

int client_call(struct client *client, const char *method, sd_bus_message **ret_reply, struct error *error,
                const char *types, ...) {
        cleanup_message sd_bus_message *message = NULL;
        va_list ap;

        int r = client_new_call(client, method, &message, error);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = sd_bus_message_appendv(message, types, ap);
        va_end(ap);
        return r < 0 ? client_bad_message(error, r, method) : client_send(client, message, ret_reply, error);
}

int client_get_job(struct client *client, uint64_t id, struct job_info *ret_job, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;

        *ret_job = (struct job_info) {};
        int r = client_call(client, "GetJob", &reply, error, "t", id);
        if (r < 0)
                return r;
        r = job_info_read(reply, ret_job);
        return r <= 0 ? client_bad_message(error, r, "GetJob") : 0;
}

/* One page; *ret_n = how many came, *first = the oldest id seen. */
static int list_page(struct client *client, uint64_t *first, uint32_t count, bool active_only, struct job_list *list,
                     size_t *ret_n, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;
        size_t n = 0;

        int r = client_call(client, "ListJobs", &reply, error, "tub", *first, count, (int) active_only);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        while (r >= 0) {
                cleanup_job_info struct job_info job = {};
                r = job_info_read(reply, &job);
                if (r <= 0)
                        break;
                /* Pages must go down, or a broken daemon would make this an endless loop. */
                if (job.id == 0 || (*first > 0 && job.id >= *first))
                        return client_bad_message(error, -EBADMSG, "ListJobs");
                *first = job.id;
                n++;
                r = job_list_add(list, &job);
        }
        *ret_n = n;
        return r < 0 ? client_bad_message(error, r, "ListJobs") : 0;
}

int client_list_jobs(struct client *client, bool active_only, uint64_t limit, struct job_list *list,
                     struct error *error) {
        uint64_t first = 0;

        while (limit == 0 || list->n < limit) {
                uint64_t left = limit == 0 ? BERTD_LIST_PAGE_MAX : MIN(limit - list->n, (uint64_t) BERTD_LIST_PAGE_MAX);
                size_t n;
                int r = list_page(client, &first, (uint32_t) left, active_only, list, &n, error);
                if (r < 0)
                        return r;
                if (n == 0 || first <= 1)
                        break;
        }
        return 0;
}

/* The name that was meant, of the newest jobs, in place of the message that there is no such job. */
static void suggest_name(struct client *client, const char *name, struct error *error) {
        cleanup_job_list struct job_list list = {};
        const char *names[BERTD_LIST_PAGE_MAX];
        struct error ignored = {};
        size_t n = 0;

        if (error->exit != BERTCTL_EXIT_NO_SUCH_JOB ||
            client_list_jobs(client, false, BERTD_LIST_PAGE_MAX, &list, &ignored) < 0)
                return;
        for (size_t i = 0; i < list.n && n < ELEMENTSOF(names); i++)
                names[n++] = text_of(list.jobs[i].name);
        const char *nearest = nearest_of(name, names, n);
        if (!nearest)
                return;
        *error = (struct error) {};
        (void) error_input(error, BERTCTL_EXIT_NO_SUCH_JOB, "no job is named '%.128s': did you mean '%s'?", name,
                           nearest);
}

static int find_by_name(struct client *client, const char *name, uint64_t *ret_id, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = client_call(client, "FindJob", &reply, error, "s", name);
        if (r < 0) {
                suggest_name(client, name, error);
                return r;
        }
        r = sd_bus_message_read(reply, "t", ret_id);
        return r <= 0 ? client_bad_message(error, r, "FindJob") : 0;
}

int client_find_job(struct client *client, const char *text, uint64_t *ret_id, struct error *error) {
        if (text[0] && strspn(text, "0123456789") == strlen(text)) {
                int r = parse_u64(text, 1, BERTD_ID_MAX, ret_id);
                return r < 0 ? error_input(error, BERTCTL_EXIT_NO_SUCH_JOB, "no such job: %s", text) : 0;
        }
        if (!text_is_utf8(text))
                return error_input(error, BERTCTL_EXIT_NO_SUCH_JOB, "no such job: the name is not UTF-8");
        return find_by_name(client, text, ret_id, error);
}

int client_get_daemon(struct client *client, struct daemon_info *ret_daemon, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;

        *ret_daemon = (struct daemon_info) {};
        int r = client_call(client, "GetDaemon", &reply, error, "");
        if (r < 0)
                return r;
        r = daemon_info_read(reply, ret_daemon);
        return r <= 0 ? client_bad_message(error, r, "GetDaemon") : 0;
}
