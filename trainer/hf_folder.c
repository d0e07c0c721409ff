/*
 * See hf_folder.h. While weights are read: owns the mapped file and which of its tensors have been used.
 */
#include "trainer/hf_folder.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/json_read.h"
#include "trainer/model_internal.h"
#include "trainer/safetensors.h"

#define SMALL_FILE_MAX ((size_t) 64 << 20) /* config.json with many labels, tokenizer.json with its vocabulary */
#define CHUNK 4096                         /* elements */

struct reading {
        const char *folder;
        struct model *model;
        struct safetensors *file;
        bool *used;     /* (tensors of the file) */
        unsigned fresh; /* parts of which a tensor is not in the folder */
};

/* ---- names ---- */

/* What older programs call the same tensor. */
static const struct {
        const char *end, *other;
} old_names[] = {
        { "LayerNorm.weight", "LayerNorm.gamma" },
        { "LayerNorm.bias", "LayerNorm.beta" },
        { "predictions.bias", "predictions.decoder.bias" },
};

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);
        return n >= m && strcmp(text + n - m, end) == 0;
}

static const struct safetensors_tensor *find_or_old(const struct safetensors *file, const char *name) {
        const struct safetensors_tensor *found = safetensors_find(file, name);
        char other[256];

        for (size_t i = 0; !found && i < ELEMENTSOF(old_names); i++)
                if (ends_with(name, old_names[i].end)) {
                        (void) snprintf(other, sizeof(other), "%.*s%s", (int) (strlen(name) - strlen(old_names[i].end)),
                                        name, old_names[i].other);
                        found = safetensors_find(file, other);
                }
        return found;
}

/* BertModel and AlbertModel alone save their tensors without the prefix. */
static const struct safetensors_tensor *find(const struct safetensors *file, const char *name) {
        static const char *const prefixes[] = { "bert.", "albert." };
        const struct safetensors_tensor *found = find_or_old(file, name);

        for (size_t i = 0; !found && i < ELEMENTSOF(prefixes); i++)
                if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
                        found = find_or_old(file, name + strlen(prefixes[i]));
        return found;
}

/* ---- values ---- */

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

static bool same_shape(const struct safetensors_tensor *a, const struct model_tensor *b) {
        if (a->n_dims != b->n_dims)
                return false;
        for (uint32_t d = 0; d < b->n_dims; d++)
                if (a->shape[d] != b->shape[d])
                        return false;
        return true;
}

static int take_tensor(struct reading *reading, const struct model_tensor *t, const struct safetensors_tensor *found,
                       struct error *error) {
        struct model *model = reading->model;
        double values[CHUNK];

        if (!same_shape(found, t))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: tensor %.100s has another shape than config.json says",
                                   reading->folder, found->name);
        if (found->dtype == SAFETENSORS_OTHER)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: tensor %.100s is not of floating point", reading->folder,
                                   found->name);
        for (size_t first = 0, n; first < t->n_elements; first += n) {
                n = MIN((size_t) CHUNK, t->n_elements - first);
                if (!widen(found, first, n, values))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s/model.safetensors: tensor %.100s has a value that is not finite",
                                           reading->folder, found->name);
                model->ops->store(model->ops->master, model_parameters(model), t->offset + first, values, n);
        }
        reading->used[found - safetensors_tensor(reading->file, 0)] = true;
        return 0;
}

static int take_tensors(struct reading *reading, struct error *error) {
        for (uint32_t i = 0; i < model_n_tensors(reading->model); i++) {
                const struct model_tensor *t = model_tensor(reading->model, i);
                const struct safetensors_tensor *found = find(reading->file, t->name);
                if (found && t->part == PART_CLASSIFIER && !same_shape(found, t)) {
                        (void) fprintf(stderr,
                                       "bert-trainer: %s of the folder has other classes: it begins as a fresh one\n",
                                       t->name);
                        reading->used[found - safetensors_tensor(reading->file, 0)] = true;
                        reading->fresh |= 1u << t->part;
                        continue;
                }
                int r = found ? take_tensor(reading, t, found, error) : 0;
                if (r < 0)
                        return r;
                if (found)
                        continue;
                if (t->part < PART_POOLER)
                        return error_input(error, BERTD_EXIT_DATA, "%s/model.safetensors: tensor %s is missing",
                                           reading->folder, t->name);
                reading->fresh |= 1u << t->part;
                (void) fprintf(stderr, "bert-trainer: %s is not in the folder and begins as a fresh one\n", t->name);
        }
        return 0;
}

/* Copies of tied tensors must be the same: a model whose decoder is its own is another model. */
static int check_tied(struct reading *reading, const struct safetensors_tensor *t, const char *twin,
                      struct error *error) {
        for (uint32_t i = 0; i < safetensors_n(reading->file); i++) {
                const struct safetensors_tensor *u = safetensors_tensor(reading->file, i);
                if (!reading->used[i] || !ends_with(u->name, twin))
                        continue;
                if (u->size == t->size && memcmp(u->data, t->data, t->size) == 0)
                        return 0;
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: %.100s is not %.100s: a decoder of its own is not supported",
                                   reading->folder, t->name, u->name);
        }
        return 0;
}

static int check_rest(struct reading *reading, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < safetensors_n(reading->file); i++) {
                const struct safetensors_tensor *t = safetensors_tensor(reading->file, i);
                if (reading->used[i] || ends_with(t->name, "position_ids"))
                        continue;
                if (ends_with(t->name, "predictions.decoder.weight"))
                        r = check_tied(reading, t, "word_embeddings.weight", error);
                else if (ends_with(t->name, "predictions.decoder.bias"))
                        r = check_tied(reading, t, "predictions.bias", error);
                else
                        (void) fprintf(stderr, "bert-trainer: %.100s is no tensor of this model and is left out\n",
                                       t->name);
        }
        return r;
}

static int open_weights(struct reading *reading, struct error *error) {
        cleanup_free char *path = format_string("%s/model.safetensors", reading->folder);
        cleanup_free char *pickle = format_string("%s/pytorch_model.bin", reading->folder);
        cleanup_free char *index = format_string("%s/model.safetensors.index.json", reading->folder);

        if (!path || !pickle || !index)
                return error_errno(error, ENOMEM, "%s", reading->folder);
        if (access(path, F_OK) < 0 && access(index, F_OK) == 0)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: the weights are in several files; save them as one in Python: "
                                   "model.save_pretrained(FOLDER, max_shard_size='100GB')",
                                   reading->folder);
        if (access(path, F_OK) < 0 && access(pickle, F_OK) == 0)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: pytorch_model.bin is a Python pickle, which runs code when it is read; save it "
                                   "as model.safetensors in Python: "
                                   "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                                   reading->folder);
        return safetensors_open(path, &reading->file, error);
}

int hf_folder_read(const char *folder, struct model *model, unsigned *fresh, struct error *error) {
        struct reading reading = { .folder = folder, .model = model };

        int r = open_weights(&reading, error);
        if (r < 0)
                return r;
        reading.used = calloc(safetensors_n(reading.file) + 1, sizeof(*reading.used));
        r = reading.used ? take_tensors(&reading, error) : error_errno(error, ENOMEM, "%s", folder);
        if (r >= 0)
                r = check_rest(&reading, error);
        *fresh |= reading.fresh;
        model_parameters_changed(model);
        safetensors_close(reading.file);
        free(reading.used);
        return r;
}

/* ---- the small files ---- */

/* NULL where the file is not there. */
static int read_json(const char *folder, const char *name, json_t **ret, struct error *error) {
        cleanup_free char *path = format_string("%s/%s", folder, name), *text = NULL;
        size_t size;

        if (!path)
                return error_errno(error, ENOMEM, "%s", folder);
        if (access(path, F_OK) < 0)
                return 0;
        int r = file_read(path, SMALL_FILE_MAX, &text, &size, error);
        if (r < 0)
                return r;
        json_error_t why = {};
        r = file_refuse_pointer(path, text, size, error);
        if (r < 0)
                return r;
        *ret = json_read(text, size, 0, &why);
        if (!*ret)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, why.line, why.text);
        return json_is_object(*ret) ? 0 : error_input(error, BERTD_EXIT_DATA, "%s: not a JSON object", path);
}

static bool is_classifier(json_t *root) {
        const char *name = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));

        return name && ends_with(name, "ForSequenceClassification");
}

/* id2label: {"0": "World", …}; without it two classes, as in transformers. */
static int read_labels(const char *folder, json_t *root, struct labels *labels, struct error *error) {
        json_t *names = json_object_get(root, "id2label");
        size_t n = json_is_object(names) ? json_object_size(names) : 2;
        char key[24], fallback[32];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                (void) snprintf(key, sizeof(key), "%zu", i);
                (void) snprintf(fallback, sizeof(fallback), "LABEL_%zu", i);
                const char *name = json_string_value(json_object_get(names, key));
                if (names && !name)
                        return error_input(error, BERTD_EXIT_DATA, "%s/config.json: id2label has no \"%zu\"", folder,
                                           i);
                if (name && labels_find(labels, name) >= 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s/config.json: id2label: '%.64s' is there twice",
                                           folder, name);
                r = labels_add(labels, name ? name : fallback, error);
        }
        return r;
}

/* One class a text is what a classifier tells here. transformers takes one label for regression. */
static int check_problem(const char *folder, json_t *root, struct error *error) {
        const char *type = json_string_value(json_object_get(root, "problem_type"));
        json_t *names = json_object_get(root, "id2label");

        if (type && strcmp(type, "single_label_classification") != 0)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/config.json: problem_type: is '%.64s', expected single_label_classification",
                                   folder, type);
        if (json_is_object(names) && json_object_size(names) < 2)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/config.json: id2label has %zu label, which is regression: expected two or more",
                                   folder, json_object_size(names));
        return 0;
}

/* transformers' default dropout of a classifier: BERT's is hidden_dropout_prob, ALBERT's 0.1. */
static double read_dropout(json_t *root, const struct model_config *config) {
        bool bert = config->model_type == MODEL_BERT;
        json_t *value = json_object_get(root, bert ? "classifier_dropout" : "classifier_dropout_prob");

        return json_is_number(value) ? json_number_value(value) : bert ? config->hidden_dropout_prob : 0.1;
}

int hf_folder_config(const char *folder, struct model_config *ret_config, struct labels *labels, struct error *error) {
        cleanup_free char *path = format_string("%s/config.json", folder);
        struct model_config config = {};
        json_t *root = NULL;

        if (!path)
                return error_errno(error, ENOMEM, "%s", folder);
        int r = config_load(path, &config, error);
        if (r >= 0)
                r = read_json(folder, "config.json", &root, error);
        if (r >= 0 && is_classifier(root))
                r = check_problem(folder, root, error);
        if (r >= 0 && is_classifier(root)) {
                r = read_labels(folder, root, labels, error);
                config.without_pretraining_heads = true;
                config.classifier = (struct classifier_config) { .n_labels = labels->n,
                                                                 .first_layer = config_n_layers(&config) - 1,
                                                                 .n_layers = 1,
                                                                 .input = INPUT_POOLED,
                                                                 .dropout = read_dropout(root, &config) };
        }
        json_decref(root);
        if (r >= 0)
                *ret_config = config;
        return r;
}

/* 1: there is such a switch, 0: it is absent or null. */
static int read_switch(const char *folder, const char *name, const json_t *object, const char *key, bool *ret,
                       struct error *error) {
        const json_t *value = json_object_get(object, key);

        if (!value || json_is_null(value))
                return 0;
        if (!json_is_boolean(value))
                return error_input(error, BERTD_EXIT_DATA, "%s/%s: %s: expected true or false", folder, name, key);
        *ret = json_is_true(value);
        return 1;
}

/* Accents go with lowercasing where nothing is said of them. */
static int read_switches(const char *folder, const char *name, const json_t *object, const char *const keys[3],
                         struct text_options *ret, struct error *error) {
        int r = read_switch(folder, name, object, keys[0], &ret->lowercase, error);

        if (r > 0)
                ret->strip_accents = ret->lowercase;
        if (r >= 0)
                r = read_switch(folder, name, object, keys[1], &ret->chinese, error);
        if (r >= 0)
                r = read_switch(folder, name, object, keys[2], &ret->strip_accents, error);
        return r < 0 ? r : 0;
}

/* As BertTokenizer does: tokenizer.json's normalizer, then what tokenizer_config.json says otherwise. */
static int read_text_options(const char *folder, struct text_options *ret, struct error *error) {
        static const char *const fast[3] = { "lowercase", "handle_chinese_chars", "strip_accents" }, *const slow[3] = {
                "do_lower_case", "tokenize_chinese_chars", "strip_accents"
        };
        json_t *tokenizer = NULL, *config = NULL;
        bool keep_accents = false; /* AlbertTokenizer's */

        *ret = (struct text_options) {
                .lowercase = true, .strip_accents = true, .chinese = true, .quotes = true, .nfkd = true
        };
        int r = read_json(folder, "tokenizer.json", &tokenizer, error);
        const json_t *normalizer = json_object_get(tokenizer, "normalizer");
        const char *type = json_string_value(json_object_get(normalizer, "type"));
        if (r >= 0 && type && strcmp(type, "BertNormalizer") == 0)
                r = read_switches(folder, "tokenizer.json", normalizer, fast, ret, error);
        if (r >= 0)
                r = read_json(folder, "tokenizer_config.json", &config, error);
        if (r >= 0)
                r = read_switches(folder, "tokenizer_config.json", config, slow, ret, error);
        if (r >= 0)
                r = read_switch(folder, "tokenizer_config.json", config, "keep_accents", &keep_accents, error);
        if (r > 0)
                ret->strip_accents = !keep_accents;
        json_decref(tokenizer);
        json_decref(config);
        return r < 0 ? r : 0;
}

int hf_folder_text(const char *folder, char **ret_vocab, struct text_options *ret_options, struct error *error) {
        static const char *const names[] = { "vocab.txt", "spiece.model" };
        cleanup_free char *path = NULL;

        for (size_t i = 0; i < ELEMENTSOF(names) && !path; i++) {
                cleanup_free char *one = format_string("%s/%s", folder, names[i]);
                path = one ? realpath(one, NULL) : NULL;
        }
        int r = read_text_options(folder, ret_options, error);
        if (r >= 0)
                *ret_vocab = steal_pointer(&path);
        return r;
}
