/* trainer/ops/cuda/mma.cuh on the host: who has which element as its comment says. A warp's lanes show each other
 * theirs.
 */
#ifndef EMULATION_MMA_EMULATED_H
#define EMULATION_MMA_EMULATED_H

#include "trainer/ops/cuda/kernels.cuh"

struct emulated_mma {
        const uint32_t *a, *b;
};

template <class T> static inline float emulated_half(uint32_t bits, uint32_t i) {
        T pair[2];

        memcpy(pair, &bits, sizeof(bits));
        return to_float(pair[i]);
}

/* What another lane of the warp shows, until the next __syncwarp of both. */
template <class T> static inline const T *emulated_peek(uint64_t shown[32], unsigned lane) {
        return (const T *) shown[lane];
}

static inline void emulated_show(const void *mine, uint64_t shown[32]) {
        uint64_t bits = (uint64_t) (uintptr_t) mine;

        emulated_gather(bits, shown);
}

template <class T> static inline void multiply_matrices(T, float d[4], const uint32_t a[4], const uint32_t b[2]) {
        const struct emulated_mma mine = { a, b };
        uint64_t shown[32];
        unsigned g = emulated_lane() / 4, t = emulated_lane() % 4;
        float sum[4];

        emulated_show(&mine, shown);
        for (unsigned i = 0; i < 4; i++) {
                unsigned row = g + 8 * (i / 2), column = 2 * t + i % 2;
                sum[i] = d[i];
                for (unsigned k = 0; k < 16; k++) {
                        const uint32_t *of_a = emulated_peek<emulated_mma>(shown, row % 8 * 4 + k % 8 / 2)->a,
                                       *of_b = emulated_peek<emulated_mma>(shown, column * 4 + k % 8 / 2)->b;
                        sum[i] += emulated_half<T>(of_a[row / 8 + 2 * (k / 8)], k % 2) *
                                  emulated_half<T>(of_b[k / 8], k % 2);
                }
        }
        __syncwarp();
        memcpy(d, sum, sizeof(sum));
}

static inline void emulated_load(uint32_t r[4], const void *row, bool transposed) {
        uint64_t shown[32];
        unsigned g = emulated_lane() / 4, t = emulated_lane() % 4;

        if ((uintptr_t) row % 16) {
                fprintf(stderr, "emulation: a row of a matrix that is not aligned\n");
                abort();
        }
        emulated_show(row, shown);
        for (unsigned m = 0; m < 4; m++) {
                uint16_t pair[2];
                for (unsigned i = 0; i < 2; i++)
                        pair[i] = transposed ? emulated_peek<uint16_t>(shown, 8 * m + 2 * t + i)[g]
                                             : emulated_peek<uint16_t>(shown, 8 * m + g)[2 * t + i];
                memcpy(&r[m], pair, sizeof(pair));
        }
        __syncwarp();
}
static inline void load_matrices(uint32_t r[4], const void *row) { emulated_load(r, row, false); }
static inline void load_matrices_transposed(uint32_t r[4], const void *row) { emulated_load(r, row, true); }

static inline uint32_t spread_signs(uint32_t low, uint32_t high, uint32_t which) {
        uint64_t all = (uint64_t) high << 32 | low;
        uint32_t bits = 0;

        for (unsigned i = 0; i < 4; i++) {
                if (!(which >> 4 * i & 8)) {
                        fprintf(stderr, "emulation: a byte, not its sign\n");
                        abort();
                }
                bits |= (all >> 8 * (which >> 4 * i & 7) & 0x80 ? 0xffu : 0) << 8 * i;
        }
        return bits;
}
static inline float power_of_two(float x) { return x < -126 ? 0 : exp2f(x); }

static inline void copy16(void *to, const void *from, bool there) { emulated_copy16(to, from, there); }
static inline void commit_copies(void) { emulated_commit_copies(); }
template <int N> static inline void wait_copies(void) { emulated_wait_copies(N); }

#endif
