/*
 * See detach.h. Owns nothing between calls. What ends a user's processes at logout: logind kills the session's scope if
 * KillUserProcesses=yes, and stops the user's systemd manager unless the user lingers. So only the manager of a
 * lingering user outlives the session in every configuration; without linger, only a plain process outside that manager
 * can.
 */
#include "daemon/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/base/log.h"

#define LOGIN "org.freedesktop.login1"
#define USER_MANAGER_SEC 10 /* it starts once linger is enabled */
#define POLL_NSEC 20000000L

static int login_flag(sd_bus *bus, const char *path, const char *interface, const char *name) {
        int value = 0;

        int r = sd_bus_get_property_trivial(bus, LOGIN, path, interface, name, NULL, 'b', &value);
        return r < 0 ? r : value;
}

/* Polkit's default lets users linger on their own account; without polkit only root may. */
static bool lingers(sd_bus *bus, const char *user) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/org/freedesktop/login1/user/_%u", (unsigned) geteuid());
        if (login_flag(bus, path, LOGIN ".User", "Linger") > 0)
                return true;
        if (sd_bus_call_method(bus, LOGIN, "/org/freedesktop/login1", LOGIN ".Manager", "SetUserLinger", NULL, NULL,
                               "ubb", (uint32_t) geteuid(), 1, 0) < 0)
                return false;
        (void) fprintf(stderr,
                       "bertd: lingering enabled for %s: your systemd manager and bertd now outlive your sessions "
                       "(undo with: loginctl disable-linger)\n",
                       user);
        return true;
}

static void nap(void) { (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = POLL_NSEC }, NULL); }

/* The manager's own socket: the user needs no D-Bus daemon. */
static int open_user_manager(uint64_t deadline, sd_bus **ret) {
        char address[80];
        int r;

        (void) snprintf(address, sizeof(address), "unix:path=/run/user/%u/systemd/private", (unsigned) geteuid());
        do {
                sd_bus *bus = NULL;

                r = sd_bus_new(&bus);
                if (r >= 0)
                        r = sd_bus_set_address(bus, address);
                if (r >= 0)
                        r = sd_bus_start(bus);
                if (r >= 0) {
                        *ret = bus;
                        return 0;
                }
                (void) sd_bus_unref(bus);
                nap();
        } while (clock_monotonic_usec() < deadline);
        return r;
}

static bool is_in(const char *scope) {
        cleanup_free char *unit = NULL;

        return sd_pid_get_user_unit(0, &unit) >= 0 && strcmp(unit, scope) == 0;
}

/* Moves this process from the session into a scope of the user's systemd manager. */
static int join_user_manager(void) {
        const uint64_t deadline = clock_monotonic_usec() + USER_MANAGER_SEC * UINT64_C(1000000);
        char scope[64];
        sd_bus *bus = NULL;

        (void) snprintf(scope, sizeof(scope), "bertd-%d.scope", (int) getpid());
        int r = open_user_manager(deadline, &bus);
        if (r < 0)
                return r;
        r = sd_bus_call_method(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                               "StartTransientUnit", NULL, NULL, "ssa(sv)a(sa(sv))", scope, "fail", 3, "Description",
                               "s", "bertd and its jobs", "CollectMode", "s", "inactive-or-failed", "PIDs", "au", 1,
                               (uint32_t) getpid(), 0);
        (void) sd_bus_flush_close_unref(bus);
        while (r >= 0 && !is_in(scope)) {
                if (clock_monotonic_usec() >= deadline)
                        return -ETIMEDOUT;
                nap();
        }
        return r;
}

/* logind does not kill processes outside sessions and the user's manager; by default it spares root's sessions too. */
static bool ends_with_session(void) {
        cleanup_free char *session = NULL, *unit = NULL;

        return geteuid() != 0 && sd_booted() > 0 &&
               (sd_pid_get_session(0, &session) >= 0 || sd_pid_get_user_unit(0, &unit) >= 0);
}

static int leave_session(sd_bus *bus, const char *user, struct error *error) {
        cleanup_free char *unit = NULL;

        if (lingers(bus, user) && join_user_manager() >= 0)
                return 0;
        if (sd_pid_get_user_unit(0, &unit) < 0 &&
            login_flag(bus, "/org/freedesktop/login1", LOGIN ".Manager", "KillUserProcesses") <= 0) {
                /* logind removes that folder with the last session: use the state folder for the socket. */
                (void) unsetenv("XDG_RUNTIME_DIR");
                return 0;
        }
        return error_set(
                error, EPERM,
                "%s ends your processes when you log out%s: ask an administrator to run `loginctl enable-linger "
                "%s`, or use the system daemon",
                unit ? "systemd" : "logind", unit ? "" : " (KillUserProcesses=yes)", user);
}

static int outlive_session(struct error *error) {
        const struct passwd *pw = getpwuid(geteuid());
        sd_bus *bus = NULL;

        if (!ends_with_session() || sd_bus_open_system(&bus) < 0)
                return 0;
        int r = leave_session(bus, pw ? pw->pw_name : "USER", error);
        (void) sd_bus_flush_close_unref(bus);
        return r;
}

static __attribute__((noreturn)) void wait_for_child(pid_t pid, int fd) {
        char text[PATH_MAX + 64];
        size_t size = 0;
        ssize_t n;
        int status = 0;

        while (size < sizeof(text) &&
               ((n = read(fd, text + size, sizeof(text) - size)) > 0 || (n < 0 && errno == EINTR)))
                size += n > 0 ? (size_t) n : 0;
        if (size > 0) {
                (void) write_all(STDOUT_FILENO, text, size);
                _exit(EXIT_SUCCESS);
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EXIT_FAILURE);
}

int detach(int *ret_ready_fd, struct error *error) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_errno(error, errno, "pipe");
        pid_t pid = fork();
        if (pid < 0) {
                (void) close(fds[0]);
                (void) close(fds[1]);
                return error_errno(error, errno, "fork");
        }
        if (pid > 0) {
                (void) close(fds[1]);
                wait_for_child(pid, fds[0]);
        }
        (void) close(fds[0]);
        *ret_ready_fd = fds[1];
        return setsid() < 0 ? error_errno(error, errno, "new session") : outlive_session(error);
}

int detach_ready(int ready_fd, const char *socket, const char *log, struct error *error) {
        cleanup_close int ready = ready_fd, null = open("/dev/null", O_RDWR | O_CLOEXEC);
        cleanup_free char *text = format_string("bertd: pid %d, socket %s\n", (int) getpid(), socket);

        if (!text)
                return error_errno(error, ENOMEM, "detach");
        if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
                return error_errno(error, errno, "detach");
        int r = log_to_file(log);
        if (r < 0)
                return error_errno(error, -r, "%s", log);
        r = write_all(ready, text, strlen(text));
        return r < 0 ? error_errno(error, -r, "detach") : 0;
}
