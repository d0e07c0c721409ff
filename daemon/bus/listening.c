/*
 * See listening.h. Owns the listening socket and what watches its file. Invariant: what somebody else has put in the file's place stays, as
 * do connections that were made before.
 */
#include "daemon/bus/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/bus/socket.h"
#include "daemon/bus/socket_watch.h"

struct listening {
        struct loop *loop;
        const char *path;
        loop_ready_t ready;
        void *userdata;
        struct stat file; /* the socket that we listen at; st_ino 0: it was not there when we began */
        struct socket_watch *watch;
        struct source *source; /* owns its fd */
        bool bound;            /* by us, not by systemd */
        bool lost;             /* the socket's file is gone, and was not made again yet */
};

/* Does who connects to the path reach us? The kernel has noted that we listen, at take_socket. */
static bool leads_to_us(const char *path) {
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct ucred peer = {};
        socklen_t size = sizeof(peer);

        (void) strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
        if (fd < 0)
                return true;
        if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return errno == EAGAIN; /* so many wait there that it may well be ours */
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid == getpid();
}

/* Takes `fd`. */
static int start_listening(struct listening *l, int fd) {
        struct source *source;

        int r = loop_watch(l->loop, fd, EPOLLIN, l->ready, l->userdata, &source);
        if (r < 0)
                return r;
        (void) source_free(l->source);
        l->source = source;
        r = lstat(l->path, &l->file) < 0 ? -errno : 0;
        if (!l->bound && (r < 0 || !leads_to_us(l->path)))
                l->file = (struct stat) {};
        return r == -ENOENT || !l->bound ? 0 : r;
}

/* Notes who may use it now: a group that an administrator has given it is given to its successor. */
static bool is_in_place(struct listening *l) {
        struct stat st;

        if (lstat(l->path, &st) < 0 || st.st_dev != l->file.st_dev || st.st_ino != l->file.st_ino)
                return false;
        l->file = st;
        return true;
}

/* Who has connected stays connected, also those who wait to be accepted. What somebody else has put there stays. */
static bool restore_socket(void *userdata) {
        struct listening *l = userdata;
        struct error error = {};
        int fd;

        if (is_in_place(l))
                return true;
        const char *what = l->file.st_ino == 0 ? "is not the socket that was passed" : "was removed while bertd runs";
        int r = bus_socket_open(l->path, l->file.st_ino == 0 ? NULL : &l->file, &fd, &error);
        if (r >= 0) {
                l->ready(l->userdata, source_fd(l->source), EPOLLIN);
                l->bound = true;
                r = start_listening(l, fd);
                if (r < 0)
                        (void) error_errno(&error, -r, "%s", l->path);
        }
        if (r >= 0)
                log_error("%s %s; created again", l->path, what);
        else if (!l->lost)
                log_error("%s %s, and cannot be created yet: %s; retrying every 10 s, or restart bertd (jobs keep "
                          "running)",
                          l->path, what, error.text);
        l->lost = r < 0;
        return r >= 0;
}

/* systemd's has its group and mode from its unit. To listen at it once more makes clients see bertd's process at the other end. */
static int take_socket(const struct listening *l, int passed, int *ret, struct error *error) {
        if (l->bound)
                return bus_socket_open(l->path, NULL, ret, error);
        *ret = passed;
        return fcntl(*ret, F_SETFL, O_NONBLOCK) < 0 || listen(*ret, SOMAXCONN) < 0
                       ? error_errno(error, errno, "%s", l->path)
                       : 0;
}

int listening_new(struct loop *loop, const char *path, int passed, loop_ready_t ready, void *userdata,
                  struct listening **ret, struct error *error) {
        int fd;
        struct listening *l = calloc(1, sizeof(*l));
        if (!l)
                return error_errno(error, ENOMEM, "%s", path);

        *l = (struct listening) {
                .loop = loop, .path = path, .ready = ready, .userdata = userdata, .bound = passed == 0
        };
        int r = take_socket(l, passed, &fd, error);
        if (r >= 0) {
                r = start_listening(l, fd);
                if (r >= 0)
                        r = socket_watch_new(loop, path, restore_socket, l, &l->watch);
                if (r < 0)
                        (void) error_errno(error, -r, "%s", path);
        }
        if (r < 0) {
                listening_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

void listening_free(struct listening *l) {
        if (!l)
                return;
        socket_watch_free(l->watch);
        (void) source_free(l->source);
        if (l->bound && is_in_place(l))
                (void) unlink(l->path);
        free(l);
}

void listening_enable(const struct listening *l, bool on) { source_enable(l->source, on); }
