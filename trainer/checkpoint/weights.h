/* Checkpoints that hold weights alone: what import writes and what a new run, export and fill-mask begin from. Of a run's own
 * checkpoint they take the weights and leave the moments. */
#ifndef TRAINER_CHECKPOINT_WEIGHTS_H
#define TRAINER_CHECKPOINT_WEIGHTS_H

#include "trainer/checkpoint/reader.h"
#include "trainer/model/model.h"

/* A checkpoint of the model's weights; `meta` may hold more and is added to. `source` is recorded as where they come from. */
int weights_write(const char *path, struct model *model, const struct model_config *config, const char *source,
                  struct checkpoint_meta *meta, const struct assets *assets, struct error *error);

/* A tensor of the model as a checkpoint has it, `data` being borrowed. */
struct checkpoint_tensor weights_describe(const struct model *model, const struct model_tensor *tensor,
                                          const char *kind, const void *data);

/* Reads all tensors of one kind into a flat run of the model, whose shape must be the checkpoint's (exit 76 naming the tensor). */
int weights_read_run(struct checkpoint *checkpoint, struct model *model, const char *kind, void *run,
                     struct error *error);

/* What a new run begins with: as weights_read, but heads that the checkpoint lacks, or of another shape, stay as they are, which is printed on
 * stderr and added to *fresh as bits. `rows`: the checkpoint's row of each class of the model, −1 for one that stays as it is. */
int weights_begin(struct checkpoint *checkpoint, struct model *model, const int32_t *rows, unsigned *fresh,
                  struct error *error);

/* Reads the weights into the model, and checks the file. */
int weights_read(struct checkpoint *checkpoint, struct model *model, struct error *error);

#endif
