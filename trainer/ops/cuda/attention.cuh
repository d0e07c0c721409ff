/* What both kinds of attention kernels share: their arguments, and where in the batch a block works. */
#ifndef TRAINER_CUDA_ATTENTION_CUH
#define TRAINER_CUDA_ATTENTION_CUH

#include "trainer/ops/cuda/kernels.cuh"

template <class T> struct attention {
        view<T> qkv, context, dcontext, dqkv;
        float *lse, *delta; /* (A, T) each, rows of lse_stride; delta: dcontext · context of each query */
        uint32_t lse_stride, width, hidden;
        float scale;
        const int32_t *cu_seqlens;
        const uint64_t *sample_k;
        struct drop drop;
        uint8_t *kept; /* (A, T, kept_stride): a bit for each key of a query; NULL: not wanted */
        uint32_t kept_stride;
};

template <class T> static attention<T> attention_of(const struct op_attention *op) {
        attention<T> a = {};

        a.qkv = view_of<T>(op->qkv);
        a.context = view_of<T>(op->context);
        a.dcontext = view_of<T>(op->dcontext);
        a.dqkv = view_of<T>(op->dqkv);
        a.lse = (float *) op->lse.data;
        a.delta = (float *) op->workspace.data;
        a.lse_stride = op->lse.stride;
        a.hidden = op->context.columns;
        a.width = a.hidden / op->n_heads;
        a.scale = 1 / sqrtf((float) a.width);
        a.cu_seqlens = op->cu_seqlens;
        a.sample_k = op->sample_k;
        a.drop = drop_of(op->dropout);
        a.kept = (uint8_t *) op->kept.data;
        a.kept_stride = cuda_kept_stride(op->max_length);
        return a;
}

/* A block's head and sample: grid = (blocks of positions, heads, samples). */
struct site {
        uint32_t head, sample, first, length;
};
__device__ static inline struct site site_of(const int32_t *cu_seqlens) {
        struct site s = { blockIdx.y, blockIdx.z };

        s.first = (uint32_t) cu_seqlens[s.sample];
        s.length = (uint32_t) cu_seqlens[s.sample + 1] - s.first;
        return s;
}

#endif
