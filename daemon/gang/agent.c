/*
 * `bertd-gang agent NAME HOST WORD…`: mpirun's agent, in the place of ssh. Hands HOST and the words, which are one
 * shell line, to the gang's socket; then prints what comes back and ends with the command's code. Open MPI calls it
 * with this process as its parent's child only: it ends with mpirun.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/gang/gang.h"

#define NO_GANG 255 /* as ssh without a connection */

static int connect_to(const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct ucred peer;
        socklen_t size = sizeof(peer);
        size_t n = strlen(name);
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (n == 0 || n + 1 > sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path + 1, name, n);
        if (fd < 0 ||
            connect(fd, (struct sockaddr *) &address, (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid())
                return -EPERM;
        return steal_fd(&fd);
}

/* Joined by blanks. Open MPI's daemon there looks for its own agent, which it never calls, and dies if it is not
 * found: the word that has our name is replaced by a program that every host has. Caller frees. */
static char *join(char **words, const char *name) {
        cleanup_free char *line = strdup("");

        for (; line && *words; words++) {
                const char *word = strstr(*words, name) ? "/bin/sh" : *words;
                char *longer = format_string("%s%s%s", line, line[0] ? " " : "", word);
                free(line);
                line = longer;
        }
        return steal_pointer(&line);
}

static int ask(int fd, const char *host, const char *line) {
        json_t *request = json_pack("{ss*ss*ss*}", "type", "run", "host", host, "line", line);
        cleanup_free char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

        json_decref(request);
        int r = text ? write_all(fd, text, strlen(text)) : -ENOMEM;
        return r < 0 ? r : write_all(fd, "\n", 1);
}

/* The exit code once the command has ended, else −1. */
static int on_line(const json_t *line) {
        cleanup_free char *data = NULL;
        uint64_t id;
        int stream, code, signal;
        size_t size;

        if (leash_type_of(line) == LEASH_OUTPUT && leash_read_output(line, &id, &stream, &data, &size))
                (void) write_all(stream, data, size);
        if (leash_type_of(line) == LEASH_EXITED && leash_read_exited(line, &id, &code, &signal))
                return signal > 0 ? 128 + signal : code;
        return -1;
}

static int relay(int fd) {
        struct leash_reader reader = {};
        json_t *line;
        int code = -1, r = 0;

        while (code < 0 && leash_reader_fill(&reader, fd) > 0) {
                while (code < 0 && (r = leash_reader_next(&reader, &line)) > 0) {
                        code = on_line(line);
                        json_decref(line);
                }
                if (r < 0)
                        break;
        }
        leash_reader_free(&reader);
        return code < 0 ? NO_GANG : code;
}

int agent_main(int argc, char **argv) {
        if (argc < 4) {
                (void) fprintf(stderr, "usage: bertd-gang agent NAME HOST COMMAND... (mpirun calls it)\n");
                return BERTD_EXIT_USAGE;
        }
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        cleanup_close int fd = connect_to(argv[1]);
        cleanup_free char *line = join(argv + 3, argv[1]);
        int r = fd < 0 ? fd : line ? ask(fd, argv[2], line) : -ENOMEM;
        if (r < 0) {
                (void) fprintf(stderr, "bertd: %s: the agent has no connection: %s\n", argv[2], strerror(-r));
                return NO_GANG;
        }
        return relay(fd);
}
