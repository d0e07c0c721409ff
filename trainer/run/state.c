/* See state.h. Owns nothing. */
#include "trainer/run/state.h"

#include <inttypes.h>
#include <stddef.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

enum kind {
        COUNTER, /* must be there */
        SAMPLES, /* the stage's, by its steps */
        FIGURE,  /* a double; NaN if it is missing */
        SCALE,   /* the loss scale, as it has it */
        FLAG,    /* "1", or missing */
};

/* In the order of meta. */
static const struct field {
        const char *key;
        enum kind kind;
        size_t offset;
        bool of_classes; /* written only by a stage of classes */
} fields[] = {
#define FIELD(key, kind, member, ...) \
        { key, kind, offsetof(struct run_state, member), __VA_ARGS__ }
        FIELD("step", COUNTER, step, false),
        FIELD("samples", SAMPLES, stage_step, false),
        FIELD("schedule_step", COUNTER, stage_step, false),
        FIELD("correction_step", COUNTER, correction_step, false),
        FIELD("best_validation_loss", FIGURE, best_validation_loss, false),
        FIELD("best_validation_accuracy", FIGURE, best_validation_accuracy, true),
        FIELD("best_validation_step", COUNTER, best_validation_step, false),
        FIELD("loss_scale", SCALE, loss_scale, false),
        FIELD("evaluation_due", FLAG, evaluation_due, false),
#undef FIELD
};

static const void *at(const struct run_state *state, const struct field *field) {
        return (const char *) state + field->offset;
}

static void set_field(const struct run_state *state, const struct field *field, uint64_t global_batch,
                      struct checkpoint_meta *meta) {
        const void *from = at(state, field);
        char scale[64];

        switch (field->kind) {
        case COUNTER:
                checkpoint_meta_set(meta, field->key, "%" PRIu64, *(const uint64_t *) from);
                break;
        case SAMPLES:
                checkpoint_meta_set(meta, field->key, "%" PRIu64, *(const uint64_t *) from * global_batch);
                break;
        case FIGURE:
                checkpoint_meta_set(meta, field->key, "%.17g", *(const double *) from);
                break;
        case SCALE:
                loss_scale_format(from, scale, sizeof(scale));
                checkpoint_meta_set(meta, field->key, "%s", scale);
                break;
        case FLAG:
                if (*(const bool *) from)
                        checkpoint_meta_set(meta, field->key, "1");
                break;
        }
}

void state_to_meta(const struct run_state *state, uint64_t global_batch, bool texts, bool accuracy,
                   struct checkpoint_meta *ret) {
        for (size_t i = 0; i < ELEMENTSOF(fields); i++)
                if (accuracy || !fields[i].of_classes)
                        set_field(state, &fields[i], global_batch, ret);
        if (!texts || state->validated.step != state->step || state->step == 0)
                return;
        checkpoint_meta_set(ret, "validation_loss", "%.17g", state->validated.loss);
        if (accuracy)
                checkpoint_meta_set(ret, "validation_accuracy", "%.17g", state->validated.accuracy);
}

static int get_field(struct run_state *state, const struct field *field, const struct checkpoint_meta *meta,
                     const char *path, struct error *error) {
        const char *text = checkpoint_meta_get(meta, field->key);
        void *to = (char *) state + field->offset;

        switch (field->kind) {
        case COUNTER:
                return checkpoint_meta_u64(meta, path, field->key, to, error);
        case SAMPLES: /* held against the steps once these are read */
                return 0;
        case FIGURE:
                return checkpoint_meta_double(meta, path, field->key, to, error);
        case SCALE:
                return !text || loss_scale_parse(to, text)
                               ? 0
                               : error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                             "%s: meta key %s is '%.64s', expected a scale", path, field->key, text);
        case FLAG:
                return checkpoint_meta_flag(meta, path, field->key, to, error);
        }
        return 0;
}

int state_from_meta(struct run_state *state, uint64_t global_batch, const struct checkpoint_meta *meta,
                    const char *path, struct error *error) {
        uint64_t samples = 0;
        double figure;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(fields); i++)
                r = get_field(state, &fields[i], meta, path, error);
        if (r >= 0)
                r = checkpoint_meta_u64(meta, path, "samples", &samples, error);
        if (r >= 0)
                r = checkpoint_meta_double(meta, path, "validation_loss", &figure, error);
        if (r >= 0)
                r = checkpoint_meta_double(meta, path, "validation_accuracy", &figure, error);
        if (r < 0)
                return r;
        if (samples != state->stage_step * global_batch || state->stage_step > state->step)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: meta key samples is %" PRIu64 ", expected %" PRIu64, path, samples,
                                   state->stage_step * global_batch);
        (void) state_figures(meta, state->step, &state->validated);
        return 0;
}

bool state_figures(const struct checkpoint_meta *meta, uint64_t step, struct run_figures *ret) {
        const char *loss = "validation_loss", *accuracy = "validation_accuracy";
        struct run_figures figures = { .step = step };
        uint64_t best = 0;

        if (!checkpoint_meta_get(meta, loss) &&
            checkpoint_meta_u64(meta, "", "best_validation_step", &best, NULL) >= 0 && best == step) {
                loss = "best_validation_loss";
                accuracy = "best_validation_accuracy";
        }
        if (!checkpoint_meta_get(meta, loss) || checkpoint_meta_double(meta, "", loss, &figures.loss, NULL) < 0 ||
            checkpoint_meta_double(meta, "", accuracy, &figures.accuracy, NULL) < 0)
                return false;
        *ret = figures;
        return true;
}
