/* The CUDA module as tests find it: compiled for the host (EMULATED), or what BERTD_CUDA_MODULE names; NULL: there is none, and why. */
#ifndef TESTS_GPU_MODULE_H
#define TESTS_GPU_MODULE_H

#include <dlfcn.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/cuda/cuda.h"

#define SKIPPED 77 /* meson's code for a test that cannot run here */

#ifdef EMULATED
extern const struct cuda_module bert_trainer_cuda;
void emulated_fail_graphs(bool fail);
static inline const struct cuda_module *module_load(void) { return &bert_trainer_cuda; }
static inline bool module_skips(enum cuda_precision p) {
        return p == CUDA_TF32;
} /* fp32's kernels: it differs in cuBLASLt alone */
#else
static inline bool module_skips(enum cuda_precision p) { return p == CUDA_PRECISION_MAX; }
static inline const struct cuda_module *module_load(void) {
        const char *path = getenv("BERTD_CUDA_MODULE");
        void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

        if (!handle)
                (void) printf("no module: %s\n", path ? dlerror() : "BERTD_CUDA_MODULE is not set");
        return handle ? dlsym(handle, CUDA_MODULE_SYMBOL) : NULL;
}
#endif

/* What went a way that is only slower would not be noticed otherwise. */
static inline void module_print_ways(const struct cuda_module *module) {
        const struct cuda_counts *c = module->counts();

        (void) printf("%" PRIu64 " products by cuBLASLt, %" PRIu64 " plain; %" PRIu64
                      " bias gradients in an epilogue, %" PRIu64 " not; attention: %" PRIu64
                      " on tensor cores, %" PRIu64 " not; %" PRIu64 " micro-batches as graphs, %" PRIu64
                      " of them new\n",
                      c->lt_products, c->plain_products, c->bias_gradients, c->column_sums, c->mma_attentions,
                      c->plain_attentions, c->graphs, c->graphs_made);
}

#endif
