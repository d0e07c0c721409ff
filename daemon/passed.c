/* See passed.h. Owns nothing. */
#include "daemon/passed.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

#define CURE "its .socket unit needs one ListenStream=, with a path"

static int refuse(int n, struct error *error) {
        if (n > 1)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "%d descriptors were passed (LISTEN_FDS), expected 1: " CURE, n);
        return error_input(error, BERTD_EXIT_USAGE,
                           "the descriptor that was passed (LISTEN_FDS) is not a listening Unix stream socket: " CURE);
}

/* Abstract addresses are refused: they have no owner and no mode. */
static int read_path(int fd, char **ret, struct error *error) {
        struct sockaddr_un address = {};
        socklen_t size = sizeof(address) - 1; /* a path may fill it, and has a NUL here */

        if (getsockname(fd, (struct sockaddr *) &address, &size) < 0 || address.sun_path[0] != '/')
                return error_input(error, BERTD_EXIT_USAGE, "the socket that was passed has no absolute path: " CURE);
        *ret = strdup(address.sun_path);
        return *ret ? 0 : error_errno(error, ENOMEM, "%s", address.sun_path);
}

int passed_take(int *ret_fd, char **ret_path, struct error *error) {
        int n = sd_listen_fds(1);

        (void) close_range(SD_LISTEN_FDS_START + (n == 1), ~0U, 0);
        if (n < 0)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "LISTEN_FDS, LISTEN_PID: %s: expected as in "
                                   "sd_listen_fds(3)",
                                   strerror(-n));
        if (n == 0)
                return 0;
        if (n > 1 || sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0) <= 0)
                return refuse(n, error);
        int r = read_path(SD_LISTEN_FDS_START, ret_path, error);
        if (r >= 0)
                *ret_fd = SD_LISTEN_FDS_START;
        return r;
}
