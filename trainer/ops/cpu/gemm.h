/*
 * Matrix products: c = alpha · a b (added to c where `add`), a (rows, depth), b (depth, columns). An operand's lines (rows of a,
 * columns of b) lie `stride` apart, or, where `depth_first`, element k of all lines lies together and those are `stride` apart.
 */
#ifndef TRAINER_OPS_CPU_GEMM_H
#define TRAINER_OPS_CPU_GEMM_H

#include "trainer/ops/ops.h"

struct cpu_operand {
        const float *data;
        size_t stride;
        bool depth_first;
};
struct cpu_gemm {
        struct cpu_operand a, b;
        struct tensor c;
        uint32_t depth;
        float alpha;
        bool add;
        /* May be NULL: called by the thread that has just completed these elements of c. */
        void (*finish)(void *context, uint32_t row, uint32_t rows, uint32_t column, uint32_t columns);
        void *context;
};
#define CPU_GEMM_DEPTH 384
#define CPU_GEMM_COLUMNS 512
#define CPU_GEMM_PACKED ((size_t) CPU_GEMM_DEPTH * CPU_GEMM_COLUMNS) /* floats */

/* All threads together, one call at a time in a process; the calling thread alone, with CPU_GEMM_PACKED floats of scratch, 64-byte aligned. */
void cpu_gemm(const struct cpu_gemm *g);
void cpu_gemm_alone(const struct cpu_gemm *g, float *packed);

/* The same by the index-th instruction set, for tests: generic, avx2, avx512; false beyond those that the machine has. */
bool cpu_gemm_variant(unsigned index, const struct cpu_gemm *g, float *packed);

#endif
