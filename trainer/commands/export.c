/*
 * `bert-trainer export`; see commands.h. Owns the open checkpoint and the weights that it read. A layer of Hugging Face's model gets the
 * tensors of the same layer of ours, whichever layers share them on either side: both follow from the layouts.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/checkpoint/task.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/commands.h"
#include "trainer/hf/safetensors.h"
#include "trainer/hf/written.h"
#include "trainer/infer/bundle.h"
#include "trainer/infer/fit.h"
#include "trainer/model/heads.h"
#include "trainer/model/layout.h"
#include "trainer/text/vocab.h"

static const char HELP[] = "usage: bert-trainer export [OPTION...] CHECKPOINT --output HF_DIR\n\n"
                           "Writes the weights as a Hugging Face folder: config.json, model.safetensors,\n"
                           "vocab.txt, tokenizer_config.json.\n\n"
                           "  -o, --output HF_DIR      the folder, created if it does not exist; one that is\n"
                           "                           not empty is refused\n"
                           "      --force              replace the model in it: its config, weights,\n"
                           "                           vocabulary and tokenizer files\n"
                           "      --vocab FILE         the vocabulary, of a checkpoint that has none\n"
                           "      --task NAME          of a checkpoint of several tasks: the one to write\n"
                           "      --sequence-length N  tokens of a text, at most (default: as in its\n"
                           "                           training)\n"
                           "      --truncation head|tail\n"
                           "                           the part of a longer text that is kept (default: as\n"
                           "                           in its training)\n"
                           "  -h, --help               print this help\n";

struct exporter {
        const char *folder, *vocab; /* vocab: --vocab FILE, or NULL */
        bool force;
        uint64_t sequence_length; /* 0: the checkpoint's */
        int truncation;           /* −1: the checkpoint's */
        struct bundle bundle;
        struct model_config hf_config;
        struct model_layout layout, hf_layout;
        uint32_t *origin;      /* (tensors of hf_layout) index in layout, or NONE */
        void **data;           /* (tensors of layout) owned */
        const char *task_name; /* NULL: the only one */
        struct task task;      /* empty without a classifier */
};

enum { NONE = UINT32_MAX };
#define LENGTH_MIN 8 /* as data.sequence_length */

/* transformers shares whole layers of a group or nothing, and always maps E to H. */
static struct model_config config_for_hf(const struct model_config *config, const struct task *task) {
        struct model_config hf = *config;

        hf.classifier.n_labels = task_width(task); /* one head; none of a stage that pretrains */
        hf.without_pretraining_heads = hf.classifier.n_labels > 0;
        if (hf.model_type == MODEL_BERT)
                return hf;
        hf.embedding_mapping = true;
        if (hf.cross_layer_sharing == SHARING_ATTENTION || hf.cross_layer_sharing == SHARING_FFN) {
                hf.cross_layer_sharing = SHARING_NONE;
                hf.num_hidden_groups = hf.num_hidden_layers;
        }
        return hf;
}

static void map_run(struct exporter *x, uint32_t to, uint32_t from, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                x->origin[to + i] = from + i;
}

static int map_tensors(struct exporter *x, struct error *error) {
        const struct model_layout *own = &x->layout, *hf = &x->hf_layout;

        x->origin = malloc(hf->n_tensors * sizeof(*x->origin));
        x->data = calloc(own->n_tensors, sizeof(*x->data));
        if (!x->origin || !x->data)
                return error_errno(error, ENOMEM, "%s", x->folder);
        for (uint32_t i = 0; i < hf->n_tensors; i++)
                x->origin[i] = NONE;
        map_run(x, 0, 0, SLOT_ENCODER + (x->bundle.config.embedding_mapping ? MAPPING_SLOTS : 0));
        for (uint32_t l = 0; l < config_n_layers(&x->bundle.config); l++) {
                map_run(x, hf->attention[l], own->attention[l], ATTENTION_SLOTS);
                map_run(x, hf->feed_forward[l], own->feed_forward[l], FEED_FORWARD_SLOTS);
        }
        map_run(x, hf->head, own->head, x->hf_config.without_pretraining_heads ? HEAD_DECODER_BIAS : HEAD_SLOTS);
        if (x->hf_config.classifier.n_labels > 0)
                map_run(x, hf->classifier, own->classifier, CLASSIFIER_SLOTS);
        return 0;
}

static int read_weights(struct exporter *x, bool *ret_double, struct error *error) {
        const char *path = checkpoint_path(x->bundle.checkpoint);

        for (uint32_t i = 0; i < x->layout.n_tensors; i++) {
                const struct model_tensor *t = &x->layout.tensors[i];
                int64_t index = checkpoint_find(x->bundle.checkpoint, t->name, "param");
                const struct checkpoint_tensor *found =
                        index < 0 ? NULL : checkpoint_tensor(x->bundle.checkpoint, (uint32_t) index);
                if (!found || found->n_dims != t->n_dims ||
                    memcmp(found->shape, t->shape, t->n_dims * sizeof(t->shape[0])) != 0)
                        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                           "%s: tensor %s is missing or has another shape than its config", path,
                                           t->name);
                *ret_double = strcmp(found->dtype, "float64") == 0;
                x->data[i] = malloc(found->size);
                if (!x->data[i])
                        return error_errno(error, ENOMEM, "%s", path);
                int r = checkpoint_read_tensor(x->bundle.checkpoint, (uint32_t) index, x->data[i], error);
                if (r < 0)
                        return r;
        }
        return checkpoint_check_file(x->bundle.checkpoint, error);
}

/* The map that a model without one is as good as: identity, and no bias. Caller frees. */
static void *make_identity(const struct model_tensor *t, bool is_double) {
        size_t size = is_double ? sizeof(double) : sizeof(float);
        char *data = calloc(t->n_elements, size);

        for (uint32_t i = 0; data && t->n_dims == 2 && i < t->shape[0]; i++) {
                size_t at = (size_t) i * t->shape[1] + i;
                if (is_double)
                        ((double *) (void *) data)[at] = 1;
                else
                        ((float *) (void *) data)[at] = 1;
        }
        return data;
}

static int write_weights(struct exporter *x, bool is_double, struct error *error) {
        const struct model_layout *hf = &x->hf_layout;
        cleanup_free struct safetensors_tensor *tensors = calloc(hf->n_tensors, sizeof(*tensors));
        cleanup_free char *path = format_string("%s/model.safetensors", x->folder);
        void *made[MAPPING_SLOTS] = {};
        size_t n_made = 0;
        char fresh[HEADS_TEXT_MAX];

        heads_format(x->bundle.fresh & heads_of(&x->hf_config), fresh);

        for (uint32_t i = 0; tensors && i < hf->n_tensors; i++) {
                const struct model_tensor *t = &hf->tensors[i];
                size_t skip = t->part == PART_CLASSIFIER ? x->task.first * (t->n_elements / task_width(&x->task)) : 0;
                const void *data = x->origin[i] == NONE
                                           ? (made[n_made++] = make_identity(t, is_double))
                                           : (const char *) x->data[x->origin[i]] + skip * (is_double ? 8 : 4);
                tensors[i] = (struct safetensors_tensor) { .name = t->name,
                                                           .dtype = is_double ? SAFETENSORS_F64 : SAFETENSORS_F32,
                                                           .n_dims = t->n_dims,
                                                           .shape = { t->shape[0], t->shape[1] },
                                                           .data = data,
                                                           .size = t->n_elements * (is_double ? 8 : 4) };
        }
        bool complete = tensors && path && (n_made == 0 || (made[0] && made[1]));
        int r = complete ? safetensors_write(path, tensors, hf->n_tensors, fresh, error)
                         : error_errno(error, ENOMEM, "%s", x->folder);
        free(made[0]);
        free(made[1]);
        return r;
}

/* ---- the small files ---- */

static int write_json(const struct exporter *x, const char *name, json_t *json, struct error *error) {
        cleanup_free char *path = format_string("%s/%s", x->folder, name);
        cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
        cleanup_free char *line = text ? format_string("%s\n", text) : NULL;

        json_decref(json);
        if (!path || !line)
                return error_errno(error, ENOMEM, "%s", x->folder);
        return file_write_atomic(path, line, strlen(line), 0666, error);
}

/* transformers' classifiers see the last layer through the pooler, of one sequence. */
static int check_classifier(const struct exporter *x, struct error *error) {
        const struct classifier_config *c = &x->bundle.config.classifier;

        if (task_width(&x->task) == 0 || (c->input == INPUT_POOLED && c->n_layers == 1 && !c->segmented &&
                                          c->first_layer + 1 == config_n_layers(&x->bundle.config)))
                return 0;
        return error_input(error, BERTD_EXIT_DATA,
                           "%s: transformers has no such classifier: expected the last layer, pooled, and no segments",
                           checkpoint_path(x->bundle.checkpoint));
}

/* id2label and label2id, what a label is, and the dropout under the name that the model type has for it. */
static void add_classifier(const struct exporter *x, json_t *config) {
        bool bert = x->bundle.config.model_type == MODEL_BERT;
        json_t *names = json_object(), *ids = json_object();
        char key[16];

        for (uint32_t i = 0; i < task_width(&x->task); i++) {
                const char *name = x->task.numbers ? "LABEL_0" : x->task.labels.name[i];
                (void) snprintf(key, sizeof(key), "%u", i);
                (void) json_object_set_new(names, key, json_string(name));
                (void) json_object_set_new(ids, name, json_integer(i));
        }
        (void) json_object_set_new(config, "id2label", names);
        (void) json_object_set_new(config, "label2id", ids);
        (void) json_object_set_new(config, bert ? "classifier_dropout" : "classifier_dropout_prob",
                                   json_real(x->bundle.config.classifier.dropout));
        if (x->task.numbers)
                (void) json_object_set_new(config, "num_labels", json_integer(1));
        (void) json_object_set_new(config, "problem_type",
                                   json_string(x->task.numbers ? "regression" : "single_label_classification"));
}

static int write_config(const struct exporter *x, bool is_double, struct error *error) {
        static const char *const classes[MODEL_TYPE_MAX][2] = {
                [MODEL_BERT] = { "BertForPreTraining", "BertForSequenceClassification" },
                [MODEL_ALBERT] = { "AlbertForPreTraining", "AlbertForSequenceClassification" },
        };
        bool classifier = task_width(&x->task) > 0;
        json_t *json = config_json(&x->hf_config);

        (void) json_object_del(json, "cross_layer_sharing");
        (void) json_object_del(json, "embedding_mapping");
        (void) json_object_del(json, "classifier");
        (void) json_object_del(json, "without_pretraining_heads");
        (void) json_object_set_new(json, "architectures",
                                   json_pack("[s]", classes[x->bundle.config.model_type][classifier]));
        (void) json_object_set_new(json, "torch_dtype", json_string(is_double ? "float64" : "float32"));
        if (classifier)
                add_classifier(x, json);
        return write_json(x, "config.json", json, error);
}

static const char *special_name(const struct exporter *x, const char *role) {
        return vocab_token(x->bundle.vocab, vocab_special(x->bundle.vocab, role));
}

/* transformers cuts one end of a text. */
static int set_lengths(struct exporter *x, struct error *error) {
        struct texts_options *lengths = &x->bundle.lengths;
        const char *path = checkpoint_path(x->bundle.checkpoint);

        if (x->truncation >= 0)
                lengths->truncation = (enum truncation) x->truncation;
        if (lengths->truncation != TRUNCATION_HEAD && lengths->truncation != TRUNCATION_TAIL)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: its texts kept their head and their tail (data.truncation: head_tail), which a "
                                   "Hugging Face folder cannot express; choose --truncation head or --truncation tail",
                                   path);
        if (x->sequence_length > 0)
                lengths->sequence_length = (uint32_t) x->sequence_length;
        return fit_length(path, &x->bundle.config, "--sequence-length", lengths->sequence_length, BERTD_EXIT_DATA,
                          error);
}

/* As BertTokenizer and AlbertTokenizer read it. */
static int write_tokenizer(const struct exporter *x, bool sentencepiece, struct error *error) {
        const struct text_options o = x->bundle.text;

        json_t *json = json_pack("{s:s, s:b, s:I, s:s, s:s, s:s, s:s, s:s}", "tokenizer_class",
                                 sentencepiece ? "AlbertTokenizer" : "BertTokenizer", "do_lower_case", o.lowercase,
                                 "model_max_length", (json_int_t) x->bundle.lengths.sequence_length, "unk_token",
                                 special_name(x, "[UNK]"), "sep_token", special_name(x, "[SEP]"), "pad_token",
                                 special_name(x, "[PAD]"), "cls_token", special_name(x, "[CLS]"), "mask_token",
                                 special_name(x, "[MASK]"));
        if (json && vocab_added(x->bundle.vocab)->n > 0)
                (void) json_object_set_new(json, "added_tokens_decoder", added_decoder(vocab_added(x->bundle.vocab)));
        if (json && x->bundle.lengths.truncation == TRUNCATION_TAIL)
                (void) json_object_set_new(json, "truncation_side", json_string("left"));
        if (json && sentencepiece) {
                (void) json_object_set_new(json, "keep_accents", json_boolean(!o.strip_accents));
                (void) json_object_set_new(json, "remove_space", json_true());
        } else if (json) {
                (void) json_object_set_new(json, "strip_accents", json_boolean(o.strip_accents));
                (void) json_object_set_new(json, "tokenize_chinese_chars", json_boolean(o.chinese));
        }
        return write_json(x, "tokenizer_config.json", json, error);
}

static int write_vocabulary(const struct exporter *x, struct error *error) {
        const struct asset *asset = assets_vocabulary(&x->bundle.assets);

        if (!asset) {
                (void) fprintf(stderr, "bert-trainer: the checkpoint knows of no vocabulary: the folder gets none\n");
                return 0;
        }
        cleanup_free char *to = format_string("%s/%s", x->folder, asset->name);
        if (!to)
                return error_errno(error, ENOMEM, "%s", x->folder);
        int r = file_write_atomic(to, asset->data, asset->size, 0666, error);
        return r < 0 ? r : write_tokenizer(x, vocab_sentencepiece(x->bundle.vocab) != NULL, error);
}

/* transformers has no word for it. */
static void say_fresh(const struct exporter *x) {
        unsigned fresh = x->bundle.fresh & heads_of(&x->hf_config);
        char names[128];

        heads_describe(fresh, names, sizeof(names));
        if (fresh)
                (void) fprintf(stderr, "bert-trainer: %s: never trained, and random in %s: %s\n",
                               checkpoint_path(x->bundle.checkpoint), x->folder, names);
}

/* The old model is removed only now that all of the checkpoint has been read. */
static int write_folder(struct exporter *x, bool is_double, struct error *error) {
        int r = model_folder_clear(x->folder, error);

        if (r < 0)
                return r;
        r = write_vocabulary(x, error);
        if (r >= 0)
                r = write_weights(x, is_double, error);
        if (r >= 0)
                r = write_config(x, is_double, error);
        if (r < 0)
                model_folder_drop(x->folder);
        return r;
}

static int take(void *context, int option, struct error *error) {
        static const char *const sides[] = { [TRUNCATION_HEAD] = "head", [TRUNCATION_TAIL] = "tail" };
        struct exporter *x = context;

        switch (option) {
        case 'o':
                x->folder = optarg;
                return 0;
        case 'f':
                x->force = true;
                return 0;
        case 'v':
                x->vocab = optarg;
                return 0;
        case 't':
                x->task_name = optarg;
                return 0;
        case 's':
                x->truncation = usage_choice("--truncation", optarg, sides, ELEMENTSOF(sides), error);
                return MIN(x->truncation, 0);
        default:
                if (parse_u64(optarg, LENGTH_MIN, INT32_MAX, &x->sequence_length) >= 0)
                        return 0;
                return error_input(error, BERTD_EXIT_USAGE, "--sequence-length: '%.64s', expected %d to %d tokens",
                                   optarg, LENGTH_MIN, INT32_MAX);
        }
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":o:h",
        .options = (const struct option[]) { { "output", required_argument, NULL, 'o' },
                                             { "force", no_argument, NULL, 'f' },
                                             { "vocab", required_argument, NULL, 'v' },
                                             { "task", required_argument, NULL, 't' },
                                             { "sequence-length", required_argument, NULL, 'l' },
                                             { "truncation", required_argument, NULL, 's' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = 1,
        .words = "CHECKPOINT",
        .take = take,
};

static int run_export(struct exporter *x, const char *path, struct error *error) {
        bool is_double = false;

        int r = bundle_open(&x->bundle, path, USE_EXPORT, x->vocab, error);
        if (r < 0)
                return r;
        if (task_any(x->bundle.checkpoint, &x->bundle.config))
                r = task_find(x->bundle.checkpoint, x->task_name, &x->bundle.config, &x->task, error);
        else if (x->task_name)
                r = error_input(error, BERTD_EXIT_DATA, "%s: holds no classifier, so no task '%.64s'", path,
                                x->task_name);
        else if (x->bundle.config.without_pretraining_heads)
                r = error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: holds neither classes nor pretraining heads",
                                path);
        if (r >= 0)
                r = check_classifier(x, error);
        if (r >= 0)
                r = set_lengths(x, error);
        if (r >= 0)
                r = model_folder_check(x->folder, x->force, error);
        if (r < 0)
                return r;
        x->hf_config = config_for_hf(&x->bundle.config, &x->task);
        r = model_layout_new(&x->bundle.config, &x->layout, error);
        if (r >= 0)
                r = model_layout_new(&x->hf_config, &x->hf_layout, error);
        if (r >= 0)
                r = map_tensors(x, error);
        if (r >= 0)
                r = read_weights(x, &is_double, error);
        if (r >= 0)
                r = write_folder(x, is_double, error);
        if (r >= 0)
                say_fresh(x);
        return r;
}

static void release(struct exporter *x) {
        for (uint32_t i = 0; x->data && i < x->layout.n_tensors; i++)
                free(x->data[i]);
        free(x->data);
        free(x->origin);
        task_free(&x->task);
        model_layout_free(&x->layout);
        model_layout_free(&x->hf_layout);
        bundle_close(&x->bundle);
}

int cmd_export(int argc, char **argv) {
        struct exporter x = { .truncation = -1 };
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &x, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0 && !x.folder)
                r = usage_missing("--output HF_DIR", argv[0], &error);
        if (r == 0)
                r = run_export(&x, argv[optind], &error);
        if (r >= 0)
                (void) fprintf(stderr, "%s: %" PRIu64 " parameters of %s\n", x.folder, x.hf_layout.n_parameters,
                               argv[optind]);
        release(&x);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
