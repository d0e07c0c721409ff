/*
 * Inside of the CUDA module: what its files share. One device, one stream that every operation goes to in the order of calls, and
 * scratch memory for entries that get no workspace. The first thing that breaks is kept (cuda_failed); nothing is launched after it.
 * Grids and the order of every sum depend on shapes alone, and no kernel adds with atomics: the same bits in every run.
 */
#ifndef TRAINER_CUDA_BACKEND_H
#define TRAINER_CUDA_BACKEND_H

#include <cuda_runtime.h>

extern "C" {
#include "trainer/ops/ops.h"
}
#include "trainer/ops/cuda/cuda.h"
#include "trainer/ops/cuda/sizes.h"

/* Columns of a norm: two sums for each in the shared memory of a block (48 KiB). Columns of a head of attention. */
constexpr uint32_t CUDA_WIDTH_MAX = 4096, CUDA_HEAD_MAX = 128;

struct cuda_backend {
        int device, sm; /* sm: 90 for compute capability 9.0 */
        cudaStream_t stream;
        bool recording; /* the stream's operations, for a graph */
        enum cuda_precision precision;
        float *scratch; /* CUDA_SCRATCH_BYTES on the device: partial sums within one entry */
        struct cuda_counts counts;
        char failed[CUDA_TEXT_MAX];
};
extern struct cuda_backend cuda_backend;

/* Keeps the first failure, as "WHAT: TEXT", whichever thread's it is. True: all is well. */
bool cuda_check(cudaError_t r, const char *what);
void cuda_fail(const char *what, const char *text);
static inline bool cuda_works(void) { return !cuda_backend.failed[0]; }

/* As in the table; cuda_upload goes through pinned staging and does not wait for the device. memory.cu */
void cuda_upload(void *to, const void *from, size_t size);
void cuda_download(void *to, const void *from, size_t size);
void *cuda_allocate(size_t size);
void cuda_release(void *data, size_t size);
void *cuda_allocate_host(size_t size);
void cuda_release_host(void *data, size_t size);
void cuda_zero(void *data, size_t size);
void cuda_zero_fresh(struct tensor t); /* before something is added to it; whole rows */
void cuda_copy(void *to, const void *from, size_t size);
void *cuda_allocate_spare(size_t size);
bool cuda_memory(size_t *ret_free, size_t *ret_all);
void cuda_mark(void);
bool cuda_fetch(void *to, const void *from, size_t size);
void cuda_store(enum dtype of, void *data, size_t first, const double *values, size_t n);
void cuda_load(enum dtype of, const void *data, size_t first, double *values, size_t n);
int cuda_memory_open(char *text, size_t size);
void cuda_memory_close(void);

/* clock.cu */
void cuda_stamp(unsigned i);
double cuda_between(unsigned from, unsigned to);
void cuda_clock_close(void);

/* graph.cu */
bool cuda_begin_graph(void);
bool cuda_end_graph(void);
void cuda_graphs_close(void);

/* gemm.cu: row-major D (m, n) = A (m, k) · B (k, n) + C as cuBLASLt knows it; `transpose_*`: the operand lies transposed. */
enum gemm_epilogue { GEMM_PLAIN, GEMM_BIAS, GEMM_BIAS_GELU_NEW, GEMM_DGELU_NEW, GEMM_EPILOGUE_MAX };
struct gemm {
        struct tensor a, b, d; /* as they lie in memory */
        bool transpose_a, transpose_b;
        bool add; /* D += */
        enum gemm_epilogue epilogue;
        void *bias;  /* (n) dtype of d */
        void *saved; /* (m, n) GELU's argument: kept or used; rows as d's */
        uint32_t saved_stride;
};
int gemm_open(char *text, size_t size);
void gemm_close(void);
/* False: cuBLASLt has no algorithm for it, nothing was done. */
bool gemm_run(const struct gemm *gemm);
double gemm_peak_flops(void);
const char *gemm_version(void);

/* Entries of the table, by file. linear.cu */
void cuda_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                 struct tensor y);
void cuda_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                    struct tensor dx, struct tensor dbias);
void cuda_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias);
void cuda_activation_backward(enum activation act, struct tensor saved, struct tensor dx);

/* norm.cu */
void cuda_add_norm_forward(const struct op_norm *op);
void cuda_add_norm_backward(const struct op_norm *op);
void cuda_norm_dropout_forward(const struct op_norm *op);
void cuda_norm_dropout_backward(const struct op_norm *op);
void cuda_embed_forward(const struct op_embed *op, const struct op_norm *norm);

/* attention.cu */
size_t cuda_attention_kept_bytes(const struct ops_shape *shape);
void cuda_attention_forward(const struct op_attention *op);
void cuda_attention_backward(const struct op_attention *op);

/* attention_mma.cu: on tensor cores. False: not this one, nothing was done. Opened once the precision is known; false: it failed. */
bool cuda_attention_open(void);
bool cuda_attention_mma_forward(const struct op_attention *op);
bool cuda_attention_mma_backward(const struct op_attention *op);

/* rows.cu */
void cuda_embed_backward(const struct op_embed *op);
void cuda_gather_rows(struct tensor x, const int32_t *rows, struct tensor y);
void cuda_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx);

/* loss.cu */
void cuda_softmax_xent(const struct op_xent *op);

/* flat.cu */
void cuda_round(void *values, const void *master, size_t n);
double cuda_sum_squares(const void *x, size_t n);
uint64_t cuda_hash(const void *data, size_t size);
void cuda_update(const struct op_update *op);

/* collective.cu. The text of an error that came meanwhile, or NULL. */
extern const struct ops_collective cuda_collective;
const char *cuda_collective_failed(void);

#endif
