/*
 * Hugging Face's config.json → struct model_config. One table names every number with its range and default; nothing else knows
 * its key. Defaults exist only where Hugging Face's BertConfig and AlbertConfig have been silent about a key in published files.
 */
#include "trainer/model/config.h"

#include <errno.h>
#include <stdint.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "common/json_read.h"

#define CONFIG_SIZE_MAX ((size_t) 1 << 20)

#define BOTH (1u << MODEL_BERT | 1u << MODEL_ALBERT)
#define ALBERT (1u << MODEL_ALBERT)

struct integer_key {
        const char *name;
        size_t offset;
        uint32_t min, max, default_value; /* 0: the key must be there */
        unsigned types;                   /* bit set of model types that read it */
};
struct real_key {
        const char *name;
        size_t offset;
        double min, max; /* max itself is refused */
        double default_value[MODEL_TYPE_MAX];
};

#define FIELD(f) #f, offsetof(struct model_config, f)
static const struct integer_key integer_keys[] = {
        { FIELD(vocab_size), 8, 1 << 22, 0, BOTH },      { FIELD(hidden_size), 1, 16384, 0, BOTH },
        { FIELD(num_hidden_layers), 1, 256, 0, BOTH },   { FIELD(num_attention_heads), 1, 256, 0, BOTH },
        { FIELD(intermediate_size), 1, 65536, 0, BOTH }, { FIELD(max_position_embeddings), 8, 65536, 512, BOTH },
        { FIELD(type_vocab_size), 1, 16, 2, BOTH },      { FIELD(embedding_size), 1, 16384, 128, ALBERT },
        { FIELD(inner_group_num), 1, 16, 1, ALBERT },
};
static const struct real_key real_keys[] = {
        { FIELD(hidden_dropout_prob), 0, 1, { 0.1, 0 } },
        { FIELD(attention_probs_dropout_prob), 0, 1, { 0.1, 0 } },
        { FIELD(initializer_range), 0, 1, { 0.02, 0.02 } },
        { FIELD(layer_norm_eps), 0, 1, { 1e-12, 1e-12 } },
};
static const struct integer_key groups_key = { FIELD(num_hidden_groups), 1, 256, 1, ALBERT };
static const char *const model_types[MODEL_TYPE_MAX] = { [MODEL_BERT] = "bert", [MODEL_ALBERT] = "albert" };
static const char *const hidden_acts[ACT_MAX] = {
        [ACT_GELU] = "gelu", [ACT_GELU_NEW] = "gelu_new", [ACT_RELU] = "relu"
};
/* Other names that transformers has for the same function. */
static const struct {
        const char *name;
        enum hidden_act act;
} act_names[] = {
        { "gelu_python", ACT_GELU },       { "gelu_fast", ACT_GELU_NEW },        { "gelu_pytorch_tanh", ACT_GELU_NEW },
        { "gelu_accurate", ACT_GELU_NEW }, { "gelu_python_tanh", ACT_GELU_NEW },
};
static const char *const sharings[SHARING_MAX] = {
        [SHARING_NONE] = "none", [SHARING_ATTENTION] = "attention", [SHARING_FFN] = "ffn", [SHARING_ALL] = "all"
};

static void cleanup_json_p(json_t **json) { json_decref(*json); }

static int read_integer(const char *path, json_t *root, const struct integer_key *key, struct model_config *config,
                        struct error *error) {
        json_t *value = json_object_get(root, key->name);
        uint32_t *field = (uint32_t *) ((char *) config + key->offset);

        if (!value && key->default_value) {
                *field = key->default_value;
                return 0;
        }
        if (!value)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: key %s is missing", path, key->name);
        if (!json_is_integer(value))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is not a whole number", path, key->name);
        json_int_t n = json_integer_value(value);
        if (n < key->min || n > key->max)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is %" JSON_INTEGER_FORMAT ", expected %u to %u",
                                   path, key->name, n, key->min, key->max);
        *field = (uint32_t) n;
        return 0;
}

static int read_real(const char *path, json_t *root, const struct real_key *key, struct model_config *config,
                     struct error *error) {
        json_t *value = json_object_get(root, key->name);
        double *field = (double *) ((char *) config + key->offset);

        if (!value) {
                *field = key->default_value[config->model_type];
                return 0;
        }
        if (!json_is_number(value))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is not a number", path, key->name);
        *field = json_number_value(value);
        if (!(*field >= key->min && *field < key->max))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is %g, expected at least %g and below %g", path,
                                   key->name, *field, key->min, key->max);
        return 0;
}

/* One of `n` names; `fallback` where the key is absent. */
static int read_choice(const char *path, json_t *root, const char *key, const char *const names[], unsigned n,
                       unsigned fallback, unsigned *ret, struct error *error) {
        json_t *value = json_object_get(root, key);
        const char *name = json_plain_string(value);
        char expected[128] = "";
        size_t used = 0;

        if (value && !name)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is not a string", path, key);
        for (unsigned i = 0; i < n; i++) {
                if (name ? strcmp(name, names[i]) == 0 : i == fallback) {
                        *ret = i;
                        return 0;
                }
                used += (size_t) snprintf(expected + used, sizeof(expected) - used, "%s%s",
                                          i == 0       ? ""
                                          : i + 1 == n ? " or "
                                                       : ", ",
                                          names[i]);
        }
        return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is '%.40s', expected %s", path, key, name, expected);
}

static int read_act(const char *path, json_t *root, struct model_config *config, struct error *error) {
        const char *name = json_text_at(root, "hidden_act");
        unsigned act = 0;

        for (size_t i = 0; name && i < ELEMENTSOF(act_names); i++)
                if (strcmp(name, act_names[i].name) == 0) {
                        config->hidden_act = act_names[i].act;
                        return 0;
                }
        int r = read_choice(path, root, "hidden_act", hidden_acts, ACT_MAX,
                            config->model_type == MODEL_ALBERT ? ACT_GELU_NEW : ACT_GELU, &act, error);
        config->hidden_act = act;
        return r;
}

static int read_truth(const char *path, json_t *root, const char *key, bool fallback, bool *ret, struct error *error) {
        json_t *value = json_object_get(root, key);

        if (value && !json_is_boolean(value))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is not true or false", path, key);
        *ret = value ? json_is_true(value) : fallback;
        return 0;
}

/* Keys that change what the model computes and that this program does not have: running on would train another model. */
static int refuse_others(const char *path, json_t *root, struct error *error) {
        const char *position = json_string_value(json_object_get(root, "position_embedding_type"));

        if (position && strcmp(position, "absolute") != 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: position_embedding_type is '%.40s', expected absolute", path, position);
        if (json_is_true(json_object_get(root, "is_decoder")))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: is_decoder is true, expected false", path);
        if (json_object_size(json_object_get(root, "pruned_heads")) > 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: pruned_heads: heads of attention are pruned, expected none", path);
        if (json_is_false(json_object_get(root, "tie_word_embeddings")))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: tie_word_embeddings is false, expected true", path);
        return 0;
}

void config_set_bert(struct model_config *config) {
        config->model_type = MODEL_BERT;
        config->embedding_size = config->hidden_size;
        config->num_hidden_groups = config->num_hidden_layers;
        config->inner_group_num = 1;
        config->cross_layer_sharing = SHARING_NONE;
        config->embedding_mapping = false;
}

/* Groups and sharing express the same thing twice: what the file leaves out follows from what it has. */
static int check_sharing(const char *path, json_t *root, struct model_config *c, struct error *error) {
        const char *sharing = sharings[c->cross_layer_sharing];

        if (c->cross_layer_sharing == SHARING_NONE && !json_object_get(root, "num_hidden_groups"))
                c->num_hidden_groups = c->num_hidden_layers;
        if (c->num_hidden_groups > c->num_hidden_layers)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: num_hidden_groups is %u, more than num_hidden_layers, %u", path,
                                   c->num_hidden_groups, c->num_hidden_layers);
        if (c->cross_layer_sharing == SHARING_NONE && c->num_hidden_groups != c->num_hidden_layers)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: cross_layer_sharing is none, but num_hidden_groups is %u, expected %u (one for "
                                   "each layer)",
                                   path, c->num_hidden_groups, c->num_hidden_layers);
        if ((c->cross_layer_sharing == SHARING_ATTENTION || c->cross_layer_sharing == SHARING_FFN) &&
            c->num_hidden_groups != 1)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: cross_layer_sharing is %s, but num_hidden_groups is %u, expected 1", path,
                                   sharing, c->num_hidden_groups);
        if (c->cross_layer_sharing == SHARING_ALL && c->num_hidden_layers > 1 &&
            c->num_hidden_groups == c->num_hidden_layers && json_object_get(root, "cross_layer_sharing"))
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: cross_layer_sharing is all, but num_hidden_groups is %u, one for each layer",
                                   path, c->num_hidden_groups);
        return 0;
}

static int read_albert(const char *path, json_t *root, struct model_config *config, struct error *error) {
        unsigned sharing = SHARING_ALL;

        int r = read_integer(path, root, &groups_key, config, error);
        if (r >= 0)
                r = read_choice(path, root, "cross_layer_sharing", sharings, SHARING_MAX, SHARING_ALL, &sharing, error);
        if (r >= 0)
                r = read_truth(path, root, "embedding_mapping", true, &config->embedding_mapping, error);
        if (r < 0)
                return r;
        config->cross_layer_sharing = sharing;
        r = check_sharing(path, root, config, error);
        if (r < 0)
                return r;
        /* As many groups as layers is the published way to write "nothing is shared". */
        if (config->num_hidden_groups == config->num_hidden_layers)
                config->cross_layer_sharing = SHARING_NONE;
        if (!config->embedding_mapping && config->embedding_size != config->hidden_size)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: embedding_mapping is false, but embedding_size is %u and hidden_size %u", path,
                                   config->embedding_size, config->hidden_size);
        return 0;
}

static int read_numbers(const char *path, json_t *root, struct model_config *config, struct error *error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(integer_keys); i++)
                if (integer_keys[i].types & (1u << config->model_type))
                        r = read_integer(path, root, &integer_keys[i], config, error);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(real_keys); i++)
                r = read_real(path, root, &real_keys[i], config, error);
        return r;
}

static const char *const targets[CLASSIFIER_TARGET_MAX] = { "class", "number" };
static const char *const combines[CLASSIFIER_COMBINE_MAX] = { "concat", "mean", "max" };
static const char *const inputs[CLASSIFIER_INPUT_MAX] = { "auto", "pooled", "cls" };
static const char *const segment_pools[CLASSIFIER_SEGMENTS_MAX] = { "mean", "max", "attention" };

/* As config_json writes it, into checkpoints. */
static int read_classifier(const char *path, json_t *root, struct model_config *config, struct error *error) {
        static const struct integer_key keys[] = {
                { FIELD(classifier.n_labels), 1, 1 << 20, 0, BOTH },
                { FIELD(classifier.first_layer), 0, 4096, 0, BOTH },
                { FIELD(classifier.n_layers), 1, 4096, 0, BOTH },
        };
        json_t *object = json_object_get(root, "classifier");
        struct classifier_config *c = &config->classifier;
        unsigned combine = 0, input = 0, segments = 0, target = 0;
        int r = read_truth(path, root, "without_pretraining_heads", false, &config->without_pretraining_heads, error);

        for (size_t i = 0; object && r >= 0 && i < ELEMENTSOF(keys); i++) {
                struct integer_key key = keys[i];
                key.name += strlen("classifier.");
                r = read_integer(path, object, &key, config, error);
        }
        if (!object || r < 0)
                return r;
        r = read_choice(path, object, "combine", combines, CLASSIFIER_COMBINE_MAX, 0, &combine, error);
        if (r >= 0)
                r = read_choice(path, object, "input", inputs, CLASSIFIER_INPUT_MAX, 0, &input, error);
        if (r >= 0)
                r = read_choice(path, object, "segments", segment_pools, CLASSIFIER_SEGMENTS_MAX, 0, &segments, error);
        if (r >= 0)
                r = read_choice(path, object, "target", targets, CLASSIFIER_TARGET_MAX, TARGET_CLASS, &target, error);
        if (r >= 0)
                r = read_truth(path, object, "segmented", false, &c->segmented, error);
        if (r < 0)
                return r;
        c->combine = combine;
        c->input = input;
        c->segments = segments;
        c->target = target;
        c->dropout = json_number_value(json_object_get(object, "dropout"));
        if (!(c->dropout >= 0 && c->dropout < 1))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: classifier.dropout is not at least 0 and below 1",
                                   path);
        if (c->target == TARGET_NUMBER && c->n_labels != 1)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: classifier.n_labels: %u, expected 1 of a number",
                                   path, c->n_labels);
        if (c->first_layer + c->n_layers > config_n_layers(config) ||
            (input == INPUT_POOLED && config_features(config) != config->hidden_size))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: classifier: layers %u to %u do not fit the model",
                                   path, c->first_layer, c->first_layer + c->n_layers - 1);
        return 0;
}

static int read_config(const char *path, json_t *root, struct model_config *config, struct error *error) {
        unsigned type = 0;

        int r = read_choice(path, root, "model_type", model_types, MODEL_TYPE_MAX, MODEL_BERT, &type, error);
        config->model_type = type;
        if (r >= 0)
                r = refuse_others(path, root, error);
        if (r >= 0)
                r = read_numbers(path, root, config, error);
        if (r >= 0)
                r = read_act(path, root, config, error);
        if (r < 0)
                return r;
        if (config->hidden_size % config->num_attention_heads != 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: num_attention_heads is %u, which does not divide hidden_size %u", path,
                                   config->num_attention_heads, config->hidden_size);
        if (type == MODEL_ALBERT)
                r = read_albert(path, root, config, error);
        else
                config_set_bert(config);
        return r < 0 ? r : read_classifier(path, root, config, error);
}

int config_parse(const char *path, const char *text, size_t size, struct model_config *ret_config,
                 struct error *error) {
        cleanup(cleanup_json_p) json_t *root = NULL;
        struct model_config config = {};
        json_error_t json_error;

        int refused = file_refuse_pointer(path, text, size, error);
        if (refused < 0)
                return refused;
        root = json_read(text, size, JSON_REJECT_DUPLICATES, &json_error);
        if (!root)
                return error_input(error, BERTD_EXIT_CONFIG, "%s:%d: %s", path, json_error.line, json_error.text);
        if (!json_is_object(root))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: not a JSON object", path);
        int r = read_config(path, root, &config, error);
        if (r < 0)
                return r;
        *ret_config = config;
        return 0;
}

int config_load(const char *path, struct model_config *ret_config, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        if (file_is_sqlite(path))
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: a checkpoint, expected a config.json; bert-trainer inspect shows its config",
                                   path);
        int r = file_read(path, CONFIG_SIZE_MAX, &text, &size, error);
        if (r < 0) {
                if (error && r == -ENOENT)
                        error->exit = BERTD_EXIT_INPUT;
                return r;
        }
        return config_parse(path, text, size, ret_config, error);
}

static void format_albert(const struct model_config *config, json_t *root) {
        (void) json_object_set_new(root, "embedding_size", json_integer(config->embedding_size));
        (void) json_object_set_new(root, "num_hidden_groups", json_integer(config->num_hidden_groups));
        (void) json_object_set_new(root, "inner_group_num", json_integer(config->inner_group_num));
        (void) json_object_set_new(root, "cross_layer_sharing", json_string(sharings[config->cross_layer_sharing]));
        (void) json_object_set_new(root, "embedding_mapping", json_boolean(config->embedding_mapping));
}

static void format_classifier(const struct model_config *config, json_t *root) {
        const struct classifier_config *c = &config->classifier;

        if (config->without_pretraining_heads)
                (void) json_object_set_new(root, "without_pretraining_heads", json_true());
        if (c->n_labels > 0)
                (void) json_object_set_new(
                        root, "classifier",
                        json_pack("{s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:f, s:s*}", "n_labels",
                                  (json_int_t) c->n_labels, "first_layer", (json_int_t) c->first_layer, "n_layers",
                                  (json_int_t) c->n_layers, "combine", combines[c->combine], "input", inputs[c->input],
                                  "segments", segment_pools[c->segments], "segmented", c->segmented, "dropout",
                                  c->dropout, "target", c->target != TARGET_CLASS ? targets[c->target] : NULL));
}

json_t *config_json(const struct model_config *config) {
        json_t *root = json_object();

        (void) json_object_set_new(root, "model_type", json_string(model_types[config->model_type]));
        for (size_t i = 0; i < ELEMENTSOF(integer_keys); i++)
                if (integer_keys[i].types == BOTH)
                        (void) json_object_set_new(
                                root, integer_keys[i].name,
                                json_integer(*(const uint32_t *) ((const char *) config + integer_keys[i].offset)));
        for (size_t i = 0; i < ELEMENTSOF(real_keys); i++)
                (void) json_object_set_new(root, real_keys[i].name,
                                           json_real(*(const double *) ((const char *) config + real_keys[i].offset)));
        (void) json_object_set_new(root, "hidden_act", json_string(hidden_acts[config->hidden_act]));
        if (config->model_type == MODEL_ALBERT)
                format_albert(config, root);
        format_classifier(config, root);
        return root;
}

const char *config_sharing_name(enum cross_layer_sharing sharing) { return sharings[sharing]; }

void config_hash(const struct model_config *config, char hex[HEX_128_SIZE]) {
        char text[512];
        int n = snprintf(text, sizeof(text), "%s %u %u %u %u %u %u %u %u %a %a %a %a", model_types[config->model_type],
                         config->vocab_size, config->hidden_size, config->num_hidden_layers,
                         config->num_attention_heads, config->intermediate_size, config->max_position_embeddings,
                         config->type_vocab_size, (unsigned) config->hidden_act, config->hidden_dropout_prob,
                         config->attention_probs_dropout_prob, config->initializer_range, config->layer_norm_eps);
        if (config->model_type == MODEL_ALBERT)
                n += snprintf(text + n, sizeof(text) - (size_t) n, " %u %u %u %s %d", config->embedding_size,
                              config->num_hidden_groups, config->inner_group_num, sharings[config->cross_layer_sharing],
                              config->embedding_mapping);
        const struct classifier_config *c = &config->classifier;
        if (c->n_labels > 0)
                n += snprintf(text + n, sizeof(text) - (size_t) n, " %d %u %u %u %u %u %u %d %a",
                              config->without_pretraining_heads, c->n_labels, c->first_layer, c->n_layers,
                              (unsigned) c->combine, (unsigned) c->input, (unsigned) c->segments, c->segmented,
                              c->dropout);
        if (c->n_labels > 0 && c->target != TARGET_CLASS)
                n += snprintf(text + n, sizeof(text) - (size_t) n, " %s", targets[c->target]);
        XXH128_hash_t hash = XXH3_128bits(text, (size_t) n);

        hex_128(hash.high64, hash.low64, hex);
}
