/*
 * The inner loop of matrix products: ROWS × 2 vectors of c at a time, held in registers over a whole run of the depth. Included once
 * for each instruction set, with GEMM(name), NAME, TARGET, LANES, ROWS (a multiple of 3) and MULTIPLY_ADD(a, b, c) defined. No guard:
 * it is meant to be included more than once.
 *
 * `a` is packed (depth, rows) and `b` (depth, 2 · LANES). Each element of c is one chain of multiply-adds in the order of the
 * depth, whatever rows and lanes: all instruction sets that fuse give the same bits.
 */

#define INLINE static inline __attribute__((always_inline)) TARGET

typedef float GEMM(vector) __attribute__((vector_size(4 * LANES)));
typedef float GEMM(unaligned) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* c (rows, 2 · LANES) = alpha · a b, added to c where `add`. `rows` is a constant at each call. */
INLINE void GEMM(tile_of)(int rows, size_t depth, const float *a, const float *b, float *c, size_t stride, float alpha,
                          bool add) {
        GEMM(vector) sums[ROWS][2] = {};

        for (int r = 0; r < rows; r++)
                for (size_t line = 0; line < 2 * LANES; line += 16)
                        __builtin_prefetch(c + (size_t) r * stride + line, 1);
        for (size_t k = 0; k < depth; k++) {
                GEMM(vector)
                b0 = *(const GEMM(vector) *) (b + k * 2 * LANES),
                b1 = *(const GEMM(vector) *) (b + k * 2 * LANES + LANES);
                for (int r = 0; r < rows; r++) {
                        GEMM(vector) ar = a[k * (size_t) rows + (size_t) r] - (GEMM(vector)) {};
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

static TARGET void GEMM(tile)(uint32_t rows, size_t depth, const float *a, const float *b, float *c, size_t stride,
                              float alpha, bool add) {
        if (rows == ROWS)
                GEMM(tile_of)(ROWS, depth, a, b, c, stride, alpha, add);
        else if (rows == ROWS / 3 * 2)
                GEMM(tile_of)(ROWS / 3 * 2, depth, a, b, c, stride, alpha, add);
        else
                GEMM(tile_of)(ROWS / 3, depth, a, b, c, stride, alpha, add);
}

static const struct gemm_kernel GEMM(kernel) = { GEMM(tile), ROWS, 2 * LANES, NAME };

#undef INLINE
#undef GEMM
#undef NAME
#undef LANES
#undef ROWS
#undef MULTIPLY_ADD
#undef TARGET
