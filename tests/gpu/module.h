/* The CUDA module as tests find it: compiled for the host (EMULATED), or what BERTD_CUDA_MODULE names. */
#ifndef TESTS_GPU_MODULE_H
#define TESTS_GPU_MODULE_H

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/ops/cuda/cuda.h"

#define SKIPPED 77 /* meson's code for a test that cannot run here */

#ifdef EMULATED
extern const struct cuda_module bert_trainer_cuda;
void emulated_fail_graphs(bool fail);
static inline bool module_is_absent(void) { return false; }
static inline const struct cuda_module *module_load(void) { return &bert_trainer_cuda; }
static inline bool module_skips(enum cuda_precision p) {
        return p == CUDA_TF32;
} /* fp32's kernels: it differs in cuBLASLt alone */
#else
/* GPU_PRECISION: the only one, or "none", to see whether the module loads. */
static inline bool module_skips(enum cuda_precision p) {
        static const char *const names[CUDA_PRECISION_MAX] = { "fp32", "tf32", "bf16", "fp16" };
        const char *only = getenv("GPU_PRECISION");

        return only && strcmp(only, names[p]) != 0;
}
/* Built without nvcc, or a machine without NVIDIA's driver: all that a test may be skipped for. GPU_DEVICE: what stands
 * for the driver's. */
static inline bool module_is_absent(void) {
        const char *path = getenv("BERTD_CUDA_MODULE"), *device = getenv("GPU_DEVICE");
        device = device ? device : "/dev/nvidiactl";
        const char *missing = !path                      ? "BERTD_CUDA_MODULE"
                              : access(path, F_OK) < 0   ? path
                              : access(device, F_OK) < 0 ? device
                                                         : NULL;

        if (missing)
                (void) printf("skipped: no %s\n", missing);
        return missing;
}
static inline const struct cuda_module *module_load(void) {
        void *handle = dlopen(getenv("BERTD_CUDA_MODULE"), RTLD_NOW | RTLD_LOCAL);

        if (!handle)
                (void) printf("the module cannot be loaded: %s\n", dlerror());
        return handle ? dlsym(handle, CUDA_MODULE_SYMBOL) : NULL;
}
#endif

/* Calls `check` with the module open in each precision; adds up what it returns, and 1 for each precision that cannot
 * be opened. Returns main()'s exit status. */
static inline int module_in_each_precision(int (*check)(const struct cuda_module *module, enum cuda_precision precision,
                                                        const struct ops *ops)) {
        char text[CUDA_TEXT_MAX];
        int bad = 0;

        if (module_is_absent())
                return SKIPPED;
        const struct cuda_module *module = module_load();
        if (!module)
                return 1;
        for (enum cuda_precision p = CUDA_FP32; p < CUDA_PRECISION_MAX; p++) {
                const struct ops *ops;
                if (module_skips(p))
                        continue;
                int r = module->open(p, 0, &ops, text, sizeof(text));
                if (r < 0) {
                        (void) printf("precision %d cannot be opened: %s\n", (int) p, text);
                        bad++;
                        continue;
                }
                bad += check(module, p, ops);
                module->close();
        }
        return bad > 0;
}

/* What went a way that is only slower would not be noticed otherwise. */
static inline void module_print_ways(const struct cuda_module *module) {
        const struct cuda_counts *c = module->counts();

        (void) printf("%" PRIu64 " products by cuBLASLt, %" PRIu64 " plain; %" PRIu64
                      " bias gradients with what they are of, %" PRIu64 " in a pass of their own; attention: %" PRIu64
                      " on tensor cores, %" PRIu64 " not; %" PRIu64 " micro-batches as graphs, %" PRIu64
                      " of them new\n",
                      c->lt_products, c->plain_products, c->bias_gradients, c->column_sums, c->mma_attentions,
                      c->plain_attentions, c->graphs, c->graphs_made);
        if (c->refused_products)
                (void) printf("%" PRIu64 " products were refused by cuBLASLt after all; the first: %s\n",
                              c->refused_products, c->refusal);
}

#endif
