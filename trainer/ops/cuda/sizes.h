/*
 * How much of a GPU's memory each thing takes. The module allocates by it, and ops/planned.h plans by it without a GPU. C and C++.
 */
#ifndef TRAINER_CUDA_SIZES_H
#define TRAINER_CUDA_SIZES_H

#include "trainer/ops/cuda/cuda.h"
#include "trainer/ops/ops.h"

/* Taken when the module is opened. */
#define CUDA_SCRATCH_BYTES ((size_t) 16 << 20) /* partial sums within one entry */
#define CUDA_PRODUCT_BYTES ((size_t) 32 << 20) /* cuBLASLt's workspace: NVIDIA's advice for sm_90 */
#define CUDA_OPEN_BYTES (CUDA_SCRATCH_BYTES + CUDA_PRODUCT_BYTES)

/* Left free, for kernels that are loaded when they are first used, graphs, and allocations that are rounded up to 2 MiB; with NCCL
 * for its buffers too, which grow with its channels (up to 32 of some 10 MiB for each peer in its ring and trees). Allowances. */
#define CUDA_LATER_BYTES ((size_t) 128 << 20)
#define CUDA_COLLECTIVE_BYTES ((size_t) 1 << 30)
static inline size_t cuda_later_bytes(bool collective) { return collective ? CUDA_COLLECTIVE_BYTES : CUDA_LATER_BYTES; }

/* Of a card's nominal memory the driver holds some back, and a process needs a context. Allowances: a V100 of 16 GB reports 15.8 GiB,
 * an A100 of 40 39.4, an H100 of 80 79.1, an H200 of 141 139.8. */
#define CUDA_CONTEXT_BYTES ((size_t) 640 << 20)
#define CUDA_HELD_BACK 64 /* a 64th */

#define CUDA_MMA_SM 80 /* the first whose attention is on tensor cores: 16-bit types, heads of 32, 64 and 128 columns */
#define CUDA_NORM_ROWS 32u /* of a block of a norm's backward, which leaves partial sums */

/* A bit for each probability: whether dropout kept it. Bytes of a row, whole tiles of 64 keys. */
static inline uint32_t cuda_kept_stride(uint32_t max_length) { return (max_length + 63) / 64 * 8; }

static inline enum dtype cuda_dtype(enum cuda_precision precision) {
        return precision == CUDA_BF16 ? DTYPE_BF16 : precision == CUDA_FP16 ? DTYPE_FP16 : DTYPE_FP32;
}

static inline size_t cuda_kept_bytes(enum dtype dtype, int sm, const struct ops_shape *shape) {
        uint32_t width = shape->hidden_size / shape->n_heads;

        if (dtype == DTYPE_FP32 || sm < CUDA_MMA_SM || (width != 32 && width != 64 && width != 128))
                return 0;
        return (size_t) shape->n_heads * shape->max_tokens * cuda_kept_stride(shape->max_length);
}

/* The largest that an entry asks for. */
static inline size_t cuda_workspace_bytes(const struct ops_shape *shape) {
        size_t tokens = shape->max_tokens, masked = shape->max_masked, samples = shape->max_sequences;
        size_t rows = tokens > masked ? tokens : masked, losses = masked > samples ? masked : samples;
        const size_t sizes[] = {
                (rows + CUDA_NORM_ROWS - 1) / CUDA_NORM_ROWS * 3 * shape->hidden_size * sizeof(float), /* norm.cu */
                shape->n_heads * tokens * sizeof(float),           /* attention.cu: delta (A, T) */
                tokens * (shape->hidden_size * sizeof(float) + 1), /* rows.cu: sums (T, H), then heads (T) */
                losses * (sizeof(double) + sizeof(uint32_t)),      /* loss.cu */
        };
        size_t most = 0;

        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
                most = sizes[i] > most ? sizes[i] : most;
        return most;
}

#endif
