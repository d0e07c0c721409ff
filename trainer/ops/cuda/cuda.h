/*
 * What bert-trainer sees of the CUDA module: one symbol, a struct cuda_module. One backend at a time; close before another open.
 * C and C++.
 */
#ifndef TRAINER_CUDA_CUDA_H
#define TRAINER_CUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>

struct ops;

#define CUDA_MODULE_SYMBOL "bert_trainer_cuda"
#define CUDA_TEXT_MAX 256 /* of a message */

enum cuda_precision { CUDA_FP32, CUDA_TF32, CUDA_BF16, CUDA_FP16, CUDA_PRECISION_MAX, CUDA_AUTO };

/* Which ways were taken, since open: what is slower is right, too, and would not be noticed. */
struct cuda_counts {
        uint64_t graphs, graphs_made; /* micro-batches that went as a graph; those of them that made a new one */
        uint64_t lt_products, plain_products;      /* by cuBLASLt; by the module's own kernel */
        uint64_t bias_gradients, column_sums;      /* by who makes dy; in a separate pass over it */
        uint64_t mma_attentions, plain_attentions; /* on tensor cores; not. forward and backward */
        uint64_t refused_products;                 /* by cuBLASLt, after its heuristic had found an algorithm */
        char refusal[CUDA_TEXT_MAX];               /* the first */
};

struct cuda_module {
        const char *version; /* BERTD_VERSION: the operations table is not a stable interface */

        /* The GPU of index `local_rank` among the visible ones. −ENODEV: no driver, no such GPU; −ENOSYS: one that cannot compute, or not in
         * this precision; −ENOMEM; −EIO. `text`: the reason, in one line. CUDA_AUTO: fp16 on a GPU without bf16, else fp32. */
        int (*open)(enum cuda_precision precision, uint32_t local_rank, const struct ops **ret, char *text,
                    size_t size);
        void (*close)(void);
        const struct cuda_counts *(*counts)(void);
};

#endif
