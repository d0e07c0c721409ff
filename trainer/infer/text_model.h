/*
 * A checkpoint's model over texts, opened with all that belongs to it: the checkpoint decides how texts are read, shortened and encoded.
 * Texts are gathered, at most TEXT_MODEL_BATCH, then computed together.
 *
 *   text_model_open → { texts_take (of ->texts) … → text_model_run } → text_model_close
 */
#ifndef TRAINER_INFER_TEXT_MODEL_H
#define TRAINER_INFER_TEXT_MODEL_H

#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "trainer/checkpoint/task.h"
#include "trainer/data/batches.h"
#include "trainer/data/examples.h"
#include "trainer/infer/bundle.h"
#include "trainer/model/model.h"
#include "trainer/ops/device.h"
#include "trainer/text/encoder.h"

#define TEXT_MODEL_BATCH 32
#define TEXT_COLUMNS_MAX 16 /* that a user may name */

/* What a user may set beside the checkpoint. */
struct text_model_options {
        const char *vocab_path;  /* of a checkpoint without its own */
        const char *task_name;   /* NULL: the only one */
        enum data_format format; /* auto: the task's, else by the file's name */
        int encoding;            /* enum data_encoding; −1: the task's */
        char delimiter;          /* NUL: the task's */
        enum device_kind device;
        char *text[TEXT_COLUMNS_MAX]; /* columns; n_text 0: the task's */
        uint32_t n_text;
        bool join;                /* two columns are not a pair */
        char *label;              /* column; NULL: the task's */
        bool encoder;             /* the encoder alone: a classifier is not needed */
        uint32_t sequence_length; /* 0: the checkpoint's */
};

struct text_model {
        struct bundle bundle;
        struct task task;
        struct texts *texts;
        struct encoder *encoder;
        struct device *device;
        struct model *model;
        struct text_set set;
        struct sample_source source;
        struct batches *batches;
        double *outputs; /* (TEXT_MODEL_BATCH, width), or of the encoder (tokens, width) */
        uint32_t width;  /* logits of a text, of all tasks together, or hidden_size */
};

/* Zeroed before; to be closed in any case. */
int text_model_open(struct text_model *m, const char *path, const struct text_model_options *options,
                    struct error *error);
void text_model_close(struct text_model *m);

/* How a file is read: as those of training were. `lenient`: as records_options', and standard input is lines. */
int text_model_records(const struct text_model *m, const struct text_model_options *options, const char *path,
                       bool lenient, struct records_options *ret, struct error *error);

/* Computes the texts at hand and drops them. `take` gets each one's index and its task's outputs, finite or exit 77. */
int text_model_run(struct text_model *m, int (*take)(void *context, uint64_t index, double *row, struct error *error),
                   void *context, struct error *error);

/* The same of the encoder: what its first `n_layers` put out (model_encode). */
struct text_hidden {
        const double *rows; /* (n_tokens, width) */
        uint32_t n_tokens, n_sequences;
        const int32_t *begin; /* (n_sequences) each sequence's [CLS], counted from begin[0] */
};
int text_model_encode(struct text_model *m, uint32_t n_layers,
                      int (*take)(void *context, uint64_t index, const struct text_hidden *hidden, struct error *error),
                      void *context, struct error *error);

#endif
