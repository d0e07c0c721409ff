/*
 * The weights of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json lists, as one list of tensors
 * under the names that this program's layouts use. The folder is not trusted: a shard that is missing, a tensor in two shards and an
 * index that disagrees with its shards are refused by name (66 for what is missing, else 65).
 *
 *   weight_files_open → { weight_files_find, weight_files_tensor … } → weight_files_close
 */
#ifndef TRAINER_HF_WEIGHT_FILES_H
#define TRAINER_HF_WEIGHT_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/hf/safetensors.h"
#include "trainer/model/config.h"

struct weight_tensor {
        const struct safetensors_tensor *tensor; /* under the file's name for it */
        char *name;                              /* ours: "bert." or "albert." in front, weight and bias */
        const char *file;                        /* path, for messages */
        bool used;                               /* for the caller */
};

struct weight_files;

int weight_files_open(const char *folder, enum model_type type, struct weight_files **ret, struct error *error);
void weight_files_close(struct weight_files *files);
static inline void cleanup_weight_files_p(struct weight_files **files) { weight_files_close(*files); }
#define cleanup_weight_files cleanup(cleanup_weight_files_p)

uint32_t weight_files_n(const struct weight_files *files);
struct weight_tensor *weight_files_tensor(struct weight_files *files, uint32_t index);
struct weight_tensor *weight_files_find(struct weight_files *files, const char *name); /* NULL: absent */
const char *weight_files_fresh(const struct weight_files *files); /* heads that export marked as fresh, or empty */

#endif
