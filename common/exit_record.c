/* See exit_record.h. Owns nothing. */
#include "common/exit_record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/names.h"
#include "common/space.h"
#include "common/utf8.h"

#define FORMAT_VERSION 1
#define RESERVED_BYTES 16384
#define NEWS_WRITTEN_MAX 150 /* numbers: the newest 50 files; the next attempt finds the others */
#define NEWS_READ_MAX 12288  /* numbers */

int exit_record_open(int dir_fd, struct error *error) {
        cleanup_close int fd =
                openat(dir_fd, "exit.json.tmp", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
        const int code = errno;
        if (fd < 0)
                return error_set(error, code, "exit.json.tmp: %s", space_text_at(code, dir_fd));
        int r = posix_fallocate(fd, 0, RESERVED_BYTES);
        if (r != 0)
                return error_errno(error, r, "exit.json.tmp");
        return steal_fd(&fd);
}

static void add_optional(json_t *object, const struct exit_record *record) {
        const struct exit_verdict *v = &record->verdict;

        /* Always present: a record without it is from an older shim, whose reason may quote the job. */
        (void) json_object_set_new(object, "private", json_string(v->private[0] ? v->private : v->reason));
        if (v->more[0]) {
                (void) json_object_set_new(object, "more", json_string(v->more));
                (void) json_object_set_new(object, "more_private", json_string(v->more_private));
        }
        if (v->host[0])
                (void) json_object_set_new(object, "host", json_string(v->host));
        if (record->evidence[0])
                (void) json_object_set_new(object, "evidence", json_string(record->evidence));
        if (record->samples_last == 0)
                return;
        (void) json_object_set_new(object, "samples_first", json_integer((json_int_t) record->samples_first));
        (void) json_object_set_new(object, "samples_last", json_integer((json_int_t) record->samples_last));
}

static void add_numbers(json_t *object, const char *key, const uint64_t *numbers, size_t n) {
        json_t *array = n > 0 ? json_array() : NULL;

        for (size_t i = 0; i < n; i++)
                (void) json_array_append_new(array, json_integer((json_int_t) numbers[i]));
        if (array)
                (void) json_object_set_new(object, key, array);
}

char *exit_record_write(const struct exit_record *record) {
        const struct exit_verdict *v = &record->verdict;
        json_t *object =
                json_pack("{s:i, s:I, s:i, s:s, s:i, s:i, s:b, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:s}", "version",
                          FORMAT_VERSION, "job", (json_int_t) record->job, "attempt", (int) record->attempt, "nonce",
                          record->nonce, "exit_code", v->exit_code, "signal", v->signal, "oom", (int) v->oom,
                          "stopped_by", record->requested ? "request" : "none", "first_rank", v->first_rank, "reason",
                          v->reason, "class", exit_class_name((int) v->exit_class), "step", (json_int_t) record->step,
                          "started", (json_int_t) record->started_usec, "ended", (json_int_t) record->ended_usec,
                          "boot_id", record->boot_id);
        if (object) {
                add_optional(object, record);
                add_numbers(object, "found", record->found, MIN(record->n_found, NEWS_WRITTEN_MAX));
                add_numbers(object, "gone", record->gone, MIN(record->n_gone, NEWS_WRITTEN_MAX));
        }
        char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

        json_decref(object);
        return text;
}

int exit_record_commit(int dir_fd, int fd, const char *text, struct error *error) {
        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_errno(error, errno, "exit.json");
        int r = write_all(fd, text, strlen(text));
        if (r < 0)
                return error_errno(error, -r, "exit.json");
        if (ftruncate(fd, (off_t) strlen(text)) < 0 || fsync(fd) < 0 ||
            renameat(dir_fd, "exit.json.tmp", dir_fd, "exit.json") < 0 || fsync(dir_fd) < 0)
                return error_errno(error, errno, "exit.json");
        return 0;
}

/* A list of numbers >= 0; caller frees. NULL: none. */
static uint64_t *read_numbers(const json_t *array, size_t *ret_n) {
        size_t n = MIN(json_array_size(array), (size_t) NEWS_READ_MAX);
        uint64_t *numbers = n > 0 ? calloc(n, sizeof(*numbers)) : NULL;

        for (size_t i = 0; numbers && i < n; i++)
                numbers[i] = (uint64_t) MAX(json_integer_value(json_array_get(array, i)), 0);
        *ret_n = numbers ? n : 0;
        return numbers;
}

/* Into a buffer of `size`, where it is one line that fits. */
static void read_line(char *to, size_t size, const char *text) {
        (void) snprintf(to, size, "%s", strlen(text) < size && text_is_line(text) ? text : "");
}

static void read_verdict_numbers(struct exit_verdict *v, json_int_t exit_code, json_int_t signal, json_int_t rank) {
        v->exit_code = exit_code < 0 || exit_code > 255 ? -1 : (int) exit_code;
        v->signal = signal < 0 || signal > 64 ? 0 : (int) signal;
        v->first_rank = rank >= 0 && rank < BERTD_RANKS_MAX ? (int) rank : -1;
}

/* Without "private" it is an older shim's, whose reason may quote the job. */
static void read_reasons(struct exit_verdict *v, const char *reason, const char *private) {
        read_line(v->reason, sizeof(v->reason), private ? reason : "");
        read_line(v->private, sizeof(v->private), private ? private : reason);
}

static int read_record(json_t *root, struct exit_record *ret, struct error *error) {
        struct exit_verdict *v = &ret->verdict;
        json_int_t version, job, attempt, exit_code, signal, step = 0, rank = -1, first = 0, last = 0;
        const char *nonce, *stopped_by = "none", *reason = "", *private = NULL, *class = "", *host = "", *evidence = "",
                           *more = "", *more_private = "";
        int oom = 0;
        json_error_t e;

        if (json_unpack_ex(root, &e, 0, "{s:I,s:I,s:I,s:s,s:I,s:I,s?b,s?s,s?I,s?s,s?s,s?s,s?s,s?s,s?I,s?s,s?s,s?I,s?I}",
                           "version", &version, "job", &job, "attempt", &attempt, "nonce", &nonce, "exit_code",
                           &exit_code, "signal", &signal, "oom", &oom, "stopped_by", &stopped_by, "first_rank", &rank,
                           "reason", &reason, "private", &private, "more", &more, "more_private", &more_private,
                           "class", &class, "step", &step, "host", &host, "evidence", &evidence, "samples_first",
                           &first, "samples_last", &last) < 0)
                return error_set(error, EBADMSG, "%s", e.text);
        if (version < 1 || (uint64_t) job != ret->job || attempt != ret->attempt || strcmp(nonce, ret->nonce) != 0)
                return error_set(error, EBADMSG, "of another attempt");
        read_verdict_numbers(v, exit_code, signal, rank);
        read_reasons(v, reason, private);
        read_line(v->more, sizeof(v->more), more);
        read_line(v->more_private, sizeof(v->more_private), more_private);
        read_line(v->host, sizeof(v->host), host);
        read_line(ret->evidence, sizeof(ret->evidence), evidence[0] == '/' ? evidence : "");
        int known = exit_class_from_name(class);
        ret->has_class = known >= 0;
        v->exit_class = ret->has_class ? (enum exit_class) known : EXIT_CLASS_FAILED;
        v->oom = oom != 0;
        ret->requested = strcmp(stopped_by, "request") == 0;
        ret->step = (uint64_t) MAX(step, 0);
        bool samples = first >= 0 && last > 0 && last >= first;
        ret->samples_first = samples ? (uint64_t) first : 0;
        ret->samples_last = samples ? (uint64_t) last : 0;
        return 0;
}

int exit_record_read(const char *text, size_t size, struct exit_record *ret, struct error *error) {
        json_error_t e;

        if (size > EXIT_RECORD_MAX)
                return error_errno(error, EFBIG, "%zu bytes", size);
        json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
        if (!root)
                return error_set(error, EBADMSG, "line %d: %s", e.line, e.text);
        int r = read_record(root, ret, error);
        ret->found = r < 0 ? NULL : read_numbers(json_object_get(root, "found"), &ret->n_found);
        ret->gone = r < 0 ? NULL : read_numbers(json_object_get(root, "gone"), &ret->n_gone);
        json_decref(root);
        return r;
}

void exit_record_clear(struct exit_record *record) {
        free(record->found);
        free(record->gone);
        *record = (struct exit_record) {};
}
