/* See log.h. Invariants: dropped > 0 exactly while bytes are missing that no note reports; `size` is the file's size
 * when last checked, and `fd` is a regular file. */
#include "daemon/shim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/file.h"

#define NOTE_MAX 512
#define ASIDE_MAX 8     /* number of foreign files renamed; beyond that, output is dropped */
#define SHORT_LINE 4096 /* bytes: shorter lines are not split between two files */
#define KEEP_OLDER 2    /* files, if an older bertd does not set it */
#define FOLDER_MODE 0700

/* ---- names and opening ---- */

/* "log" for 0, "log.1", ... */
static const char *piece_path(const struct shim_log *log, unsigned i, char buffer[PATH_MAX]) {
        (void) snprintf(buffer, PATH_MAX, i > 0 ? "%s.%u" : "%s", log->path, i);
        return buffer;
}

/* Renames a foreign file to "log.aside-1", ... */
static bool set_aside(const char *path) {
        char aside[PATH_MAX];

        for (int i = 1; i <= ASIDE_MAX; i++) {
                struct stat st;
                int n = snprintf(aside, sizeof(aside), "%s.aside-%d", path, i);
                if (n > 0 && (size_t) n < sizeof(aside) && lstat(aside, &st) < 0 && errno == ENOENT)
                        return rename(path, aside) == 0;
        }
        return false;
}

/* The folder of `path` and its parent. */
static bool make_folders(const char *path) {
        cleanup_free char *folder = strdup(path);
        char *slash = folder ? strrchr(folder, '/') : NULL;

        if (!slash || slash == folder)
                return false;
        *slash = '\0';
        if (mkdir(folder, FOLDER_MODE) == 0)
                return true;
        char *above = errno == ENOENT ? strrchr(folder, '/') : NULL;
        if (!above || above == folder)
                return false;
        *above = '\0';
        if (mkdir(folder, FOLDER_MODE) < 0)
                return false;
        *above = '/';
        return mkdir(folder, FOLDER_MODE) == 0;
}

/* Opens a regular file; follows no link and does not block on a FIFO. −errno; −EINVAL: not a regular file. */
static int open_regular(const char *path, int flags, struct stat *ret) {
        cleanup_close int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640);

        if (fd < 0)
                return errno == EISDIR || errno == ELOOP || errno == ENXIO ? -EINVAL : -errno;
        if (fstat(fd, ret) < 0)
                return -errno;
        return S_ISREG(ret->st_mode) ? steal_fd(&fd) : -EINVAL;
}

/* The same for writing: creates it if missing, after renaming a foreign file. */
static int open_in_place(const char *path, int flags, struct stat *ret) {
        int fd = open_regular(path, flags | O_WRONLY | O_CREAT, ret);

        if (fd == -ENOENT && make_folders(path))
                fd = open_regular(path, flags | O_WRONLY | O_CREAT, ret);
        else if ((fd == -EINVAL || fd == -EACCES) && set_aside(path))
                fd = open_regular(path, flags | O_WRONLY | O_CREAT, ret);
        return fd;
}

static void open_file(struct shim_log *log) {
        struct stat st = {};
        int fd = open_in_place(log->path, O_APPEND, &st);

        log->fd = MAX(fd, -1);
        log->size = fd >= 0 ? (uint64_t) st.st_size : 0;
        if (fd < 0)
                errno = -fd;
}

int shim_log_open(struct shim_log *log, const char *path, uint64_t max_bytes, unsigned keep, struct error *error) {
        keep = keep == 0 ? KEEP_OLDER : MIN(keep, BERTD_LOG_KEEP_MAX);
        *log = (struct shim_log) { .fd = -1,
                                   .keep = keep,
                                   .piece = MAX(max_bytes, (uint64_t) BERTD_LOG_SIZE_MIN) / keep };
        log->path = strdup(path);
        log->tail = malloc(SHIM_TAIL_BYTES);
        if (!log->path || !log->tail)
                return error_errno(error, ENOMEM, "%s", path);
        open_file(log);
        return 0;
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

/* Returns the number of bytes written; errno is set if less than `size`. */
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

__attribute__((format(printf, 3, 0))) static size_t note_text(char *buffer, size_t size, const char *format,
                                                              va_list ap) {
        size_t n = (size_t) snprintf(buffer, size, "bertd: ");

        (void) vsnprintf(buffer + n, size - n - 1, format, ap);
        n = strlen(buffer);
        buffer[n] = '\n';
        return n + 1;
}

/* A note about the files; goes into the current file only. The output before it may end within a line. */
__attribute__((format(printf, 2, 3))) static void put_note(struct shim_log *log, const char *format, ...) {
        char text[NOTE_MAX] = "\n";
        bool within = log->size > 0 ? log->within : log->older_within;
        va_list ap;

        va_start(ap, format);
        size_t n = note_text(text + within, sizeof(text) - 1, format, ap);
        va_end(ap);
        (void) put(log, text, n + within);
        log->within = false;
}

/* Notes lost bytes once the disk has space. False: not yet. */
static bool note_dropped(struct shim_log *log) {
        char note[NOTE_MAX];

        if (log->dropped == 0)
                return true;
        int n = snprintf(note, sizeof(note), "\nbertd: %" PRIu64 " bytes of output are missing here: %s\n",
                         log->dropped, strerror(log->dropped_errno));
        size_t done = put(log, note, (size_t) n);
        if (done < (size_t) n) {
                if (done > 0 && log->fd >= 0 && ftruncate(log->fd, (off_t) (log->size - done)) == 0)
                        log->size -= done; /* removes a partial note */
                return false;
        }
        log->dropped = 0;
        return true;
}

/* The disk is still full: overwrites the last bytes with the note. */
static void note_over_end(struct shim_log *log) {
        char note[NOTE_MAX];
        struct stat st;
        int flags = fcntl(log->fd, F_GETFL);

        /* The overwritten bytes are missing as well. */
        int n = snprintf(note, sizeof(note), "\nbertd: %" PRIu64 " bytes of output are missing here: %s\n",
                         log->dropped + NOTE_MAX, strerror(log->dropped_errno));
        if (flags < 0 || fstat(log->fd, &st) < 0 || st.st_size < NOTE_MAX ||
            fcntl(log->fd, F_SETFL, flags & ~O_APPEND) < 0 ||
            pwrite(log->fd, note, (size_t) n, st.st_size - NOTE_MAX) < n)
                return;
        (void) !ftruncate(log->fd, st.st_size - NOTE_MAX + n);
}

void shim_log_close(struct shim_log *log) {
        if (log->fd >= 0 && log->dropped > 0 && !note_dropped(log))
                note_over_end(log);
        if (log->fd >= 0)
                (void) close(log->fd);
        free(log->path);
        free(log->tail);
        *log = (struct shim_log) { .fd = -1 };
}

/* ---- rotation ---- */

/* Opens log.first with space reserved for the note after its output; -1: failed. */
static int open_first(struct shim_log *log) {
        cleanup_free char *path = format_string("%s.first", log->path);
        struct stat st = {};
        cleanup_close int fd = path ? open_in_place(path, O_APPEND, &st) : -1;

        if (fd < 0)
                return -1;
        log->first = MIN(log->first, (uint64_t) st.st_size); /* somebody may have truncated it */
        return ftruncate(fd, (off_t) log->first) == 0 ? steal_fd(&fd) : -1;
}

/* Appends the note of dropped bytes to log.first. */
static void keep_first(struct shim_log *log, const char *data, size_t size, uint64_t dropped) {
        char note[NOTE_MAX], at[32];
        time_t now = time(NULL);
        struct tm tm;
        cleanup_close int fd = open_first(log);
        ssize_t n = fd >= 0 && size > 0 ? write(fd, data, size) : 0;

        if (n > 0) {
                log->first += (uint64_t) n;
                log->first_end = data[n - 1];
        }
        log->rotated_away += dropped + size - (size_t) MAX(n, 0);
        log->first_whole = log->first_whole || log->rotated_away > 0 || log->first >= BERTD_LOG_FIRST;
        if (fd < 0 || log->rotated_away == 0 || !gmtime_r(&now, &tm) ||
            strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                return;
        int length = snprintf(note, sizeof(note), "%sbertd: %" PRIu64 " " BERTD_LOG_DROPPED " %s\n",
                              log->first > 0 && log->first_end != '\n' ? "\n" : "", log->rotated_away, at);
        if (write(fd, note, (size_t) length) < length)
                (void) !ftruncate(fd, (off_t) log->first); /* removes a partial note */
}

/* Readers see log.busy meanwhile; without space for it they may miss this drop. */
static void set_busy(const struct shim_log *log, bool busy) {
        cleanup_free char *path = format_string("%s.busy", log->path);
        struct stat st;

        if (path && busy)
                cleanup_close_p(&(int) { open_regular(path, O_WRONLY | O_CREAT, &st) });
        else if (path)
                (void) unlink(path);
}

/* Moves the beginning to log.first when its disk space is free. */
static void drop_file(struct shim_log *log, unsigned i) {
        char path[PATH_MAX];
        struct stat st;

        if (lstat(piece_path(log, i, path), &st) < 0 || !S_ISREG(st.st_mode))
                return;
        size_t want = log->first_whole ? 0 : MIN(BERTD_LOG_FIRST - log->first, (uint64_t) st.st_size), n = 0;
        cleanup_free char *data = want > 0 ? malloc(want) : NULL;
        cleanup_close int fd = data ? open_regular(path, O_RDONLY, &st) : -1;
        if (fd >= 0)
                n = (size_t) MAX(pread(fd, data, want, 0), 0);
        set_busy(log, true);
        if (unlink(path) == 0)
                keep_first(log, data, n, (uint64_t) st.st_size - n);
        set_busy(log, false);
}

/* log.i-1 becomes log.i. */
static bool shift(struct shim_log *log, unsigned i) {
        char from[PATH_MAX], to[PATH_MAX];
        struct stat st;

        if (lstat(piece_path(log, i, to), &st) == 0)
                (void) set_aside(to); /* a foreign folder */
        return rename(piece_path(log, i - 1, from), to) == 0 || errno == ENOENT;
}

/* If files cannot be renamed, this one grows up to the total bound, so that the newest output is not lost. */
static void rotate(struct shim_log *log) {
        bool turned = true;

        drop_file(log, log->keep - 1);
        for (unsigned i = log->keep - 1; i > 0; i--)
                turned = shift(log, i);
        if (turned) {
                log->older_within = log->within;
                if (log->fd >= 0)
                        (void) close(log->fd);
                open_file(log);
        }
        uint64_t size = log->size;
        if (size >= log->piece * log->keep && ftruncate(log->fd, 0) == 0) {
                log->size = 0;
                put_note(log, "%" PRIu64 " bytes of older output were dropped: the log cannot be renamed", size);
        }
}

/* ---- changes by others ---- */

/* Whether the open file no longer has its name. False if the name cannot be checked. */
static bool is_elsewhere(const struct shim_log *log, const struct stat *own) {
        struct stat there;

        if (own->st_nlink == 0)
                return true;
        if (lstat(log->path, &there) < 0)
                return errno == ENOENT || errno == ENOTDIR;
        return there.st_dev != own->st_dev || there.st_ino != own->st_ino;
}

/* Output to a file without a name would be invisible and grow without bound. */
static void begin_anew(struct shim_log *log, const struct stat *own) {
        uint64_t size = (uint64_t) own->st_size;

        (void) close(log->fd);
        open_file(log);
        if (own->st_nlink == 0)
                put_note(log, "the log was removed: %" PRIu64 " bytes of older output were dropped with it", size);
        else
                put_note(log, "the log was moved or replaced: %" PRIu64 " bytes of older output went with it", size);
}

void shim_log_look(struct shim_log *log) {
        struct stat own;

        if (log->fd < 0)
                open_file(log);
        if (log->fd >= 0 && fstat(log->fd, &own) == 0) {
                if (is_elsewhere(log, &own))
                        begin_anew(log, &own);
                else if ((uint64_t) own.st_size < log->size) {
                        uint64_t gone = log->size - (uint64_t) own.st_size;
                        log->size = (uint64_t) own.st_size;
                        put_note(log, "the log was truncated: %" PRIu64 " bytes of older output were dropped", gone);
                } else
                        log->size = (uint64_t) own.st_size; /* others may have written to it */
        }
        (void) note_dropped(log);
}

/* ---- writing ---- */

/* How much of the data goes into this file: whole lines up to its bound; only long lines are split. */
static size_t room(const struct shim_log *log, const char *data, size_t size) {
        size_t space = log->piece > log->size ? (size_t) MIN(log->piece - log->size, (uint64_t) size) : 0;
        const char *newline = space < size && space > 0 ? memrchr(data, '\n', space) : NULL;

        if (newline)
                return (size_t) (newline - data) + 1;
        return space < size && space < SHORT_LINE && !log->within ? 0 : space;
}

void shim_log_write(struct shim_log *log, const char *data, size_t size) {
        keep_tail(log, data, size);
        shim_log_look(log);
        while (size > 0) {
                size_t n = room(log, data, size);
                if (n == 0) {
                        rotate(log);
                        n = room(log, data, size);
                }
                n = n > 0 ? n : size; /* rotation failed */
                size_t done = note_dropped(log) ? put(log, data, n) : 0;
                log->within = done > 0 && data[done - 1] != '\n';
                if (done < n) {
                        log->dropped_errno = errno;
                        log->dropped += size - done;
                        return;
                }
                data += n;
                size -= n;
        }
}

void shim_log_note(struct shim_log *log, const char *format, ...) {
        char text[NOTE_MAX];
        va_list ap;

        va_start(ap, format);
        shim_log_write(log, text, note_text(text, sizeof(text), format, ap));
        va_end(ap);
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
