/* Checkpoints that hold weights alone: what import writes and what a new run, export and fill-mask begin from. Of a run's own
 * checkpoint they take the weights and leave the moments. */
#ifndef TRAINER_CHECKPOINT_WEIGHTS_H
#define TRAINER_CHECKPOINT_WEIGHTS_H

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/data/examples.h"
#include "trainer/model/model.h"
#include "trainer/text/vocab.h"

#define WEIGHTS_ONLY_KEY "contents" /* meta: "weights" where there are no moments and no run to go on with */

/* Adds the model's config as JSON and its hash. */
int weights_set_config(struct checkpoint_meta *meta, const struct model_config *config, struct error *error);

/* The config of a checkpoint; one by an older bert-trainer has none (exit 76). */
int weights_config(const struct checkpoint *checkpoint, struct model_config *ret, struct error *error);

/* A checkpoint of the model's weights; `meta` may hold more and is added to. `source` is told as where they come from. */
int weights_write(const char *path, struct model *model, const struct model_config *config, const char *source,
                  struct checkpoint_meta *meta, const struct assets *assets, struct error *error);

/* Heads that were never trained, as bits 1 << PART_…; those that a checkpoint does not tell of, were. */
void weights_set_fresh(struct checkpoint_meta *meta, unsigned heads);
int weights_fresh(const struct checkpoint *checkpoint, unsigned *ret_heads, struct error *error);

/* Where the vocabulary lay, for people, and how text was folded (NULL: not known). */
void weights_set_text(struct checkpoint_meta *meta, const char *vocab_path, const struct text_options *options);
int weights_text_options(const struct checkpoint *checkpoint, struct text_options *ret, struct error *error);

/* Class names, in as many rows of meta as they need (65 where they need too many), and back; a checkpoint without any gives none. */
int weights_set_labels(struct checkpoint_meta *meta, const struct labels *labels, struct error *error);
int weights_labels(const struct checkpoint *checkpoint, struct labels *labels, struct error *error);

/* A tensor of the model as a checkpoint has it, `data` being borrowed. */
struct checkpoint_tensor weights_describe(const struct model *model, const struct model_tensor *tensor,
                                          const char *kind, const void *data);

/* Reads all tensors of one kind into a flat run of the model, whose shape must be the checkpoint's (exit 76 naming the tensor). */
int weights_read_run(struct checkpoint *checkpoint, struct model *model, const char *kind, void *run,
                     struct error *error);

/* What a new run begins with: as weights_read, but heads that the checkpoint lacks, or of another shape, stay as they are, which is told on
 * stderr and added to *fresh as bits. `rows`: the checkpoint's row of each class of the model, −1 for one that stays as it is. */
int weights_begin(struct checkpoint *checkpoint, struct model *model, const int32_t *rows, unsigned *fresh,
                  struct error *error);

/* Reads the weights into the model, and checks the file. */
int weights_read(struct checkpoint *checkpoint, struct model *model, struct error *error);

#endif
