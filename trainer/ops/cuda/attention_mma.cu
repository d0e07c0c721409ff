/*
 * Attention on tensor cores, in the manner of FlashAttention 2 (Dao 2023): bf16 and fp16, heads of 32, 64 and 128 columns, sm_80 on. A
 * block of four warps has 64 queries (or keys, for the gradients of keys and values) of one head, 16 a warp, in registers, and goes over
 * its sample 64 positions at a time, the next of which are copied meanwhile. Softmax is taken as it comes, with a running maximum, in
 * powers of two; backward makes the probabilities again from lse. Scores and probabilities stay in fp32 until they are an operand. The
 * gradient of queries and those of keys and values are two kernels, so that nothing is added by two blocks.
 *
 * Elements of a product are at a lane's (g, t) = (lane / 4, lane % 4), as mma.cuh has it: rows g and g + 8, columns 2t and 2t + 1 of each
 * eight. `h` below is which of the two rows, `e` which of the two columns.
 *
 * What is the same for all elements is taken out of the loops. With s a score before its scale, c = scale · log2 e, r dropout's factor of what is
 * kept and k whether it is: forward has p = 2^(c s − c max), multiplies by r once, after the loop, and drops bits of operands. Backward has
 *   p' = 2^(c s − lse') = r p, lse' being lse · log2 e − log2 r;   dv = Σ k p' do
 *   ds = p' (scale k dp − delta'), delta' being dcontext · context · scale / r;   dq = Σ ds k, dk = Σ ds q
 * as in ops.h. Positions behind a sample's end are looked for in its last tile alone, or have lse' = ∞, so p' = 0.
 */
#include "trainer/ops/cuda/attention.cuh"
#include "trainer/ops/cuda/mma.cuh"

namespace {
constexpr uint32_t WARPS = 4, THREADS = WARPS * WARP; /* of a block */
constexpr uint32_t TILE = 16 * WARPS;                 /* positions */
constexpr float LOG2E = 1.44269504088896340736f, LN2 = 0.69314718055994530942f;
constexpr size_t SHARED_UNASKED = 48 << 10; /* bytes that a kernel may have by default */
} // namespace

/* 64 rows of a head, each 16 bytes longer than it is wide: eight rows then lie in different banks. */
template <class T, int WIDTH> struct alignas(16) tile { T row[TILE][WIDTH + 8]; };
/* Which probabilities dropout keeps: a bit for each of 64 queries and 64 keys, bit kv % 8 of byte (q, kv / 8). */
struct alignas(8) kept {
        uint8_t bits[TILE][TILE / 8];
};

struct lane {
        uint32_t warp, g, t, matrix, row; /* matrix, row: whose address it gives to load_matrices */
};
__device__ static inline struct lane this_lane(void) {
        uint32_t i = threadIdx.x % WARP;

        return { threadIdx.x / WARP, i / 4, i % 4, i / 8, i % 8 };
}

/* What an operation's numbers are for all elements. */
struct factors {
        float scale, exponent;     /* exponent: scale · log2 e */
        float log2_keep, of_delta; /* of dropout's factor; delta' of dcontext · context */
};
template <class T> __device__ static inline struct factors factors_of(const attention<T> &op) {
        return { op.scale, op.scale * LOG2E, log2f(op.drop.scale), op.scale / op.drop.scale };
}

/* ---- shared memory ---- */

/* Two stages: while a block computes on one, the copies into the other continue. */
template <class T, int WIDTH> struct staged {
        tile<T, WIDTH> x[2], y[2]; /* keys and values; for their gradients queries and the context's gradient */
        struct kept kept[2];
        float lse[2][TILE], delta[2][TILE]; /* lse', delta' of the queries, where they are staged */
};

/* Rows from position `at` of the sample on; zeros behind its end. A thread has the same columns of every so many-th row. */
template <class T, int WIDTH>
__device__ static inline void copy_tile(const view<T> &from, uint32_t column, const struct site &s, uint32_t at,
                                        tile<T, WIDTH> *to) {
        constexpr uint32_t PIECES = WIDTH / VECTOR, STEP = THREADS / PIECES;
        uint32_t r = threadIdx.x / PIECES, c = threadIdx.x % PIECES * VECTOR;
        const T *row = from.row(s.first + at + r) + column + c;

#pragma unroll
        for (uint32_t i = 0; i < TILE; i += STEP)
                copy16(&to->row[r + i][c], row + (size_t) i * from.stride, at + r + i < s.length);
}

/* Keys and values from `at` on, as a group. */
template <class T, int WIDTH>
__device__ static inline void copy_keys(const attention<T> &op, const struct site &s, uint32_t at, staged<T, WIDTH> *to,
                                        uint32_t stage) {
        copy_tile(op.qkv, op.hidden + s.head * WIDTH, s, at, &to->x[stage]);
        copy_tile(op.qkv, 2 * op.hidden + s.head * WIDTH, s, at, &to->y[stage]);
        commit_copies();
}

/* Queries and the gradient of their context. */
template <class T, int WIDTH>
__device__ static inline void copy_queries(const attention<T> &op, const struct site &s, uint32_t at,
                                           staged<T, WIDTH> *to, uint32_t stage) {
        copy_tile(op.qkv, s.head * WIDTH, s, at, &to->x[stage]);
        copy_tile(op.dcontext, s.head * WIDTH, s, at, &to->y[stage]);
        commit_copies();
}

/* lse' and delta' of the queries from `at` on. */
template <class T, int WIDTH>
__device__ static inline void load_rows(const attention<T> &op, const struct site &s, const struct factors &f,
                                        uint32_t at, staged<T, WIDTH> *to, uint32_t stage) {
        uint32_t i = threadIdx.x;

        if (i >= TILE)
                return;
        size_t row = (size_t) s.head * op.lse_stride + s.first + at + i;
        bool there = at + i < s.length;
        to->lse[stage][i] = there ? op.lse[row] * LOG2E - f.log2_keep : INFINITY;
        to->delta[stage][i] = there ? op.delta[row] : 0;
}

/* ---- what dropout keeps ---- */

/* One call of Philox decides eight keys of a query (dropout.h), which is a byte. */
template <class T>
__device__ static inline void make_kept(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                        struct kept *to) {
        constexpr uint32_t STEP = THREADS / (TILE / 8);
        uint32_t row = threadIdx.x / (TILE / 8), c = threadIdx.x % (TILE / 8);

#pragma unroll 1
        for (uint32_t r = row; op.drop.threshold && r < TILE; r += STEP) {
                uint32_t block = dropout_attention_block(s.head, q + r, s.length) + kv / 8 + c, bits = 0;
                struct philox random = philox(op.drop.seed, block, op.drop.site, op.sample_k[s.sample]);
#pragma unroll
                for (int j = 0; j < 8; j++)
                        bits |= is_kept(op.drop, random, j) ? 1u << j : 0;
                to->bits[r][c] = (uint8_t) bits;
        }
}

/* Without dropout, once for both stages. */
template <class T, int WIDTH> __device__ static inline void keep_all(const attention<T> &op, staged<T, WIDTH> *to) {
        for (uint32_t i = threadIdx.x; !op.drop.threshold && i < 2 * TILE; i += THREADS)
                *(uint64_t *) to->kept[i / TILE].bits[i % TILE] = ~(uint64_t) 0;
}

/* Where the bits of query q and the 64 keys from kv on are between forward and backward. */
template <class T>
__device__ static inline uint64_t *kept_at(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv) {
        size_t row = (size_t) s.head * op.context.rows + s.first + q;

        return (uint64_t *) (op.kept + row * op.kept_stride + kv / 8);
}

/* In forward, once they are all there. */
template <class T>
__device__ static inline void keep(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                   const struct kept *from) {
        uint32_t r = threadIdx.x;

        if (op.kept && op.drop.threshold && r < TILE && q + r < s.length)
                *kept_at(op, s, q + r, kv) = *(const uint64_t *) from->bits[r];
}

/* In backward. */
template <class T>
__device__ static inline void load_kept(const attention<T> &op, const struct site &s, uint32_t q, uint32_t kv,
                                        struct kept *to) {
        uint32_t r = threadIdx.x;

        if (!op.kept)
                make_kept(op, s, q, kv, to);
        else if (op.drop.threshold && r < TILE && q + r < s.length)
                *(uint64_t *) to->bits[r] = *kept_at(op, s, q + r, kv);
}

/* Bits of a row as masks: those of columns 8n + 2t + e at the signs of byte n of word e. */
struct signs {
        uint32_t word[2];

        __device__ signs(uint32_t bits, const struct lane &l) : word { bits << (7 - 2 * l.t), bits << (6 - 2 * l.t) } {}

        /* Of an element, all bits. */
        __device__ uint32_t one(uint32_t n, uint32_t e) const { return spread_signs(word[e], 0, 0x8888 + n * 0x1111); }
        /* Of two neighbours, each its half. */
        __device__ uint32_t pair(uint32_t n) const { return spread_signs(word[0], word[1], 0xcc88 + n * 0x1111); }
};

__device__ static inline float masked(float x, uint32_t mask) { return __uint_as_float(__float_as_uint(x) & mask); }

/* ---- operands ---- */

/* A: 16 rows of a tile, all its columns. */
template <class T, int WIDTH>
__device__ static inline void load_a(uint32_t a[WIDTH / 16][4], const tile<T, WIDTH> *from, uint32_t first,
                                     const struct lane &l) {
#pragma unroll
        for (int k = 0; k < WIDTH / 16; k++)
                load_matrices(a[k], &from->row[first + l.matrix % 2 * 8 + l.row][16 * k + l.matrix / 2 * 8]);
}

/* score (16, 16) += A · (16 rows of the tile from `first` on)ᵀ */
template <class T, int WIDTH>
__device__ static inline void add_scores(float score[2][4], const uint32_t a[WIDTH / 16][4], const tile<T, WIDTH> *from,
                                         uint32_t first, const struct lane &l) {
#pragma unroll
        for (int k = 0; k < WIDTH / 16; k++) {
                uint32_t b[4];
                load_matrices(b, &from->row[first + l.matrix / 2 * 8 + l.row][16 * k + l.matrix % 2 * 8]);
                mma<T>(score[0], a[k], b);
                mma<T>(score[1], a[k], b + 2);
        }
}

/* sum (16, WIDTH) += A (16, 16) · (16 rows of the tile from `first` on) */
template <class T, int WIDTH>
__device__ static inline void add_product(float sum[WIDTH / 8][4], const uint32_t a[4], const tile<T, WIDTH> *from,
                                          uint32_t first, const struct lane &l) {
#pragma unroll
        for (int n = 0; n < WIDTH / 16; n++) {
                uint32_t b[4];
                load_matrices_transposed(b, &from->row[first + l.matrix % 2 * 8 + l.row][16 * n + l.matrix / 2 * 8]);
                mma<T>(sum[2 * n], a, b);
                mma<T>(sum[2 * n + 1], a, b + 2);
        }
}

/* 16 rows from position `first` of the sample on. */
template <class T, int WIDTH>
__device__ static inline void store_rows(const view<T> &to, uint32_t column, const struct site &s, uint32_t first,
                                         const float sum[WIDTH / 8][4], const struct lane &l) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t position = first + l.g + 8 * h;
                if (position >= s.length)
                        continue;
                T *row = to.row(s.first + position) + column + 2 * l.t;
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++)
                        *(uint32_t *) (row + 8 * n) = pack_pair<T>(sum[n][2 * h], sum[n][2 * h + 1]);
        }
}

/* Over the four lanes that have a row's columns. */
__device__ static inline float row_max(float x) {
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
        return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
__device__ static inline float row_sum(float x) {
        x += __shfl_xor_sync(ALL_LANES, x, 1);
        return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* Scores of keys behind the sample's end, of which `left` are before it: their probability is 0. */
template <int N> __device__ static inline void hide(float score[N][4], uint32_t left, const struct lane &l) {
#pragma unroll
        for (int i = 0; i < 4 * N; i++)
                if (8 * (i / 4) + 2 * l.t + i % 2 >= left)
                        score[i / 4][i % 4] = -INFINITY;
}

/* ---- kernels ---- */

/* Scores of a tile become probabilities before dropout, but for their common factor; what came before shrinks. */
template <int WIDTH> struct softmax {
        float max[2], sum[2]; /* of the lane's rows, max before the scale; sum: of the columns of the lane */

        __device__ void take(float score[TILE / 8][4], float out[WIDTH / 8][4], float exponent) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                        float higher = max[h];
#pragma unroll
                        for (uint32_t i = 0; i < TILE / 8 * 2; i++)
                                higher = fmaxf(higher, score[i / 2][2 * h + i % 2]);
                        higher = row_max(higher);
                        float shrink = power_of_two((max[h] - higher) * exponent), shift = higher * exponent;
                        max[h] = higher;
                        sum[h] *= shrink;
#pragma unroll
                        for (int n = 0; n < WIDTH / 8; n++) {
                                out[n][2 * h] *= shrink;
                                out[n][2 * h + 1] *= shrink;
                        }
#pragma unroll
                        for (uint32_t i = 0; i < TILE / 8 * 2; i++) {
                                float *x = &score[i / 2][2 * h + i % 2];
                                *x = power_of_two(*x * exponent - shift);
                                sum[h] += *x;
                        }
                }
        }
};

/* out += what dropout keeps of p, times the tile's values */
template <class T, int WIDTH>
__device__ static inline void add_values(float out[WIDTH / 8][4], const float p[TILE / 8][4], const struct kept *kept,
                                         uint32_t own, const tile<T, WIDTH> *v, const struct lane &l) {
        const uint32_t *words[2] = { (const uint32_t *) kept->bits[own + l.g],
                                     (const uint32_t *) kept->bits[own + l.g + 8] };
        const struct signs signs[2][2] = { { { words[0][0], l }, { words[0][1], l } },
                                           { { words[1][0], l }, { words[1][1], l } } };

#pragma unroll
        for (uint32_t i = 0; i < TILE / 16; i++) {
                uint32_t a[4];
                pack_a<T>(a, p[2 * i], p[2 * i + 1]);
#pragma unroll
                for (int j = 0; j < 4; j++)
                        a[j] &= signs[j % 2][i / 2].pair(2 * (i % 2) + j / 2);
                add_product<T, WIDTH>(out, a, v, 16 * i, l);
        }
}

template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_forward(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        const struct factors f = factors_of(op);
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, column = s.head * WIDTH, q[WIDTH / 16][4];
        softmax<WIDTH> soft = { { -INFINITY, -INFINITY }, {} };
        float out[WIDTH / 8][4] = {};

        if (first >= s.length)
                return;
        copy_tile(op.qkv, column, s, first, &m->x[1]);
        commit_copies();
        copy_keys(op, s, 0, m, 0);
        keep_all(op, m);
        wait_copies<1>();
        __syncthreads();
        load_a(q, &m->x[1], own, l);
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                float score[TILE / 8][4] = {};
                make_kept(op, s, first, at, &m->kept[stage]);
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_keys(op, s, at + TILE, m, stage ^ 1);
                keep(op, s, first, at, &m->kept[stage]);
#pragma unroll
                for (uint32_t i = 0; i < TILE / 16; i++)
                        add_scores(&score[2 * i], q, &m->x[stage], 16 * i, l);
                if (s.length - at < TILE)
                        hide<TILE / 8>(score, s.length - at, l);
                soft.take(score, out, f.exponent);
                add_values<T, WIDTH>(out, score, &m->kept[stage], own, &m->y[stage], l);
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t position = first + own + l.g + 8 * h;
                float sum = row_sum(soft.sum[h]), scale = op.drop.scale / sum;
                if (l.t == 0 && position < s.length)
                        op.lse[(size_t) s.head * op.lse_stride + s.first + position] =
                                LN2 * (soft.max[h] * f.exponent + log2f(sum));
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++) {
                        out[n][2 * h] *= scale;
                        out[n][2 * h + 1] *= scale;
                }
        }
        store_rows<T, WIDTH>(op.context, column, s, first + own, out, l);
}

/* delta' of the lane's two queries, from `first` on, whose dcontext it has as an operand; kept for attention_mma_dkv. */
template <class T, int WIDTH>
__device__ static inline void make_delta(const attention<T> &op, const struct site &s, const struct factors &f,
                                         uint32_t first, const uint32_t dout[WIDTH / 16][4], const struct lane &l,
                                         float delta[2]) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t position = first + l.g + 8 * h, there = min(position, s.length - 1);
                const T *row = op.context.row(s.first + there) + s.head * WIDTH + 2 * l.t;
                float sum = 0;
#pragma unroll
                for (int n = 0; n < WIDTH / 8; n++)
                        sum += pair_product<T>(dout[n / 2][n % 2 * 2 + h], *(const uint32_t *) (row + 8 * n));
                delta[h] = row_sum(sum) * f.of_delta;
                if (l.t == 0 && position < s.length)
                        op.delta[(size_t) s.head * op.lse_stride + s.first + position] = delta[h];
        }
}

/* Gradient of 64 queries: Σ over keys of ds · k. */
template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_dq(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        const struct factors f = factors_of(op);
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, q[WIDTH / 16][4], dout[WIDTH / 16][4];
        float dq[WIDTH / 8][4] = {}, lse[2], delta[2];

        if (first >= s.length)
                return;
        copy_queries(op, s, first, m, 1);
        copy_keys(op, s, 0, m, 0);
        keep_all(op, m);
        wait_copies<1>();
        __syncthreads();
        load_a(q, &m->x[1], own, l);
        load_a(dout, &m->y[1], own, l);
        make_delta<T, WIDTH>(op, s, f, first + own, dout, l, delta);
#pragma unroll
        for (int h = 0; h < 2; h++) {
                uint32_t there = min(first + own + l.g + 8 * h, s.length - 1);
                lse[h] = op.lse[(size_t) s.head * op.lse_stride + s.first + there] * LOG2E - f.log2_keep;
        }
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                const tile<T, WIDTH> *k = &m->x[stage], *v = &m->y[stage];
                load_kept(op, s, first, at, &m->kept[stage]);
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_keys(op, s, at + TILE, m, stage ^ 1);
                const uint8_t *bits[2] = { m->kept[stage].bits[own + l.g], m->kept[stage].bits[own + l.g + 8] };
#pragma unroll 1
                for (uint32_t i = 0; i < TILE && at + i < s.length; i += 16) {
                        const struct signs signs[2] = { { *(const uint16_t *) (bits[0] + i / 8), l },
                                                        { *(const uint16_t *) (bits[1] + i / 8), l } };
                        float p[2][4] = {}, dp[2][4] = {};
                        uint32_t a[4];
                        add_scores(p, q, k, i, l);
                        add_scores(dp, dout, v, i, l);
                        if (at + i + 16 > s.length)
                                hide<2>(p, s.length - at - i, l);
#pragma unroll
                        for (int j = 0; j < 8; j++) {
                                int n = j / 4, h = j / 2 % 2, c = j % 4;
                                float d = masked(dp[n][c], signs[h].one(n, j % 2)) * f.scale - delta[h];
                                p[n][c] = power_of_two(p[n][c] * f.exponent - lse[h]) * d;
                        }
                        pack_a<T>(a, p[0], p[1]);
                        add_product<T, WIDTH>(dq, a, k, i, l);
                }
        }
        store_rows<T, WIDTH>(op.dqkv, s.head * WIDTH, s, first + own, dq, l);
}

/* Gradients of 64 keys and of their values, sums over queries. Scores are had transposed, a row a key. */
template <class T, int WIDTH> __global__ void __launch_bounds__(THREADS) attention_mma_dkv(attention<T> op) {
        typedef staged<T, WIDTH> memory;
        DYNAMIC_SHARED(memory, m);
        const struct site s = site_of(op.cu_seqlens);
        const struct lane l = this_lane();
        const struct factors f = factors_of(op);
        uint32_t first = blockIdx.x * TILE, own = 16 * l.warp, column = s.head * WIDTH, k[WIDTH / 16][4],
                 v[WIDTH / 16][4];
        float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};

        if (first >= s.length)
                return;
        copy_keys(op, s, first, m, 1);
        copy_queries(op, s, 0, m, 0);
        keep_all(op, m);
        wait_copies<1>();
        __syncthreads();
        load_a(k, &m->x[1], own, l);
        load_a(v, &m->y[1], own, l);
        for (uint32_t at = 0, stage = 0; at < s.length; at += TILE, stage ^= 1) {
                const tile<T, WIDTH> *q = &m->x[stage], *dout = &m->y[stage];
                load_kept(op, s, at, first, &m->kept[stage]);
                load_rows(op, s, f, at, m, stage);
                wait_copies<0>();
                __syncthreads();
                if (at + TILE < s.length)
                        copy_queries(op, s, at + TILE, m, stage ^ 1);
#pragma unroll 1
                for (uint32_t i = 0; i < TILE && at + i < s.length; i += 16) {
                        float p[2][4] = {}, dp[2][4] = {};
                        uint32_t a[4];
                        add_scores(p, k, q, i, l);
                        add_scores(dp, v, dout, i, l);
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                                uint32_t query = i + 8 * (j / 2) + 2 * l.t + j % 2;
                                uint32_t bits = *(const uint16_t *) &m->kept[stage].bits[query][own / 8];
                                float lse = m->lse[stage][query], delta = m->delta[stage][query];
#pragma unroll
                                for (int h = 0; h < 2; h++) {
                                        float *score = &p[j / 2][2 * h + j % 2], *d = &dp[j / 2][2 * h + j % 2];
                                        uint32_t mask = spread_signs(bits << (7 - l.g), 0, 0x8888 + h * 0x1111);
                                        float probability = power_of_two(*score * f.exponent - lse);
                                        *d = probability * (masked(*d, mask) * f.scale - delta);
                                        *score = masked(probability, mask);
                                }
                        }
                        pack_a<T>(a, p[0], p[1]);
                        add_product<T, WIDTH>(dv, a, dout, i, l);
                        pack_a<T>(a, dp[0], dp[1]);
                        add_product<T, WIDTH>(dk, a, q, i, l);
                }
        }
        store_rows<T, WIDTH>(op.dqkv, op.hidden + column, s, first + own, dk, l);
        store_rows<T, WIDTH>(op.dqkv, 2 * op.hidden + column, s, first + own, dv, l);
}

/* ---- entries ---- */

/* Rows are read 16 bytes at a time. */
static bool has_aligned_rows(struct tensor t) { return (uintptr_t) t.data % 16 == 0 && t.stride % VECTOR == 0; }

static bool can_run(const struct op_attention *op) {
        uint32_t width = op->context.columns / op->n_heads;

        return op->qkv.dtype != DTYPE_FP32 && cuda_backend.sm >= CUDA_MMA_SM &&
               (width == 32 || width == 64 || width == 128) && has_aligned_rows(op->qkv) &&
               has_aligned_rows(op->context) && has_aligned_rows(op->dcontext) && has_aligned_rows(op->dqkv);
}

size_t cuda_attention_kept_bytes(const struct ops_shape *shape) {
        return cuda_kept_bytes(cuda_dtype(cuda_backend.precision), cuda_backend.sm, shape);
}

template <class T, int WIDTH> static void launch(void (*kernel)(attention<T>), const struct op_attention *op) {
        dim3 grid(ceil_div(op->max_length, TILE), op->n_heads, op->n_sequences);

        LAUNCH(kernel, grid, THREADS, sizeof(staged<T, WIDTH>), attention_of<T>(op));
}

template <class T> static bool allow_shared(void (*kernel)(attention<T>)) {
        return cuda_check(
                cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int) sizeof(staged<T, 128>)),
                "attention");
}

bool cuda_attention_open(void) {
        static_assert(sizeof(staged<bf16, 64>) <= SHARED_UNASKED, "only heads of 128 columns need more");
        enum dtype dtype = cuda_dtype(cuda_backend.precision);

        if (dtype == DTYPE_FP32 || cuda_backend.sm < CUDA_MMA_SM)
                return true;
        WITH_HALF(dtype, return allow_shared<T>(attention_mma_forward<T, 128>) &&
                                allow_shared<T>(attention_mma_dq<T, 128>) &&
                                allow_shared<T>(attention_mma_dkv<T, 128>));
}

/* Runs what follows with WIDTH, the columns of a head, and T, the type. */
#define WITH_WIDTH(op, ...)                                                    \
        do {                                                                   \
                const uint32_t width_ = (op)->context.columns / (op)->n_heads; \
                WITH_HALF((op)->qkv.dtype, {                                   \
                        if (width_ == 32) {                                    \
                                constexpr int WIDTH = 32;                      \
                                __VA_ARGS__;                                   \
                        } else if (width_ == 64) {                             \
                                constexpr int WIDTH = 64;                      \
                                __VA_ARGS__;                                   \
                        } else {                                               \
                                constexpr int WIDTH = 128;                     \
                                __VA_ARGS__;                                   \
                        }                                                      \
                });                                                            \
        } while (0)

bool cuda_attention_mma_forward(const struct op_attention *op) {
        if (!can_run(op))
                return false;
        WITH_WIDTH(op, (launch<T, WIDTH>(attention_mma_forward<T, WIDTH>, op)));
        return true;
}

bool cuda_attention_mma_backward(const struct op_attention *op) {
        if (!can_run(op))
                return false;
        WITH_WIDTH(op, {
                (launch<T, WIDTH>(attention_mma_dq<T, WIDTH>, op)); /* makes delta' */
                (launch<T, WIDTH>(attention_mma_dkv<T, WIDTH>, op));
        });
        return true;
}
