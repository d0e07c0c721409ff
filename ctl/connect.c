/*
 * See client.h. Role: finds the socket and connects. Owns the sd-bus connection and the socket's path. The socket is
 * connected by hand rather than by address, because only then can "no such socket", "nobody listens" and "not allowed"
 * be distinguished, which decides the cure.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/paths.h"
#include "ctl/client_internal.h"
#include "ctl/silence.h"

#define CONNECT_TIMEOUT_SEC 8
#define RETRY_INTERVAL_USEC 200000

const char *client_socket(const struct client *client) { return client->socket; }
sd_bus *client_bus(const struct client *client) { return client->bus; }
bool client_is_silent(const struct client *client) { return client->silent; }

void client_free(struct client *client) {
        if (!client)
                return;
        client_disconnect(client);
        free(client->socket);
        free(client);
}

void late_clear(struct late *late) {
        (void) sd_bus_slot_unref(late->slot);
        (void) sd_bus_message_unref(late->reply);
        *late = (struct late) {};
}

void client_disconnect(struct client *client) {
        late_clear(&client->change);
        client->bus = sd_bus_close_unref(client->bus);
}

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
        /* Otherwise a full backlog blocks connect() without limit. */
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        return steal_fd(&fd);
}

bool is_nobody_there(int r) { return r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR; }

/* For bertd.service if it is installed, else for a user's own bertd. */
const char *start_cure(enum unit_state state) {
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
                return "bertd.service runs without it: `systemctl restart bertd` (jobs keep running)";
        default:
                return root ? "start it with `systemctl start bertd`"
                            : "ask root for `systemctl start bertd`, or start your own with `bertd --detach`";
        }
}

int no_daemon(struct error *error, int r, const char *socket) {
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

/* For a user who may not connect to the system daemon. */
static int not_admitted(struct error *error, const char *socket) {
        const struct passwd *pw = getpwuid(geteuid());
        const char *user = pw ? pw->pw_name : "YOU";
        struct stat st;
        char group[64];

        if (stat(socket, &st) == 0 && !(st.st_mode & S_IWGRP))
                return error_input(
                        error, BERTCTL_EXIT_FAILED,
                        "%s: only root may use it, because the group bertd did not exist when bertd started; ask root "
                        "for "
                        "`groupadd --system bertd; usermod -aG bertd %s; systemctl restart bertd` (jobs keep "
                        "running), then log in again",
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

bool is_lost(int r) {
        return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ESHUTDOWN || r == -ECONNABORTED;
}

int open_bus(const char *socket, int fd, sd_bus **ret_bus) {
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
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: D-Bus connection failed: %s", socket, strerror(-r));
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
                        (void) fprintf(stderr,
                                       "bertctl: using your own bertd (%s); for the system daemon: --socket %s\n", user,
                                       BERTD_SYSTEM_SOCKET);
                return adopt_connection(user_fd, user, ret_client, error);
        }
        if (system_fd >= 0 && user_fd != -ETIMEDOUT)
                return adopt_connection(steal_fd(&system_fd), BERTD_SYSTEM_SOCKET, ret_client, error);
        if (!is_nobody_there(user_fd))
                return refused(error, user_fd, user);
        if (system_fd != -1 && !is_nobody_there(system_fd))
                return refused(error, system_fd, BERTD_SYSTEM_SOCKET);
        /* Nobody there at all: name the system's if it has been there or is what this user would start, else the
         * user's. */
        if (system_fd == -ECONNREFUSED || (system_fd != -1 && geteuid() == 0))
                return no_daemon(error, system_fd, BERTD_SYSTEM_SOCKET);
        return no_daemon(error, user_fd, user);
}

static int connect_once(const char *given, const char *user, struct client **ret_client, struct error *error) {
        return given ? connect_to(given, ret_client, error) : connect_default(user, ret_client, error);
}

void pause_before_retry(void) {
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
        if (given)
                return strcmp(given, BERTD_SYSTEM_SOCKET) == 0;
        cleanup_close int fd = connect_socket(user); /* as connect_default decides: a socket may be left over */
        return fd < 0 && fd != -ETIMEDOUT;
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
