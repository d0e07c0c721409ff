/*
 * See client.h. Owns the sd-bus connection and the socket's path. The socket is connected by hand rather than by address, because
 * only then is "no such socket", "nobody listens" and "not allowed" told apart, which decides what the user is told to do.
 */
#include "ctl/client.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/utf8.h"
#include "ctl/format.h"
#include "ctl/silence.h"
#include "ctl/unit.h"

#define CONNECT_TIMEOUT_SEC 8
#define RETRY_INTERVAL_USEC 200000
#define LOSSES_MAX 3                          /* of one call's connections; a restart of bertd is one */
#define PING_INTERVAL_USEC (2 * USEC_PER_SEC) /* while an answer may be long in coming */
#define PING_TIMEOUT_USEC (USEC_PER_SEC * 15 / 2)

struct client {
        sd_bus *bus;
        char *socket;
        bool silent; /* a call timed out */
};

const char *client_socket(const struct client *client) { return client->socket; }
sd_bus *client_bus(const struct client *client) { return client->bus; }
bool client_is_silent(const struct client *client) { return client->silent; }

void client_free(struct client *client) {
        if (!client)
                return;
        (void) sd_bus_close_unref(client->bus);
        free(client->socket);
        free(client);
}

void client_disconnect(struct client *client) { client->bus = sd_bus_close_unref(client->bus); }

/* Connects within CONNECT_TIMEOUT_SEC. Returns an fd or −errno. */
static int connect_socket(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT_SEC };
        cleanup_close int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* A full backlog blocks connect() for ever otherwise. */
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        return steal_fd(&fd);
}

static bool is_nobody_there(int r) { return r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR; }

/* Of bertd.service, whose clients come here when it is not there; where there is none, of a user's own. */
static const char *start_cure(enum unit_state state) {
        bool root = geteuid() == 0;

        switch (state) {
        case UNIT_NONE:
                return "start one with `bertd --detach`";
        case UNIT_FAILED:
                return root ? "bertd.service has failed: `systemctl status bertd` shows why; start it again with "
                              "`systemctl start bertd`"
                            : "bertd.service has failed (`systemctl status bertd`): ask root, or start your own with "
                              "`bertd --detach`";
        case UNIT_CHANGING:
                return "bertd.service is being started or stopped, or fails to start: `systemctl status bertd` shows "
                       "which";
        case UNIT_ACTIVE:
                return "bertd.service runs without it: `systemctl restart bertd`, which jobs outlive";
        default:
                return root ? "start it with `systemctl start bertd`"
                            : "ask root for `systemctl start bertd`, or start your own with `bertd --detach`";
        }
}

static int no_daemon(struct error *error, int r, const char *socket) {
        return error_input(error, BERTCTL_EXIT_NO_DAEMON, "no bertd answers at %s (%s): %s", socket,
                           r == -ENOENT || r == -ENOTDIR ? "no such socket" : "nobody listens",
                           start_cure(unit_service_state()));
}

static const char *group_of(const char *path, char *buffer, size_t size) {
        struct stat st;
        const struct group *group = stat(path, &st) == 0 ? getgrgid(st.st_gid) : NULL;

        (void) snprintf(buffer, size, "%s", group ? group->gr_name : "bertd");
        return buffer;
}

/* Of the system's bertd, to one who may not connect. */
static int not_admitted(struct error *error, const char *socket) {
        const struct passwd *pw = getpwuid(geteuid());
        const char *user = pw ? pw->pw_name : "YOU";
        struct stat st;
        char group[64];

        if (stat(socket, &st) == 0 && !(st.st_mode & S_IWGRP))
                return error_input(
                        error, BERTCTL_EXIT_FAILED,
                        "%s: only root may use it: when bertd started there was no group bertd; ask root for "
                        "`groupadd --system bertd; usermod -aG bertd %s; systemctl restart bertd`, which jobs "
                        "outlive, then log in again",
                        socket, user);
        (void) group_of(socket, group, sizeof(group));
        return error_input(
                error, BERTCTL_EXIT_FAILED,
                "you are not in group %s, whose members may use %s: ask root for `usermod -aG %s %s`, then log in "
                "again",
                group, socket, group, user);
}

static int refused(struct error *error, int r, const char *socket) {
        if (is_nobody_there(r))
                return no_daemon(error, r, socket);
        if ((r == -EACCES || r == -EPERM) && strcmp(socket, BERTD_SYSTEM_SOCKET) == 0)
                return not_admitted(error, socket);
        if (r == -EACCES || r == -EPERM)
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: permission denied: it belongs to another user",
                                   socket);
        if (r == -ETIMEDOUT)
                return silence_error(error, socket, -1, "");
        if (r == -EPROTOTYPE)
                return silence_stranger(error, socket, -1, r);
        (void) error_errno(error, -r, "%s", socket);
        if (error && !error->exit)
                error->exit = BERTCTL_EXIT_FAILED;
        return r;
}

/* Takes the fd. */
static int start_bus(int fd, sd_bus **ret_bus) {
        cleanup_close int owned = fd;
        sd_bus *bus = NULL;

        int r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_fd(bus, owned, owned);
        if (r >= 0) {
                (void) steal_fd(&owned);
                r = sd_bus_set_bus_client(bus, 0);
        }
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0) {
                (void) sd_bus_close_unref(bus);
                return r;
        }
        *ret_bus = bus;
        return 0;
}

static bool is_lost(int r) {
        return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ESHUTDOWN || r == -ECONNABORTED;
}

/* Takes the fd, or connects where it is < 0. A bertd that ends may close a connection before a word is said. */
static int open_bus(const char *socket, int fd, sd_bus **ret_bus) {
        int r = -ENOTCONN;

        for (unsigned i = 0; is_lost(r) && i < LOSSES_MAX; i++, fd = -1) {
                if (fd < 0)
                        fd = connect_socket(socket);
                r = fd < 0 ? fd : start_bus(fd, ret_bus);
        }
        return r;
}

static int adopt_connection(int fd, const char *socket, struct client **ret_client, struct error *error) {
        struct client *client = calloc(1, sizeof(*client));
        char *copy = strdup(socket);

        if (!client || !copy) {
                (void) close(fd);
                free(client);
                free(copy);
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        }
        client->socket = copy;
        int r = open_bus(socket, fd, &client->bus);
        if (r < 0) {
                client_free(client);
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: cannot speak D-Bus there: %s", socket,
                                   strerror(-r));
        }
        *ret_client = client;
        return 0;
}

static int connect_to(const char *socket, struct client **ret_client, struct error *error) {
        int fd = connect_socket(socket);
        return fd < 0 ? refused(error, fd, socket) : adopt_connection(fd, socket, ret_client, error);
}

/* Tries the user's daemon, then the system's. */
static int connect_default(const char *user, struct client **ret_client, struct error *error) {
        int user_fd = connect_socket(user);
        cleanup_close int system_fd = strcmp(user, BERTD_SYSTEM_SOCKET) == 0 ? -1 : connect_socket(BERTD_SYSTEM_SOCKET);

        if (user_fd >= 0) {
                if (system_fd >= 0)
                        (void) fprintf(
                                stderr,
                                "bertctl: your own bertd answers (%s); the system's is reached with --socket %s\n",
                                user, BERTD_SYSTEM_SOCKET);
                return adopt_connection(user_fd, user, ret_client, error);
        }
        if (system_fd >= 0 && user_fd != -ETIMEDOUT)
                return adopt_connection(steal_fd(&system_fd), BERTD_SYSTEM_SOCKET, ret_client, error);
        if (!is_nobody_there(user_fd))
                return refused(error, user_fd, user);
        /* Nobody there at all: name the daemon that this user would start. */
        if (is_nobody_there(system_fd) || system_fd == -1)
                return no_daemon(error, system_fd == -1 ? user_fd : system_fd,
                                 geteuid() == 0 ? BERTD_SYSTEM_SOCKET : user);
        return refused(error, system_fd, BERTD_SYSTEM_SOCKET);
}

static int connect_once(const char *given, const char *user, struct client **ret_client, struct error *error) {
        return given ? connect_to(given, ret_client, error) : connect_default(user, ret_client, error);
}

static void pause_before_retry(void) {
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = RETRY_INTERVAL_USEC * 1000 }, NULL);
}

/* The path that was asked for, or NULL and the user's own. */
static int find_socket(const char *socket, char **ret_given, char **ret_user, struct error *error) {
        const char *environment = secure_getenv("BERTD_SOCKET");
        bool given = socket || (environment && environment[0]);

        int r = given ? paths_socket(socket, "/", ret_given, error) : paths_user_socket(ret_user, error);
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

bool client_is_for_system(const char *socket) {
        cleanup_free char *given = NULL, *user = NULL;
        struct error ignored = {};

        if (find_socket(socket, &given, &user, &ignored) < 0)
                return false;
        return given ? strcmp(given, BERTD_SYSTEM_SOCKET) == 0 : access(user, F_OK) < 0;
}

int client_connect(const char *socket, struct client **ret_client, struct error *error) {
        const uint64_t deadline = clock_monotonic_usec() + CLIENT_CALL_TIMEOUT_USEC;
        cleanup_free char *given = NULL, *user = NULL;

        int r = find_socket(socket, &given, &user, error);
        if (r < 0)
                return r;
        bool system = !given || strcmp(given, BERTD_SYSTEM_SOCKET) == 0;
        for (;;) {
                r = connect_once(given, user, ret_client, error);
                if (r == 0 || error->exit != BERTCTL_EXIT_NO_DAEMON || !system || clock_monotonic_usec() >= deadline ||
                    unit_service_state() != UNIT_CHANGING)
                        return r;
                *error = (struct error) {};
                pause_before_retry();
        }
}

int client_reconnect(struct client *client, uint64_t patience_usec, struct error *error) {
        const uint64_t deadline = clock_monotonic_usec() + patience_usec;

        client_disconnect(client);
        for (;;) {
                int fd = connect_socket(client->socket);
                if (fd >= 0 && start_bus(fd, &client->bus) >= 0)
                        return 0;
                if (fd == -ETIMEDOUT || clock_monotonic_usec() >= deadline)
                        return fd < 0 ? refused(error, fd, client->socket)
                                      : no_daemon(error, -ECONNREFUSED, client->socket);
                pause_before_retry();
        }
}

int client_bad_message(struct error *error, int r, const char *what) {
        if (r == 0)
                r = -EBADMSG;
        return error_input(error, BERTCTL_EXIT_FAILED,
                           "%s: bertd and bertctl do not understand each other (%s): compare `bertctl version`", what,
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
        { "Submit", "; the submission may have been accepted, which `bertctl list` then shows" },
        { "Cancel", "; it may cancel the job later on" },
        { "Pause", "; it may pause the job later on" },
        { "Resume", "; it may resume the job later on" },
        { "Remove", "; it may remove the job later on" },
        { "Shutdown", "; it may stop later on" },
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

        return error_input(error, BERTCTL_EXIT_NO_DAEMON, "bertd at %s went away before it answered%s%s%s",
                           client->socket, unanswered_text(method), down ? ": " : "", down ? start_cure(state) : "");
}

/* What a failed call means for the user. */
static int call_failed(struct client *client, int r, const sd_bus_error *bus_error, const char *method,
                       struct error *error) {
        if (r == -ETIMEDOUT) {
                client->silent = true;
                return silence_error(error, client->socket, sd_bus_get_fd(client->bus), unanswered_text(method));
        }
        if (is_lost(r))
                return went_away(client, method, error);
        if (sd_bus_error_has_name(bus_error, SD_BUS_ERROR_UNKNOWN_METHOD))
                return error_input(error, BERTCTL_EXIT_FAILED, "this bertd knows no %s: compare `bertctl version`",
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
                return "use the bertctl that came with that bertd";
        return service ? "use that bertd's bertctl, or restart bertd, which jobs outlive: systemctl restart bertd"
                       : "use that bertd's bertctl, or restart bertd, which jobs outlive: bertctl shutdown, then bertd "
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

/* ret_again: the connection was lost, and the call was not made or may be made twice. */
static int send_once(struct client *client, sd_bus_message *message, uint64_t deadline, sd_bus_message **ret_reply,
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
        *ret_again = is_lost(r) && unanswered_text(method)[0] == '\0';
        if (r < 0) /* once it is sent its texts lie elsewhere than before */
                r = call_failed(client, r, &bus_error, sd_bus_message_get_member(message), error);
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
                /* Pages must go down, or a broken daemon would keep us here for ever. */
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

static int find_by_name(struct client *client, const char *name, uint64_t *ret_id, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;

        int r = client_call(client, "FindJob", &reply, error, "s", name);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "t", ret_id);
        return r <= 0 ? client_bad_message(error, r, "FindJob") : 0;
}

int client_find_job(struct client *client, const char *text, uint64_t *ret_id, struct error *error) {
        if (text[0] && strspn(text, "0123456789") == strlen(text)) {
                int r = parse_u64(text, 1, BERTD_ID_MAX, ret_id);
                return r < 0 ? error_input(error, BERTCTL_EXIT_NO_SUCH_JOB, "no such job: %s", text) : 0;
        }
        if (!text_is_utf8(text))
                return error_input(error, BERTCTL_EXIT_NO_SUCH_JOB, "no such job: a name that is not UTF-8");
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
