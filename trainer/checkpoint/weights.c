/* See weights.h. Owns nothing. */
#include "trainer/checkpoint/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/model/heads.h"

struct checkpoint_tensor weights_describe(const struct model *model, const struct model_tensor *tensor,
                                          const char *kind, const void *data) {
        size_t size = model_state(model)->element_size;
        struct checkpoint_tensor to = { .n_dims = tensor->n_dims, .size = tensor->n_elements * size, .data = data };

        (void) snprintf(to.name, sizeof(to.name), "%s", tensor->name);
        (void) snprintf(to.kind, sizeof(to.kind), "%s", kind);
        (void) snprintf(to.dtype, sizeof(to.dtype), "%s", size == 8 ? "float64" : "float32");
        memcpy(to.shape, tensor->shape, sizeof(tensor->shape));
        return to;
}

int weights_write(const char *path, struct model *model, const struct model_config *config, const char *source,
                  struct checkpoint_meta *meta, const struct assets *assets, struct error *error) {
        uint32_t n = model_n_tensors(model);
        cleanup_free struct checkpoint_tensor *tensors = calloc(n, sizeof(*tensors));

        if (!tensors)
                return error_errno(error, ENOMEM, "%s", path);
        for (uint32_t i = 0; i < n; i++)
                tensors[i] =
                        weights_describe(model, model_tensor(model, i), "param",
                                         (const char *) model_state(model)->parameters +
                                                 model_tensor(model, i)->offset * model_state(model)->element_size);
        checkpoint_meta_set(meta, "format", "%d", CHECKPOINT_FORMAT);
        checkpoint_meta_set(meta, DESCRIPTION_WEIGHTS_ONLY, "weights");
        checkpoint_meta_set(meta, "source", "%s", source);
        checkpoint_meta_set(meta, "version", "%s", BERTD_VERSION);
        checkpoint_meta_set(meta, "step", "0");
        int r = description_set_config(meta, config, error);
        return r < 0 ? r : checkpoint_write(path, meta, tensors, n, assets, error);
}

static int read_tensor(struct checkpoint *c, const struct model *model, const struct model_tensor *t, const char *kind,
                       void *run, struct error *error) {
        size_t size = model_state(model)->element_size;
        int64_t index = checkpoint_find(c, t->name, kind);

        if (index < 0)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: tensor %s (%s) is missing",
                                   checkpoint_path(c), t->name, kind);
        const struct checkpoint_tensor *found = checkpoint_tensor(c, (uint32_t) index);
        if (found->n_dims != t->n_dims || memcmp(found->shape, t->shape, t->n_dims * sizeof(t->shape[0])) != 0 ||
            found->size != t->n_elements * size)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: tensor %s (%s) has another shape or dtype than the model", checkpoint_path(c),
                                   t->name, kind);
        return checkpoint_read_tensor(c, (uint32_t) index, (char *) run + t->offset * size, error);
}

int weights_read_run(struct checkpoint *checkpoint, struct model *model, const char *kind, void *run,
                     struct error *error) {
        bool direct = state_in_host_memory(model_state(model));
        void *to = direct ? run : state_allocate_host(model_state(model), model_state(model)->run_bytes);
        int r = to ? 0 : error_errno(error, ENOMEM, "%s", checkpoint_path(checkpoint));

        for (uint32_t i = 0; r >= 0 && i < model_n_tensors(model); i++)
                r = read_tensor(checkpoint, model, model_tensor(model, i), kind, to, error);
        if (direct || !to)
                return r;
        if (r >= 0)
                state_upload(model_state(model), run, to);
        state_release_host(model_state(model), to, model_state(model)->run_bytes);
        return r;
}

/* Whether a head is to stay fresh; of a classifier, rows are chosen. */
static bool begins_fresh(const struct checkpoint *c, const struct model_tensor *t) {
        int64_t index = checkpoint_find(c, t->name, "param");
        const struct checkpoint_tensor *found = index < 0 ? NULL : checkpoint_tensor(c, (uint32_t) index);
        size_t first = t->part == PART_CLASSIFIER ? 1 : 0;

        if (t->part < PART_POOLER)
                return false;
        return !found || (t->part >= PART_CLASSIFIER &&
                          (found->n_dims != t->n_dims || memcmp(found->shape + first, t->shape + first,
                                                                (t->n_dims - first) * sizeof(t->shape[0])) != 0));
}

/* Each class' row of the classifier, which exists and is as wide. */
static int read_classes(struct checkpoint *c, const struct model *model, const struct model_tensor *t,
                        const int32_t *rows, void *run, struct error *error) {
        uint32_t index = (uint32_t) checkpoint_find(c, t->name, "param");
        const struct checkpoint_tensor *found = checkpoint_tensor(c, index);
        size_t width = t->n_elements / t->shape[0] * model_state(model)->element_size;
        cleanup_free char *all = malloc(found->size + 1);

        if (!all)
                return error_errno(error, ENOMEM, "%s", checkpoint_path(c));
        if (found->size != found->shape[0] * width)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: tensor %s (param) has another dtype than the model", checkpoint_path(c),
                                   t->name);
        int r = checkpoint_read_tensor(c, index, all, error);
        for (uint32_t i = 0; r >= 0 && i < t->shape[0]; i++)
                if (rows[i] >= 0 && (uint32_t) rows[i] < found->shape[0])
                        memcpy((char *) run + t->offset * model_state(model)->element_size + i * width,
                               all + (uint32_t) rows[i] * width, width);
        return r;
}

static bool has_row(const struct model_tensor *t, const int32_t *rows) {
        for (uint32_t i = 0; i < t->shape[0]; i++)
                if (rows[i] >= 0)
                        return true;
        return false;
}

static int begin_tensor(struct checkpoint *c, const struct model *model, const struct model_tensor *t,
                        const int32_t *rows, void *run, unsigned *fresh, struct error *error) {
        if (begins_fresh(c, t) || (t->part == PART_CLASSIFIER && !has_row(t, rows))) {
                *fresh |= 1u << t->part;
                (void) fprintf(stderr, "bert-trainer: %s: initialised randomly\n", t->name);
                return 0;
        }
        return t->part == PART_CLASSIFIER ? read_classes(c, model, t, rows, run, error)
                                          : read_tensor(c, model, t, "param", run, error);
}

int weights_begin(struct checkpoint *checkpoint, struct model *model, const int32_t *rows, unsigned *fresh,
                  struct error *error) {
        bool direct = state_in_host_memory(model_state(model));
        size_t size = model_state(model)->run_bytes;
        void *to = direct ? model_state(model)->parameters : state_allocate_host(model_state(model), size);
        int r = to ? 0 : error_errno(error, ENOMEM, "%s", checkpoint_path(checkpoint));

        if (r >= 0 && !direct) /* what begins fresh exists */
                state_download(model_state(model), to, model_state(model)->parameters);
        for (uint32_t i = 0; r >= 0 && i < model_n_tensors(model); i++)
                r = begin_tensor(checkpoint, model, model_tensor(model, i), rows, to, fresh, error);
        if (r >= 0 && !direct)
                state_upload(model_state(model), model_state(model)->parameters, to);
        if (!direct && to)
                state_release_host(model_state(model), to, size);
        state_parameters_changed(model_state(model));
        return r < 0 ? r : checkpoint_check_file(checkpoint, error);
}

int weights_read(struct checkpoint *checkpoint, struct model *model, struct error *error) {
        int r = weights_read_run(checkpoint, model, "param", model_state(model)->parameters, error);

        state_parameters_changed(model_state(model));
        return r < 0 ? r : checkpoint_check_file(checkpoint, error);
}
