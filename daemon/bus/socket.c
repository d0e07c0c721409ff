/* See socket.h. Owns nothing once it is open. Invariant: never touches a socket with a listener. */
#include "daemon/bus/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/paths.h"
#include "daemon/base/log.h"
#include "daemon/base/nss.h"

/* systemd listens, for a .socket unit whose service has not started yet. */
static bool is_unit(int fd) {
        struct ucred peer = {};
        socklen_t size = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == 1;
}

/* Only a refused connection means that there is no listener; a full queue means that there is one. */
static int refuse_living(const char *path, const struct sockaddr_un *address, struct error *error) {
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat st;

        if (fd < 0)
                return error_errno(error, errno, "%s", path);
        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : error_errno(error, errno, "%s", path);
        if (!S_ISSOCK(st.st_mode))
                return error_set(error, EEXIST, "%s: exists and is not a socket", path);
        int r = connect(fd, (const struct sockaddr *) address, sizeof(*address)) < 0 ? -errno : 0;
        if (r == 0 && is_unit(fd))
                return error_set(error, EADDRINUSE,
                                 "%s: systemd listens there for bertd.service, and starts it for each client; free "
                                 "the path with `systemctl stop bertd bertd.socket`",
                                 path);
        if (r == 0 || r == -EAGAIN)
                return error_set(error, EADDRINUSE, "%s: another daemon answers there", path);
        if (r != -ECONNREFUSED && r != -ENOENT)
                return error_errno(error, -r, "%s: not clear whether a daemon listens there", path);
        return unlink(path) < 0 && errno != ENOENT ? error_errno(error, errno, "%s", path) : 0;
}

static int set_access(const char *path, struct error *error) {
        gid_t group;
        int r = geteuid() == 0 ? nss_group("bertd", NSS_LIMIT_USEC, &group) : -ESRCH;

        if (r < 0 && r != -ESRCH)
                log_error("cannot look up group bertd: %s; only root can connect until bertd is restarted",
                          strerror(-r));
        if (r == -ESRCH && geteuid() == 0 && strcmp(path, BERTD_SYSTEM_SOCKET) == 0)
                log_error("no group bertd: only root can connect; create it with `groupadd --system bertd` and restart "
                          "bertd");
        if (r >= 0 && chown(path, 0, group) < 0)
                return error_errno(error, errno, "%s", path);
        if (chmod(path, r >= 0 ? 0660 : 0600) < 0)
                return error_errno(error, errno, "%s", path);
        return 0;
}

/* Owner and mode of the previous file, without a lookup in the user database. */
static int copy_access(const char *path, const struct stat *before, struct error *error) {
        if (lchown(path, before->st_uid, before->st_gid) < 0 || chmod(path, before->st_mode & 07777) < 0)
                return error_errno(error, errno, "%s", path);
        return 0;
}

int bus_socket_open(const char *path, const struct stat *before, int *ret, struct error *error) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        cleanup_free char *folder = strdup(path);

        if (fd < 0 || !folder)
                return error_errno(error, fd < 0 ? errno : ENOMEM, "%s", path);
        *strrchr(folder, '/') = '\0';
        int r = folder[0] ? mkdir_parents(folder, 0755, error) : 0;
        if (r < 0)
                return r;
        if (strlen(path) >= sizeof(address.sun_path))
                return error_set(error, ENAMETOOLONG, "%s: too long for a socket path", path);
        memcpy(address.sun_path, path, strlen(path));
        r = refuse_living(path, &address, error);
        if (r < 0)
                return r;
        mode_t old = umask(0177);
        r = bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0;
        (void) umask(old);
        if (r < 0)
                return error_errno(error, -r, "%s", path);
        r = before ? copy_access(path, before, error) : set_access(path, error);
        if (r < 0)
                return r;
        if (listen(fd, SOMAXCONN) < 0)
                return error_errno(error, errno, "%s", path);
        *ret = steal_fd(&fd);
        return 0;
}
