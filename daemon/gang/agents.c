/*
 * See gang.h: the programs that mpirun starts instead of ssh ("bertd-gang agent NAME HOST COMMAND…"). Each connects to
 * a socket in the abstract name space and sends {"type":"run","host":H,"line":L}; the command runs on that host by its
 * leash, and its output and end go back as the leash's lines. Owns gang->agents. Only processes of this user are heard.
 */
#include <errno.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/hex.h"
#include "daemon/gang/gang.h"

#define SOON_USEC (30 * USEC_PER_SEC) /* in which a start fails */

static void agent_free(struct gang_agent *agent) {
        struct gang *gang = agent->gang;

        for (size_t i = 0; i < ELEMENTSOF(gang->agents); i++)
                if (gang->agents[i] == agent)
                        gang->agents[i] = NULL;
        lines_close(&agent->lines);
        free(agent);
}

static struct gang_agent *find(const struct gang *gang, const struct gang_host *host, uint64_t id) {
        for (size_t i = 0; i < ELEMENTSOF(gang->agents); i++)
                if (gang->agents[i] && gang->agents[i]->host == host && gang->agents[i]->id == id)
                        return gang->agents[i];
        return NULL;
}

/* The host with a lease that mpirun calls so. */
static struct gang_host *find_host(struct gang *gang, const char *name) {
        for (size_t i = 0; name && i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD && strcmp(gang->hosts[i].name, name) == 0)
                        return &gang->hosts[i];
        return NULL;
}

static void on_request(struct gang_agent *agent, const json_t *line) {
        struct gang *gang = agent->gang;
        const json_t *text = json_object_get(line, "line");
        struct gang_host *host = find_host(gang, json_string_value(json_object_get(line, "host")));

        if (agent->host || !host || !json_is_string(text)) {
                lines_send(&agent->lines, leash_exited(0, 255 << 8));
                return;
        }
        agent->host = host;
        agent->id = ++gang->last_id;
        agent->since_usec = clock_boottime_usec();
        host->runs++;
        host_send(host, leash_run(agent->id, json_string_value(text), NULL));
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang_agent *agent = userdata;
        ssize_t n = leash_reader_fill(&agent->lines.reader, fd);
        json_t *line;
        int r;

        while ((r = leash_reader_next(&agent->lines.reader, &line)) > 0) {
                on_request(agent, line);
                json_decref(line);
        }
        if (r < 0 || n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS))
                agent_free(agent);
        return 0;
}

static bool is_ours(int fd) {
        struct ucred peer;
        socklen_t size = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang *gang = userdata;
        cleanup_close int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        size_t i = 0;

        while (i < ELEMENTSOF(gang->agents) && gang->agents[i])
                i++;
        struct gang_agent *agent =
                peer >= 0 && is_ours(peer) && i < ELEMENTSOF(gang->agents) ? calloc(1, sizeof(*agent)) : NULL;
        if (!agent)
                return 0;
        agent->gang = gang;
        gang->agents[i] = agent;
        int own = steal_fd(&peer);
        if (lines_open(&agent->lines, gang->event, own, own, on_readable, agent) < 0)
                agent_free(agent);
        return 0;
}

/* ---- from the hosts ---- */

static void keep_last_line(struct gang_agent *agent, const char *data, size_t size) {
        while (size > 0 && (unsigned char) data[size - 1] <= ' ')
                size--;
        const char *newline = size > 0 ? memrchr(data, '\n', size) : NULL, *from = newline ? newline + 1 : data;
        size_t n = MIN((size_t) (data + size - from), sizeof(agent->said) - 1);

        if (n == 0)
                return;
        for (size_t i = 0; i < n; i++)
                agent->said[i] = from[i] < ' ' || from[i] == 0x7f ? ' ' : from[i];
        agent->said[n] = '\0';
}

void agents_output(struct gang_host *host, json_t *line) {
        cleanup_free char *data = NULL;
        uint64_t id;
        int stream;
        size_t size;

        if (!leash_read_output(line, &id, &stream, &data, &size))
                return;
        struct gang_agent *agent = find(host->gang, host, id);
        if (!agent)
                return;
        keep_last_line(agent, data, size);
        (void) leash_writer_output(&agent->lines.writer, id, stream, data, size);
        lines_send(&agent->lines, leash_line(LEASH_BEAT)); /* sends what is queued */
}

/* Open MPI's daemon there is gone while mpirun runs. If it was killed, that is the cause. If it failed, a rank may have
 * failed before, which mpirun reports; else it could not start, or has lost its connection later. */
static void daemon_gone(struct gang_host *host, const struct gang_agent *agent, int code, int signal) {
        struct gang *gang = host->gang;
        bool soon = agent && clock_boottime_usec() - agent->since_usec < SOON_USEC;
        struct gang_verdict v;

        if (signal > 0)
                v = gang_verdict(EXIT_CLASS_HOST_LOST, host->name, "Open MPI's daemon was killed by signal %d", signal);
        else
                v = gang_verdict(soon ? EXIT_CLASS_LAUNCH : EXIT_CLASS_HOST_LOST, host->name,
                                 "Open MPI's daemon ended with exit code %d%s%s", code,
                                 agent && agent->said[0] ? ": " : "", agent ? agent->said : "");
        v.weak = signal == 0;
        if (signal > 0)
                gang_end(gang, &v);
        else if (!gang->first_failure.set)
                gang->first_failure = v;
}

void agents_exited(struct gang_host *host, json_t *line) {
        uint64_t id;
        int code, signal;

        if (!leash_read_exited(line, &id, &code, &signal))
                return;
        struct gang_agent *agent = find(host->gang, host, id);
        if (signal == 0 && code > 128 && code <= 128 + 64)
                signal = code - 128; /* a shell's code for it */
        if (agent)
                lines_send(&agent->lines, json_incref(line));
        host->runs -= host->runs > 0;
        if (host->gang->phase == GANG_RUNNING && (code != 0 || signal != 0))
                daemon_gone(host, agent, code, signal);
        gang_settle(host->gang);
}

/* ---- the socket ---- */

static int listen_at(const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        size_t n = strlen(name);
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        memcpy(address.sun_path + 1, name, n);
        if (fd < 0 ||
            bind(fd, (struct sockaddr *) &address, (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0 ||
            listen(fd, LEASH_RUNS_MAX) < 0)
                return -errno;
        return steal_fd(&fd);
}

int agents_open(struct gang *gang, struct error *error) {
        char digits[HEX_128_SIZE];
        uint64_t random[2];

        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return error_errno(error, errno, "random numbers");
        hex_128(random[0], random[1], digits);
        (void) snprintf(gang->agent_name, sizeof(gang->agent_name), "bertd-gang-%s", digits);
        gang->agent_fd = listen_at(gang->agent_name);
        if (gang->agent_fd < 0)
                return error_errno(error, -gang->agent_fd, "socket of the agents");
        int r = sd_event_add_io(gang->event, &gang->agent_source, gang->agent_fd, EPOLLIN, on_connection, gang);
        return r < 0 ? error_errno(error, -r, "socket of the agents") : 0;
}

void agents_close(struct gang *gang) {
        for (size_t i = 0; i < ELEMENTSOF(gang->agents); i++)
                if (gang->agents[i])
                        agent_free(gang->agents[i]);
        gang->agent_source = sd_event_source_disable_unref(gang->agent_source);
        cleanup_close_p(&gang->agent_fd);
        gang->agent_fd = -1;
}
