/* See host_inputs.h. Owns nothing. */
#include "common/host_inputs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/file.h"

#define BLOCK ((size_t) 64 << 10)
#define BLOCKS 64 /* of a file that is hashed in part, the first and the last among them */

/* ---- their names ---- */

static void add_name(json_t *paths, const char *path) {
        size_t i;
        json_t *known;

        json_array_foreach(paths, i, known) if (strcmp(json_string_value(known), path) == 0) return;
        if (json_array_size(paths) < HOST_INPUTS_MAX)
                (void) json_array_append_new(paths, json_string(path));
}

static void add_names(json_t *paths, char *const *names, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                add_name(paths, names[i]);
}

static void add_data(json_t *paths, const struct spec *spec) {
        for (uint32_t i = 0; i < spec_n_stages(spec); i++)
                for (uint32_t t = 0; t < spec_n_tasks(spec_at(spec, i)); t++) {
                        const struct spec_data *data = spec_task(spec_at(spec, i), t);
                        add_names(paths, data->train, data->n_train);
                        add_names(paths, data->validation, data->n_validation);
                        add_names(paths, data->test, data->n_test);
                }
}

json_t *host_inputs_line(const struct spec *spec, char *const *hosts) {
        json_t *paths = json_array(), *names = json_array();

        if (paths && spec && spec->kind != JOB_COMMAND)
                add_data(paths, spec);
        for (; names && hosts && *hosts; hosts++)
                (void) json_array_append_new(names, json_string(*hosts));
        return json_pack("{s:s,s:o,s:o}", "type", "inputs", "paths", paths, "hosts", names);
}

/* ---- what is there ---- */

static int add_block(XXH64_state_t *state, int fd, char *buffer, uint64_t at, size_t size) {
        while (size > 0) {
                ssize_t n = pread(fd, buffer, size, (off_t) at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO; /* it became shorter */
                (void) XXH64_update(state, buffer, (size_t) n);
                at += (uint64_t) n;
                size -= (size_t) n;
        }
        return 0;
}

static int add_content(XXH64_state_t *state, int fd, uint64_t size) {
        cleanup_free char *buffer = malloc(BLOCK);
        bool whole = size <= HOST_INPUTS_WHOLE;
        uint64_t blocks = whole ? (size + BLOCK - 1) / BLOCK : BLOCKS, last = whole ? 0 : size - BLOCK;
        int r = buffer ? 0 : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < blocks; i++) {
                uint64_t at = whole ? i * BLOCK : last / (BLOCKS - 1) * i;
                if (!whole && i == BLOCKS - 1)
                        at = last;
                r = add_block(state, fd, buffer, at, (size_t) MIN(size - at, (uint64_t) BLOCK));
        }
        return r;
}

/* Adds the file's size and content. */
static int add_file(XXH64_state_t *state, const char *path, uint64_t *bytes, json_t *files) {
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        uint64_t size = (uint64_t) st.st_size;
        (void) XXH64_update(state, &size, sizeof(size));
        *bytes += size;
        (void) json_array_append_new(files, json_string(path));
        return add_content(state, fd, size);
}

/* A file of texts, else a corpus. */
static int add_input(XXH64_state_t *state, const char *path, uint64_t *bytes, json_t *files) {
        static const char *const endings[] = { ".idx", ".bin" };
        int r = add_file(state, path, bytes, files);

        if (r != -ENOENT && r != -EINVAL)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(endings); i++) {
                cleanup_free char *file = format_string("%s%s", path, endings[i]);
                r = file ? add_file(state, file, bytes, files) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

static json_t *look(const char *path) {
        XXH64_state_t *state = XXH64_createState();
        json_t *files = json_array();
        uint64_t bytes = 0;
        char hash[17] = "";

        if (state)
                (void) XXH64_reset(state, 0);
        int r = state ? add_input(state, path, &bytes, files) : -ENOMEM;
        if (r == 0)
                (void) snprintf(hash, sizeof(hash), "%016" PRIx64, (uint64_t) XXH64_digest(state));
        (void) XXH64_freeState(state);
        return json_pack("{s:s,s:s,s:s,s:I,s:o}", "path", path, "state",
                         r == 0                          ? "ok"
                         : r == -ENOENT || r == -ENOTDIR ? "missing"
                                                         : "unreadable",
                         "hash", hash, "bytes", (json_int_t) bytes, "files", files);
}

json_t *host_inputs_look(const json_t *paths) {
        json_t *all = json_array(), *path;
        size_t i;

        json_array_foreach(paths, i, path) {
                const char *text = json_string_value(path);
                if (i < HOST_INPUTS_MAX && text && text[0] == '/')
                        (void) json_array_append_new(all, look(text));
        }
        return all;
}
