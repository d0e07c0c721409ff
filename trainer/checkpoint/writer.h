/* Writing a checkpoint file; see format.h. */
#ifndef TRAINER_CHECKPOINT_WRITER_H
#define TRAINER_CHECKPOINT_WRITER_H

#include "trainer/checkpoint/format.h"

/* Writes PATH.tmp, makes it durable and gives it its name; a failure leaves nothing behind. `assets` may be NULL: none. */
int checkpoint_write(const char *path, const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors,
                     uint32_t n, const struct assets *assets, struct error *error);

#endif
