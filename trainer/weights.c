/* See weights.h. Owns nothing. */
#include "trainer/weights.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"

int weights_set_config(struct checkpoint_meta *meta, const struct model_config *config, struct error *error) {
        json_t *json = config_json(config);
        cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        char hash[33];

        json_decref(json);
        if (!text || strlen(text) >= sizeof(meta->items[0].value))
                return error_errno(error, ENOMEM, "config");
        config_hash(config, hash);
        checkpoint_meta_set(meta, "config", "%s", text);
        checkpoint_meta_set(meta, "config_hash", "%s", hash);
        return 0;
}

int weights_config(const struct checkpoint *checkpoint, struct model_config *ret, struct error *error) {
        const char *text = checkpoint_meta_get(checkpoint_meta(checkpoint), "config"),
                   *path = checkpoint_path(checkpoint);

        if (!text)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: meta key config is missing: written by an older bert-trainer", path);
        if (config_parse(path, text, strlen(text), ret, error) >= 0)
                return 0;
        if (error)
                error->exit = BERTD_EXIT_BAD_CHECKPOINT;
        return -EINVAL;
}

#define TEXT_OPTIONS_FORMAT "lowercase %d, strip_accents %d, chinese %d"

void weights_set_text(struct checkpoint_meta *meta, const char *vocab_path, const struct text_options *options) {
        checkpoint_meta_set(meta, "vocab_path", "%s", vocab_path);
        if (options)
                checkpoint_meta_set(meta, "text_options", TEXT_OPTIONS_FORMAT, options->lowercase,
                                    options->strip_accents, options->chinese);
}

int weights_text_options(const struct checkpoint *checkpoint, struct text_options *ret, struct error *error) {
        const char *text = checkpoint_meta_get(checkpoint_meta(checkpoint), "text_options");
        int lowercase = 1, strip_accents = 1, chinese = 1;

        if (text && sscanf(text, TEXT_OPTIONS_FORMAT, &lowercase, &strip_accents, &chinese) != 3)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key text_options is '%s'",
                                   checkpoint_path(checkpoint), text);
        *ret = (struct text_options) { .lowercase = lowercase, .strip_accents = strip_accents, .chinese = chinese };
        return 0;
}

static struct checkpoint_tensor describe(const struct model *model, const struct model_tensor *t) {
        size_t size = model_element_size(model);
        struct checkpoint_tensor to = { .kind = "param", .n_dims = t->n_dims, .size = t->n_elements * size };

        (void) snprintf(to.name, sizeof(to.name), "%s", t->name);
        (void) snprintf(to.dtype, sizeof(to.dtype), "%s", size == 8 ? "float64" : "float32");
        memcpy(to.shape, t->shape, sizeof(t->shape));
        to.data = (const char *) model_parameters((struct model *) model) + t->offset * size;
        return to;
}

int weights_write(const char *path, const struct model *model, const struct model_config *config, const char *source,
                  struct checkpoint_meta *meta, struct error *error) {
        uint32_t n = model_n_tensors(model);
        cleanup_free struct checkpoint_tensor *tensors = calloc(n, sizeof(*tensors));

        if (!tensors)
                return error_errno(error, ENOMEM, "%s", path);
        for (uint32_t i = 0; i < n; i++)
                tensors[i] = describe(model, model_tensor(model, i));
        checkpoint_meta_set(meta, "format", "%d", CHECKPOINT_FORMAT);
        checkpoint_meta_set(meta, WEIGHTS_ONLY_KEY, "weights");
        checkpoint_meta_set(meta, "source", "%s", source);
        checkpoint_meta_set(meta, "version", "%s", BERTD_VERSION);
        checkpoint_meta_set(meta, "step", "0");
        int r = weights_set_config(meta, config, error);
        return r < 0 ? r : checkpoint_write(path, meta, tensors, n, error);
}

int weights_read(struct checkpoint *checkpoint, struct model *model, struct error *error) {
        size_t size = model_element_size(model);

        for (uint32_t i = 0; i < model_n_tensors(model); i++) {
                const struct model_tensor *t = model_tensor(model, i);
                int64_t index = checkpoint_find(checkpoint, t->name, "param");
                if (index < 0)
                        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: tensor %s is missing",
                                           checkpoint_path(checkpoint), t->name);
                const struct checkpoint_tensor *found = checkpoint_tensor(checkpoint, (uint32_t) index);
                if (found->n_dims != t->n_dims ||
                    memcmp(found->shape, t->shape, t->n_dims * sizeof(t->shape[0])) != 0 ||
                    found->size != t->n_elements * size)
                        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                           "%s: tensor %s has another shape or dtype than the model",
                                           checkpoint_path(checkpoint), t->name);
                int r = checkpoint_read_tensor(checkpoint, (uint32_t) index,
                                               (char *) model_parameters(model) + t->offset * size, error);
                if (r < 0)
                        return r;
        }
        return checkpoint_check_file(checkpoint, error);
}
