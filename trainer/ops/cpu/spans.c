/* See spans.h: the span kernels of each instruction set. */
#include "trainer/ops/cpu/spans.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Values of these types live in registers of always-inlined functions: no call passes them, so their ABI does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"
typedef float v8f __attribute__((vector_size(32)));
typedef float v8f_unaligned __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef double v8d __attribute__((vector_size(64)));
typedef uint16_t v8u16_unaligned __attribute__((vector_size(16), aligned(2), may_alias));

#define KERNEL(name) generic_##name
#define KERNEL_NAME "generic"
#define TARGET
#define LANES 8
#include "trainer/ops/cpu/span_kernels.h"

#ifdef __x86_64__
typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));

#define KERNEL_AVX2
#define KERNEL(name) avx2_##name
#define KERNEL_NAME "avx2"
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "trainer/ops/cpu/span_kernels.h"

#define KERNEL_AVX512
#define KERNEL(name) avx512_##name
#define KERNEL_NAME "avx512"
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#include "trainer/ops/cpu/span_kernels.h"
#endif

/* From the plainest on; NULL beyond the last that the machine runs. */
const struct cpu_kernels *cpu_kernels_variant(unsigned index) {
        const struct cpu_kernels *variants[4] = { &generic_table };

#ifdef __x86_64__
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
                variants[1] = &avx2_table;
        if (variants[1] && __builtin_cpu_supports("avx512f"))
                variants[2] = &avx512_table;
#endif
        return index < ELEMENTSOF(variants) ? variants[index] : NULL;
}

const struct cpu_kernels *cpu_kernels(void) {
        const struct cpu_kernels *best = cpu_kernels_variant(0);

        for (unsigned i = 1; cpu_kernels_variant(i); i++)
                best = cpu_kernels_variant(i);
        return best;
}
