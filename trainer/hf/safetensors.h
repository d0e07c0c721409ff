/*
 * Hugging Face's safetensors files: 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}}, then
 * the tensors' bytes, row-major and little-endian. https://huggingface.co/docs/safetensors: offsets count from the header's end, and
 * the tensors cover the rest of the file without a hole. Reading trusts nothing: what is not so is refused with exit 65 naming the file
 * and the tensor.
 *
 *   read:  safetensors_open → { safetensors_tensor, safetensors_find … } → safetensors_close
 *   write: safetensors_write(path, tensors)
 */
#ifndef TRAINER_HF_SAFETENSORS_H
#define TRAINER_HF_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"

#define SAFETENSORS_DIMS_MAX 8

enum safetensors_dtype { SAFETENSORS_F64, SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_OTHER };

struct safetensors_tensor {
        const char *name; /* reading: as long as the file is open; writing: borrowed */
        enum safetensors_dtype dtype;
        uint32_t n_dims;
        uint64_t shape[SAFETENSORS_DIMS_MAX];
        const void *data; /* reading: mapped, at any alignment; writing: borrowed */
        size_t size;      /* bytes */
};

struct safetensors;

/* Maps the file. One that another process cuts short while it is open ends this one with SIGBUS, as any mapped file does. */
int safetensors_open(const char *path, struct safetensors **ret, struct error *error);
void safetensors_close(struct safetensors *file);
static inline void cleanup_safetensors_p(struct safetensors **file) { safetensors_close(*file); }
#define cleanup_safetensors cleanup(cleanup_safetensors_p)

/* In the order of their bytes. */
uint32_t safetensors_n(const struct safetensors *file);
const struct safetensors_tensor *safetensors_tensor(const struct safetensors *file, uint32_t index);
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name); /* NULL: absent */

/* NULL: none, or not a text. */
const char *safetensors_metadata(const struct safetensors *file, const char *key);

/*
 * Writes PATH durably, whole or not at all, with the metadata that transformers asks for (format: pt) and, where `fresh` is not empty, it as
 * SAFETENSORS_FRESH, which is gone when another program trains and saves the tensors. F64 and F32 only.
 */
#define SAFETENSORS_FRESH "fresh_heads"
int safetensors_write(const char *path, const struct safetensors_tensor *tensors, uint32_t n, const char *fresh,
                      struct error *error);

#endif
