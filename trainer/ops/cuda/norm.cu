/*
 * Normalisations with their dropout and residual, or with the embeddings that they follow. Forward has a row a warp, or a block where it is wide, backward a row a block, eight
 * columns a thread and ROWS_AHEAD rows at a time: each keeps its rows in registers, so each tensor is read and written once. The column sums
 * dgamma, dbeta and dbias are taken by each thread for its columns, then over blocks of ROWS rows, always in that order.
 */
#include "trainer/ops/cuda/columns.cuh"

/* Where x comes from: given; residual + dropout(x); the sum of three rows of tables. */
enum kind { PLAIN, ADD, EMBED };

namespace {
constexpr uint32_t FORWARD_WARPS = 8;
constexpr uint32_t ROWS = CUDA_NORM_ROWS, ROWS_AHEAD = 2; /* of a block in backward; of them that it has at a time */
constexpr uint32_t BACKWARD_WARPS_MAX = CUDA_WIDTH_MAX / (WARP * VECTOR);
} // namespace

/* op_norm's arguments, for kernels. */
template <class T> struct norm_args {
        view<T> x, residual, y, dy, dx, dresidual;
        const float *gamma, *beta;
        float *mean, *rstd, *partial; /* partial: (blocks, sums, H) */
        float epsilon;
        struct drop drop;
        struct row_keys rows;
        struct {
                const int32_t *ids, *positions, *types;
                view<T> word, position, type;
        } embed;
};

template <class T> static norm_args<T> norm_of(const struct op_norm *op) {
        norm_args<T> n = {};

        n.x = view_of<T>(op->x);
        n.residual = view_of<T>(op->residual);
        n.y = view_of<T>(op->y);
        n.dy = view_of<T>(op->dy);
        n.dx = view_of<T>(op->dx);
        n.dresidual = view_of<T>(op->dresidual);
        n.gamma = (const float *) op->gamma.data;
        n.beta = (const float *) op->beta.data;
        n.mean = (float *) op->mean.data;
        n.rstd = (float *) op->rstd.data;
        n.partial = (float *) op->workspace.data;
        n.epsilon = (float) op->epsilon;
        n.drop = drop_of(op->dropout);
        n.rows = op->rows;
        return n;
}

/* The factors of row t, columns c to c + 7. */
template <class T> __device__ static void row_mask(const norm_args<T> &op, uint32_t t, uint32_t c, float mask[VECTOR]) {
        if (op.drop.threshold) {
                uint32_t block = dropout_hidden_block((uint32_t) op.rows.position[t], op.x.columns);
                dropout8(op.drop, op.rows.k[t], block + c / VECTOR, mask);
                return;
        }
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                mask[i] = 1;
}

/* Who has a row in forward: a warp, lane by lane N pieces of eight columns each; or, where it is wider or does not consist of whole pieces, a block, each
 * thread one. sum: over the row, the same bits for all that have it. */
template <int N> struct of_warp {
        static constexpr int PIECES = N;

        __device__ static uint32_t row(void) { return blockIdx.x * FORWARD_WARPS + threadIdx.x / WARP; }
        __device__ static uint32_t column(uint32_t piece) { return (piece * WARP + threadIdx.x % WARP) * VECTOR; }
        __device__ static float sum(float x) { return warp_sum(x); }
        __device__ static bool is_first(void) { return threadIdx.x % WARP == 0; }
};
struct of_block {
        static constexpr int PIECES = 1;

        __device__ static uint32_t row(void) { return blockIdx.x; }
        __device__ static uint32_t column(uint32_t) { return threadIdx.x * VECTOR; }
        __device__ static float sum(float x) { return block_sum(x); }
        __device__ static bool is_first(void) { return threadIdx.x == 0; }
};

template <bool ALIGNED, class T>
__device__ static inline void add_residual(const norm_args<T> &op, uint32_t t, uint32_t c, uint32_t left,
                                           float x[VECTOR]) {
        float mask[VECTOR], residual[VECTOR];

        load8<ALIGNED>(op.x.row(t) + c, left, x);
        row_mask(op, t, c, mask);
        load8<ALIGNED>(op.residual.row(t) + c, left, residual);
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                x[i] = residual[i] + x[i] * mask[i];
}

template <bool ALIGNED, class T>
__device__ static inline void add_tables(const norm_args<T> &op, uint32_t t, uint32_t c, uint32_t left,
                                         float x[VECTOR]) {
        float position[VECTOR], type[VECTOR];

        load8<ALIGNED>(op.embed.word.row(op.embed.ids[t]) + c, left, x);
        load8<ALIGNED>(op.embed.position.row(op.embed.positions[t]) + c, left, position);
        load8<ALIGNED>(op.embed.type.row(op.embed.types[t]) + c, left, type);
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                x[i] = x[i] + position[i] + type[i];
}

/* x of row t into registers; made here, it is also stored. */
template <class T, class OWNER, enum kind KIND, bool ALIGNED>
__device__ static void load_row(const norm_args<T> &op, uint32_t t, float x[OWNER::PIECES][VECTOR]) {
#pragma unroll
        for (int p = 0; p < OWNER::PIECES; p++) {
                uint32_t c = OWNER::column(p), left = c < op.x.columns ? op.x.columns - c : 0;
                if (KIND == PLAIN || !left) {
                        load8<ALIGNED>(op.x.row(t) + c, left, x[p]);
                        continue;
                }
                if (KIND == ADD)
                        add_residual<ALIGNED>(op, t, c, left, x[p]);
                else
                        add_tables<ALIGNED>(op, t, c, left, x[p]);
                round8<T>(x[p]);
                store8<ALIGNED>(op.x.row(t) + c, left, x[p]);
        }
}

/* Mean, then variance around it: two passes over registers. */
template <class OWNER>
__device__ static void row_moments(const float x[OWNER::PIECES][VECTOR], uint32_t columns, float epsilon, float *mean,
                                   float *rstd) {
        float sum = 0, squares = 0;

#pragma unroll
        for (int p = 0; p < OWNER::PIECES; p++)
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++)
                        sum += x[p][i]; /* beyond the row: 0 */
        *mean = OWNER::sum(sum) / columns;
#pragma unroll
        for (int p = 0; p < OWNER::PIECES; p++)
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++) {
                        float d = OWNER::column(p) + i < columns ? x[p][i] - *mean : 0;
                        squares += d * d;
                }
        *rstd = 1 / sqrtf(OWNER::sum(squares) / columns + epsilon);
}

template <class T, class OWNER, enum kind KIND, bool ALIGNED> __global__ void norm_forward(norm_args<T> op) {
        uint32_t t = OWNER::row(), columns = op.x.columns;
        float x[OWNER::PIECES][VECTOR], gamma[VECTOR], beta[VECTOR], mask[VECTOR], mean, rstd;

        if (t >= op.x.rows)
                return;
        load_row<T, OWNER, KIND, ALIGNED>(op, t, x);
        row_moments<OWNER>(x, columns, op.epsilon, &mean, &rstd);
        if (OWNER::is_first()) {
                op.mean[t] = mean;
                op.rstd[t] = rstd;
        }
#pragma unroll
        for (int p = 0; p < OWNER::PIECES; p++) {
                uint32_t c = OWNER::column(p);
                if (c >= columns)
                        continue;
                load8<ALIGNED>(op.gamma + c, columns - c, gamma);
                load8<ALIGNED>(op.beta + c, columns - c, beta);
                if (KIND != ADD)
                        row_mask(op, t, c, mask);
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++) {
                        float y = (x[p][i] - mean) * rstd * gamma[i] + beta[i];
                        x[p][i] = KIND == ADD ? y : y * mask[i];
                }
                store8<ALIGNED>(op.y.row(t) + c, columns - c, x[p]);
        }
}

/* What a thread of backward has of its eight columns, of which `left` exist. */
struct columns8 {
        uint32_t first, left;
        float gamma[VECTOR], dgamma[VECTOR], dbeta[VECTOR], dbias[VECTOR];
};

/* Of row t: xhat, and the gradient d of xhat; that of what came out of gamma and beta is added to their sums. sums: the thread's part of Σ d and
 * Σ d · xhat. A row that is not there is zeros. */
template <class T, enum kind KIND, bool ALIGNED>
__device__ static inline void load_pair(const norm_args<T> &op, uint32_t t, struct columns8 &c, float xhat[VECTOR],
                                        float d[VECTOR], float sums[2]) {
        bool there = t < op.x.rows;
        uint32_t left = there ? c.left : 0;
        float mean = there ? op.mean[t] : 0, rstd = there ? op.rstd[t] : 0, mask[VECTOR];

        load8<ALIGNED>(op.x.row(t) + c.first, left, xhat);
        load8<ALIGNED>(op.dy.row(t) + c.first, left, d);
        if (KIND != ADD && left)
                row_mask(op, t, c.first, mask);
#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++) {
                xhat[i] = (xhat[i] - mean) * rstd;
                if (KIND != ADD && left)
                        d[i] *= mask[i];
                c.dgamma[i] += d[i] * xhat[i];
                c.dbeta[i] += d[i];
                d[i] *= c.gamma[i];
                sums[0] += d[i];
                sums[1] += d[i] * xhat[i];
        }
}

/* What is the same in every thread of a block: Σ d and Σ d · xhat of each of the two rows that it has. */
struct alignas(16) sums4 {
        float v[2 * ROWS_AHEAD];
};

/* Σ over the warp: lane 8i gets that of v[i]. A lane gives half of what it has away and adds to the other half, so six exchanges do. */
__device__ static inline float add_over_warp(const struct sums4 &s) {
        uint32_t lane = threadIdx.x % WARP;
        bool upper = lane & 16, odd = lane & 8;
        float a = (upper ? s.v[2] : s.v[0]) + __shfl_xor_sync(ALL_LANES, upper ? s.v[0] : s.v[2], 16);
        float b = (upper ? s.v[3] : s.v[1]) + __shfl_xor_sync(ALL_LANES, upper ? s.v[1] : s.v[3], 16);
        float sum = (odd ? b : a) + __shfl_xor_sync(ALL_LANES, odd ? a : b, 8);

#pragma unroll
        for (int d = 4; d > 0; d /= 2)
                sum += __shfl_xor_sync(ALL_LANES, sum, d);
        return sum;
}

/* Σ over the block, over a warp and then over warps in order. `turn` is another than that of the call before, so that one barrier does. */
__device__ static inline struct sums4 add_over_block(const struct sums4 &own, uint32_t turn) {
        __shared__ struct sums4 parts[2][BACKWARD_WARPS_MAX];
        uint32_t warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
        float sum = add_over_warp(own);

        if (lane % 8 == 0)
                parts[turn][threadIdx.x / WARP].v[lane / 8] = sum;
        __syncthreads();
        struct sums4 all = parts[turn][0];
#pragma unroll 1
        for (uint32_t w = 1; w < warps; w++) {
                struct sums4 part = parts[turn][w];
#pragma unroll
                for (uint32_t i = 0; i < 2 * ROWS_AHEAD; i++)
                        all.v[i] += part.v[i];
        }
        return all;
}

/* From the gradient d of xhat that of x, and what else leaves the row; the means are of d and of d · xhat. */
template <class T, enum kind KIND, bool ALIGNED>
__device__ static inline void store_gradient(const norm_args<T> &op, uint32_t t, struct columns8 &c, float mean_d,
                                             float mean_dot, const float xhat[VECTOR], float d[VECTOR]) {
        float mask[VECTOR], rstd = op.rstd[t];

#pragma unroll
        for (uint32_t i = 0; i < VECTOR; i++)
                d[i] = rstd * (d[i] - mean_d - xhat[i] * mean_dot);
        if (KIND == ADD) {
                store8<ALIGNED>(op.dresidual.row(t) + c.first, c.left, d);
                row_mask(op, t, c.first, mask);
#pragma unroll
                for (uint32_t i = 0; i < VECTOR; i++) {
                        d[i] *= mask[i];
                        c.dbias[i] += d[i];
                }
        }
        store8<ALIGNED>(op.dx.row(t) + c.first, c.left, d);
}

template <class T, enum kind KIND, bool ALIGNED> __global__ void norm_backward(norm_args<T> op) {
        uint32_t columns = op.x.columns, first = blockIdx.x * ROWS, end = min(first + ROWS, op.x.rows);
        struct columns8 c = { threadIdx.x * VECTOR };
        float xhat[ROWS_AHEAD][VECTOR], d[ROWS_AHEAD][VECTOR], share = 1.0f / columns;
        float *partial = op.partial + (size_t) blockIdx.x * (KIND == ADD ? 3 : 2) * columns + c.first;

        c.left = c.first < columns ? columns - c.first : 0;
        load8<ALIGNED>(op.gamma + c.first, c.left, c.gamma);
        for (uint32_t t = first, turn = 0; t < end; t += ROWS_AHEAD, turn ^= 1) {
                struct sums4 sums = {};
#pragma unroll
                for (uint32_t j = 0; j < ROWS_AHEAD; j++)
                        load_pair<T, KIND, ALIGNED>(op, t + j, c, xhat[j], d[j], &sums.v[2 * j]);
                sums = add_over_block(sums, turn);
#pragma unroll
                for (uint32_t j = 0; j < ROWS_AHEAD; j++)
                        if (t + j < op.x.rows && c.left)
                                store_gradient<T, KIND, ALIGNED>(op, t + j, c, sums.v[2 * j] * share,
                                                                 sums.v[2 * j + 1] * share, xhat[j], d[j]);
        }
        store8<ALIGNED>(partial, c.left, c.dgamma);
        store8<ALIGNED>(partial + columns, c.left, c.dbeta);
        if (KIND == ADD)
                store8<ALIGNED>(partial + 2 * columns, c.left, c.dbias);
}

static bool has_narrow_rows(const struct op_norm *op) {
        if (op->x.columns <= CUDA_WIDTH_MAX)
                return true;
        cuda_fail("LayerNorm", "rows of more than 4096 columns");
        return false;
}

template <class T> static norm_args<T> with_embed(norm_args<T> n, const struct op_embed *embed) {
        if (embed)
                n.embed = { embed->ids,
                            embed->positions,
                            embed->types,
                            view_of<T>(embed->word),
                            view_of<T>(embed->position),
                            view_of<T>(embed->type) };
        return n;
}

static bool is_whole_norm(const struct op_norm *op) {
        return is_whole(op->x) && is_whole(op->residual) && is_whole(op->gamma) && is_whole(op->beta) &&
               is_whole(op->y) && is_whole(op->dy) && is_whole(op->dx) && is_whole(op->dresidual);
}

template <class T, class OWNER, enum kind KIND, bool ALIGNED>
static void launch_forward(const struct op_norm *op, const struct op_embed *embed, uint32_t blocks, uint32_t threads) {
        auto kernel = norm_forward<T, OWNER, KIND, ALIGNED>;

        LAUNCH(kernel, blocks, threads, 0, with_embed(norm_of<T>(op), embed));
}

/* A thread for each piece of eight. */
static uint32_t threads_of(const struct op_norm *op) { return ceil_div(ceil_div(op->x.columns, VECTOR), WARP) * WARP; }

template <enum kind KIND> static void forward(const struct op_norm *op, const struct op_embed *embed) {
        bool aligned = is_whole_norm(op) &&
                       (!embed || (is_whole(embed->word) && is_whole(embed->position) && is_whole(embed->type)));
        uint32_t columns = aligned ? op->x.columns : CUDA_WIDTH_MAX, rows = op->x.rows, threads = FORWARD_WARPS * WARP,
                 blocks = ceil_div(rows, FORWARD_WARPS);

        if (!has_narrow_rows(op))
                return;
        WITH_TYPE(op->x.dtype, {
                if (columns <= 256)
                        (launch_forward<T, of_warp<1>, KIND, true>(op, embed, blocks, threads));
                else if (columns <= 768)
                        (launch_forward<T, of_warp<3>, KIND, true>(op, embed, blocks, threads));
                else if (columns <= 1024)
                        (launch_forward<T, of_warp<4>, KIND, true>(op, embed, blocks, threads));
                else
                        WITH_ALIGNED(aligned,
                                     (launch_forward<T, of_block, KIND, ALIGNED>(op, embed, rows, threads_of(op))));
        });
}

template <enum kind KIND> static void backward(const struct op_norm *op) {
        uint32_t columns = op->x.columns, blocks = ceil_div(op->x.rows, ROWS);
        struct column_sums to = {};

        if (!has_narrow_rows(op))
                return;
        WITH_TYPE(op->x.dtype, WITH_ALIGNED(is_whole_norm(op), {
                          auto kernel = norm_backward<T, KIND, ALIGNED>;
                          LAUNCH(kernel, blocks, threads_of(op), 0, norm_of<T>(op));
                  }));
        to.take(op->dgamma);
        to.take(op->dbeta);
        if (KIND == ADD)
                to.take(op->dbias);
        cuda_add_parts((const float *) op->workspace.data, blocks, columns, to);
        cuda_backend.counts.bias_gradients += op->dbias.data != NULL;
}

void cuda_add_norm_forward(const struct op_norm *op) { forward<ADD>(op, NULL); }
void cuda_add_norm_backward(const struct op_norm *op) { backward<ADD>(op); }
void cuda_norm_dropout_forward(const struct op_norm *op) { forward<PLAIN>(op, NULL); }
void cuda_norm_dropout_backward(const struct op_norm *op) { backward<PLAIN>(op); }
void cuda_embed_forward(const struct op_embed *embed, const struct op_norm *op) { forward<EMBED>(op, embed); }
