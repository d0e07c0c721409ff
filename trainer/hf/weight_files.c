/*
 * See weight_files.h. Owns the mapped files, their paths and the list of tensors, sorted by our names.
 */
#include "trainer/hf/weight_files.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/file.h"
#include "common/json_read.h"

#define SHARDS_MAX 1000
#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

struct weight_files {
        const char *folder;
        json_t *map; /* of the index: {tensor: file}; NULL: one file */
        struct safetensors *file[SHARDS_MAX];
        char *path[SHARDS_MAX];
        uint32_t n_files;
        struct weight_tensor *tensors;
        uint32_t n;
};

void weight_files_close(struct weight_files *files) {
        if (!files)
                return;
        for (uint32_t i = 0; i < files->n; i++)
                free(files->tensors[i].name);
        for (uint32_t i = 0; i < files->n_files; i++) {
                safetensors_close(files->file[i]);
                free(files->path[i]);
        }
        json_decref(files->map);
        free(files->tensors);
        free(files);
}

/* ---- names ---- */

/* What wraps a model in PyTorch, and what fine-tuning scripts call the model in theirs. */
static const char *skip_wrappers(const char *name) {
        static const char *const wrappers[] = { "module.", "_orig_mod.", "model." };

        for (size_t i = 0; i < ELEMENTSOF(wrappers);)
                if (strncmp(name, wrappers[i], strlen(wrappers[i])) == 0) {
                        name += strlen(wrappers[i]);
                        i = 0;
                } else
                        i++;
        return name;
}

/* BertModel and AlbertModel alone save their tensors without the prefix. */
static bool lacks_prefix(const char *name) {
        static const char *const parts[] = { "embeddings.", "encoder.", "pooler." };

        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                if (strncmp(name, parts[i], strlen(parts[i])) == 0)
                        return true;
        return false;
}

/* LayerNorm's weight and bias were gamma and beta in 2018. */
static const char *modern_end(const char *name, size_t *ret_kept) {
        static const char *const ends[][2] = { { ".gamma", ".weight" }, { ".beta", ".bias" } };
        size_t n = strlen(name);

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                size_t m = strlen(ends[i][0]);
                if (n > m && strcmp(name + n - m, ends[i][0]) == 0) {
                        *ret_kept = n - m;
                        return ends[i][1];
                }
        }
        *ret_kept = n;
        return "";
}

/* The caller frees; NULL: no memory. */
static char *our_name(enum model_type type, const char *name) {
        size_t kept;

        name = skip_wrappers(name);
        const char *prefix = !lacks_prefix(name) ? "" : type == MODEL_ALBERT ? "albert." : "bert.";
        const char *end = modern_end(name, &kept);
        return format_string("%s%.*s%s", prefix, (int) kept, name, end);
}

/* ---- files ---- */

static bool is_there(const struct weight_files *files, const char *name) {
        cleanup_free char *path = format_string("%s/%s", files->folder, name);

        return path && file_is_there(path);
}

static int add_tensor(struct weight_files *files, enum model_type type, uint32_t file,
                      const struct safetensors_tensor *tensor, struct error *error) {
        struct weight_tensor *to = &files->tensors[files->n];

        *to = (struct weight_tensor) { .tensor = tensor,
                                       .name = our_name(type, tensor->name),
                                       .file = files->path[file] };
        if (!to->name)
                return error_errno(error, ENOMEM, "%s", files->folder);
        files->n++;
        return 0;
}

static int add_file(struct weight_files *files, enum model_type type, const char *name, struct error *error) {
        uint32_t index = files->n_files;
        struct safetensors *file = NULL;
        char *path = format_string("%s/%s", files->folder, name);

        if (!path)
                return error_errno(error, ENOMEM, "%s", files->folder);
        files->path[index] = path;
        files->n_files++;
        int r = safetensors_open(path, &files->file[index], error);
        if (r < 0)
                return r;
        file = files->file[index];
        if (array_resize(&files->tensors, (size_t) files->n + safetensors_n(file), sizeof(*files->tensors)) < 0)
                return error_errno(error, ENOMEM, "%s", path);
        for (uint32_t i = 0; r >= 0 && i < safetensors_n(file); i++)
                r = add_tensor(files, type, index, safetensors_tensor(file, i), error);
        return r;
}

/* ---- shards ---- */

static int read_index(struct weight_files *files, struct error *error) {
        json_t *root = NULL;

        int r = json_read_file(files->folder, INDEX, JSON_REJECT_DUPLICATES, &root, error);
        files->map = json_incref(json_object_get(root, "weight_map"));
        if (r >= 0 && !json_is_object(files->map))
                r = error_input(error, BERTD_EXIT_DATA, "%s/" INDEX ": weight_map: missing or not an object",
                                files->folder);
        json_decref(root);
        return r;
}

static bool is_file_name(const char *name) {
        static const char end[] = ".safetensors";
        size_t n = name ? strlen(name) : 0;

        return n > strlen(end) && n < 256 && !strchr(name, '/') && strcmp(name + n - strlen(end), end) == 0;
}

static const char *base_name(const char *path) { return strrchr(path, '/') + 1; }

static bool is_open(const struct weight_files *files, const char *name) {
        for (uint32_t i = 0; i < files->n_files; i++)
                if (strcmp(base_name(files->path[i]), name) == 0)
                        return true;
        return false;
}

static int open_shards(struct weight_files *files, enum model_type type, struct error *error) {
        const char *tensor;
        json_t *value;
        int r = 0;

        json_object_foreach(files->map, tensor, value) {
                const char *name = json_plain_string(value);
                if (!is_file_name(name))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s/" INDEX ": weight_map: %.100s: '%.64s' is not a file's name, "
                                           "expected NAME.safetensors",
                                           files->folder, tensor, name ? name : "");
                if (is_open(files, name))
                        continue;
                if (files->n_files == SHARDS_MAX)
                        return error_input(error, BERTD_EXIT_DATA, "%s/" INDEX ": more than %d files", files->folder,
                                           SHARDS_MAX);
                if (!is_there(files, name))
                        return error_input(error, BERTD_EXIT_INPUT,
                                           "%s/%s: missing, but " INDEX " lists it; copy all files that it lists",
                                           files->folder, name);
                r = add_file(files, type, name, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Every tensor of a shard must be where the index has it. */
static int check_listed(const struct weight_files *files, struct error *error) {
        for (uint32_t i = 0; i < files->n; i++) {
                const struct weight_tensor *t = &files->tensors[i];
                const char *listed = json_text_at(files->map, t->tensor->name);
                if (!listed)
                        return error_input(error, BERTD_EXIT_DATA, "%s: tensor %.100s is not in " INDEX, t->file,
                                           t->tensor->name);
                if (strcmp(listed, base_name(t->file)) != 0)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: holds tensor %.100s, which " INDEX " places in %.100s", t->file,
                                           t->tensor->name, listed);
        }
        return 0;
}

/* Then what the index lists beyond them is missing. */
static int check_complete(const struct weight_files *files, struct error *error) {
        json_t *left = json_copy(files->map);

        for (uint32_t i = 0; i < files->n; i++)
                (void) json_object_del(left, files->tensors[i].tensor->name);
        const char *name = json_object_iter_key(json_object_iter(left));
        int r = !left   ? error_errno(error, ENOMEM, "%s", files->folder)
                : !name ? 0
                        : error_input(error, BERTD_EXIT_DATA,
                                      "%s/%.100s: tensor %.100s is missing, but " INDEX " places it there",
                                      files->folder, json_text_at(left, name), name);
        json_decref(left);
        return r;
}

static int open_index(struct weight_files *files, enum model_type type, struct error *error) {
        int r = read_index(files, error);

        if (r >= 0)
                r = open_shards(files, type, error);
        if (r >= 0)
                r = check_listed(files, error);
        return r < 0 ? r : check_complete(files, error);
}

/* ---- all ---- */

/* What people have in place of safetensors, and how transformers makes it that. */
static int refuse_others(const struct weight_files *files, struct error *error) {
        static const struct {
                const char *name, *what, *load;
        } others[] = {
                { "pytorch_model.bin", "a Python pickle, which runs code when it is read", "FOLDER" },
                { "pytorch_model.bin.index.json", "of Python pickles, which run code when they are read", "FOLDER" },
                { "tf_model.h5", "TensorFlow's", "FOLDER, from_tf=True" },
                { "flax_model.msgpack", "Flax's", "FOLDER, from_flax=True" },
        };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (is_there(files, others[i].name))
                        return error_input(error, BERTD_EXIT_INPUT,
                                           "%s: no " SINGLE "; %s is %s; save it as safetensors in Python, with the "
                                           "class that config.json names in architectures: "
                                           "CLASS.from_pretrained(%s).save_pretrained(FOLDER)",
                                           files->folder, others[i].name, others[i].what, others[i].load);
        return 0;
}

static int by_name(const void *a, const void *b) {
        const struct weight_tensor *x = a, *y = b;

        return strcmp(x->name, y->name);
}

static int check_unique(const struct weight_files *files, struct error *error) {
        for (uint32_t i = 1; i < files->n; i++) {
                const struct weight_tensor *a = &files->tensors[i - 1], *b = &files->tensors[i];
                if (strcmp(a->name, b->name) == 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: tensors %.100s and %.100s are both %.100s",
                                           files->folder, a->tensor->name, b->tensor->name, a->name);
        }
        return 0;
}

int weight_files_open(const char *folder, enum model_type type, struct weight_files **ret, struct error *error) {
        cleanup_weight_files struct weight_files *files = calloc(1, sizeof(*files));

        if (!files)
                return error_errno(error, ENOMEM, "%s", folder);
        files->folder = folder;
        bool single = is_there(files, SINGLE), sharded = !single && is_there(files, INDEX);
        int r = single || sharded ? 0 : refuse_others(files, error);
        if (r >= 0)
                r = sharded ? open_index(files, type, error) : add_file(files, type, SINGLE, error);
        if (r < 0)
                return r;
        qsort(files->tensors, files->n, sizeof(*files->tensors), by_name);
        r = check_unique(files, error);
        if (r < 0)
                return r;
        *ret = steal_pointer(&files);
        return 0;
}

uint32_t weight_files_n(const struct weight_files *files) { return files->n; }

struct weight_tensor *weight_files_tensor(struct weight_files *files, uint32_t index) {
        return &files->tensors[index];
}

struct weight_tensor *weight_files_find(struct weight_files *files, const char *name) {
        struct weight_tensor key = { .name = (char *) name };

        return files->n == 0 ? NULL : bsearch(&key, files->tensors, files->n, sizeof(key), by_name);
}

const char *weight_files_fresh(const struct weight_files *files) {
        const char *text = files->n_files == 1 ? safetensors_metadata(files->file[0], SAFETENSORS_FRESH) : NULL;
        return text ? text : "";
}
