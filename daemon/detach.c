/* See detach.h. Owns nothing between calls. */
#include "daemon/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

/* 0 = no, 1 = yes; no where there is no logind. */
static int kills_user_processes(void) {
        sd_bus *bus = NULL;
        int kills = 0;

        if (sd_bus_open_system(&bus) >= 0)
                (void) sd_bus_get_property_trivial(bus, "org.freedesktop.login1", "/org/freedesktop/login1",
                                                   "org.freedesktop.login1.Manager", "KillUserProcesses", NULL, 'b',
                                                   &kills);
        (void) sd_bus_flush_close_unref(bus);
        return kills;
}

int detach_check(struct error *error) {
        cleanup_free char *session = NULL;
        const struct passwd *pw = getpwuid(geteuid());

        /* Root is spared by logind's default, and a process outside a session is nobody's to kill. */
        if (geteuid() == 0 || sd_booted() <= 0 || sd_pid_get_session(0, &session) < 0 || !kills_user_processes())
                return 0;
        return error_set(error, EPERM,
                         "logind kills your processes when you log out (KillUserProcesses=yes): let an administrator "
                         "run the system's "
                         "bertd, or run `loginctl enable-linger %s` and then `systemd-run --user bertd`",
                         pw ? pw->pw_name : "USER");
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
        if (setsid() < 0 || chdir("/") < 0)
                return error_errno(error, errno, "new session");
        return 0;
}

int detach_ready(int ready_fd, const char *socket, const char *log, struct error *error) {
        cleanup_close int ready = ready_fd, null = open("/dev/null", O_RDWR | O_CLOEXEC);
        cleanup_close int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        cleanup_free char *text = format_string("bertd: pid %d, socket %s\n", (int) getpid(), socket);

        if (null < 0 || out < 0)
                return error_errno(error, errno, "%s", log);
        if (!text)
                return error_errno(error, ENOMEM, "detach");
        if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
                return error_errno(error, errno, "detach");
        int r = write_all(ready, text, strlen(text));
        return r < 0 ? error_errno(error, -r, "detach") : 0;
}
