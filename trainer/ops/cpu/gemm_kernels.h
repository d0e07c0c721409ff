/*
 * The inner loop of matrix products: ROWS × 2 vectors of c at a time, held in registers over a whole run of the depth. Included once
 * for each instruction set, with GEMM(name), NAME, TARGET, LANES, ROWS (a multiple of 3) and MULTIPLY_ADD(a, b, c) defined. No guard:
 * it is meant to be included more than once.
 *
 * `a` is packed (depth, rows), or lies where it is; `b` is packed (depth, 2 · LANES). Each element of c is one chain of multiply-adds in the order of the
 * depth, whatever rows and lanes: all instruction sets that fuse give the same bits.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET

typedef float GEMM(vector) __attribute__((vector_size(4 * LANES)));
typedef float GEMM(unaligned) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* c (rows, 2 · LANES) = alpha · a b, added to c where `add`. `rows` is a constant at each call. */
INLINE void GEMM(tile_of)(int rows, bool direct, size_t depth, struct strip a, const float *b, float *c, size_t stride,
                          float alpha, bool add) {
        GEMM(vector) sums[ROWS][2] = {};

        for (int r = 0; r < rows; r++)
                for (size_t line = 0; line < 2 * LANES; line += 16)
                        __builtin_prefetch(c + (size_t) r * stride + line, 1);
        for (size_t k = 0; k < depth; k++) {
                GEMM(vector)
                b0 = *(const GEMM(vector) *) (b + k * 2 * LANES),
                b1 = *(const GEMM(vector) *) (b + k * 2 * LANES + LANES);
                for (int r = 0; r < rows; r++) {
                        const float *at =
                                direct ? a.data + (size_t) r * a.stride + k : a.data + k * (size_t) rows + (size_t) r;
                        GEMM(vector) ar = *at - (GEMM(vector)) {};
                        sums[r][0] = MULTIPLY_ADD(ar, b0, sums[r][0]);
                        sums[r][1] = MULTIPLY_ADD(ar, b1, sums[r][1]);
                }
        }
        for (int r = 0; r < rows; r++)
                for (int i = 0; i < 2; i++) {
                        GEMM(unaligned) *at = (GEMM(unaligned) *) (c + (size_t) r * stride + (size_t) i * LANES);
                        GEMM(vector) value = alpha * sums[r][i];
                        *at = add ? (GEMM(vector)) * at + value : value;
                }
}

static TARGET void GEMM(tile)(uint32_t rows, size_t depth, struct strip a, const float *b, float *c, size_t stride,
                              float alpha, bool add) {
        if (rows == ROWS && a.stride)
                GEMM(tile_of)(ROWS, true, depth, a, b, c, stride, alpha, add);
        else if (rows == ROWS)
                GEMM(tile_of)(ROWS, false, depth, a, b, c, stride, alpha, add);
        else if (rows == ROWS / 3 * 2)
                GEMM(tile_of)(ROWS / 3 * 2, false, depth, a, b, c, stride, alpha, add);
        else
                GEMM(tile_of)(ROWS / 3, false, depth, a, b, c, stride, alpha, add);
}

/* ---- packing, of full width; gemm.c has the edges ---- */

/* Two vectors shuffled alike in every four elements: i < 4 are the first's, i ≥ LANES the second's. */
#if LANES == 16
#define EVERY_FOUR(a, b, i, j, k, l)                                                                              \
        __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, \
                                j + 12, k + 12, l + 12)
#elif LANES == 8
#define EVERY_FOUR(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
#else
#define EVERY_FOUR(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#endif

/* Four elements of each fourth line. */
INLINE GEMM(vector) GEMM(fourths)(const float *from, size_t stride) {
        v4f a = *(const v4f_unaligned *) from;
#if LANES == 4
        return a;
#else
        v4f b = *(const v4f_unaligned *) (from + 4 * stride);
        v8f ab = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#if LANES == 8
        return ab;
#else
        v4f c = *(const v4f_unaligned *) (from + 8 * stride), d = *(const v4f_unaligned *) (from + 12 * stride);
        v8f cd = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
        return __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
}

/* to (4, 2 · LANES), its left or right half = LANES lines of four elements, transposed. */
INLINE void GEMM(transpose)(float *to, const float *from, size_t stride) {
        GEMM(vector) a = GEMM(fourths)(from, stride), b = GEMM(fourths)(from + stride, stride);
        GEMM(vector) c = GEMM(fourths)(from + 2 * stride, stride), d = GEMM(fourths)(from + 3 * stride, stride);
        GEMM(vector) ab0 = EVERY_FOUR(a, b, 0, LANES, 1, LANES + 1), ab1 = EVERY_FOUR(a, b, 2, LANES + 2, 3, LANES + 3);
        GEMM(vector) cd0 = EVERY_FOUR(c, d, 0, LANES, 1, LANES + 1), cd1 = EVERY_FOUR(c, d, 2, LANES + 2, 3, LANES + 3);

        *(GEMM(unaligned) *) to = EVERY_FOUR(ab0, cd0, 0, 1, LANES, LANES + 1);
        *(GEMM(unaligned) *) (to + 2 * LANES) = EVERY_FOUR(ab0, cd0, 2, 3, LANES + 2, LANES + 3);
        *(GEMM(unaligned) *) (to + 4 * LANES) = EVERY_FOUR(ab1, cd1, 0, 1, LANES, LANES + 1);
        *(GEMM(unaligned) *) (to + 6 * LANES) = EVERY_FOUR(ab1, cd1, 2, 3, LANES + 2, LANES + 3);
}

/* to (depth, 2 · LANES) = as many lines that run along the depth. */
static TARGET void GEMM(pack_lines)(float *to, const float *from, size_t stride, uint32_t depth) {
        uint32_t k = 0;

        for (; k + 4 <= depth; k += 4)
                for (size_t half = 0; half < 2; half++)
                        GEMM(transpose)(to + k * 2 * LANES + half * LANES, from + half * LANES * stride + k, stride);
        for (; k < depth; k++)
                for (size_t line = 0; line < 2 * LANES; line++)
                        to[k * 2 * LANES + line] = from[line * stride + k];
}

/* The same of lines that run across the depth. */
static TARGET void GEMM(pack_rows)(float *to, const float *from, size_t stride, uint32_t depth) {
        for (uint32_t k = 0; k < depth; k++, to += 2 * LANES, from += stride)
                for (size_t half = 0; half < 2; half++)
                        *(GEMM(unaligned) *) (to + half * LANES) = *(const GEMM(unaligned) *) (from + half * LANES);
}

/* `n` strips of ROWS lines across the depth, each to (depth, ROWS): side by side, since they share lines of the cache. */
static TARGET void GEMM(pack_strips)(float *to, uint32_t n, const float *from, size_t stride, uint32_t depth) {
        for (uint32_t k = 0; k < depth; k++, to += ROWS, from += stride)
                for (size_t s = 0; s < n; s++)
                        memcpy(to + s * ROWS * depth, from + s * ROWS, ROWS * sizeof(float));
}

static const struct gemm_kernel GEMM(kernel) = {
        .tile = GEMM(tile),
        .pack_lines = GEMM(pack_lines),
        .pack_rows = GEMM(pack_rows),
        .pack_strips = GEMM(pack_strips),
        .rows = ROWS,
        .columns = 2 * LANES,
        .name = NAME,
};

#undef INLINE
#undef EVERY_FOUR
#undef GEMM
#undef NAME
#undef LANES
#undef ROWS
#undef MULTIPLY_ADD
#undef TARGET
