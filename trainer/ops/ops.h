/*
 * The operations table (contract T6): all the model code knows of a backend. Every entry is fused the way a backend wants to
 * run it; the model passes shapes, never loops over elements.
 *
 * Rules for every backend
 * - Memory comes from `allocate`; entries allocate nothing. Scratch is the `workspace` planned with `workspace_bytes`. Every
 *   pointer that an entry gets, indices and keys too, is such memory; the caller may look into it only where `host_memory`.
 * - Tensors are row-major matrices, `stride` elements from row to row. data == NULL: absent. They are of the backend's `dtype`,
 *   except those of its `master` dtype: the flat runs, so gradients of parameters; gamma and beta; mean, rstd and lse.
 * - Work is done in the order of calls, but an entry may return before its own is: `download`, `load`, `sum_squares` and `hash`
 *   wait. A device that broke sets `failed`; its entries then do nothing.
 * - Results are a function of the arguments alone: the same bits at any thread count and in every run (T2).
 * - Outputs are overwritten, except if an entry's comment has "adds" and the tensor is not `fresh`.
 * - Indices were checked by the caller (the model, once a batch): entries do not look again.
 *
 * Error notes: the naive fp64 backend (ops/cpu/fp64.c) is the definition; the fp32 backends keep NMSE ≤ 1e-7 against it, entry by
 * entry (tests/ops/test_ops.c).
 */
#ifndef TRAINER_OPS_OPS_H
#define TRAINER_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/random/dropout.h"

enum dtype { DTYPE_FP32, DTYPE_FP64, DTYPE_BF16, DTYPE_FP16, DTYPE_MAX };

struct tensor {
        void *data;
        enum dtype dtype;
        uint32_t rows, columns;
        uint32_t stride; /* elements from row to row, ≥ columns */
        bool fresh;      /* entries that add to it replace what it holds instead, and do not read that */
};

enum activation {
        ACTIVATION_NONE,
        ACTIVATION_GELU,     /* x · Φ(x), by erf (T12) */
        ACTIVATION_GELU_NEW, /* 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) */
        ACTIVATION_RELU,
        ACTIVATION_TANH,
        ACTIVATION_MAX,
};

struct workspace {
        void *data;
        size_t size; /* bytes */
};

/* The largest call that a workspace must serve. */
struct ops_shape {
        uint32_t max_tokens, max_masked, max_length, hidden_size, n_heads, max_sequences;
};

/* Which sample and position each row of a (T, H) tensor belongs to: the keys of hidden dropout. */
struct row_keys {
        const uint64_t *k;       /* (T) */
        const int32_t *position; /* (T) */
};

struct op_embed {
        const int32_t *ids, *positions, *types; /* (T) */
        struct tensor word, position, type;     /* (V, H), (P, H), (2, H): values, or gradients in backward */
        struct tensor x;                        /* (T, H) */
        struct workspace workspace;             /* backward */
};

struct op_norm {
        struct tensor x;           /* (T, H) add_norm: in, the sublayer's output; out, the sum that was normalised */
        struct tensor residual;    /* (T, H) add_norm only */
        struct tensor gamma, beta; /* (1, H) */
        struct tensor mean, rstd;  /* (1, T) saved for backward */
        struct tensor y;           /* (T, H) */
        double epsilon;
        struct dropout dropout;
        struct row_keys rows; /* unused where dropout is off */
        /* backward */
        struct tensor dy;            /* (T, H) */
        struct tensor dx;            /* (T, H) gradient of the sublayer's output (add_norm) or of x; may be dy itself */
        struct tensor dresidual;     /* (T, H) add_norm only: gradient of the residual; may be dy itself, never dx */
        struct tensor dgamma, dbeta; /* (1, H) added to */
        struct tensor dbias;         /* (1, H) add_norm only, may be absent: the column sums of dx, added to */
        struct workspace workspace;
};

struct op_attention {
        struct tensor qkv;         /* (T, 3H): q, k, v side by side, head h at columns h·H/A of each third */
        struct tensor context;     /* (T, H) */
        struct tensor lse;         /* (A, T) log Σ exp of each row of scores, saved for backward */
        const int32_t *cu_seqlens; /* (B + 1) */
        const uint64_t *sample_k;  /* (B) */
        uint32_t n_sequences, n_heads, max_length; /* max_length: of the longest sequence */
        struct dropout dropout;
        struct workspace
                kept; /* of kept_bytes: dropout's choices, from forward to backward; absent: they are made again */
        /* backward */
        struct tensor dcontext; /* (T, H) */
        struct tensor dqkv;     /* (T, 3H) */
        struct workspace workspace;
};

/* What softmax_xent adds to, in the backend's memory: a loss stays there until it is asked for. All bits 0: nothing yet. */
struct xent_sums {
        double loss;             /* nats; a call adds the sum of its rows, taken in ascending order */
        uint64_t count, correct; /* rows with a label; those whose first greatest logit is the label */
};

struct op_xent {
        struct tensor logits;  /* (M, V) in; out, where `gradient`, scale · (softmax − onehot) */
        const int32_t *labels; /* (M); −1: this row has no loss, its gradient is 0 */
        double scale;
        bool gradient;
        struct xent_sums *sums;
        struct workspace workspace;
};

struct op_adam {
        double rate, beta1, beta2, epsilon, weight_decay;
        double correction1, correction2; /* 1 − beta1^update, 1 − beta2^update */
        double gradient_scale;
};

/* One tensor of an update, by its place in the flat runs. */
struct op_update_tensor {
        size_t offset, n; /* elements */
        double rate, weight_decay;
        bool adapt; /* LAMB: scaled by its trust ratio */
};

/* An update of all tensors, as optimizer.c defines it tensor by tensor. */
struct op_update {
        struct op_adam adam; /* rate, weight_decay: each tensor's own */
        bool trust_ratio;    /* LAMB */
        double clip_norm;    /* > 0: each tensor's gradient is shortened to it, after gradient_scale */
        uint32_t n_tensors;
        const struct op_update_tensor *tensors; /* (n_tensors) host memory */
        void *g, *p, *m, *v;                    /* the flat runs */
        void *values;                           /* the parameters rounded to `dtype`; NULL: dtype == master */
};

/* Sums over ranks without the host, beside the operations. Every rank makes the same calls in the same order. */
struct ops_collective {
        /* On all, what may fail on one alone; an id made by rank 0 and sent to all; then start on all, which wait there for each other.
         * Return 0 or −errno, with a line in `text`. */
        int (*prepare)(char *text, size_t size);
        int (*make_id)(void *id, char *text, size_t size);
        int (*start)(const void *id, uint32_t rank, uint32_t n_ranks, char *text, size_t size);
        void (*stop)(void);
        /* Begins to replace n master elements by their sum, once the operations called so far are done with them. */
        void (*sum)(void *data, size_t n);
        void (*finish)(void); /* operations called from here on see the sums */
};
#define OPS_COLLECTIVE_ID_BYTES 128
#define OPS_STAMPS 8

struct ops {
        const char *name; /* "cpu", "fp64", "cuda" */
        enum dtype dtype, master;
        bool host_memory;
        bool keeps_slope; /* linear keeps act′ of gelu, gelu_new and relu for linear_dx; false: their argument */
        const char *(*location)(
                void); /* the device's PCI address as sysfs writes it, "0000:3b:00.0"; NULL, or it returns NULL: unknown */
        const char *(*variant)(void); /* which kernels the machine got: kept in checkpoints' meta (C9) */

        /* 64-byte aligned, zero; NULL: no memory. Release takes the same `size`. */
        void *(*allocate)(size_t size);
        void (*release)(void *data, size_t size);
        size_t (*workspace_bytes)(const struct ops_shape *shape);
        size_t (*kept_bytes)(const struct ops_shape *shape); /* of an attention; NULL or 0: it keeps nothing */
        /* Host memory that upload and download are fast with, zero and touched. */
        void *(*allocate_host)(size_t size);
        void (*release_host)(void *data, size_t size);
        void (*upload)(void *to, const void *from, size_t size);   /* from host memory, free again on return */
        void (*download)(void *to, const void *from, size_t size); /* to host memory */
        void (*zero)(void *data, size_t size);                     /* bytes */
        void (*copy)(void *to, const void *from, size_t size);     /* within the backend's memory */
        /* The device's free and total memory in bytes; false: unknown. Of the free memory, later_bytes must be left for what allocates
         * outside of this table, more of it with a collective. NULL: host memory. */
        bool (*memory)(size_t *ret_free, size_t *ret_all);
        size_t (*later_bytes)(bool collective);
        /* Memory for copies that are worth having only if later_bytes(true) are left; NULL: they are not, or the host's would be no faster. */
        void *(*allocate_spare)(size_t size);
        /* A download beside the operations: `mark`, in their order; then one other thread may `fetch` what `from` held at the mark,
         * while nothing changes it. False: the device broke. */
        void (*mark)(void);
        bool (*fetch)(void *to, const void *from, size_t size);
        /* The clock of a backend that its caller runs ahead of: stamp i < OPS_STAMPS, in the operations' order; once they were waited for, the
         * seconds from one to another, 0 where one was never set. NULL: the caller's clock will do. */
        void (*stamp)(unsigned i);
        double (*between)(unsigned from, unsigned to);
        /* What is called from `begin_graph` on, which may not wait, upload, store or sum over ranks, is done by `end_graph` as one piece.
         * NULL: nothing to gain. begin_graph false: not now, do as ever; end_graph false: nothing of it was done, call it again. */
        bool (*begin_graph)(void);
        bool (*end_graph)(void);
        /* Elements, of dtype or master, from and to host doubles, rounded once. */
        void (*store)(enum dtype of, void *data, size_t first, const double *values, size_t n);
        void (*load)(enum dtype of, const void *data, size_t first, double *values, size_t n);
        /* values = master elements rounded to dtype; NULL: dtype == master. */
        void (*round)(void *values, const void *master, size_t n);
        uint64_t (*hash)(const void *data, size_t size); /* equal bits, equal hash, on every rank */
        const char *(*failed)(void);                     /* what broke, or NULL; NULL: nothing can */
        double (*peak_flops)(void);              /* FLOP/s of the machine's matrix product, measured; 0: not known */
        const struct ops_collective *collective; /* NULL: sums go through the host's memory */

        /* x = word[id] + position[p] + type[t], summed in this order; then norm_dropout_forward of it (norm's x is op's). Backward
         * adds x (the gradient) to the tables' rows, tokens in ascending order. */
        void (*embed_forward)(const struct op_embed *op, const struct op_norm *norm);
        void (*embed_backward)(const struct op_embed *op);

        /* y (T, N) = act(x (T, K) · w (N, K)ᵀ + bias (1, N)); bias may be absent. `pre` (T, N), where present, keeps what
         * linear_dx takes as `saved`: act's argument, or act′ (keeps_slope). fp32: error of a K-term dot product. */
        void (*linear)(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                       struct tensor y);

        /* dx (T, K) = dy (T, N) · w (N, K), added to dx where `add`; then times act′: what linear kept of the layer below for gelu,
         * gelu_new and relu, of tanh its value (`saved` (T, K)). dbias (1, K), where present, += the column sums of dx as it
         * then is: the gradient of the bias below, which is made where dx is. */
        void (*linear_dx)(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                          struct tensor dx, struct tensor dbias);

        /* dw (N, K) += dyᵀ x; dbias (1, N) += column sums of dy, where present. */
        void (*linear_dw_db)(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias);

        /* dx *= act′(saved), as in linear_dx, for an activation that no linear_dx precedes. */
        void (*activation_backward)(enum activation act, struct tensor saved, struct tensor dx);

        /* softmax(q kᵀ / √d) with dropout, times v, within each sample and head. Backward recomputes the probabilities from lse.
         * d = H / A. fp32 subtracts the row's maximum. */
        void (*attention_forward)(const struct op_attention *op);
        void (*attention_backward)(const struct op_attention *op);

        /* x = residual + dropout(x); y = (x − mean) · rstd · gamma + beta; variance over H, biased. */
        void (*add_norm_forward)(const struct op_norm *op);
        void (*add_norm_backward)(const struct op_norm *op);

        /* y = dropout((x − mean) · rstd · gamma + beta). */
        void (*norm_dropout_forward)(const struct op_norm *op);
        void (*norm_dropout_backward)(const struct op_norm *op);

        /* y[i] = x[rows[i]]; and dx[rows[i]] += dy[i], rows being distinct. */
        void (*gather_rows)(struct tensor x, const int32_t *rows, struct tensor y);
        void (*scatter_add_rows)(struct tensor dy, const int32_t *rows, struct tensor dx);

        void (*softmax_xent)(const struct op_xent *op);

        /* Σ x², in blocks of 64 Ki, in double in order. */
        double (*sum_squares)(const void *x, size_t n);

        /* g = scale · g; m = β1 m + (1 − β1) g; v = β2 v + (1 − β2) g²; p −= rate (m / c1 / (√(v / c2) + ε) + decay · p). */
        void (*adamw)(const struct op_adam *op, size_t n, const void *g, void *p, void *m, void *v);

        /* Moments as adamw; the gradient becomes the direction m / c1 / (√(v / c2) + ε) + decay · p. p stays; rate is not used. */
        void (*adam_direction)(const struct op_adam *op, size_t n, void *g, const void *p, void *m, void *v);

        /* p −= rate · direction */
        void (*descend)(double rate, size_t n, const void *direction, void *p);

        /* All of it in a few launches, offsets of tensors being multiples of 4; a backend that has it has none of the three above. NULL: the
         * caller goes tensor by tensor with them. */
        void (*update)(const struct op_update *op);
};

/* fp32 on OpenMP, OMP_NUM_THREADS threads; the fp64 reference, naive, one thread. */
const struct ops *ops_cpu(void);
const struct ops *ops_fp64(void);

/* The kernels: "avx512-fma" and "avx2-fma" give the same bits, "generic" does not fuse multiply and add. The name changes with the bits:
 * "avx512" and "avx2" in older checkpoints fused in products alone. */
const char *ops_cpu_variant(void);

static inline size_t dtype_size(enum dtype dtype) { return dtype == DTYPE_FP64 ? 8 : dtype == DTYPE_FP32 ? 4 : 2; }

#endif
