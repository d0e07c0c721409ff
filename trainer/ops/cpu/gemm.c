/*
 * CPU backend: matrix products. b is packed block by block (DEPTH × COLUMNS, which stays in a core's second cache), each thread
 * takes its share of the rows of a, packs a few of them at a time (they stay in the first cache) and runs the kernel along the block.
 *
 * Invariant: an element of c is a sum over the depth in runs of DEPTH, each run one chain of multiply-adds. Nothing of it depends
 * on where a block or a thread's share begins, so neither threads nor the number of rows show in any bit (T2).
 */
#include "trainer/ops/cpu/gemm.h"

#include <omp.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/spans.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define ROWS_MAX 12

#pragma GCC diagnostic ignored "-Wpsabi"
typedef float v4f __attribute__((vector_size(16)));
typedef float v4f_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

struct gemm_kernel {
        void (*tile)(uint32_t rows, size_t depth, const float *a, const float *b, float *c, size_t stride, float alpha,
                     bool add);
        uint32_t rows, columns;
        const char *name;
};

#define GEMM(name) generic_##name
#define NAME "generic"
#define TARGET
#define LANES 4
#define ROWS 6
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#include "trainer/ops/cpu/gemm_kernels.h"

#ifdef __x86_64__
#define GEMM(name) avx2_##name
#define NAME "avx2"
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 6
#define MULTIPLY_ADD(a, b, c) ((avx2_vector) _mm256_fmadd_ps((__m256) (a), (__m256) (b), (__m256) (c)))
#include "trainer/ops/cpu/gemm_kernels.h"

#define GEMM(name) avx512_##name
#define NAME "avx512"
#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define ROWS 12
#define MULTIPLY_ADD(a, b, c) ((avx512_vector) _mm512_fmadd_ps((__m512) (a), (__m512) (b), (__m512) (c)))
#include "trainer/ops/cpu/gemm_kernels.h"
#endif

/* From the plainest on; NULL beyond the last that the machine runs. */
static const struct gemm_kernel *variant(unsigned index) {
        const struct gemm_kernel *variants[4] = { &generic_kernel };

#ifdef __x86_64__
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
                variants[1] = &avx2_kernel;
        if (variants[1] && __builtin_cpu_supports("avx512f"))
                variants[2] = &avx512_kernel;
#endif
        return index < ELEMENTSOF(variants) ? variants[index] : NULL;
}

static const struct gemm_kernel *kernel(void) {
        const struct gemm_kernel *best = variant(0);

        for (unsigned i = 1; variant(i); i++)
                best = variant(i);
        return best;
}

const char *ops_cpu_variant(void) { return kernel()->name; }

/* ---- packing ---- */

/* to (4, stride) = from (4, from_stride) transposed. */
static inline void transpose4(float *to, size_t stride, const float *from, size_t from_stride) {
        v4f a = *(const v4f_unaligned *) from, b = *(const v4f_unaligned *) (from + from_stride);
        v4f c = *(const v4f_unaligned *) (from + 2 * from_stride),
            d = *(const v4f_unaligned *) (from + 3 * from_stride);
        v4f ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        v4f cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);

        *(v4f_unaligned *) to = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
        *(v4f_unaligned *) (to + stride) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
        *(v4f_unaligned *) (to + 2 * stride) = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
        *(v4f_unaligned *) (to + 3 * stride) = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
}

/* to (depth, width) = from's n ≤ width lines side by side, the rest 0; lines run along the depth. */
static void pack_lines(float *to, uint32_t width, uint32_t n, const float *from, size_t stride, uint32_t depth) {
        uint32_t line = 0;

        for (; line + 4 <= n; line += 4) {
                const float *at = from + line * stride;
                uint32_t k = 0;
                for (; k + 4 <= depth; k += 4)
                        transpose4(to + (size_t) k * width + line, width, at + k, stride);
                for (; k < depth; k++)
                        for (uint32_t i = 0; i < 4; i++)
                                to[(size_t) k * width + line + i] = at[i * stride + k];
        }
        for (; line < width; line++)
                for (uint32_t k = 0; k < depth; k++)
                        to[(size_t) k * width + line] = line < n ? from[line * stride + k] : 0;
}

/* `width` is a constant at each call. */
static inline __attribute__((always_inline)) void copy_rows(float *to, uint32_t width, const float *from, size_t stride,
                                                            uint32_t depth) {
        for (uint32_t k = 0; k < depth; k++, to += width, from += stride)
                for (uint32_t i = 0; i < width; i += 4)
                        *(v4f_unaligned *) (to + i) = *(const v4f_unaligned *) (from + i);
}

/* The same where lines run across the depth: from (depth, n). */
static void pack_rows(float *to, uint32_t width, uint32_t n, const float *from, size_t stride, uint32_t depth) {
        if (n == width && width == 32) {
                copy_rows(to, 32, from, stride, depth);
        } else if (n == width && width == 12) {
                copy_rows(to, 12, from, stride, depth);
        } else {
                for (uint32_t k = 0; k < depth; k++, to += width, from += stride) {
                        memcpy(to, from, n * sizeof(float));
                        memset(to + n, 0, (width - n) * sizeof(float));
                }
        }
}

static void pack(float *to, uint32_t width, uint32_t n, struct cpu_operand from, uint32_t line, uint32_t first,
                 uint32_t depth) {
        if (from.depth_first)
                pack_rows(to, width, n, from.data + (size_t) first * from.stride + line, from.stride, depth);
        else
                pack_lines(to, width, n, from.data + (size_t) line * from.stride + first, from.stride, depth);
}

/* ---- blocks ---- */

struct block {
        uint32_t column, columns, first, depth; /* of c; of the depth */
};

static void pack_panel(const struct gemm_kernel *k, const struct cpu_gemm *g, const struct block *b, uint32_t panel,
                       float *packed) {
        uint32_t at = panel * k->columns;

        pack(packed + (size_t) at * b->depth, k->columns, MIN(k->columns, b->columns - at), g->b, b->column + at,
             b->first, b->depth);
}

/* A tile at the right or lower edge: by way of one of full size. */
static void edge_tile(const struct gemm_kernel *k, const struct cpu_gemm *g, uint32_t rows, uint32_t n_rows,
                      uint32_t n_columns, size_t depth, const float *a, const float *b, float *c, bool add) {
        float whole[ROWS_MAX * 32] __attribute__((aligned(64)));

        k->tile(rows, depth, a, b, whole, k->columns, g->alpha, false);
        for (uint32_t r = 0; r < n_rows; r++)
                for (uint32_t i = 0; i < n_columns; i++) {
                        float *at = c + (size_t) r * g->c.stride + i;
                        *at = add ? *at + whole[r * k->columns + i] : whole[r * k->columns + i];
                }
}

/* Rows `row`… of c against a packed block. */
static void strip(const struct gemm_kernel *k, const struct cpu_gemm *g, const struct block *b, uint32_t row,
                  const float *packed) {
        float a[ROWS_MAX * CPU_GEMM_DEPTH] __attribute__((aligned(64)));
        uint32_t n = MIN(k->rows, g->c.rows - row), third = k->rows / 3, rows = (n + third - 1) / third * third;
        bool add = g->add || b->first > 0;

        pack(a, rows, n, g->a, row, b->first, b->depth);
        for (uint32_t at = 0; at < b->columns; at += k->columns) {
                float *c = cpu_row(g->c, row) + b->column + at;
                uint32_t columns = MIN(k->columns, b->columns - at);
                if (n == rows && columns == k->columns)
                        k->tile(rows, b->depth, a, packed + (size_t) at * b->depth, c, g->c.stride, g->alpha, add);
                else
                        edge_tile(k, g, rows, n, columns, b->depth, a, packed + (size_t) at * b->depth, c, add);
        }
        if (g->finish && b->first + b->depth == g->depth)
                g->finish(g->context, row, n, b->column, b->columns);
}

static uint32_t even_part(uint32_t n, uint32_t most, uint32_t unit) {
        uint32_t parts = (n + most - 1) / most, part = (n + parts - 1) / parts;

        return (part + unit - 1) / unit * unit;
}

static uint32_t n_of(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit; }

static struct block block_at(const struct cpu_gemm *g, uint32_t column, uint32_t first, uint32_t columns) {
        return (struct block) { column, MIN(columns, g->c.columns - column), first,
                                MIN((uint32_t) CPU_GEMM_DEPTH, g->depth - first) };
}

void cpu_gemm(const struct cpu_gemm *g) {
        static float packed[CPU_GEMM_PACKED] __attribute__((aligned(64)));
        const struct gemm_kernel *k = kernel();
        uint32_t columns = even_part(g->c.columns, CPU_GEMM_COLUMNS, k->columns);

#pragma omp parallel
        for (uint32_t column = 0; column < g->c.columns; column += columns)
                for (uint32_t first = 0; first < g->depth; first += CPU_GEMM_DEPTH) {
                        struct block b = block_at(g, column, first, columns);
#pragma omp for schedule(static)
                        for (uint32_t panel = 0; panel < n_of(b.columns, k->columns); panel++)
                                pack_panel(k, g, &b, panel, packed);
#pragma omp for schedule(static)
                        for (uint32_t row = 0; row < g->c.rows; row += k->rows)
                                strip(k, g, &b, row, packed);
                }
}

static void run_alone(const struct gemm_kernel *k, const struct cpu_gemm *g, float *packed) {
        uint32_t columns = even_part(g->c.columns, CPU_GEMM_COLUMNS, k->columns);

        for (uint32_t column = 0; column < g->c.columns; column += columns)
                for (uint32_t first = 0; first < g->depth; first += CPU_GEMM_DEPTH) {
                        struct block b = block_at(g, column, first, columns);
                        for (uint32_t panel = 0; panel < n_of(b.columns, k->columns); panel++)
                                pack_panel(k, g, &b, panel, packed);
                        for (uint32_t row = 0; row < g->c.rows; row += k->rows)
                                strip(k, g, &b, row, packed);
                }
}

void cpu_gemm_alone(const struct cpu_gemm *g, float *packed) { run_alone(kernel(), g, packed); }

bool cpu_gemm_variant(unsigned index, const struct cpu_gemm *g, float *packed) {
        if (variant(index))
                run_alone(variant(index), g, packed);
        return variant(index) != NULL;
}
