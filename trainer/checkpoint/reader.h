/* Reading a checkpoint file, see format.h: nothing in it is trusted. */
#ifndef TRAINER_CHECKPOINT_READER_H
#define TRAINER_CHECKPOINT_READER_H

#include "trainer/checkpoint/format.h"

struct checkpoint;

/* Reads and checks meta and the list of tensors, not yet their bytes. A missing file is exit 66. */
int checkpoint_open(const char *path, struct checkpoint **ret, struct error *error);
void checkpoint_close(struct checkpoint *checkpoint);
static inline void cleanup_checkpoint_p(struct checkpoint **checkpoint) { checkpoint_close(*checkpoint); }
#define cleanup_checkpoint cleanup(cleanup_checkpoint_p)

const char *checkpoint_path(const struct checkpoint *checkpoint);
const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *checkpoint);
uint32_t checkpoint_n_tensors(const struct checkpoint *checkpoint);
const struct checkpoint_tensor *checkpoint_tensor(const struct checkpoint *checkpoint, uint32_t index);

/* Index of a tensor, or −1. */
int64_t checkpoint_find(const struct checkpoint *checkpoint, const char *name, const char *kind);

/* Reads tensor `index` into `data` (its size in bytes) and compares the checksum. */
int checkpoint_read_tensor(struct checkpoint *checkpoint, uint32_t index, void *data, struct error *error);

/* Reads all assets into the empty *assets, which the caller frees in any case, each held against its checksum. */
int checkpoint_read_assets(struct checkpoint *checkpoint, struct assets *assets, struct error *error);

/* Checks the whole file against its checksum: after the tensors, whose checksums name what is wrong. */
int checkpoint_check_file(struct checkpoint *checkpoint, struct error *error);

/* Reads every tensor and asset once and keeps none, then checks the whole file. */
int checkpoint_verify(struct checkpoint *checkpoint, struct error *error);

#endif
