/*
 * See safetensors.h. Owns the mapping, the parsed header (names live in it) and the list of tensors.
 * Invariant: every tensor that is handed out has dtype size × shape bytes, and they lie within the mapping.
 */
#include "trainer/hf/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "common/json_read.h"

#define HEADER_MAX UINT64_C(100000000) /* the format's own limit */
#define LENGTH_SIZE 8

struct safetensors {
        char *path;
        const unsigned char *map;
        size_t size;
        json_t *header;
        struct safetensors_tensor *tensors;
        uint32_t n;
};

static const struct dtype_row {
        const char *name;
        size_t size;
        enum safetensors_dtype dtype;
} dtypes[] = {
        { "F64", 8, SAFETENSORS_F64 },    { "F32", 4, SAFETENSORS_F32 },       { "F16", 2, SAFETENSORS_F16 },
        { "BF16", 2, SAFETENSORS_BF16 },  { "I64", 8, SAFETENSORS_OTHER },     { "U64", 8, SAFETENSORS_OTHER },
        { "I32", 4, SAFETENSORS_OTHER },  { "U32", 4, SAFETENSORS_OTHER },     { "I16", 2, SAFETENSORS_OTHER },
        { "U16", 2, SAFETENSORS_OTHER },  { "I8", 1, SAFETENSORS_OTHER },      { "U8", 1, SAFETENSORS_OTHER },
        { "BOOL", 1, SAFETENSORS_OTHER }, { "F8_E4M3", 1, SAFETENSORS_OTHER }, { "F8_E5M2", 1, SAFETENSORS_OTHER },
};

static uint64_t read_le64(const unsigned char *p) {
        uint64_t value = 0;

        for (int i = LENGTH_SIZE - 1; i >= 0; i--)
                value = value << 8 | p[i];
        return value;
}

void safetensors_close(struct safetensors *file) {
        if (!file)
                return;
        if (file->map)
                (void) munmap((void *) file->map, file->size);
        json_decref(file->header);
        free(file->tensors);
        free(file->path);
        free(file);
}

static int map_file(struct safetensors *file, struct error *error) {
        struct stat st;
        cleanup_close int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_errno(error, errno, "%s", file->path);
        if (!S_ISREG(st.st_mode))
                return error_input(error, BERTD_EXIT_DATA, "%s: not a regular file", file->path);
        if (st.st_size < LENGTH_SIZE)
                return error_input(error, BERTD_EXIT_DATA, "%s: %jd bytes, not a safetensors file", file->path,
                                   (intmax_t) st.st_size);
        void *map = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
                return error_errno(error, errno, "%s", file->path);
        file->map = map;
        file->size = (size_t) st.st_size;
        return file_refuse_pointer(file->path, map, file->size, error);
}

static int parse_header(struct safetensors *file, uint64_t *ret_length, struct error *error) {
        uint64_t length = read_le64(file->map);
        json_error_t why;

        if (length > HEADER_MAX || length > file->size - LENGTH_SIZE)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: a header of %" PRIu64 " bytes in a file of %zu: not a whole safetensors file",
                                   file->path, length, file->size);
        file->header = json_read((const char *) file->map + LENGTH_SIZE, (size_t) length, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(file->header))
                return error_input(error, BERTD_EXIT_DATA, "%s: header: %s", file->path,
                                   file->header ? "not a JSON object" : why.text);
        *ret_length = length;
        return 0;
}

static const struct dtype_row *find_dtype(const char *name) {
        for (size_t i = 0; name && i < ELEMENTSOF(dtypes); i++)
                if (strcmp(dtypes[i].name, name) == 0)
                        return &dtypes[i];
        return NULL;
}

/* Bytes of the shape, or false where it is none or too large. */
static bool read_shape(const json_t *shape, size_t element, struct safetensors_tensor *t) {
        uint64_t bytes = element;

        if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX)
                return false;
        t->n_dims = (uint32_t) json_array_size(shape);
        for (uint32_t d = 0; d < t->n_dims; d++) {
                const json_t *n = json_array_get(shape, d);
                if (!json_is_integer(n) || json_integer_value(n) < 0)
                        return false;
                t->shape[d] = (uint64_t) json_integer_value(n);
                if (__builtin_mul_overflow(bytes, t->shape[d], &bytes))
                        return false;
        }
        t->size = (size_t) bytes;
        return true;
}

static int read_tensor(const struct safetensors *file, uint64_t data, const char *name, const json_t *item,
                       struct safetensors_tensor *ret, struct error *error) {
        const json_t *offsets = json_object_get(item, "data_offsets");
        const struct dtype_row *dtype = find_dtype(json_text_at(item, "dtype"));
        struct safetensors_tensor t = { .name = name };

        if (!dtype)
                return error_input(error, BERTD_EXIT_DATA, "%s: tensor %.100s: dtype is missing or not known",
                                   file->path, name);
        t.dtype = dtype->dtype;
        if (!read_shape(json_object_get(item, "shape"), dtype->size, &t))
                return error_input(error, BERTD_EXIT_DATA, "%s: tensor %.100s: not a shape", file->path, name);
        const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
        if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
            json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin) ||
            (uint64_t) json_integer_value(end) > file->size - data ||
            (uint64_t) (json_integer_value(end) - json_integer_value(begin)) != t.size)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: tensor %.100s: data_offsets do not hold its %zu bytes within the file",
                                   file->path, name, t.size);
        t.data = file->map + data + (size_t) json_integer_value(begin);
        *ret = t;
        return 0;
}

static int by_place(const void *a, const void *b) {
        const struct safetensors_tensor *x = a, *y = b;

        if (x->data != y->data)
                return (const char *) x->data < (const char *) y->data ? -1 : 1;
        return (x->size > y->size) - (x->size < y->size);
}

/* Neither holes nor overlaps: bytes that no tensor owns are a way to hide things, and the format forbids them. */
static int check_cover(const struct safetensors *file, uint64_t data, struct error *error) {
        const unsigned char *at = file->map + data;

        for (uint32_t i = 0; i < file->n; i++) {
                const struct safetensors_tensor *t = &file->tensors[i];
                if (t->data != at)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: tensor %.100s does not follow the one before it", file->path, t->name);
                at += t->size;
        }
        if (at != file->map + file->size)
                return error_input(error, BERTD_EXIT_DATA, "%s: bytes after the last tensor", file->path);
        return 0;
}

static int read_tensors(struct safetensors *file, uint64_t length, struct error *error) {
        uint64_t data = LENGTH_SIZE + length;
        const char *name;
        json_t *item;

        file->tensors = calloc(json_object_size(file->header) + 1, sizeof(*file->tensors));
        if (!file->tensors)
                return error_errno(error, ENOMEM, "%s", file->path);
        json_object_foreach(file->header, name, item) {
                if (strcmp(name, "__metadata__") == 0)
                        continue;
                int r = read_tensor(file, data, name, item, &file->tensors[file->n], error);
                if (r < 0)
                        return r;
                file->n++;
        }
        qsort(file->tensors, file->n, sizeof(*file->tensors), by_place);
        return check_cover(file, data, error);
}

int safetensors_open(const char *path, struct safetensors **ret, struct error *error) {
        cleanup_safetensors struct safetensors *file = calloc(1, sizeof(*file));
        uint64_t length = 0;

        if (!file || !(file->path = strdup(path)))
                return error_errno(error, ENOMEM, "%s", path);
        int r = map_file(file, error);
        if (r >= 0)
                r = parse_header(file, &length, error);
        if (r >= 0)
                r = read_tensors(file, length, error);
        if (r < 0)
                return r;
        *ret = file;
        file = NULL;
        return 0;
}

uint32_t safetensors_n(const struct safetensors *file) { return file->n; }

const struct safetensors_tensor *safetensors_tensor(const struct safetensors *file, uint32_t index) {
        return &file->tensors[index];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name) {
        for (uint32_t i = 0; i < file->n; i++)
                if (strcmp(file->tensors[i].name, name) == 0)
                        return &file->tensors[i];
        return NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key) {
        return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- writing ---- */

static json_t *shape_json(const struct safetensors_tensor *t) {
        json_t *shape = json_array();

        for (uint32_t d = 0; d < t->n_dims; d++)
                (void) json_array_append_new(shape, json_integer((json_int_t) t->shape[d]));
        return shape;
}

/* Padded with spaces so that the tensors' bytes begin at a multiple of 8. NULL: no memory. */
static char *format_header(const struct safetensors_tensor *tensors, uint32_t n, const char *fresh, size_t *ret_size) {
        json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
        json_int_t at = 0;

        if (header && fresh[0])
                (void) json_object_set_new(json_object_get(header, "__metadata__"), SAFETENSORS_FRESH,
                                           json_string(fresh));

        for (uint32_t i = 0; header && i < n; i++) {
                json_int_t end = at + (json_int_t) tensors[i].size;
                (void) json_object_set_new(header, tensors[i].name,
                                           json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                                                     tensors[i].dtype == SAFETENSORS_F64 ? "F64" : "F32", "shape",
                                                     shape_json(&tensors[i]), "data_offsets", at, end));
                at = end;
        }
        cleanup_free char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
        json_decref(header);
        size_t size = text ? strlen(text) : 0, padded = (size + 7) / 8 * 8;
        char *block = text ? malloc(LENGTH_SIZE + padded) : NULL;
        if (!block)
                return NULL;
        for (int i = 0; i < LENGTH_SIZE; i++)
                block[i] = (char) (padded >> (8 * i));
        memcpy(block + LENGTH_SIZE, text, size);
        memset(block + LENGTH_SIZE + size, ' ', padded - size);
        *ret_size = LENGTH_SIZE + padded;
        return block;
}

static int write_tensors(int fd, const struct safetensors_tensor *tensors, uint32_t n, const char *fresh) {
        size_t size = 0;
        cleanup_free char *header = format_header(tensors, n, fresh, &size);

        int r = header ? write_all(fd, header, size) : -ENOMEM;
        for (uint32_t i = 0; r >= 0 && i < n; i++)
                r = write_all(fd, tensors[i].data, tensors[i].size);
        return r >= 0 && fsync(fd) < 0 ? -errno : r;
}

int safetensors_write(const char *path, const struct safetensors_tensor *tensors, uint32_t n, const char *fresh,
                      struct error *error) {
        cleanup_free char *temporary = format_string("%s.tmp", path);

        if (!temporary)
                return error_errno(error, ENOMEM, "%s", path);
        cleanup_close int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
        int r = fd < 0 ? -errno : write_tensors(fd, tensors, n, fresh);
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r >= 0)
                r = fsync_parent(path);
        if (r >= 0)
                return 0;
        (void) unlink(temporary);
        return error_output(error, -r, path);
}
