/*
 * See copies.h. The receiver opens nothing but the folder itself through a link: everything below it by descriptors
 * with O_NOFOLLOW. Invariant: while it stores it holds the marker's lock, so one writer of a temporary name.
 */
#include "common/copies.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/hex.h"
#include "common/json_read.h"

#define LINE_MAX_BYTES 16384
#define LINES_SKIPPED_MAX 1000 /* a .bashrc's, before the first answer */
#define BLOCK_BYTES ((size_t) 1 << 18)
#define ENTRIES_MAX 20000
#define OTHER_NAME "bertd.json"

static void cleanup_json_p(json_t **json) { json_decref(*json); }
#define cleanup_json cleanup(cleanup_json_p)

/* ---- bytes ---- */

static int wait_for(int fd, short events) {
        struct pollfd p = { .fd = fd, .events = events };
        int r;

        do
                r = poll(&p, 1, COPIES_SILENCE_SEC * 1000);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

/* At least one byte; 0: end of file. */
static ssize_t read_some(int fd, void *to, size_t size) {
        int r = wait_for(fd, POLLIN);
        ssize_t n = r < 0 ? r : read(fd, to, size);

        return r < 0 ? r : n < 0 ? -errno : n;
}

static int read_exactly(int fd, char *to, size_t size) {
        while (size > 0) {
                ssize_t n = read_some(fd, to, size);
                if (n == -EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? (int) n : -EPIPE;
                to += n;
                size -= (size_t) n;
        }
        return 0;
}

static int write_out(int fd, const char *from, size_t size) {
        while (size > 0) {
                int r = wait_for(fd, POLLOUT);
                ssize_t n = r < 0 ? r : write(fd, from, MIN(size, (size_t) PIPE_BUF));
                if (r < 0 || (n < 0 && errno != EINTR))
                        return r < 0 ? r : -errno;
                from += MAX(n, (ssize_t) 0);
                size -= (size_t) MAX(n, (ssize_t) 0);
        }
        return 0;
}

/* Byte by byte: what follows a line is not a line. 1; 0: end of file. */
static int read_line(int fd, char line[LINE_MAX_BYTES]) {
        for (size_t n = 0; n + 1 < LINE_MAX_BYTES; n++) {
                int r = read_exactly(fd, &line[n], 1);
                if (r < 0)
                        return r == -EPIPE && n == 0 ? 0 : r;
                if (line[n] == '\n') {
                        line[n] = '\0';
                        return 1;
                }
        }
        return -EMSGSIZE;
}

static int write_json(int fd, json_t *object) {
        cleanup_json json_t *owned = object;
        cleanup_free char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
        cleanup_free char *line = text ? format_string("%s\n", text) : NULL;

        return line ? write_out(fd, line, strlen(line)) : -ENOMEM;
}

/* A line. */
static void hex_of(XXH64_hash_t hash, char hex[HEX_64_SIZE + 1]) {
        hex_64(hash, hex);
        hex[HEX_64_SIZE - 1] = '\n';
        hex[HEX_64_SIZE] = '\0';
}

/* ---- the receiver: what is asked ---- */

struct request {
        json_t *json; /* owns the texts */
        const char *folder, *of, *name;
        uint64_t size, modified_usec;
        uint32_t keep;
};

static bool is_checkpoint(const char *name) {
        uint64_t step;
        return checkpoint_name_read(name, &step);
}

static bool take_number(const json_t *object, const char *key, uint64_t most, uint64_t *ret) {
        const json_t *value = json_object_get(object, key);

        if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t) json_integer_value(value) > most)
                return false;
        *ret = (uint64_t) json_integer_value(value);
        return true;
}

static int read_request(const char *line, struct request *ret, struct error *error) {
        json_error_t why;
        uint64_t keep = 0;

        ret->json = json_read(line, strlen(line), 0, &why);
        ret->folder = json_text_at(ret->json, "folder");
        ret->of = json_text_at(ret->json, "of");
        ret->name = json_text_at(ret->json, "name");
        if (!ret->folder || !ret->of || !ret->name || !take_number(ret->json, "size", INT64_MAX, &ret->size) ||
            !take_number(ret->json, "modified", INT64_MAX, &ret->modified_usec) ||
            !take_number(ret->json, "keep", UINT32_MAX, &keep) || keep == 0)
                return error_set(error, EINVAL, "not a request for a copy: is bertd there of the same version?");
        ret->keep = (uint32_t) keep;
        if (!is_checkpoint(ret->name) && strcmp(ret->name, OTHER_NAME) != 0)
                return error_set(error, EINVAL, "%.64s: expected " OTHER_NAME " or the name of a checkpoint",
                                 ret->name);
        if (ret->folder[0] != '/' || !path_is_below(ret->folder, "/"))
                return error_set(error, EINVAL, "%.200s: expected an absolute path without '..'", ret->folder);
        return 0;
}

/* ---- the receiver: where it goes ---- */

struct place {
        int folder, inner, marker; /* inner: where the file goes */
};

static void close_place(struct place *place) {
        cleanup_close_p(&place->folder);
        cleanup_close_p(&place->marker);
        cleanup_close_p(&place->inner);
}

static bool is_empty(int folder) {
        int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_closedir DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        const struct dirent *entry = NULL;

        if (!dir && copy >= 0)
                (void) close(copy);
        while (dir && (entry = readdir(dir)) && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0))
                ;
        return dir && !entry;
}

static int open_marker(const struct request *q, int folder, struct error *error) {
        int fd = openat(folder, COPIES_MARKER, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT && !is_empty(folder))
                return error_set(error, ENOTEMPTY,
                                 "%.200s: not empty, and without " COPIES_MARKER ": name a new folder for copies",
                                 q->folder);
        if (fd < 0 && errno == ENOENT)
                fd = openat(folder, COPIES_MARKER, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        return fd < 0 ? error_errno(error, errno, "%.200s/" COPIES_MARKER, q->folder) : fd;
}

/* Whose copies the folder has; a marker that was not written yet is this run's. */
static int check_marker(const struct request *q, int marker, struct error *error) {
        char text[LINE_MAX_BYTES];
        json_error_t why;

        if (flock(marker, LOCK_EX | LOCK_NB) < 0)
                return error_set(error, EBUSY, "%.200s: another copy is being received", q->folder);
        ssize_t n = pread(marker, text, sizeof(text) - 1, 0);
        if (n < 0)
                return error_errno(error, errno, "%.200s/" COPIES_MARKER, q->folder);
        if (n == 0) {
                int r = write_json(marker, json_pack("{s:s}", "of", q->of));
                return r < 0 ? error_errno(error, -r, "%.200s/" COPIES_MARKER, q->folder) : 0;
        }
        cleanup_json json_t *json = json_read(text, (size_t) n, 0, &why);
        const char *of = json_text_at(json, "of");
        if (of && strcmp(of, q->of) == 0)
                return 0;
        return error_set(error, EEXIST,
                         "%.200s: has the copies of %.200s; give each run a separate folder, or remove "
                         "%.200s/" COPIES_MARKER,
                         q->folder, of ? of : "another run", q->folder);
}

static int check_heartbeat(const struct request *q, int folder, struct error *error) {
        struct stat st;

        if (fstatat(folder, COPIES_HEARTBEAT, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            time(NULL) - st.st_mtim.tv_sec >= COPIES_HEARTBEAT_FRESH_SEC)
                return 0;
        return error_set(error, EBUSY, "%.200s: a run lives in this folder; name another one for copies", q->folder);
}

static int open_inner(const struct request *q, int folder, struct error *error) {
        if (!is_checkpoint(q->name))
                return openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (mkdirat(folder, "checkpoints", 0777) < 0 && errno != EEXIST)
                return error_errno(error, errno, "%.200s/checkpoints", q->folder);
        int fd = openat(folder, "checkpoints", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? error_errno(error, errno, "%.200s/checkpoints", q->folder) : fd;
}

static int open_place(const struct request *q, struct place *place, struct error *error) {
        if (mkdir(q->folder, 0777) < 0 && errno != EEXIST)
                return error_errno(error, errno, "%.200s", q->folder);
        place->folder = open(q->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (place->folder < 0)
                return error_errno(error, errno, "%.200s", q->folder);
        int r = check_heartbeat(q, place->folder, error);
        if (r >= 0)
                r = place->marker = open_marker(q, place->folder, error);
        if (r >= 0)
                r = check_marker(q, place->marker, error);
        if (r >= 0)
                r = place->inner = open_inner(q, place->folder, error);
        return MIN(r, 0);
}

static uint64_t modified_usec(const struct stat *st) {
        return (uint64_t) MAX(st->st_mtim.tv_sec, 0) * USEC_PER_SEC + (uint64_t) st->st_mtim.tv_nsec / 1000;
}

static bool has_it(const struct request *q, const struct place *place) {
        struct stat st;

        return fstatat(place->inner, q->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
               (uint64_t) st.st_size == q->size && modified_usec(&st) == q->modified_usec;
}

/* ---- the receiver: the bytes ---- */

/* The bytes into fd, with their hash. */
static int take_bytes(int in, int fd, uint64_t size, XXH64_hash_t *ret, struct error *error) {
        cleanup_free char *block = malloc(BLOCK_BYTES);
        XXH64_state_t *state = XXH64_createState();
        int r = block && state ? 0 : error_errno(error, ENOMEM, "copy");

        if (r >= 0)
                (void) XXH64_reset(state, 0);
        for (uint64_t left = size; r >= 0 && left > 0;) {
                ssize_t n = read_some(in, block, (size_t) MIN(left, (uint64_t) BLOCK_BYTES));
                if (n == -EINTR)
                        continue;
                if (n <= 0) {
                        r = n < 0 ? error_errno(error, (int) -n, "copy") : error_set(error, EPIPE, "the sender ended");
                        break;
                }
                (void) XXH64_update(state, block, (size_t) n);
                int w = write_all(fd, block, (size_t) n);
                if (w < 0)
                        r = error_errno(error, -w, "copy");
                left -= (uint64_t) n;
        }
        if (r >= 0)
                *ret = XXH64_digest(state);
        XXH64_freeState(state);
        return r;
}

static int check_hash(int in, XXH64_hash_t hash, struct error *error) {
        char own[18], its[18] = "";

        hex_of(hash, own);
        int r = read_exactly(in, its, 17);
        if (r < 0)
                return error_errno(error, -r, "copy");
        return memcmp(own, its, 17) == 0 ? 0 : error_set(error, EIO, "the copy arrived damaged");
}

static int finish(const struct request *q, const struct place *place, const char *temporary, int fd,
                  struct error *error) {
        struct timespec t = { .tv_sec = (time_t) (q->modified_usec / USEC_PER_SEC),
                              .tv_nsec = (long) (q->modified_usec % USEC_PER_SEC) * 1000 };

        if (futimens(fd, (struct timespec[2]) { t, t }) < 0 || fsync(fd) < 0 ||
            renameat(place->inner, temporary, place->inner, q->name) < 0 || fsync(place->inner) < 0 ||
            fsync(place->folder) < 0)
                return error_errno(error, errno, "%.200s/%s", q->folder, q->name);
        return 0;
}

static int store(int in, const struct request *q, const struct place *place, struct error *error) {
        char temporary[PATH_MAX];
        XXH64_hash_t hash = 0;

        (void) snprintf(temporary, sizeof(temporary), "%s.tmp", q->name);
        cleanup_close int fd =
                openat(place->inner, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0)
                return error_errno(error, errno, "%.200s/%s", q->folder, temporary);
        int r = take_bytes(in, fd, q->size, &hash, error);
        if (r >= 0)
                r = check_hash(in, hash, error);
        if (r >= 0)
                r = finish(q, place, temporary, fd, error);
        else
                (void) error_prefix(error, "%.200s/%s", q->folder, q->name);
        if (r < 0)
                (void) unlinkat(place->inner, temporary, 0);
        return r;
}

/* ---- the receiver: retention ---- */

struct kept {
        uint64_t modified_usec, step;
};

static int newest_first(const void *a, const void *b) {
        const struct kept *x = a, *y = b;
        return (x->modified_usec < y->modified_usec) - (x->modified_usec > y->modified_usec);
}

/* Of a receiver that was killed; the lock is held, so no other writes it. */
static bool is_leftover(const char *name) {
        size_t n = strlen(name);
        cleanup_free char *whole = n > 4 && strcmp(name + n - 4, ".tmp") == 0 ? strndup(name, n - 4) : NULL;

        return whole && is_checkpoint(whole);
}

/* By time, not by step: a run that went back to an older checkpoint wrote what counts later. */
static void prune(const struct request *q, const struct place *place) {
        int copy = openat(place->inner, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_closedir DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        cleanup_free struct kept *list = calloc(ENTRIES_MAX, sizeof(*list));
        const struct dirent *entry;
        size_t n = 0;

        if (!dir && copy >= 0)
                (void) close(copy);
        while (dir && list && n < ENTRIES_MAX && (entry = readdir(dir))) {
                struct stat st;
                if (is_leftover(entry->d_name))
                        (void) unlinkat(place->inner, entry->d_name, 0);
                if (strcmp(entry->d_name, q->name) != 0 && checkpoint_name_read(entry->d_name, &list[n].step) &&
                    fstatat(place->inner, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        list[n++].modified_usec = modified_usec(&st);
        }
        if (n > 0)
                qsort(list, n, sizeof(*list), newest_first);
        for (size_t i = q->keep - 1; i < n; i++) {
                char name[64];
                (void) snprintf(name, sizeof(name), CHECKPOINT_NAME, list[i].step);
                (void) unlinkat(place->inner, name, 0);
        }
}

/* ---- the receiver ---- */

static int answer(int out, const char *type, struct error *error) {
        int r = write_json(out, json_pack("{s:s}", "type", type));
        return r < 0 ? error_errno(error, -r, "answer") : 0;
}

/* 1: stored, 0: it existed. `why`: of the request; `error`: of the pipes. */
static int take(int in, int out, const struct request *q, struct place *place, struct error *why) {
        int r = open_place(q, place, why);

        if (r < 0)
                return r;
        if (has_it(q, place))
                return answer(out, "have", why);
        r = answer(out, "send", why);
        if (r >= 0)
                r = store(in, q, place, why);
        if (r < 0)
                return r;
        if (is_checkpoint(q->name))
                prune(q, place);
        return answer(out, "stored", why);
}

/* After a refusal the sender's bytes may be on their way: nothing more is read. */
static int receive_one(int in, int out, const char *line, struct error *error) {
        struct place place = { -1, -1, -1 };
        struct request q = {};
        struct error why = {};

        int r = read_request(line, &q, &why);
        if (r >= 0)
                r = take(in, out, &q, &place, &why);
        close_place(&place);
        json_decref(q.json);
        if (r >= 0)
                return 0;
        r = write_json(out, json_pack("{s:s,s:s}", "type", "refused", "reason", why.text));
        if (error)
                *error = why;
        return r < 0 ? r : -why.code;
}

int copies_receive(int in, int out, struct error *error) {
        cleanup_free char *line = malloc(LINE_MAX_BYTES);
        int r = line ? 1 : error_errno(error, ENOMEM, "copy");

        while (r > 0) {
                r = read_line(in, line);
                if (r > 0)
                        r = receive_one(in, out, line, error) < 0 ? -1 : 1;
                else if (r < 0)
                        (void) error_errno(error, -r, "standard input");
        }
        return r < 0 ? -(error && error->code > 0 ? error->code : EIO) : 0;
}

/* ---- the sender ---- */

/* Of another host: no control character of its words goes further. */
static int refused(const json_t *json, struct error *error) {
        const char *reason = json_text_at(json, "reason");
        char text[512];

        (void) snprintf(text, sizeof(text), "%s", reason ? reason : "no answer that bertctl would give");
        for (char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        *p = '?';
        return error_set(error, EREMOTEIO, "%s", text);
}

/* The type of the next answer, 's'end, s't'ored or 'h'ave. */
static int read_answer(int in, struct error *error) {
        cleanup_free char *line = malloc(LINE_MAX_BYTES);
        json_error_t why;
        int r = line ? 1 : -ENOMEM;

        for (unsigned i = 0; r > 0 && i < LINES_SKIPPED_MAX; i++) {
                r = read_line(in, line);
                if (r > 0 && line[0] == '{')
                        break;
        }
        if (r <= 0)
                return r < 0 ? error_errno(error, -r, "no answer") : error_set(error, EPIPE, "the receiver ended");
        cleanup_json json_t *json = json_read(line, strlen(line), 0, &why);
        const char *type = json_text_at(json, "type");
        if (type && (strcmp(type, "send") == 0 || strcmp(type, "have") == 0))
                return type[0];
        return type && strcmp(type, "stored") == 0 ? 't' : refused(json, error);
}

static int send_bytes(int out, int fd, uint64_t size, struct error *error) {
        cleanup_free char *block = malloc(BLOCK_BYTES);
        XXH64_state_t *state = XXH64_createState();
        char hex[HEX_64_SIZE + 1];
        int r = block && state ? 0 : -ENOMEM;

        if (r >= 0)
                (void) XXH64_reset(state, 0);
        for (uint64_t left = size; r >= 0 && left > 0;) {
                ssize_t n = read(fd, block, (size_t) MIN(left, (uint64_t) BLOCK_BYTES));
                if (n <= 0) {
                        r = n < 0 ? -errno : -EIO; /* it became shorter */
                        break;
                }
                (void) XXH64_update(state, block, (size_t) n);
                r = write_out(out, block, (size_t) n);
                left -= (uint64_t) n;
        }
        if (r >= 0) {
                hex_of(XXH64_digest(state), hex);
                r = write_out(out, hex, HEX_64_SIZE);
        }
        XXH64_freeState(state);
        return r == -EPIPE || r >= 0 ? 0 : error_errno(error, -r, "copy"); /* the receiver's answer has the reason */
}

static const char *name_of(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

static int ask(int out, const struct copies_file *f, const struct stat *st, struct error *error) {
        int r = write_json(out, json_pack("{s:s,s:s,s:s,s:I,s:I,s:I}", "folder", f->folder, "of", f->of, "name",
                                          name_of(f->path), "size", (json_int_t) st->st_size, "modified",
                                          (json_int_t) modified_usec(st), "keep", (json_int_t) f->keep));

        return r < 0 && r != -EPIPE ? error_errno(error, -r, "copy") : 0;
}

int copies_send(int in, int out, const struct copies_file *f, struct error *error) {
        cleanup_close int fd = open(f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 && errno == ENOENT && !is_checkpoint(name_of(f->path)))
                return 0;
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_errno(error, errno, "%.200s", f->path);
        if (!S_ISREG(st.st_mode))
                return error_set(error, EINVAL, "%.200s: not a file", f->path);
        int r = ask(out, f, &st, error);
        if (r >= 0)
                r = read_answer(in, error);
        if (r < 0 || r == 'h')
                return MIN(r, 0);
        r = send_bytes(out, fd, (uint64_t) st.st_size, error);
        if (r >= 0)
                r = read_answer(in, error);
        return r < 0 ? r : 1;
}
