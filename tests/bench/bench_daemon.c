/*
 * Latencies of a running bertd as a client sees them, each beside the raw cost of the disk under it in the same run.
 *
 *   bench_daemon SOCKET FOLDER JOBS QUEUED
 *
 * Submits JOBS command jobs one by one and alternates each with a raw 4 KiB write + fsync in FOLDER (a folder on the state
 * database's disk), then fills up to QUEUED jobs and times GetJob and a page of ListJobs. Prints one "name p50 p99 unit" a line.
 * The caller has filled the daemon's slots, so that nothing starts meanwhile.
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
                                       (uint32_t) 500, 0);
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

static int time_submits(sd_bus *bus, const char *path, size_t n) {
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

static int time_calls(sd_bus *bus, const char *name, const char *method, const char *types, uint64_t jobs, size_t n) {
        cleanup_free double *msec = calloc(n, sizeof(double));
        if (!msec)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                uint64_t start = clock_monotonic_usec();
                int r = call(bus, method, types, types[1] ? 0 : 1 + i * 7919 % jobs);
                msec[i] = since_msec(start);
                if (r < 0)
                        return r;
        }
        report(name, msec, n);
        return 0;
}

static int run(const char *socket, const char *folder, size_t jobs, size_t queued) {
        cleanup_free char *address = format_string("unix:path=%s", socket), *path = format_string("%s/raw", folder);
        sd_bus *bus = NULL;

        if (!address || !path)
                return -ENOMEM;
        int r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                goto out;

        r = time_submits(bus, path, jobs);
        for (size_t i = jobs; r >= 0 && i < queued; i++)
                r = submit(bus);
        if (r >= 0)
                r = time_calls(bus, "status of one job", "GetJob", "t", queued, 2000);
        if (r >= 0)
                r = time_calls(bus, "list, a page of 500", "ListJobs", "tub", queued, 200);
        (void) unlink(path);
out:
        sd_bus_flush_close_unref(bus);
        return r;
}

int main(int argc, char **argv) {
        if (argc != 5) {
                (void) fprintf(stderr, "usage: bench_daemon SOCKET FOLDER JOBS QUEUED\n");
                return 2;
        }
        int r = run(argv[1], argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
        if (r < 0)
                (void) fprintf(stderr, "bench_daemon: %s\n", strerror(-r));
        return r < 0;
}
