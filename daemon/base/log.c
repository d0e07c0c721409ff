/* See log.h. Owns the one mutable global of the daemon: where the lines are written. */
#include "daemon/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

static struct {
        bool journal;
        char *path, *rotated; /* the file behind stderr, NULL: not rotated by us */
        uint64_t lost;        /* lines lost since the last one written */
} sink;

void log_open(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        sink.journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                       st.st_dev == device && st.st_ino == inode;
}

/* Never blocks: the path may be a FIFO. */
static int open_log(void) {
        cleanup_close int fd =
                open(sink.path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
}

int log_to_file(const char *path) {
        sink.path = strdup(path);
        sink.rotated = format_string("%s.1", path);
        return sink.path && sink.rotated ? open_log() : -ENOMEM;
}

/* The file was removed, moved or replaced. */
static bool is_elsewhere(const struct stat *own) {
        struct stat there;

        return lstat(sink.path, &there) < 0 ? errno == ENOENT
                                            : there.st_dev != own->st_dev || there.st_ino != own->st_ino;
}

/* If that fails the file grows, so that no lines are lost. */
static void rotate(void) {
        struct stat st;

        if (!sink.rotated || fstat(STDERR_FILENO, &st) < 0)
                return;
        if (is_elsewhere(&st) || (st.st_size >= LOG_FILE_MAX && rename(sink.path, sink.rotated) == 0))
                (void) open_log();
}

/* A pipe without a reader or a stopped terminal fills up: bertd must not block on it. */
static bool would_block(void) {
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

        return poll(&p, 1, 0) == 0;
}

static void write_text(const char *text) {
        rotate();
        if (would_block()) {
                sink.lost++;
                return;
        }
        if (sink.lost > 0)
                (void) fprintf(stderr, "bertd: %" PRIu64 " log lines were lost: nothing was reading stderr\n",
                               sink.lost);
        sink.lost = 0;
        (void) fprintf(stderr, "bertd: %s\n", text);
}

static __attribute__((format(printf, 2, 0))) void write_line(int priority, const char *format, va_list ap) {
        char text[2048];

        (void) vsnprintf(text, sizeof(text), format, ap);
        if (sink.journal)
                (void) sd_journal_print(priority, "%s", text);
        else
                write_text(text);
}

void log_info(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(LOG_INFO, format, ap);
        va_end(ap);
}

void log_error(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(LOG_ERR, format, ap);
        va_end(ap);
}

void log_transition(uint64_t job, const char *from, const char *to, const char *reason) {
        if (sink.journal)
                (void) sd_journal_send("MESSAGE=job %" PRIu64 ": %s to %s%s%s", job, from, to, reason ? ": " : "",
                                       reason ? reason : "", "PRIORITY=%d", LOG_INFO, "SYSLOG_IDENTIFIER=bertd",
                                       "JOB_ID=%" PRIu64, job, "JOB_STATE=%s", to, NULL);
}
