/*
 * See silence.h. The kernel knows which process listens (SO_PEERCRED), /proc what it is and whether it is stopped. Of a
 * passed socket that is systemd, of another pid namespace nobody: then the message has only what is certain.
 */
#include "ctl/silence.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/paths.h"
#include "common/proc.h"
#include "common/proc_files.h"
#include "ctl/unit.h"

#define STRANGER_CURE "stop it and start bertd, or give the socket of bertd with --socket or BERTD_SOCKET"

struct listener {
        pid_t pid; /* 0: not known */
        bool stopped, sleeping, bertd;
        const char *ask; /* in front of a command that the caller may not give himself */
        char name[PROC_NAME_SIZE];
};

static void look_at(int fd, struct listener *ret) {
        struct ucred peer = {};
        socklen_t size = sizeof(peer);
        struct proc proc;

        *ret = (struct listener) { .bertd = true, .ask = "" };
        if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 1)
                return;
        proc_name(peer.pid, ret->name);
        if (!ret->name[0] || proc_stat(peer.pid, &proc) < 0)
                return;
        ret->pid = peer.pid;
        ret->bertd = strcmp(ret->name, "bertd") == 0;
        ret->stopped = proc.state == 'T' || proc.state == 't';
        ret->sleeping = proc.state == 'S';
        ret->ask = geteuid() == 0 || geteuid() == peer.uid ? "" : "ask its owner for ";
}

bool silence_is_sleep(int fd) {
        struct listener who;

        look_at(fd, &who);
        return who.bertd && who.sleeping;
}

/* The socket is systemd's, which has nobody to pass it to. */
static bool is_down(const char *socket) {
        if (strcmp(socket, BERTD_SYSTEM_SOCKET) != 0)
                return false;
        enum unit_state state = unit_service_state();
        return state == UNIT_CHANGING || state == UNIT_FAILED || state == UNIT_INACTIVE;
}

int silence_error(struct error *error, const char *socket, int fd, const char *after) {
        struct listener who;

        look_at(fd, &who);
        if (!who.stopped && is_down(socket))
                return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                                   "bertd at %s does not answer%s: bertd.service does not run yet, or fails to start: "
                                   "`systemctl status bertd` shows why",
                                   socket, after);
        if (fd < 0)
                return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                                   "bertd at %s accepts no connection%s: it is stopped or hangs; find its process with "
                                   "`fuser %s`; "
                                   "continue it with `kill -CONT PID`, or kill it with `kill -9 PID` (jobs keep "
                                   "running) and start bertd again",
                                   socket, after, socket);
        if (who.stopped)
                return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                                   "%s at %s does not answer%s: its process %d is stopped; to continue it: "
                                   "%s`kill -CONT %d`",
                                   who.name, socket, after, (int) who.pid, who.ask, (int) who.pid);
        if (!who.bertd)
                return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                                   "%s: %s (pid %d) listens there, not bertd, and does not answer%s: " STRANGER_CURE,
                                   socket, who.name, (int) who.pid, after);
        cleanup_free char *kill =
                who.pid > 0 ? format_string(": %s`kill -9 %d`, then `bertd --detach`", who.ask, (int) who.pid) : NULL;
        return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                           "bertd at %s does not answer%s: it hangs; restart it (jobs keep running)%s", socket, after,
                           strcmp(socket, BERTD_SYSTEM_SOCKET) == 0 ? ": as root `systemctl restart bertd`"
                           : kill                                   ? kill
                                                                    : "");
}

int silence_stranger(struct error *error, const char *socket, int fd, int r) {
        struct listener who;
        cleanup_free char *name = NULL;

        look_at(fd, &who);
        if (who.pid > 0)
                name = format_string(" but %s (pid %d)", who.name, (int) who.pid);
        return error_input(error, BERTCTL_EXIT_NO_DAEMON,
                           "%s: the process listening there is not bertd%s (%s): " STRANGER_CURE, socket,
                           name ? name : "", strerror(-r));
}
