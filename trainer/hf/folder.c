/*
 * See folder.h. While weights are read: owns the mapped files.
 */
#include "trainer/hf/folder.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/data/examples.h"
#include "trainer/hf/head.h"
#include "trainer/hf/weight_files.h"
#include "trainer/model/heads.h"
#include "trainer/ops/ops.h"
#include "trainer/text/tokenizer_files.h"

#define CHUNK 4096 /* elements */

struct reading {
        const char *folder;
        struct model *model;
        struct weight_files *files;
        const int32_t *rows; /* of the classifier; see hf_folder_read */
        unsigned fresh;
};

/* ---- one tensor ---- */

/* The decoder's bias is the head's own: some save it under the one name, some under the other, some under both. */
static struct weight_tensor *find(struct weight_files *files, const char *name) {
        struct weight_tensor *found = weight_files_find(files, name);

        if (!found && strcmp(name, "cls.predictions.bias") == 0)
                found = weight_files_find(files, "cls.predictions.decoder.bias");
        if (!found && strcmp(name, "predictions.bias") == 0)
                found = weight_files_find(files, "predictions.decoder.bias");
        return found;
}

static float from_bf16(uint16_t bits) {
        uint32_t wide = (uint32_t) bits << 16;
        float value;

        memcpy(&value, &wide, sizeof(value));
        return value;
}

static float from_f16(uint16_t bits) {
        uint32_t sign = (uint32_t) (bits >> 15) << 31, exponent = bits >> 10 & 31, fraction = bits & 1023, wide;
        float value;

        if (exponent == 0) { /* zero or subnormal: fraction · 2^-24 */
                value = (float) fraction * 0x1p-24f;
                return sign ? -value : value;
        }
        wide = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
        memcpy(&value, &wide, sizeof(value));
        return value;
}

/* Elements [first, first + n) of a tensor. False: one is not finite. */
static bool widen(const struct safetensors_tensor *from, size_t first, size_t n, double *to) {
        const char *data = from->data;
        float single;
        uint16_t half;
        bool finite = true;

        for (size_t i = 0; i < n; i++) {
                if (from->dtype == SAFETENSORS_F64)
                        memcpy(&to[i], data + 8 * (first + i), sizeof(to[i]));
                else if (from->dtype == SAFETENSORS_F32) {
                        memcpy(&single, data + 4 * (first + i), sizeof(single));
                        to[i] = (double) single;
                } else {
                        memcpy(&half, data + 2 * (first + i), sizeof(half));
                        to[i] = (double) (from->dtype == SAFETENSORS_BF16 ? from_bf16(half) : from_f16(half));
                }
                finite = finite && isfinite(to[i]);
        }
        return finite;
}

/* "[3, 16]" */
static void format_shape(uint32_t n, const uint64_t *shape, char text[128]) {
        size_t used = (size_t) snprintf(text, 128, "[");

        for (uint32_t d = 0; d < n && d < SAFETENSORS_DIMS_MAX && used < 100; d++)
                used += (size_t) snprintf(text + used, 128 - used, "%s%" PRIu64, d > 0 ? ", " : "", shape[d]);
        (void) snprintf(text + used, 128 - used, "]");
}

/* Columns alone where `rows` of a head are chosen. */
static bool same_shape(const struct safetensors_tensor *a, const struct model_tensor *b, bool rows) {
        if (a->n_dims != b->n_dims)
                return false;
        for (uint32_t d = rows ? 1 : 0; d < b->n_dims; d++)
                if (a->shape[d] != b->shape[d])
                        return false;
        return true;
}

static int refuse_shape(const struct weight_tensor *found, const struct model_tensor *t, struct error *error) {
        const uint64_t wanted[2] = { t->shape[0], t->shape[1] };
        char has[128], expected[128];

        format_shape(found->tensor->n_dims, found->tensor->shape, has);
        format_shape(t->n_dims, wanted, expected);
        return error_input(error, BERTD_EXIT_DATA, "%s: tensor %.100s has shape %s, expected %s by config.json",
                           found->file, found->tensor->name, has, expected);
}

/* Elements [first, first + n) of the file's tensor become those of the model's from `to` on. */
static int take_elements(struct reading *reading, const struct weight_tensor *found, size_t first, size_t n, size_t to,
                         struct error *error) {
        const struct model_state *state = model_state(reading->model);
        double values[CHUNK];

        for (size_t done = 0, part; done < n; done += part) {
                part = MIN((size_t) CHUNK, n - done);
                if (!widen(found->tensor, first + done, part, values))
                        return error_input(error, BERTD_EXIT_DATA, "%s: tensor %.100s has a value that is not finite",
                                           found->file, found->tensor->name);
                state->ops->store(state->ops->master, state->parameters, to + done, values, part);
        }
        return 0;
}

static void begin_fresh(struct reading *reading, const struct model_tensor *t, const char *why) {
        (void) fprintf(stderr, "bert-trainer: %s %s: initialised randomly\n", t->name, why);
        reading->fresh |= 1u << t->part;
}

/* Each class' row; one that the folder lacks stays as it is. */
static int take_rows(struct reading *reading, const struct model_tensor *t, const struct weight_tensor *found,
                     struct error *error) {
        size_t width = t->n_elements / t->shape[0];
        bool any = false;
        int r = 0;

        for (uint32_t i = 0; i < t->shape[0]; i++)
                any = any || reading->rows[i] >= 0;
        if (!any)
                begin_fresh(reading, t, "of the folder is not kept");
        for (uint32_t i = 0; r >= 0 && i < t->shape[0]; i++)
                if (reading->rows[i] >= 0 && (uint64_t) reading->rows[i] < found->tensor->shape[0])
                        r = take_elements(reading, found, (size_t) reading->rows[i] * width, width,
                                          t->offset + i * width, error);
        return r;
}

static int take_tensor(struct reading *reading, const struct model_tensor *t, struct weight_tensor *found,
                       struct error *error) {
        bool rows = reading->rows && t->part == PART_CLASSIFIER;

        found->used = true;
        if (!same_shape(found->tensor, t, rows)) {
                if (!reading->rows || t->part < PART_CLASSIFIER)
                        return refuse_shape(found, t, error);
                begin_fresh(reading, t, "of the folder has another shape");
                return 0;
        }
        if (found->tensor->dtype == SAFETENSORS_OTHER)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: tensor %.100s is not of floating point; expected F32, F64, F16 or BF16",
                                   found->file, found->tensor->name);
        return rows ? take_rows(reading, t, found, error)
                    : take_elements(reading, found, 0, t->n_elements, t->offset, error);
}

/* ---- all of them ---- */

static int take_tensors(struct reading *reading, struct error *error) {
        for (uint32_t i = 0; i < model_n_tensors(reading->model); i++) {
                const struct model_tensor *t = model_tensor(reading->model, i);
                struct weight_tensor *found = find(reading->files, t->name);
                int r = found ? take_tensor(reading, t, found, error) : 0;
                if (r < 0)
                        return r;
                if (found)
                        continue;
                if (t->part < PART_POOLER)
                        return error_input(error, BERTD_EXIT_DATA, "%s/model.safetensors: tensor %s is missing",
                                           reading->folder, t->name);
                begin_fresh(reading, t, "is not in the folder");
        }
        return 0;
}

/* Copies of tied tensors must be the same: a model whose decoder is its own is another model. */
static int check_tied(struct reading *reading, const struct weight_tensor *t, const char *twin, struct error *error) {
        for (uint32_t i = 0; i < weight_files_n(reading->files); i++) {
                const struct weight_tensor *u = weight_files_tensor(reading->files, i);
                if (!u->used || !text_ends_with(u->name, twin))
                        continue;
                if (u->tensor->size == t->tensor->size &&
                    memcmp(u->tensor->data, t->tensor->data, t->tensor->size) == 0)
                        return 0;
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: %.100s is not %.100s: a separate decoder is not supported", t->file,
                                   t->tensor->name, u->tensor->name);
        }
        return 0;
}

/* Positions and types that transformers kept beside the weights, counted from 0: no weights. */
static bool is_buffer(const char *name) {
        return text_ends_with(name, "position_ids") || text_ends_with(name, "token_type_ids");
}

static int check_rest(struct reading *reading, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < weight_files_n(reading->files); i++) {
                const struct weight_tensor *t = weight_files_tensor(reading->files, i);
                if (t->used || is_buffer(t->name))
                        continue;
                if (text_ends_with(t->name, "predictions.decoder.weight"))
                        r = check_tied(reading, t, "word_embeddings.weight", error);
                else if (text_ends_with(t->name, "predictions.decoder.bias"))
                        r = check_tied(reading, t, "predictions.bias", error);
                else
                        (void) fprintf(stderr, "bert-trainer: %.100s is not a tensor of this model: left out\n",
                                       t->tensor->name);
        }
        return r;
}

int hf_folder_read(const char *folder, struct model *model, const int32_t *rows, unsigned *fresh, struct error *error) {
        cleanup_weight_files struct weight_files *files = NULL;

        int r = weight_files_open(folder, model_config(model)->model_type, &files, error);
        if (r < 0)
                return r;
        struct reading reading = { .folder = folder, .model = model, .files = files, .rows = rows };
        r = take_tensors(&reading, error);
        if (r >= 0)
                r = check_rest(&reading, error);
        *fresh |= reading.fresh | (heads_parse(weight_files_fresh(files), NULL) & heads_of(model_config(model)));
        state_parameters_changed(model_state(model));
        return r;
}

/* ---- the small files ---- */

int hf_folder_config(const char *folder, struct model_config *ret_config, struct labels *labels, struct error *error) {
        cleanup_weight_files struct weight_files *files = NULL;
        cleanup_free char *path = format_string("%s/config.json", folder);
        struct model_config config = {};
        json_t *root = NULL;

        if (!path)
                return error_errno(error, ENOMEM, "%s", folder);
        int r = config_load(path, &config, error);
        if (r >= 0)
                r = json_read_file(folder, "config.json", 0, &root, error);
        if (r >= 0 && labels)
                r = weight_files_open(folder, config.model_type, &files, error);
        if (r >= 0 && labels)
                r = hf_head_read(path, root, files, &config, labels, error);
        json_decref(root);
        if (r >= 0)
                *ret_config = config;
        return r;
}

/* ---- how long a text may be ---- */

/* A length that is none, as transformers' default of 1e30, or one that the model cannot take, does not count. */
static int read_length(const char *folder, const char *name, const char *key, const json_t *value,
                       const struct model_config *config, uint32_t *ret, struct error *error) {
        double length = json_number_value(value);

        if (!value || json_is_null(value))
                return 0;
        if (!json_is_number(value) || length < TEXTS_LENGTH_MIN)
                return error_input(error, BERTD_EXIT_DATA, "%s/%s: %s: expected a number of tokens, %d or more", folder,
                                   name, key, TEXTS_LENGTH_MIN);
        if (length <= config->max_position_embeddings)
                *ret = (uint32_t) length;
        return 0;
}

static int read_side(const char *folder, const char *name, const char *key, const json_t *value, struct hf_limits *ret,
                     struct error *error) {
        const char *side = json_plain_string(value);

        if (!value || json_is_null(value))
                return 0;
        if (!side || (strcasecmp(side, "left") != 0 && strcasecmp(side, "right") != 0))
                return error_input(error, BERTD_EXIT_DATA, "%s/%s: %s: expected left or right", folder, name, key);
        ret->truncates = true;
        ret->truncation = strcasecmp(side, "left") == 0 ? TRUNCATION_TAIL : TRUNCATION_HEAD;
        return 0;
}

/* tokenizer_config.json, whose model_max_length was max_len in 2019, and what it leaves out tokenizer.json's own truncation, as transformers
 * does. */
int hf_folder_limits(const char *folder, const struct model_config *config, struct hf_limits *ret,
                     struct error *error) {
        json_t *settings = NULL, *tokenizer = NULL;
        struct hf_limits limits = {};

        int r = json_read_file(folder, "tokenizer.json", 0, &tokenizer, error);
        if (r >= 0)
                r = json_read_file(folder, "tokenizer_config.json", 0, &settings, error);
        const char *key = json_object_get(settings, "model_max_length") ? "model_max_length" : "max_len";
        const json_t *own = json_object_get(tokenizer, "truncation"), *longest = json_object_get(settings, key);
        if (r >= 0 && !json_is_number(longest))
                r = read_length(folder, "tokenizer.json", "truncation.max_length", json_object_get(own, "max_length"),
                                config, &limits.sequence_length, error);
        if (r >= 0)
                r = read_length(folder, "tokenizer_config.json", key, longest, config, &limits.sequence_length, error);
        if (r >= 0)
                r = read_side(folder, "tokenizer.json", "truncation.direction", json_object_get(own, "direction"),
                              &limits, error);
        if (r >= 0)
                r = read_side(folder, "tokenizer_config.json", "truncation_side",
                              json_object_get(settings, "truncation_side"), &limits, error);
        json_decref(settings);
        json_decref(tokenizer);
        if (r >= 0)
                *ret = limits;
        return r;
}

/* ---- its tokenizer ---- */

/* A vocabulary given beside one of the folder's own that can be read must be the same. */
static int check_same(const char *folder, const char *file, const struct vocab *given, struct error *error) {
        cleanup_vocab struct vocab *own = NULL;
        char a[VOCAB_HASH_MAX], b[VOCAB_HASH_MAX];

        if (!tokenizer_in_folder(folder) || vocab_load(folder, &own, NULL) < 0)
                return 0;
        vocab_hash(own, a);
        vocab_hash(given, b);
        return strcmp(a, b) == 0 ? 0
                                 : error_input(error, BERTD_EXIT_DATA, "%s: not the vocabulary of %s", file, folder);
}

int hf_folder_text(const char *folder, const char *file, struct assets *assets, char **ret_vocab,
                   struct text_options *ret_options, struct error *error) {
        cleanup_vocab struct vocab *vocab = NULL;
        struct stat st;

        if (!file && !tokenizer_in_folder(folder))
                return 0;
        bool other = file && stat(file, &st) == 0 && S_ISDIR(st.st_mode);
        int r = assets_tokenizer(assets, other ? file : folder, other ? NULL : file, &vocab, error);
        if (r >= 0 && file)
                r = check_same(folder, file, vocab, error);
        if (r < 0)
                return r;
        vocab_print_notes(vocab, stderr);
        *ret_options = *vocab_options(vocab);
        *ret_vocab = realpath(file ? file : folder, NULL);
        return *ret_vocab ? 0 : error_errno(error, errno, "%s", file ? file : folder);
}
