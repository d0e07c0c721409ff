/*
 * Normalisations with their dropout and residual, or with the embeddings that they follow: one warp a row, which it keeps in registers, so
 * each tensor is read and written once, but for rows of more than 2,048 columns in backward. The column sums dgamma and dbeta are taken by
 * each warp over its rows in its own shared memory, then over the block's warps, then over blocks of ROWS rows, always in that order.
 */
#include "trainer/cuda/kernels.cuh"

/* Where x comes from: given; residual + dropout(x); the sum of three rows of tables. */
enum kind { PLAIN, ADD, EMBED };

#define FORWARD_WARPS 8
#define ROWS 64 /* of a block in backward */
#define PARTS 8 /* of a column's sum over blocks */
#define BACKWARD_WARPS_MAX 8
#define SHARED_MAX 49152u
#define KEPT_MAX 8 /* pieces of a row that backward keeps in registers */

/* op_norm's arguments, for kernels. */
template <class T> struct norm_args {
        view<T> x, residual, y, dy, dx, dresidual;
        const float *gamma, *beta;
        float *mean, *rstd, *partial; /* partial: (blocks, 2, H) */
        float epsilon;
        struct dropout dropout;
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
        n.dropout = op->dropout;
        n.rows = op->rows;
        return n;
}

/* The factors of row t, columns c to c + 7. */
template <class T> __device__ static void row_mask(const norm_args<T> &op, uint32_t t, uint32_t c, float mask[VECTOR]) {
        if (op.dropout.threshold) {
                uint32_t block = dropout_hidden_block((uint32_t) op.rows.position[t], op.x.columns);
                dropout8(op.dropout, op.rows.k[t], block + c / VECTOR, mask);
                return;
        }
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
                mask[i] = 1;
}

/* Lane's piece p of a row starts at this column. */
__device__ static inline uint32_t piece(uint32_t p) { return (p * WARP + threadIdx.x % WARP) * VECTOR; }

template <class T>
__device__ static inline void add_residual(const norm_args<T> &op, uint32_t t, uint32_t c, uint32_t left,
                                           float x[VECTOR]) {
        float mask[VECTOR], residual[VECTOR];

        load8(op.x.row(t) + c, left, x);
        row_mask(op, t, c, mask);
        load8(op.residual.row(t) + c, left, residual);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
                x[i] = residual[i] + x[i] * mask[i];
}

template <class T>
__device__ static inline void add_tables(const norm_args<T> &op, uint32_t t, uint32_t c, uint32_t left,
                                         float x[VECTOR]) {
        float position[VECTOR], type[VECTOR];

        load8(op.embed.word.row(op.embed.ids[t]) + c, left, x);
        load8(op.embed.position.row(op.embed.positions[t]) + c, left, position);
        load8(op.embed.type.row(op.embed.types[t]) + c, left, type);
#pragma unroll
        for (int i = 0; i < VECTOR; i++)
                x[i] = x[i] + position[i] + type[i];
}

/* x of row t into registers; made here, it is also stored. */
template <class T, int PIECES, enum kind KIND>
__device__ static void load_row(const norm_args<T> &op, uint32_t t, float x[PIECES][VECTOR]) {
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
                uint32_t c = piece(p), left = c < op.x.columns ? op.x.columns - c : 0;
                if (KIND == PLAIN || !left) {
                        load8(op.x.row(t) + c, left, x[p]);
                        continue;
                }
                if (KIND == ADD)
                        add_residual(op, t, c, left, x[p]);
                else
                        add_tables(op, t, c, left, x[p]);
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        x[p][i] = rounded<T>(x[p][i]);
                store8(op.x.row(t) + c, left, x[p]);
        }
}

/* Mean, then variance around it: two passes over registers. */
template <int PIECES>
__device__ static void row_moments(const float x[PIECES][VECTOR], uint32_t columns, float epsilon, float *mean,
                                   float *rstd) {
        float sum = 0, squares = 0;

#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        sum += x[p][i]; /* beyond the row: 0 */
        *mean = warp_sum(sum) / columns;
#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                        float d = piece(p) + i < columns ? x[p][i] - *mean : 0;
                        squares += d * d;
                }
        *rstd = 1 / sqrtf(warp_sum(squares) / columns + epsilon);
}

template <class T, int PIECES, enum kind KIND> __global__ void norm_forward(norm_args<T> op) {
        uint32_t t = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, columns = op.x.columns;
        float x[PIECES][VECTOR], gamma[VECTOR], beta[VECTOR], mask[VECTOR], mean, rstd;

        if (t >= op.x.rows)
                return;
        load_row<T, PIECES, KIND>(op, t, x);
        row_moments<PIECES>(x, columns, op.epsilon, &mean, &rstd);
        if (threadIdx.x % WARP == 0) {
                op.mean[t] = mean;
                op.rstd[t] = rstd;
        }
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
                uint32_t c = piece(p);
                if (c >= columns)
                        continue;
                load8(op.gamma + c, columns - c, gamma);
                load8(op.beta + c, columns - c, beta);
                if (KIND != ADD)
                        row_mask(op, t, c, mask);
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                        float y = (x[p][i] - mean) * rstd * gamma[i] + beta[i];
                        x[p][i] = KIND == ADD ? y : y * mask[i];
                }
                store8(op.y.row(t) + c, columns - c, x[p]);
        }
}

/* Where a warp keeps its sum of column `c` of `columns` that PIECES hold: the lanes' i-th elements side by side, in different banks. */
__device__ static inline uint32_t place_of(uint32_t c) {
        return c / (WARP * VECTOR) * (WARP * VECTOR) + c % VECTOR * WARP + c / VECTOR % WARP;
}

/* Columns c to c + 7 of row t: xhat, and the gradient of what came out of gamma and beta; 0 behind the row's end. */
template <class T, enum kind KIND>
__device__ static inline void load_pair(const norm_args<T> &op, uint32_t t, uint32_t c, float xhat[VECTOR],
                                        float dy[VECTOR]) {
        uint32_t left = c < op.x.columns ? op.x.columns - c : 0;
        float mean = op.mean[t], rstd = op.rstd[t], mask[VECTOR];

        load8(op.x.row(t) + c, left, xhat);
        load8(op.dy.row(t) + c, left, dy);
        if (KIND != ADD && left)
                row_mask(op, t, c, mask);
#pragma unroll
        for (int i = 0; i < VECTOR; i++) {
                xhat[i] = (xhat[i] - mean) * rstd;
                dy[i] *= KIND != ADD && left ? mask[i] : 1;
        }
}

/* Row t's part of the warp's column sums, and the two means that dx needs. The row stays in registers where KEPT, all PIECES of it. */
template <class T, int PIECES, enum kind KIND, int KEPT>
__device__ static void backward_sums(const norm_args<T> &op, uint32_t t, float *sums, float xhat[KEPT][VECTOR],
                                     float dy[KEPT][VECTOR], float *mean_dy, float *mean_dot) {
        uint32_t columns = op.x.columns;
        float sum = 0, dot = 0, gamma[VECTOR];

#pragma unroll(KEPT) // a row that is read twice is not unrolled: it took half of the compiler's time
        for (int p = 0; p < PIECES; p++) {
                float *x = xhat[p % KEPT], *d = dy[p % KEPT];
                uint32_t c = piece(p);
                load_pair<T, KIND>(op, t, c, x, d);
                load8(op.gamma + c, c < columns ? columns - c : 0, gamma);
#pragma unroll
                for (int i = 0; i < VECTOR; i++) {
                        uint32_t place = (p * VECTOR + i) * WARP + threadIdx.x % WARP; /* place_of(c + i) */
                        sums[place] += d[i] * x[i];
                        sums[PIECES * WARP * VECTOR + place] += d[i];
                        d[i] *= gamma[i];
                        sum += d[i];
                        dot += d[i] * x[i];
                }
        }
        *mean_dy = warp_sum(sum) / columns;
        *mean_dot = warp_sum(dot) / columns;
}

template <class T, int PIECES, enum kind KIND>
__device__ static void backward_row(const norm_args<T> &op, uint32_t t, float *sums) {
        constexpr int KEPT = PIECES <= KEPT_MAX ? PIECES : 1; /* a wider row is read twice */
        uint32_t columns = op.x.columns;
        float xhat[KEPT][VECTOR], dy[KEPT][VECTOR], mask[VECTOR], gamma[VECTOR], mean_dy, mean_dot, rstd = op.rstd[t];

        backward_sums<T, PIECES, KIND, KEPT>(op, t, sums, xhat, dy, &mean_dy, &mean_dot);
#pragma unroll(KEPT) // a row that is read twice is not unrolled: it took half of the compiler's time
        for (int p = 0; p < PIECES; p++) {
                float *x = xhat[p % KEPT], *d = dy[p % KEPT];
                uint32_t c = piece(p);
                if (c >= columns)
                        continue;
                if (KEPT < PIECES) {
                        load_pair<T, KIND>(op, t, c, x, d);
                        load8(op.gamma + c, columns - c, gamma);
                }
#pragma unroll
                for (int i = 0; i < VECTOR; i++)
                        d[i] = rstd * ((KEPT < PIECES ? d[i] * gamma[i] : d[i]) - mean_dy - x[i] * mean_dot);
                if (KIND == ADD) {
                        store8(op.dresidual.row(t) + c, columns - c, d);
                        row_mask(op, t, c, mask);
#pragma unroll
                        for (int i = 0; i < VECTOR; i++)
                                d[i] *= mask[i];
                }
                store8(op.dx.row(t) + c, columns - c, d);
        }
}

template <class T, int PIECES, enum kind KIND> __global__ void norm_backward(norm_args<T> op) {
        DYNAMIC_SHARED(float, shared); /* (warps, 2, columns that PIECES hold) */
        constexpr uint32_t HALF = PIECES * WARP * VECTOR, width = 2 * HALF;
        uint32_t warps = blockDim.x / WARP, columns = op.x.columns;
        float *sums = shared + threadIdx.x / WARP * width;

        for (uint32_t i = threadIdx.x; i < warps * width; i += blockDim.x)
                shared[i] = 0;
        __syncthreads();
        uint32_t end = min((blockIdx.x + 1) * ROWS, op.x.rows);
        for (uint32_t t = blockIdx.x * ROWS + threadIdx.x / WARP; t < end; t += warps)
                backward_row<T, PIECES, KIND>(op, t, sums);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < 2 * columns; i += blockDim.x) {
                uint32_t place = i < columns ? place_of(i) : HALF + place_of(i - columns);
                float total = 0;
                for (uint32_t w = 0; w < warps; w++)
                        total += shared[w * width + place];
                op.partial[(size_t) blockIdx.x * 2 * columns + i] = total;
        }
}

/* Adds the blocks' partial sums to dgamma and dbeta: PARTS threads a column, each every so many-th of them. */
__global__ void norm_columns(const float *partial, uint32_t n_blocks, uint32_t columns, float *dgamma, float *dbeta) {
        __shared__ float parts[PARTS][WARP];
        uint32_t i = blockIdx.x * WARP + threadIdx.x;
        float total = 0;

        for (uint32_t b = threadIdx.y; i < 2 * columns && b < n_blocks; b += PARTS)
                total += partial[(size_t) b * 2 * columns + i];
        parts[threadIdx.y][threadIdx.x] = total;
        __syncthreads();
        if (threadIdx.y > 0 || i >= 2 * columns)
                return;
        for (int p = 1; p < PARTS; p++)
                total += parts[p][threadIdx.x];
        if (i < columns)
                dgamma[i] += total;
        else
                dbeta[i - columns] += total;
}

size_t cuda_norm_workspace_bytes(const struct ops_shape *shape) {
        uint32_t rows = shape->max_tokens > shape->max_masked ? shape->max_tokens : shape->max_masked;

        return (size_t) ceil_div(rows, ROWS) * 2 * shape->hidden_size * sizeof(float);
}

/* Runs what follows with PIECES of WARP · VECTOR columns that hold a row. */
#define WITH_PIECES(columns, ...)                  \
        do {                                       \
                if ((columns) <= 256) {            \
                        constexpr int PIECES = 1;  \
                        __VA_ARGS__;               \
                } else if ((columns) <= 768) {     \
                        constexpr int PIECES = 3;  \
                        __VA_ARGS__;               \
                } else if ((columns) <= 1024) {    \
                        constexpr int PIECES = 4;  \
                        __VA_ARGS__;               \
                } else if ((columns) <= 2048) {    \
                        constexpr int PIECES = 8;  \
                        __VA_ARGS__;               \
                } else {                           \
                        constexpr int PIECES = 16; \
                        __VA_ARGS__;               \
                }                                  \
        } while (0)

static bool fits(const struct op_norm *op) {
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

template <enum kind KIND> static void forward(const struct op_norm *op, const struct op_embed *embed) {
        if (!fits(op))
                return;
        WITH_TYPE(op->x.dtype, WITH_PIECES(op->x.columns, {
                          auto kernel = norm_forward<T, PIECES, KIND>;
                          LAUNCH(kernel, ceil_div(op->x.rows, FORWARD_WARPS), FORWARD_WARPS * WARP, 0,
                                 with_embed(norm_of<T>(op), embed));
                  }));
}

template <enum kind KIND> static void backward(const struct op_norm *op) {
        uint32_t columns = op->x.columns, blocks = ceil_div(op->x.rows, ROWS);

        if (!fits(op))
                return;
        WITH_TYPE(op->x.dtype, WITH_PIECES(columns, {
                          auto kernel = norm_backward<T, PIECES, KIND>;
                          const uint32_t bytes = 2 * PIECES * WARP * VECTOR * sizeof(float);
                          const uint32_t warps = min(SHARED_MAX / bytes, (uint32_t) BACKWARD_WARPS_MAX);
                          LAUNCH(kernel, blocks, warps * WARP, warps * bytes, norm_of<T>(op));
                  }));
        LAUNCH(norm_columns, ceil_div(2 * columns, WARP), dim3(WARP, PARTS), 0, (const float *) op->workspace.data,
               blocks, columns, (float *) op->dgamma.data, (float *) op->dbeta.data);
}

void cuda_add_norm_forward(const struct op_norm *op) { forward<ADD>(op, NULL); }
void cuda_add_norm_backward(const struct op_norm *op) { backward<ADD>(op); }
void cuda_norm_dropout_forward(const struct op_norm *op) { forward<PLAIN>(op, NULL); }
void cuda_norm_dropout_backward(const struct op_norm *op) { backward<PLAIN>(op); }
void cuda_embed_forward(const struct op_embed *embed, const struct op_norm *op) { forward<EMBED>(op, embed); }
