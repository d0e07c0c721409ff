/*
 * Hugging Face's config.json → struct model_config. One table names every key with its range and default; nothing else
 * knows a key's name. Defaults exist only where Hugging Face's BertConfig has been silent about a key in published files.
 */
#include "trainer/config.h"

#include <errno.h>
#include <inttypes.h>
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

#define CONFIG_SIZE_MAX ((size_t) 1 << 20)

struct integer_key {
        const char *name;
        size_t offset;
        uint32_t min, max, default_value; /* 0: the key must be there */
};
struct real_key {
        const char *name;
        size_t offset;
        double min, max, default_value; /* max itself is refused */
};

#define FIELD(f) #f, offsetof(struct model_config, f)
static const struct integer_key integer_keys[] = {
        { FIELD(vocab_size), 8, 1 << 22, 0 },      { FIELD(hidden_size), 1, 16384, 0 },
        { FIELD(num_hidden_layers), 1, 256, 0 },   { FIELD(num_attention_heads), 1, 256, 0 },
        { FIELD(intermediate_size), 1, 65536, 0 }, { FIELD(max_position_embeddings), 8, 65536, 512 },
        { FIELD(type_vocab_size), 2, 16, 2 },
};
static const struct real_key real_keys[] = {
        { FIELD(hidden_dropout_prob), 0, 1, 0.1 },
        { FIELD(attention_probs_dropout_prob), 0, 1, 0.1 },
        { FIELD(initializer_range), 0, 1, 0.02 },
        { FIELD(layer_norm_eps), 0, 1, 1e-12 },
};
static const char *const hidden_acts[ACT_MAX] = {
        [ACT_GELU] = "gelu", [ACT_GELU_NEW] = "gelu_new", [ACT_RELU] = "relu"
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
                *field = key->default_value;
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

static int read_hidden_act(const char *path, json_t *root, enum hidden_act *ret, struct error *error) {
        json_t *value = json_object_get(root, "hidden_act");
        const char *name = json_string_value(value);

        if (value && !name)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: hidden_act is not a string", path);
        for (enum hidden_act act = 0; act < ACT_MAX; act++)
                if (strcmp(name ? name : "gelu", hidden_acts[act]) == 0) {
                        *ret = act;
                        return 0;
                }
        return error_input(error, BERTD_EXIT_CONFIG, "%s: hidden_act is '%.40s', expected gelu, gelu_new or relu", path,
                           name);
}

/* Keys that change what the model computes and that this program does not have: running on would train another model. */
static int refuse_others(const char *path, json_t *root, struct error *error) {
        const char *type = json_string_value(json_object_get(root, "model_type"));
        const char *position = json_string_value(json_object_get(root, "position_embedding_type"));

        if (type && strcmp(type, "bert") != 0)
                return error_input(error, BERTD_EXIT_CONFIG, "%s: model_type is '%.40s', expected bert", path, type);
        if (position && strcmp(position, "absolute") != 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: position_embedding_type is '%.40s', expected absolute", path, position);
        if (json_is_true(json_object_get(root, "is_decoder")))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: is_decoder is true, expected false", path);
        if (json_is_false(json_object_get(root, "tie_word_embeddings")))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: tie_word_embeddings is false, expected true", path);
        return 0;
}

static int read_config(const char *path, json_t *root, struct model_config *config, struct error *error) {
        int r = refuse_others(path, root, error);

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(integer_keys); i++)
                r = read_integer(path, root, &integer_keys[i], config, error);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(real_keys); i++)
                r = read_real(path, root, &real_keys[i], config, error);
        if (r >= 0)
                r = read_hidden_act(path, root, &config->hidden_act, error);
        if (r < 0)
                return r;
        if (config->hidden_size % config->num_attention_heads != 0)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: num_attention_heads is %u, which does not divide hidden_size %u", path,
                                   config->num_attention_heads, config->hidden_size);
        return 0;
}

int config_load(const char *path, struct model_config *ret_config, struct error *error) {
        cleanup_free char *text = NULL;
        cleanup(cleanup_json_p) json_t *root = NULL;
        struct model_config config = {};
        json_error_t json_error;
        size_t size;

        int r = file_read(path, CONFIG_SIZE_MAX, &text, &size, error);
        if (r < 0) {
                if (error && r == -ENOENT)
                        error->exit = BERTD_EXIT_INPUT;
                return r;
        }
        root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &json_error);
        if (!root)
                return error_input(error, BERTD_EXIT_CONFIG, "%s:%d: %s", path, json_error.line, json_error.text);
        if (!json_is_object(root))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: not a JSON object", path);
        r = read_config(path, root, &config, error);
        if (r < 0)
                return r;
        *ret_config = config;
        return 0;
}

void config_hash(const struct model_config *config, char hex[33]) {
        char text[512];
        int n = snprintf(text, sizeof(text), "bert %u %u %u %u %u %u %u %u %a %a %a %a", config->vocab_size,
                         config->hidden_size, config->num_hidden_layers, config->num_attention_heads,
                         config->intermediate_size, config->max_position_embeddings, config->type_vocab_size,
                         (unsigned) config->hidden_act, config->hidden_dropout_prob,
                         config->attention_probs_dropout_prob, config->initializer_range, config->layer_norm_eps);
        XXH128_hash_t hash = XXH3_128bits(text, (size_t) n);

        (void) snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t) hash.high64, (uint64_t) hash.low64);
}
