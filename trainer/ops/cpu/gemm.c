/*
 * CPU backend: matrix products. b is packed a part at a time, as much as stays in a core's second cache; each thread takes its share of the
 * rows of a, a few of them at a time, and runs the kernel along what is packed. Rows that lie along the depth are read where they lie; others
 * are packed, several strips side by side.
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
#define STRIPS 8 /* packed at a time */

#pragma GCC diagnostic ignored "-Wpsabi"
typedef float v4f __attribute__((vector_size(16)));
typedef float v8f __attribute__((vector_size(32)));
typedef float v4f_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

/* Some rows of a: packed (depth, rows), or where they lie, `stride` apart, if that is not 0. */
struct strip {
        const float *data;
        size_t stride;
};

struct gemm_kernel {
        void (*tile)(uint32_t rows, size_t depth, struct strip a, const float *b, float *c, size_t stride, float alpha,
                     bool add);
        void (*pack_lines)(float *to, const float *from, size_t stride, uint32_t depth);
        void (*pack_rows)(float *to, const float *from, size_t stride, uint32_t depth);
        void (*pack_strips)(float *to, uint32_t n, const float *from, size_t stride, uint32_t depth);
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
#define NAME "avx2-fma"
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 6
#define MULTIPLY_ADD(a, b, c) ((avx2_vector) _mm256_fmadd_ps((__m256) (a), (__m256) (b), (__m256) (c)))
#include "trainer/ops/cpu/gemm_kernels.h"

#define GEMM(name) avx512_##name
#define NAME "avx512-fma"
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

/* The same where lines run across the depth: from (depth, n). */
static void pack_rows(float *to, uint32_t width, uint32_t n, const float *from, size_t stride, uint32_t depth) {
        for (uint32_t k = 0; k < depth; k++, to += width, from += stride) {
                memcpy(to, from, n * sizeof(float));
                memset(to + n, 0, (width - n) * sizeof(float));
        }
}

static const float *element(struct cpu_operand o, uint32_t line, uint32_t k) {
        return o.depth_first ? o.data + (size_t) k * o.stride + line : o.data + (size_t) line * o.stride + k;
}

static void pack(float *to, uint32_t width, uint32_t n, struct cpu_operand from, uint32_t line, uint32_t first,
                 uint32_t depth) {
        if (from.depth_first)
                pack_rows(to, width, n, element(from, line, first), from.stride, depth);
        else
                pack_lines(to, width, n, element(from, line, first), from.stride, depth);
}

/* ---- blocks ---- */

struct block {
        uint32_t column, columns, first, depth; /* of c; of the depth */
};

static void pack_panel(const struct gemm_kernel *k, const struct cpu_gemm *g, const struct block *b, uint32_t panel,
                       float *packed) {
        uint32_t at = panel * k->columns, n = MIN(k->columns, b->columns - at);
        float *to = packed + (size_t) at * b->depth;

        if (n < k->columns)
                pack(to, k->columns, n, g->b, b->column + at, b->first, b->depth);
        else
                (g->b.depth_first ? k->pack_rows : k->pack_lines)(to, element(g->b, b->column + at, b->first),
                                                                  g->b.stride, b->depth);
}

/* Tiles have 1, 2 or 3 thirds of a strip's rows. */
static uint32_t whole_tile(const struct gemm_kernel *k, uint32_t n) {
        return (n + k->rows / 3 - 1) / (k->rows / 3) * (k->rows / 3);
}

/* A tile at the right or lower edge: by way of one of full size. */
static void edge_tile(const struct gemm_kernel *k, const struct cpu_gemm *g, uint32_t rows, uint32_t n_rows,
                      uint32_t n_columns, size_t depth, struct strip a, const float *b, float *c, bool add) {
        float whole[ROWS_MAX * 32] __attribute__((aligned(64)));

        k->tile(rows, depth, a, b, whole, k->columns, g->alpha, false);
        for (uint32_t r = 0; r < n_rows; r++)
                for (uint32_t i = 0; i < n_columns; i++) {
                        float *at = c + (size_t) r * g->c.stride + i;
                        *at = add ? *at + whole[r * k->columns + i] : whole[r * k->columns + i];
                }
}

/* Rows `row`… of c, a strip or less, against a packed block. */
static void multiply_strip(const struct gemm_kernel *k, const struct cpu_gemm *g, const struct block *b, uint32_t row,
                           uint32_t n, struct strip a, const float *packed) {
        uint32_t rows = whole_tile(k, n);
        bool add = g->add || b->first > 0;

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

/* Rows from `row` to before `end`. */
static void multiply_rows(const struct gemm_kernel *k, const struct cpu_gemm *g, const struct block *b, uint32_t row,
                          uint32_t end, const float *packed) {
        float strips[STRIPS * ROWS_MAX * CPU_GEMM_DEPTH] __attribute__((aligned(64)));

        while (row < end) {
                uint32_t n = MIN(k->rows, end - row), full = MIN((end - row) / k->rows, (uint32_t) STRIPS);
                const float *from = element(g->a, row, b->first);
                if (!g->a.depth_first && n == k->rows) {
                        multiply_strip(k, g, b, row, n, (struct strip) { from, g->a.stride }, packed);
                } else if (g->a.depth_first && full > 0) {
                        k->pack_strips(strips, full, from, g->a.stride, b->depth);
                        for (uint32_t s = 0; s < full; s++)
                                multiply_strip(k, g, b, row + s * n, n,
                                               (struct strip) { strips + (size_t) s * n * b->depth, 0 }, packed);
                        n *= full;
                } else {
                        pack(strips, whole_tile(k, n), n, g->a, row, b->first, b->depth);
                        multiply_strip(k, g, b, row, n, (struct strip) { strips, 0 }, packed);
                }
                row += n;
        }
}

static uint32_t even_part(uint32_t n, uint32_t most, uint32_t unit) {
        uint32_t parts = (n + most - 1) / most, part = (n + parts - 1) / parts;

        return (part + unit - 1) / unit * unit;
}

static uint32_t n_of(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit; }

/* What is packed at a time: as much as there is room for, so that threads seldom wait for each other. */
struct cut {
        uint32_t columns, depth; /* of c; of the depth, in whole runs */
};

static struct cut cut_of(const struct gemm_kernel *k, const struct cpu_gemm *g) {
        uint32_t run = MIN(g->depth, (uint32_t) CPU_GEMM_DEPTH);
        uint32_t most = (uint32_t) CPU_GEMM_PACKED / run / k->columns * k->columns;
        uint32_t columns = even_part(g->c.columns, most, k->columns);

        return (struct cut) { columns, (uint32_t) CPU_GEMM_PACKED / (columns * run) * run };
}

/* The threads that share a product, from 0. */
struct crew {
        uint32_t thread, n;
};

static uint32_t share(uint32_t n, uint32_t thread, uint32_t n_threads) {
        return (uint32_t) ((uint64_t) n * thread / n_threads);
}

/* Columns from b->column on of a part of the depth: runs of it, one after the other, each a row of panels. */
static void pack_runs(const struct gemm_kernel *k, const struct cpu_gemm *g, struct block b, uint32_t depth,
                      struct crew crew, float *packed) {
        uint32_t n = n_of(b.columns, k->columns), panels = n * n_of(depth, CPU_GEMM_DEPTH), begin = b.first;

        for (uint32_t i = share(panels, crew.thread, crew.n); i < share(panels, crew.thread + 1, crew.n); i++) {
                uint32_t offset = i / n * CPU_GEMM_DEPTH;
                b.first = begin + offset;
                b.depth = MIN(depth - offset, (uint32_t) CPU_GEMM_DEPTH);
                pack_panel(k, g, &b, i % n, packed + (size_t) n * k->columns * offset);
        }
}

/* A crew of more than one is all threads of a parallel region: they wait for each other. */
static void multiply(const struct gemm_kernel *k, const struct cpu_gemm *g, struct crew crew, float *packed) {
        uint32_t third = k->rows / 3, thirds = n_of(g->c.rows, third);
        uint32_t row = share(thirds, crew.thread, crew.n) * third;
        uint32_t end = MIN(share(thirds, crew.thread + 1, crew.n) * third, g->c.rows);
        struct cut cut = cut_of(k, g);
        struct block b = {};

        for (; b.column < g->c.columns; b.column += cut.columns)
                for (uint32_t first = 0; first < g->depth; first += cut.depth) {
                        uint32_t depth = MIN(cut.depth, g->depth - first);
                        b.columns = MIN(cut.columns, g->c.columns - b.column);
                        b.first = first;
                        if (crew.n > 1 && b.column + first > 0) {
#pragma omp barrier
                        }
                        pack_runs(k, g, b, depth, crew, packed);
                        if (crew.n > 1) {
#pragma omp barrier
                        }
                        for (uint32_t done = 0; done < depth; done += CPU_GEMM_DEPTH) {
                                b.first = first + done;
                                b.depth = MIN(depth - done, (uint32_t) CPU_GEMM_DEPTH);
                                multiply_rows(k, g, &b, row, end,
                                              packed + (size_t) n_of(b.columns, k->columns) * k->columns * done);
                        }
                }
}

void cpu_gemm(const struct cpu_gemm *g) {
        static float packed[CPU_GEMM_PACKED] __attribute__((aligned(64)));

#pragma omp parallel
        multiply(kernel(), g, (struct crew) { (uint32_t) omp_get_thread_num(), (uint32_t) omp_get_num_threads() },
                 packed);
}

void cpu_gemm_alone(const struct cpu_gemm *g, float *packed) { multiply(kernel(), g, (struct crew) { 0, 1 }, packed); }

bool cpu_gemm_variant(unsigned index, const struct cpu_gemm *g, float *packed) {
        if (variant(index))
                multiply(variant(index), g, (struct crew) { 0, 1 }, packed);
        return variant(index) != NULL;
}
