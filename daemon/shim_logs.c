/* See shim_logs.h. Invariants: dropped > 0 exactly while bytes are missing that no note tells of; `size` is the file's. */
#include "daemon/shim_logs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

#define NOTE_MAX 512

static void open_file(struct shim_log *log) {
        struct stat st;

        log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
        log->size = log->fd >= 0 && fstat(log->fd, &st) == 0 ? (uint64_t) st.st_size : 0;
}

int shim_log_open(struct shim_log *log, const char *path, uint64_t max_bytes, struct error *error) {
        *log = (struct shim_log) { .fd = -1, .half = MAX(max_bytes / 2, (uint64_t) SHIM_TAIL_BYTES) };
        log->path = strdup(path);
        log->rotated = format_string("%s.1", path);
        log->tail = malloc(SHIM_TAIL_BYTES);
        if (!log->path || !log->rotated || !log->tail)
                return error_errno(error, ENOMEM, "%s", path);
        open_file(log);
        return 0;
}

void shim_log_close(struct shim_log *log) {
        if (log->fd >= 0)
                (void) close(log->fd);
        free(log->path);
        free(log->rotated);
        free(log->tail);
        *log = (struct shim_log) { .fd = -1 };
}

static void keep_tail(struct shim_log *log, const char *data, size_t size) {
        if (size > SHIM_TAIL_BYTES) {
                log->tail_written += size - SHIM_TAIL_BYTES;
                data += size - SHIM_TAIL_BYTES;
                size = SHIM_TAIL_BYTES;
        }
        size_t at = log->tail_written % SHIM_TAIL_BYTES, first = MIN(size, SHIM_TAIL_BYTES - at);
        memcpy(log->tail + at, data, first);
        memcpy(log->tail, data + first, size - first);
        log->tail_written += size;
}

/* Bytes written of them; less than `size` leaves errno. */
static size_t put(struct shim_log *log, const char *data, size_t size) {
        size_t done = 0;

        if (log->fd < 0)
                open_file(log);
        while (log->fd >= 0 && done < size) {
                ssize_t n = write(log->fd, data + done, size - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                done += (size_t) n;
        }
        log->size += done;
        return done;
}

/* A failed rename leaves the file growing rather than losing its end. */
static void rotate(struct shim_log *log) {
        if (rename(log->path, log->rotated) < 0)
                return;
        (void) close(log->fd);
        open_file(log);
}

/* Tells of lost bytes once the disk takes them again. False: it does not yet. */
static bool note_dropped(struct shim_log *log) {
        char note[NOTE_MAX];

        if (log->dropped == 0)
                return true;
        int n = snprintf(note, sizeof(note), "\nbertd: %" PRIu64 " bytes of output are missing here: %s\n",
                         log->dropped, strerror(log->dropped_errno));
        size_t done = put(log, note, (size_t) n);
        if (done < (size_t) n) {
                if (done > 0 && log->fd >= 0 && ftruncate(log->fd, (off_t) (log->size - done)) == 0)
                        log->size -= done; /* no half a note */
                return false;
        }
        log->dropped = 0;
        return true;
}

/* Somebody has removed the file: what is written to it would be seen by nobody, and take its room. */
static bool is_removed(const struct shim_log *log) {
        struct stat st;

        return log->fd >= 0 && fstat(log->fd, &st) == 0 && st.st_nlink == 0;
}

static void begin_anew(struct shim_log *log) {
        static const char note[] = "bertd: the log was removed; what comes now is written to a new one\n";

        (void) close(log->fd);
        open_file(log);
        (void) put(log, note, strlen(note));
}

void shim_log_write(struct shim_log *log, const char *data, size_t size) {
        keep_tail(log, data, size);
        if (is_removed(log))
                begin_anew(log);
        if (log->size >= log->half)
                rotate(log);
        size_t done = note_dropped(log) ? put(log, data, size) : 0;
        if (done < size) {
                log->dropped_errno = errno;
                log->dropped += size - done;
        }
}

void shim_log_note(struct shim_log *log, const char *format, ...) {
        char text[NOTE_MAX] = "bertd: ";
        const size_t prefix = strlen(text);
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text + prefix, sizeof(text) - prefix - 1, format, ap);
        va_end(ap);
        size_t n = strlen(text);
        text[n] = '\n';
        shim_log_write(log, text, n + 1);
}

char *shim_log_tail(const struct shim_log *log, size_t *ret_size) {
        char *copy = malloc(SHIM_TAIL_BYTES);
        size_t at = log->tail_written % SHIM_TAIL_BYTES;

        if (!copy)
                return NULL;
        if (log->tail_written < SHIM_TAIL_BYTES) {
                memcpy(copy, log->tail, at);
                *ret_size = at;
                return copy;
        }
        memcpy(copy, log->tail + at, SHIM_TAIL_BYTES - at);
        memcpy(copy + SHIM_TAIL_BYTES - at, log->tail, at);
        *ret_size = SHIM_TAIL_BYTES;
        return copy;
}
