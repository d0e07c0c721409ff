/*
 * See log_files.h. The shim renames from the newest to the oldest name, so files are opened from the newest name to the
 * oldest: one that is renamed meanwhile is met twice, never missed. log.first and log.busy show whether one was dropped
 * meanwhile.
 */
#include "ctl/log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/format.h"

#define BLOCK 65536
#define TRIES 100 /* at a set of files that holds still */
#define PAUSE_NSEC 10000000
#define NOTE_BYTES 256 /* at most, of the line that ends log.first */

/* ---- opening ---- */

static int open_one(const char *path, const char *suffix, struct log_file *ret) {
        char name[PATH_MAX];
        struct stat st;
        cleanup_close int fd = -1;

        if (snprintf(name, sizeof(name), "%s%s", path, suffix) >= (int) sizeof(name))
                return -ENAMETOOLONG;
        fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        *ret = (struct log_file) { steal_fd(&fd), st.st_dev, st.st_ino, st.st_size, st.st_mtim };
        return 0;
}

static bool is_same(const struct log_file *a, const struct log_file *b) {
        return a->device == b->device && a->inode == b->inode;
}

/* One that is no longer written to: its inode's number alone may be another's by now. */
static bool is_unchanged(const struct log_file *a, const struct log_file *b) {
        return is_same(a, b) && a->size == b->size && a->written.tv_sec == b->written.tv_sec &&
               a->written.tv_nsec == b->written.tv_nsec;
}

/* The line that ends log.first. */
static void read_dropped(const struct log_file *first, struct log_files *ret) {
        char text[NOTE_BYTES + 1];
        off_t from = first->size > NOTE_BYTES ? first->size - NOTE_BYTES : 0;
        ssize_t n = pread(first->fd, text, NOTE_BYTES, from);
        struct tm tm = {};

        ret->beginning = (uint64_t) first->size;
        if (n < 2 || text[n - 1] != '\n')
                return;
        text[n - 1] = '\0';
        const char *line = strrchr(text, '\n'), prefix[] = "bertd: ";
        line = line ? line + 1 : text;
        if (strncmp(line, prefix, strlen(prefix)) != 0)
                return;
        char *words;
        uint64_t dropped = strtoull(line + strlen(prefix), &words, 10);
        if (strncmp(words, " " BERTD_LOG_DROPPED " ", strlen(BERTD_LOG_DROPPED) + 2) != 0)
                return;
        ret->dropped = dropped;
        ret->beginning = MIN((uint64_t) (from + (line - text)), (uint64_t) BERTD_LOG_FIRST);
        if (strptime(words + strlen(BERTD_LOG_DROPPED) + 2, "%Y-%m-%dT%H:%M:%SZ", &tm))
                ret->dropped_usec = (uint64_t) timegm(&tm) * USEC_PER_SEC;
}

/* Where in the output the oldest file begins, by log.first; UINT64_MAX: that is being changed. */
static uint64_t find_oldest(const char *path) {
        struct log_files files = {};
        struct log_file first = { .fd = -1 };

        if (open_one(path, ".busy", &first) == 0) {
                (void) close(first.fd);
                return UINT64_MAX;
        }
        if (open_one(path, ".first", &first) < 0)
                return 0;
        read_dropped(&first, &files);
        (void) close(first.fd);
        return files.beginning + files.dropped;
}

static void add(struct log_files *files, const struct log_file *file) {
        for (unsigned i = 0; i < files->n; i++)
                if (is_same(&files->files[i], file)) {
                        (void) close(file->fd);
                        return;
                }
        files->files[files->n++] = *file;
}

static void open_all(const char *path, struct log_files *ret) {
        struct log_file file;
        char suffix[16] = "";

        *ret = (struct log_files) {};
        for (int i = 0; i < BERTD_LOG_KEEP_MAX; i++) {
                if (i > 0)
                        (void) snprintf(suffix, sizeof(suffix), ".%d", i);
                int r = open_one(path, suffix, &file);
                if (r == 0)
                        add(ret, &file);
                else if (i == 0)
                        ret->missing = r;
        }
        ret->first = open_one(path, ".first", &file) == 0;
        if (ret->first) {
                read_dropped(&file, ret);
                add(ret, &file);
        }
        for (unsigned i = 0; i < ret->n / 2; i++) {
                file = ret->files[i];
                ret->files[i] = ret->files[ret->n - 1 - i];
                ret->files[ret->n - 1 - i] = file;
        }
}

/* Of files that were renamed twice between two openings the newer one may be found behind the older one. */
static bool turned(const char *path, const struct log_files *files) {
        struct log_file newest;

        if (files->missing)
                return files->missing == -ENOENT && files->n > 0; /* renamed, and not yet made again */
        if (open_one(path, "", &newest) < 0)
                return true;
        (void) close(newest.fd);
        return !is_same(&newest, &files->files[files->n - 1]);
}

int log_files_open(const char *path, struct log_files *ret) {
        for (int i = 0;; i++) {
                uint64_t before = find_oldest(path);
                open_all(path, ret);
                if ((before != UINT64_MAX && !turned(path, ret) && find_oldest(path) == before) || i == TRIES)
                        return ret->n > 0 ? 0 : ret->missing;
                log_files_close(ret);
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = PAUSE_NSEC }, NULL);
        }
}

void log_files_close(struct log_files *files) {
        for (unsigned i = 0; i < files->n; i++)
                cleanup_close_p(&files->files[i].fd);
        files->n = 0;
}

/* ---- printing ---- */

static int output_error(struct error *error) {
        return error_input(error, BERTCTL_EXIT_FAILED, "standard output: %s", strerror(errno));
}

static int put(const char *data, size_t size, struct error *error) {
        return fwrite(data, 1, size, stdout) == size ? 0 : output_error(error);
}

/* Of each line the text after its last carriage return that has some. */
struct last_state {
        char text[BLOCK]; /* a longer one is passed on in parts */
        size_t n;
        bool returned; /* a carriage return came after the text */
};

static int put_last(struct last_state *s, const char *data, size_t size, struct error *error) {
        int r = 0;

        for (size_t i = 0; i < size && r == 0; i++) {
                if (data[i] == '\r') {
                        s->returned = true;
                        continue;
                }
                if (s->returned && data[i] != '\n')
                        s->n = 0;
                s->returned = false;
                s->text[s->n++] = data[i];
                if (data[i] == '\n' || s->n == sizeof(s->text)) {
                        r = put(s->text, s->n, error);
                        s->n = 0;
                }
        }
        return r;
}

/* The current line so far; later output may overwrite it. */
static int put_rest(struct last_state *s, bool following, struct error *error) {
        int r = put(s->text, s->n, error);
        return r == 0 && s->returned && following ? put("\r", 1, error) : r;
}

/* log.first is read as it was: what is dropped of the others is added to it meanwhile. */
static off_t end_of(const struct log_files *files, unsigned i) {
        return i == 0 && files->first ? files->files[0].size : INT64_MAX;
}

/* Passes on what there is from the fd's position to the end. */
static int copy_rest(int fd, off_t end, struct last_state *last, struct error *error) {
        char buffer[BLOCK];

        for (;;) {
                off_t left = end - lseek(fd, 0, SEEK_CUR);
                ssize_t n = read(fd, buffer, MIN(sizeof(buffer), (size_t) MAX(left, 0)));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_input(error, BERTCTL_EXIT_FAILED, "reading the log: %s", strerror(errno));
                if (n == 0)
                        return 0;
                int r = last ? put_last(last, buffer, (size_t) n, error) : put(buffer, (size_t) n, error);
                if (r < 0)
                        return r;
        }
}

/* Moves the fd to where its last *lines lines begin, and takes what it has from *lines. `after`: something follows in a
 * newer file. */
static int seek_lines(int fd, off_t end, uint64_t *lines, bool *after) {
        char buffer[BLOCK];
        off_t at = lseek(fd, 0, SEEK_END);

        if (at < 0)
                return -errno;
        at = MIN(at, end);
        while (at > 0 && *lines > 0) {
                off_t start = at > BLOCK ? at - BLOCK : 0;
                ssize_t n = pread(fd, buffer, (size_t) (at - start), start);
                if (n != at - start)
                        return n < 0 ? -errno : -EIO;
                for (ssize_t i = n - 1; i >= 0; i--) {
                        /* The newline that ends all ends the last line: it begins none. */
                        bool begins = buffer[i] == '\n' && *after;
                        *after = true;
                        if (begins && --*lines == 0)
                                return lseek(fd, start + i + 1, SEEK_SET) < 0 ? -errno : 0;
                }
                at = start;
        }
        return *lines > 0 && lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

static int seek_tail(struct log_files *files, uint64_t lines) {
        bool after = false;
        int r = 0;

        for (unsigned i = files->n; r == 0 && i-- > 0;)
                r = seek_lines(files->files[i].fd, end_of(files, i), &lines, &after);
        return r;
}

/* "137 MB", as of disks */
static const char *amount(uint64_t bytes, char buffer[FORMAT_MAX]) {
        static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB", "PB", "EB" };
        double value = (double) bytes;
        unsigned unit = 0;

        for (; value >= 1000; unit++)
                value /= 1000;
        (void) snprintf(buffer, FORMAT_MAX, unit == 0 || value >= 10 ? "%.0f %s" : "%.1f %s", value, units[unit]);
        return buffer;
}

static void put_dropped(const struct log_files *files) {
        char bytes[FORMAT_MAX], when[FORMAT_MAX];

        (void) printf("%s of older output were dropped at %s%s\n", amount(files->dropped, bytes),
                      format_local_time(files->dropped_usec, when),
                      files->beginning > 0 ? ", after the first 1 MB" : "");
}

int log_files_print(struct log_files *files, uint64_t lines, bool following, struct error *error) {
        struct last_state last = {};
        bool all = lines == LOG_ALL_LINES;
        int r = all ? 0 : seek_tail(files, lines);

        if (r < 0)
                return error_input(error, BERTCTL_EXIT_FAILED, "reading the log: %s", strerror(-r));
        if (all && files->dropped > 0)
                put_dropped(files);
        for (unsigned i = 0; i < files->n && r == 0; i++)
                r = copy_rest(files->files[i].fd, end_of(files, i), all ? NULL : &last, error);
        if (r == 0)
                r = put_rest(&last, following, error);
        return r == 0 && fflush(stdout) == EOF ? output_error(error) : r;
}

/* ---- following ---- */

void log_reader_close(struct log_reader *reader) {
        if (reader->fd >= 0)
                (void) close(reader->fd);
        *reader = (struct log_reader) { .fd = -1 };
}

/* The one at `index` is read from now on. */
static void take(struct log_reader *reader, struct log_files *files, unsigned index) {
        log_reader_close(reader);
        reader->begins = files->beginning + files->dropped;
        for (unsigned i = files->first; i < index; i++) {
                reader->seen[reader->n_seen++] = files->files[i];
                reader->begins += (uint64_t) files->files[i].size;
        }
        reader->fd = steal_fd(&files->files[index].fd);
}

/* The bytes read last, which identify a file that was rewritten. */
static void remember(struct log_reader *reader) {
        off_t at = lseek(reader->fd, 0, SEEK_CUR);
        size_t n = MIN((size_t) MAX(at, 0), sizeof(reader->last));
        ssize_t got = pread(reader->fd, reader->last, n, at - (off_t) n);

        reader->n_last = (size_t) MAX(got, 0);
}

void log_reader_begin(struct log_reader *reader, struct log_files *files) {
        if (files->n == 0)
                return;
        take(reader, files, files->n - 1);
        remember(reader);
}

static bool was_written_anew(const struct log_reader *reader) {
        char now[sizeof(reader->last)];
        off_t at = lseek(reader->fd, 0, SEEK_CUR);
        struct stat st;

        if (at < 0 || fstat(reader->fd, &st) < 0)
                return false;
        return st.st_size < at ||
               pread(reader->fd, now, reader->n_last, at - (off_t) reader->n_last) != (ssize_t) reader->n_last ||
               memcmp(now, reader->last, reader->n_last) != 0;
}

static int read_on(struct log_reader *reader, struct error *error) {
        if (was_written_anew(reader))
                (void) lseek(reader->fd, 0, SEEK_SET);
        int r = copy_rest(reader->fd, INT64_MAX, NULL, error);
        remember(reader);
        return r == 0 && fflush(stdout) == EOF ? output_error(error) : r;
}

static bool was_seen(const struct log_reader *reader, const struct log_file *file) {
        for (unsigned i = 0; i < reader->n_seen; i++)
                if (is_unchanged(&reader->seen[i], file))
                        return true;
        return false;
}

/* The index of the file that comes after the one that is read; n: none yet. */
static unsigned find_next(const struct log_reader *reader, const struct log_file *own, const struct log_files *files,
                          bool *ret_lost) {
        for (unsigned i = files->first; i < files->n; i++)
                if (is_same(&files->files[i], own))
                        return i + 1;
        *ret_lost = true;
        for (unsigned i = files->first; i < files->n; i++)
                if (!was_seen(reader, &files->files[i]))
                        return i;
        return files->n;
}

bool log_reader_ends_in_line(const struct log_reader *reader) {
        return reader->n_last > 0 && reader->last[reader->n_last - 1] != '\n';
}

/* Moves to the next file after this one was read completely. Returns 1 if there was one, 0, or −errno. */
static int move_on(struct log_reader *reader, const char *path, struct error *error) {
        cleanup_log_files struct log_files files = {};
        struct stat st;
        bool lost = false;

        (void) log_files_open(path, &files);
        int r = read_on(reader, error);
        if (r < 0 || fstat(reader->fd, &st) < 0)
                return r;
        const struct log_file own = { .device = st.st_dev, .inode = st.st_ino };
        unsigned next = find_next(reader, &own, &files, &lost);
        if (next == files.n)
                return 0;
        uint64_t ends = reader->begins + (uint64_t) st.st_size, oldest = files.beginning + files.dropped;
        if (lost && oldest > ends)
                (void) printf("%sbertctl: %" PRIu64 " bytes of output were dropped before they could be shown\n",
                              log_reader_ends_in_line(reader) ? "\n" : "", oldest - ends);
        take(reader, &files, next);
        return 1;
}

int log_reader_follow(struct log_reader *reader, const char *path, struct error *error) {
        struct log_file newest;
        int r = 1;

        for (int i = 0; i <= BERTD_LOG_KEEP_MAX && r > 0; i++) {
                struct stat st;
                if (open_one(path, "", &newest) == 0) {
                        (void) close(newest.fd);
                        if (fstat(reader->fd, &st) == 0 && st.st_dev == newest.device && st.st_ino == newest.inode)
                                return read_on(reader, error);
                }
                r = move_on(reader, path, error);
        }
        return MIN(r, 0);
}
