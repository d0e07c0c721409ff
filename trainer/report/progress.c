/* See progress.h. Owns one unconnected datagram socket. A datagram that does not fit the receiver's queue is
 * dropped: the next one has newer values. */
#include "trainer/report/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/clock.h"
#include "common/file.h"

#define DATAGRAMS_PER_SEC 1000
#define SAMPLES_LINE_MAX 80

struct progress {
        int fd;
        struct sockaddr_un address;
        socklen_t address_size;
        uint64_t first_sample, last_sample; /* of the next update; both 0 = none */
        uint64_t steps, sent_usec, printed_usec, watchdog_usec;
        bool terminal, line_open;
};

static void open_socket(struct progress *progress) {
        const char *name = secure_getenv("NOTIFY_SOCKET");
        size_t n = name ? strlen(name) : 0;

        progress->fd = -1;
        if (n < 2 || n >= sizeof(progress->address.sun_path) || (name[0] != '/' && name[0] != '@'))
                return;
        progress->address.sun_family = AF_UNIX;
        memcpy(progress->address.sun_path, name, n + 1);
        if (name[0] == '@')
                progress->address.sun_path[0] = '\0';
        progress->address_size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + (name[0] == '/'));
        progress->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

struct progress *progress_new(uint64_t steps) {
        struct progress *progress = calloc(1, sizeof(*progress));
        if (!progress)
                return NULL;
        progress->steps = steps;
        progress->terminal = isatty(STDERR_FILENO);
        open_socket(progress);
        return progress;
}

void progress_free(struct progress *progress) {
        if (!progress)
                return;
        progress_end_line(progress);
        if (progress->fd >= 0)
                (void) close(progress->fd);
        free(progress);
}

static void send_text(struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void send_text(struct progress *progress, const char *format, ...) {
        char text[BERTD_NOTIFY_MAX];
        va_list ap;

        if (progress->fd < 0)
                return;
        va_start(ap, format);
        int n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (n > 0 && (size_t) n < sizeof(text))
                (void) sendto(progress->fd, text, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL,
                              (struct sockaddr *) &progress->address, progress->address_size);
}

void progress_samples(struct progress *progress, uint64_t first, uint64_t last) {
        progress->first_sample = first;
        progress->last_sample = last;
}

/* "X_BERTD_SAMPLES=96-127\n", or nothing. */
static const char *samples_line(const struct progress *progress, char *buffer, size_t size) {
        buffer[0] = '\0';
        if (progress->last_sample > 0)
                (void) snprintf(buffer, size, BERTD_NOTIFY_SAMPLES "=%" PRIu64 "-%" PRIu64 "\n", progress->first_sample,
                                progress->last_sample);
        return buffer;
}

void progress_ready(struct progress *progress) {
        char samples[SAMPLES_LINE_MAX];

        send_text(progress, "READY=1\nSTATUS=training\n%s" BERTD_NOTIFY_STEPS "=%" PRIu64 "\n" BERTD_NOTIFY_RANK "=0\n",
                  samples_line(progress, samples, sizeof(samples)), progress->steps);
}

void progress_busy(struct progress *progress, const char *what) {
        send_text(progress, BERTD_NOTIFY_BUSY "=%s\nWATCHDOG=1\n", what ? what : "");
}

void progress_watchdog(struct progress *progress) {
        uint64_t now = clock_monotonic_usec();

        if (now - progress->watchdog_usec < USEC_PER_SEC)
                return;
        progress->watchdog_usec = now;
        send_text(progress, "WATCHDOG=1\n");
}

void progress_slowest(struct progress *progress, const char *host, uint32_t rank, double ratio) {
        if (host)
                send_text(progress, BERTD_NOTIFY_SLOWEST "=%s,%u,%.2f\n", host, rank, ratio);
        else
                send_text(progress, BERTD_NOTIFY_SLOWEST "=\n");
}

void progress_stopping(struct progress *progress) { send_text(progress, "STOPPING=1\n"); }

void progress_checkpoint(struct progress *progress, const char *path, double stall, double write) {
        char *absolute = realpath(path, NULL);

        if (absolute && !strchr(absolute, '\n'))
                send_text(progress,
                          BERTD_NOTIFY_CHECKPOINT "=%s\n" BERTD_NOTIFY_STALL "=%.6f\n" BERTD_NOTIFY_WRITE
                                                  "=%.6f\nWATCHDOG=1\n",
                          absolute, stall, write);
        free(absolute);
}

static void print_line(struct progress *progress, uint64_t step, double loss, double rate) {
        char text[48] = "no token is masked: no loss";

        if (!isnan(loss))
                (void) snprintf(text, sizeof(text), loss < 1e9 ? "loss %.4f" : "loss %.6g", loss);
        (void) fprintf(stderr, "%sstep %" PRIu64 "/%" PRIu64 "  %s  %.1f samples/s%s", progress->terminal ? "\r" : "",
                       step, progress->steps, text, rate, progress->terminal ? "\033[K" : "\n");
        (void) fflush(stderr);
        progress->line_open = progress->terminal;
}

void progress_step(struct progress *progress, uint64_t step, double loss, double rate, bool force) {
        uint64_t now = clock_monotonic_usec(), line_usec = progress->terminal ? USEC_PER_SEC / 10 : 5 * USEC_PER_SEC;
        char samples[SAMPLES_LINE_MAX], said[48] = "";

        if (!isnan(loss))
                (void) snprintf(said, sizeof(said), BERTD_NOTIFY_LOSS "=%.9g\n", loss);
        /* Every step: where it dies, the last one that was made must be known. */
        if (force || now - progress->sent_usec >= USEC_PER_SEC / DATAGRAMS_PER_SEC) {
                progress->sent_usec = now;
                send_text(progress,
                          "%s" BERTD_NOTIFY_STEP "=%" PRIu64 "\n" BERTD_NOTIFY_STEPS "=%" PRIu64
                          "\n%s" BERTD_NOTIFY_RATE "=%.9g\n" BERTD_NOTIFY_RANK "=0\nWATCHDOG=1\n",
                          samples_line(progress, samples, sizeof(samples)), step, progress->steps, said, rate);
        }
        if (force || now - progress->printed_usec >= line_usec) {
                progress->printed_usec = now;
                print_line(progress, step, loss, rate);
        }
}

void progress_end_line(struct progress *progress) {
        if (progress->line_open)
                (void) fputc('\n', stderr);
        progress->line_open = false;
}
