/*
 * `bert-trainer import`; see hf.h. Owns the mapped file, a model of the smallest batch (for its layout and for the heads that the
 * folder lacks, which begin as a fresh model's do) and which of the file's tensors have been used.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/checkpoint.h"
#include "trainer/hf.h"
#include "trainer/model.h"
#include "trainer/ops.h"
#include "trainer/safetensors.h"
#include "trainer/text/wordpiece.h"
#include "trainer/weights.h"

#define TOKENIZER_CONFIG_MAX ((size_t) 1 << 20)
#define HEAD_SEED 42 /* of heads that the folder does not have */

static const char USAGE[] =
        "usage: bert-trainer import HF_DIR --output CHECKPOINT\n\n"
        "Makes a checkpoint of the weights of a Hugging Face folder: config.json, model.safetensors, vocab.txt or\n"
        "spiece.model.\n"
        "Heads that the folder lacks begin as a fresh model's. A job starts from it with model.init in its spec.\n\n"
        "  -o, --output CHECKPOINT   the file to write\n"
        "  -h, --help                this text\n";

struct import {
        const char *folder;
        struct model_config config;
        struct model *model;
        struct safetensors *file;
        bool *used; /* (tensors of the file) */
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

static void convert(const struct safetensors_tensor *from, float *to, size_t n) {
        const char *data = from->data;

        for (size_t i = 0; i < n; i++) {
                uint16_t half;
                double wide;
                if (from->dtype == SAFETENSORS_F64) {
                        memcpy(&wide, data + 8 * i, sizeof(wide));
                        to[i] = (float) wide;
                        continue;
                }
                memcpy(&half, data + 2 * i, sizeof(half));
                to[i] = from->dtype == SAFETENSORS_BF16 ? from_bf16(half) : from_f16(half);
        }
}

static bool same_shape(const struct safetensors_tensor *a, const struct model_tensor *b) {
        if (a->n_dims != b->n_dims)
                return false;
        for (uint32_t d = 0; d < b->n_dims; d++)
                if (a->shape[d] != b->shape[d])
                        return false;
        return true;
}

static int take_tensor(struct import *import, const struct model_tensor *t, const struct safetensors_tensor *found,
                       struct error *error) {
        float *to = (float *) model_parameters(import->model) + t->offset;

        if (!same_shape(found, t))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: tensor %.100s has another shape than config.json says",
                                   import->folder, found->name);
        if (found->dtype == SAFETENSORS_OTHER)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: tensor %.100s is not of floating point", import->folder,
                                   found->name);
        if (found->dtype == SAFETENSORS_F32)
                memcpy(to, found->data, found->size);
        else
                convert(found, to, t->n_elements);
        import->used[found - safetensors_tensor(import->file, 0)] = true;
        return 0;
}

static int take_tensors(struct import *import, struct error *error) {
        for (uint32_t i = 0; i < model_n_tensors(import->model); i++) {
                const struct model_tensor *t = model_tensor(import->model, i);
                const struct safetensors_tensor *found = find(import->file, t->name);
                int r = found ? take_tensor(import, t, found, error) : 0;
                if (r < 0)
                        return r;
                if (found)
                        continue;
                if (t->part != PART_POOLER && t->part != PART_MLM_HEAD && t->part != PART_SENTENCE_HEAD)
                        return error_input(error, BERTD_EXIT_DATA, "%s/model.safetensors: tensor %s is missing",
                                           import->folder, t->name);
                (void) fprintf(stderr, "bert-trainer: %s is not in the folder and begins as a fresh one\n", t->name);
        }
        return 0;
}

/* Copies of tied tensors must be the same: a model whose decoder is its own is another model. */
static int check_tied(struct import *import, const struct safetensors_tensor *t, const char *twin,
                      struct error *error) {
        for (uint32_t i = 0; i < safetensors_n(import->file); i++) {
                const struct safetensors_tensor *u = safetensors_tensor(import->file, i);
                if (!import->used[i] || !ends_with(u->name, twin))
                        continue;
                if (u->size == t->size && memcmp(u->data, t->data, t->size) == 0)
                        return 0;
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s/model.safetensors: %.100s is not %.100s: a decoder of its own is not supported",
                                   import->folder, t->name, u->name);
        }
        return 0;
}

static int check_rest(struct import *import, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < safetensors_n(import->file); i++) {
                const struct safetensors_tensor *t = safetensors_tensor(import->file, i);
                if (import->used[i] || ends_with(t->name, "position_ids"))
                        continue;
                if (ends_with(t->name, "predictions.decoder.weight"))
                        r = check_tied(import, t, "word_embeddings.weight", error);
                else if (ends_with(t->name, "predictions.decoder.bias"))
                        r = check_tied(import, t, "predictions.bias", error);
                else
                        (void) fprintf(stderr, "bert-trainer: %.100s is no tensor of this model and is left out\n",
                                       t->name);
        }
        return r;
}

/* ---- the folder ---- */

static int open_weights(struct import *import, struct error *error) {
        cleanup_free char *path = format_string("%s/model.safetensors", import->folder);
        cleanup_free char *pickle = format_string("%s/pytorch_model.bin", import->folder);
        cleanup_free char *index = format_string("%s/model.safetensors.index.json", import->folder);

        if (!path || !pickle || !index)
                return error_errno(error, ENOMEM, "%s", import->folder);
        if (access(path, F_OK) < 0 && access(index, F_OK) == 0)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: the weights are in several files; save them as one in Python: "
                                   "model.save_pretrained(FOLDER, max_shard_size='100GB')",
                                   import->folder);
        if (access(path, F_OK) < 0 && access(pickle, F_OK) == 0)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: pytorch_model.bin is a Python pickle, which runs code when it is read; save it "
                                   "as model.safetensors in Python: "
                                   "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                                   import->folder);
        return safetensors_open(path, &import->file, error);
}

static int open_model(struct import *import, struct error *error) {
        static const struct model_limits smallest = {
                .max_tokens = 8, .max_samples = 1, .max_masked = 1, .max_length = 8
        };
        cleanup_free char *path = format_string("%s/config.json", import->folder);

        if (!path)
                return error_errno(error, ENOMEM, "%s", import->folder);
        int r = config_load(path, &import->config, error);
        if (r >= 0)
                r = model_new(&import->config, ops_cpu(), &smallest, &import->model, error);
        if (r >= 0)
                model_init(import->model, HEAD_SEED);
        return r;
}

/* As BertTokenizer reads tokenizer_config.json: accents go with lowercasing where nothing is said of them. */
static int set_text(struct import *import, const char *vocab, struct checkpoint_meta *meta, struct error *error) {
        cleanup_free char *path = format_string("%s/tokenizer_config.json", import->folder), *text = NULL;
        cleanup_free char *absolute = realpath(vocab, NULL);
        json_t *root = NULL;
        size_t size;

        if (!path || !absolute)
                return error_errno(error, errno, "%s", vocab);
        int r = access(path, F_OK) == 0 ? file_read(path, TOKENIZER_CONFIG_MAX, &text, &size, error) : 0;
        if (r < 0)
                return r;
        if (text && !(root = json_loadb(text, size, 0, NULL)))
                return error_input(error, BERTD_EXIT_DATA, "%s: not JSON", path);
        const json_t *strip = json_object_get(root, "strip_accents");
        struct text_options options = { .lowercase = !json_is_false(json_object_get(root, "do_lower_case")),
                                        .chinese = !json_is_false(json_object_get(root, "tokenize_chinese_chars")) };
        options.strip_accents = json_is_boolean(strip) ? json_is_true(strip) : options.lowercase;
        if (json_is_boolean(json_object_get(root, "keep_accents"))) /* AlbertTokenizer */
                options.strip_accents = json_is_false(json_object_get(root, "keep_accents"));
        options.quotes = options.nfkd = true;
        weights_set_text(meta, absolute, &options);
        json_decref(root);
        return 0;
}

static int set_vocabulary(struct import *import, struct checkpoint_meta *meta, struct error *error) {
        cleanup_free char *text = format_string("%s/vocab.txt", import->folder);
        cleanup_free char *model = format_string("%s/spiece.model", import->folder);
        cleanup_vocab struct vocab *vocab = NULL;
        char hash[VOCAB_HASH_MAX];

        if (!text || !model)
                return error_errno(error, ENOMEM, "%s", import->folder);
        const char *path = access(text, F_OK) == 0 ? text : model;
        if (access(path, F_OK) < 0)
                return 0;
        int r = vocab_load(path, &vocab, error);
        if (r < 0)
                return r;
        if (vocab_size(vocab) > import->config.vocab_size)
                return error_input(error, BERTD_EXIT_DATA, "%s: %u tokens, but config.json has a vocab_size of %u",
                                   path, vocab_size(vocab), import->config.vocab_size);
        vocab_hash(vocab, hash);
        checkpoint_meta_set(meta, "vocab_hash", "%s", hash);
        return set_text(import, path, meta, error);
}

static int run_import(struct import *import, const char *output, struct error *error) {
        struct checkpoint_meta meta = {};

        int r = open_model(import, error);
        if (r >= 0)
                r = open_weights(import, error);
        if (r < 0)
                return r;
        import->used = calloc(safetensors_n(import->file) + 1, sizeof(*import->used));
        if (!import->used)
                return error_errno(error, ENOMEM, "%s", import->folder);
        r = take_tensors(import, error);
        if (r >= 0)
                r = check_rest(import, error);
        if (r >= 0)
                r = set_vocabulary(import, &meta, error);
        if (r >= 0)
                r = weights_write(output, import->model, &import->config, import->folder, &meta, error);
        return r;
}

int cmd_import(int argc, char **argv) {
        static const struct option options[] = { { "output", required_argument, NULL, 'o' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 {} };
        struct import import = {};
        struct error error = {};
        const char *output = NULL;

        for (int o; (o = getopt_long(argc, argv, "o:h", options, NULL)) >= 0;) {
                if (o == 'h')
                        return fputs(USAGE, stdout) < 0 ? BERTD_EXIT_IO : BERTD_EXIT_OK;
                if (o != 'o')
                        return fputs(USAGE, stderr) < 0 ? BERTD_EXIT_IO : BERTD_EXIT_USAGE;
                output = optarg;
        }
        if (argc - optind != 1 || !output)
                return fputs(USAGE, stderr) < 0 ? BERTD_EXIT_IO : BERTD_EXIT_USAGE;
        import.folder = argv[optind];
        int r = run_import(&import, output, &error);
        if (r >= 0)
                (void) fprintf(stderr, "%s: %" PRIu64 " parameters of %s\n", output, model_n_parameters(import.model),
                               import.folder);
        safetensors_close(import.file);
        model_free(import.model);
        free(import.used);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
