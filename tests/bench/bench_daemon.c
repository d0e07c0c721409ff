/*
 * Latencies of a running bertd as a client sees them, each beside the raw cost of the disk under it in the same run.
 *
 *   bench_daemon SOCKET FOLDER JOBS QUEUED [CLIENTS JOBS_BEFORE]
 *
 * Submits JOBS command jobs one by one and alternates each with a raw 4 KiB write + fsync in FOLDER (a folder on the
 * state database's disk), then fills up to QUEUED jobs and times GetJob and a page of ListJobs. Prints one "name p50
 * p99 unit" a line. With CLIENTS, that many connections take turns, each calling once a second as `bertctl status -w`
 * does; being root, each 50 of them are another user's. JOBS_BEFORE: how many jobs there are already. The caller has
 * filled the daemon's slots, so that nothing starts meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;
        return (x > y) - (x < y);
}

static void report(const char *name, double *msec, size_t n) {
        qsort(msec, n, sizeof(*msec), compare_doubles);
        printf("%-28s %10.3f %10.3f ms  (n = %zu)\n", name, msec[n / 2], msec[n * 99 / 100], n);
}

static double since_msec(uint64_t start) { return (double) (clock_monotonic_usec() - start) / 1000.0; }

static int append_field(sd_bus_message *m, const char *key, const char *type, const char *text, uint32_t number) {
        return type[0] == 's' ? sd_bus_message_append(m, "{sv}", key, "s", text)
                              : sd_bus_message_append(m, "{sv}", key, "u", number);
}

#define CLIENTS_MAX 500
#define CLIENTS_A_USER 50
#define FIRST_UID 20000

static struct {
        sd_bus *bus[CLIENTS_MAX];
        size_t n, next;
} clients;

/* The connection whose turn it is; with several, not before a second has gone by since its last. */
static sd_bus *turn(void) {
        if (clients.n > 1)
                (void) usleep((useconds_t) (USEC_PER_SEC / clients.n));
        return clients.bus[clients.next++ % clients.n];
}

static int submit(sd_bus *bus) {
        sd_bus_message *m = NULL, *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;

        int r = sd_bus_message_new_method_call(bus, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, "Submit");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_field(m, "name", "s", "bench", 0);
        if (r >= 0)
                r = append_field(m, "kind", "s", "command", 0);
        if (r >= 0)
                r = append_field(m, "cwd", "s", "/", 0);
        if (r >= 0)
                r = append_field(m, "ranks", "u", NULL, 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "command", "as", 1, "true");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "environment", "as", 1, "PATH=/usr/bin:/bin");
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call(bus, m, 30 * USEC_PER_SEC, &e, &reply);
        if (r < 0)
                (void) fprintf(stderr, "bench_daemon: Submit: %s\n", e.message ? e.message : strerror(-r));
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return r;
}

static int call(sd_bus *bus, const char *method, const char *types, uint64_t id) {
        sd_bus_message *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        if (types[1])
                r = sd_bus_call_method(bus, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, method, &e, &reply, types, id,
                                       (uint32_t) BERTD_LIST_PAGE_MAX, 0);
        else
                r = sd_bus_call_method(bus, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE, method, &e, &reply, types, id);
        if (r < 0)
                (void) fprintf(stderr, "bench_daemon: %s: %s\n", method, e.message ? e.message : strerror(-r));
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        return r;
}

static int raw_fsync(int fd) {
        static const char page[4096];
        if (write_all(fd, page, sizeof(page)) < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

static int time_submits(const char *path, size_t n) {
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        cleanup_free double *ack = calloc(n, sizeof(double)), *raw = calloc(n, sizeof(double));
        if (fd < 0)
                return -errno;
        if (!ack || !raw)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                uint64_t start = clock_monotonic_usec();
                int r = raw_fsync(fd);
                raw[i] = since_msec(start);
                if (r < 0)
                        return r;
                sd_bus *bus = turn();
                start = clock_monotonic_usec();
                r = submit(bus);
                ack[i] = since_msec(start);
                if (r < 0)
                        return r;
        }
        report("raw 4 KiB write + fsync", raw, n);
        report("submit to acknowledged", ack, n);
        return 0;
}

static int time_calls(const char *name, const char *method, const char *types, uint64_t jobs, size_t n) {
        cleanup_free double *msec = calloc(n, sizeof(double));
        if (!msec)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                sd_bus *bus = turn();
                uint64_t start = clock_monotonic_usec();
                int r = call(bus, method, types, types[1] ? 0 : 1 + i * 7919 % jobs);
                msec[i] = since_msec(start);
                if (r < 0)
                        return r;
        }
        report(name, msec, n);
        return 0;
}

static int connect_clients(const char *socket, size_t n) {
        cleanup_free char *address = format_string("unix:path=%s", socket);
        int r = address ? 0 : -ENOMEM;

        while (r >= 0 && clients.n < n) {
                /* Whose connection it is, the kernel notes now. */
                if (n > 1 && getuid() == 0 && seteuid(FIRST_UID + (uid_t) (clients.n / CLIENTS_A_USER)) < 0)
                        return -errno;
                sd_bus *bus = NULL;
                r = sd_bus_new(&bus);
                if (r >= 0)
                        r = sd_bus_set_address(bus, address);
                if (r >= 0)
                        r = sd_bus_start(bus);
                if (r >= 0)
                        r = call(bus, "GetJob", "t", 1);
                clients.bus[clients.n++] = bus;
                if (getuid() == 0 && seteuid(0) < 0)
                        return -errno;
        }
        return r;
}

static void disconnect_clients(void) {
        while (clients.n > 0)
                (void) sd_bus_flush_close_unref(clients.bus[--clients.n]);
        clients.next = 0;
}

static int run_alone(const char *socket, const char *path, size_t jobs, size_t queued) {
        int r = connect_clients(socket, 1);

        if (r >= 0)
                r = time_submits(path, jobs);
        for (size_t i = jobs; r >= 0 && i < queued; i++)
                r = submit(clients.bus[0]);
        if (r >= 0)
                r = time_calls("status of one job", "GetJob", "t", queued, 2000);
        if (r >= 0)
                r = time_calls("list, a page of 100", "ListJobs", "tub", queued, 200);
        disconnect_clients();
        return r;
}

/* Submits come from one more connection, root's: the others have no account. */
static int run_many(const char *socket, const char *path, size_t jobs, size_t n, size_t before) {
        int r = connect_clients(socket, n);

        if (r >= 0)
                r = time_calls("status of one job", "GetJob", "t", before, 2000);
        if (r >= 0)
                r = time_calls("list, a page of 100", "ListJobs", "tub", before, 1000);
        (void) printf("connected\n");
        (void) fflush(stdout);
        sd_bus *others[CLIENTS_MAX];
        size_t n_others = clients.n;
        memcpy(others, clients.bus, sizeof(others));
        clients.n = 0;
        if (r >= 0)
                r = connect_clients(socket, 1);
        if (r >= 0)
                r = time_submits(path, jobs);
        disconnect_clients();
        memcpy(clients.bus, others, sizeof(others));
        clients.n = n_others;
        (void) sleep(2); /* for who measures our memory of 200 connections */
        disconnect_clients();
        return r;
}

int main(int argc, char **argv) {
        if (argc != 5 && argc != 7) {
                (void) fprintf(stderr, "usage: bench_daemon SOCKET FOLDER JOBS QUEUED [CLIENTS JOBS_BEFORE]\n");
                return 2;
        }
        cleanup_free char *path = format_string("%s/raw", argv[2]);
        size_t jobs = strtoul(argv[3], NULL, 10), n = argc == 7 ? strtoul(argv[5], NULL, 10) : 1;
        int r = !path             ? -ENOMEM
                : n > CLIENTS_MAX ? -E2BIG
                : argc == 7       ? run_many(argv[1], path, jobs, n, strtoul(argv[6], NULL, 10))
                                  : run_alone(argv[1], path, jobs, strtoul(argv[4], NULL, 10));
        if (path)
                (void) unlink(path);
        if (r < 0)
                (void) fprintf(stderr, "bench_daemon: %s\n", strerror(-r));
        return r < 0;
}
