/*
 * The flat runs: rounding, norms, hash, optimizers. A run is cut into chunks of CHUNK_ELEMENTS elements, a block each; sums are taken by chunk
 * and then over chunks in order. An update of all tensors is one launch for AdamW and three for LAMB: a block finds its tensor and
 * its chunk of it in a table of first chunks.
 */
#include "trainer/ops/cuda/kernels.cuh"

namespace {
constexpr uint32_t THREADS = 256, CHUNK_ELEMENTS = 65536;
constexpr uint32_t FOUR = 4;           /* elements that a thread has at a time */
constexpr uint32_t TENSORS_MAX = 4096; /* of an update */
} // namespace

/* ---- rounding, sums, hash ---- */

template <class T> __global__ void round_values(const float *from, T *to, size_t n) {
        size_t i = ((size_t) blockIdx.x * THREADS + threadIdx.x) * VECTOR;
        float x[VECTOR];

        if (i >= n)
                return;
        uint32_t left = (uint32_t) min(n - i, (size_t) VECTOR);
        load8(from + i, left, x);
        store8(to + i, left, x);
}

/* The first `left` of four elements, 16 bytes in one piece where all exist; zeros behind them. */
__device__ static inline void load4(const float *p, size_t left, float x[FOUR]) {
        if (left >= FOUR) {
                float4 all = *(const float4 *) p;
                x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
                return;
        }
#pragma unroll
        for (uint32_t i = 0; i < FOUR; i++)
                x[i] = i < left ? p[i] : 0;
}
__device__ static inline void store4(float *p, size_t left, const float x[FOUR]) {
        if (left >= FOUR)
                *(float4 *) p = { x[0], x[1], x[2], x[3] };
        else
                for (uint32_t i = 0; i < left; i++)
                        p[i] = x[i];
}
/* Rounded. */
template <class T> __device__ static inline void store4(T *p, size_t left, const float x[FOUR]) {
        if (left >= FOUR)
                *(uint2 *) p = { pack_pair<T>(x[0], x[1]), pack_pair<T>(x[2], x[3]) };
        else
                for (uint32_t i = 0; i < left; i++)
                        p[i] = from_float<T>(x[i]);
}

__device__ static double chunk_squares(const float *x, size_t n) {
        double sum = 0;

        for (size_t i = threadIdx.x * FOUR; i < n; i += THREADS * FOUR) {
                float v[FOUR];
                load4(x + i, n - i, v);
#pragma unroll
                for (uint32_t j = 0; j < FOUR; j++)
                        sum += (double) v[j] * v[j];
        }
        return block_sum(sum);
}

__global__ void square_chunks(const float *x, size_t n, double *partial) {
        size_t first = (size_t) blockIdx.x * CHUNK_ELEMENTS;
        double sum = chunk_squares(x + first, min(n - first, (size_t) CHUNK_ELEMENTS));

        if (threadIdx.x == 0)
                partial[blockIdx.x] = sum;
}

/* One block; partial sums in order within each thread's share, then as block_sum. */
__global__ void add_partials(const double *partial, uint32_t n, double *ret) {
        double sum = 0;

        for (uint32_t i = threadIdx.x; i < n; i += THREADS)
                sum += partial[i];
        sum = block_sum(sum);
        if (threadIdx.x == 0)
                *ret = sum;
}

/* splitmix64's finisher */
__device__ static inline uint64_t mix(uint64_t x) {
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        return x ^ x >> 31;
}

/* Words are mixed with their place; sums of integers come out the same in any order. */
__global__ void hash_chunks(const uint32_t *words, size_t n, uint64_t *partial) {
        __shared__ uint64_t sums[THREADS];
        uint64_t sum = 0;
        size_t first = (size_t) blockIdx.x * CHUNK_ELEMENTS, end = min(first + CHUNK_ELEMENTS, n);

        for (size_t i = first + threadIdx.x; i < end; i += THREADS)
                sum += mix(words[i] ^ (uint64_t) i << 32 ^ (uint64_t) i * 0x9e3779b97f4a7c15ull);
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x != 0)
                return;
        for (uint32_t i = 1; i < THREADS; i++)
                sum += sums[i];
        partial[blockIdx.x] = sum;
}

void cuda_round(void *values, const void *master, size_t n) {
        uint32_t blocks = ceil_div(n, THREADS * VECTOR);

        if (cuda_backend.precision == CUDA_BF16)
                LAUNCH(round_values<bf16>, blocks, THREADS, 0, (const float *) master, (bf16 *) values, n);
        else
                LAUNCH(round_values<fp16>, blocks, THREADS, 0, (const float *) master, (fp16 *) values, n);
}

double cuda_sum_squares(const void *x, size_t n) {
        double *partial = (double *) cuda_backend.scratch, sum = NAN;
        uint32_t chunks = ceil_div(n, CHUNK_ELEMENTS);

        LAUNCH(square_chunks, chunks, THREADS, 0, (const float *) x, n, partial + 1);
        LAUNCH(add_partials, 1, THREADS, 0, partial + 1, chunks, partial);
        cuda_download(&sum, partial, sizeof(sum));
        return sum;
}

uint64_t cuda_hash(const void *data, size_t size) {
        uint64_t *partial = (uint64_t *) cuda_backend.scratch, total = size, piece[1024];
        uint32_t chunks = ceil_div(size / 4, CHUNK_ELEMENTS);

        LAUNCH(hash_chunks, chunks, THREADS, 0, (const uint32_t *) data, size / 4, partial);
        for (uint32_t i = 0; i < chunks; i += 1024) {
                uint32_t n = min(chunks - i, 1024u);
                cuda_download(piece, partial + i, n * sizeof(*piece));
                for (uint32_t j = 0; j < n; j++)
                        total += piece[j];
        }
        return total;
}

/* ---- updates: all tensors at once ---- */

/* op_adam in the precision of the runs. */
struct adam {
        float rate, beta1, beta2, rest1, rest2, epsilon, decay; /* rest: 1 − beta */
        float scale1, scale2, gradient_scale;                   /* scale: 1 / correction */
};

static struct adam adam_of(const struct op_adam *op) {
        struct adam a = {};

        a.rate = (float) op->rate;
        a.beta1 = (float) op->beta1;
        a.beta2 = (float) op->beta2;
        a.rest1 = (float) (1 - op->beta1);
        a.rest2 = (float) (1 - op->beta2);
        a.epsilon = (float) op->epsilon;
        a.decay = (float) op->weight_decay;
        a.scale1 = (float) (1 / op->correction1);
        a.scale2 = (float) (1 / op->correction2);
        a.gradient_scale = (float) op->gradient_scale;
        return a;
}

/* Moments in, moments out; the direction of one element. */
__device__ static inline float direction(const struct adam &a, float g, float p, float *m, float *v) {
        g *= a.gradient_scale;
        *m = a.beta1 * *m + a.rest1 * g;
        *v = a.beta2 * *v + a.rest2 * g * g;
        return *m * a.scale1 / (sqrtf(*v * a.scale2) + a.epsilon) + a.decay * p;
}

/* A tensor on the device; `factor` of its step (LAMB) or gradient (clipping) is computed there. */
struct row {
        size_t offset, n;
        uint32_t first_chunk;
        float rate, decay, clip, ratio; /* clip: of the gradient; ratio: of the step */
        bool adapt;
};

struct update {
        struct adam adam;
        struct row *rows;
        uint32_t n_rows;
        float *__restrict__ g, *__restrict__ p, *__restrict__ m, *__restrict__ v;
        double *squares; /* (chunks, 2) of parameters and directions, or of gradients */
};

/* Which tensor and which of its elements this block has. */
struct span {
        const struct row *row;
        size_t first, n; /* in the flat runs */
};
__device__ static struct span span_of(const struct update &u) {
        uint32_t low = 0, high = u.n_rows;

        while (high - low > 1) {
                uint32_t middle = (low + high) / 2;
                if (u.rows[middle].first_chunk <= blockIdx.x)
                        low = middle;
                else
                        high = middle;
        }
        const struct row *row = &u.rows[low];
        size_t at = (size_t) (blockIdx.x - row->first_chunk) * CHUNK_ELEMENTS;
        return { row, row->offset + at, min(row->n - at, (size_t) CHUNK_ELEMENTS) };
}

/* Four elements of an update; zeros behind the tensor's end. */
struct four {
        size_t at, left;
        float g[FOUR], p[FOUR], m[FOUR], v[FOUR];
};
__device__ static inline struct four load_four(const struct update &u, size_t at, size_t end) {
        struct four f = { at, end - at };

        load4(u.g + at, f.left, f.g);
        load4(u.p + at, f.left, f.p);
        load4(u.m + at, f.left, f.m);
        load4(u.v + at, f.left, f.v);
        return f;
}

/* The numbers that all elements of a span share. */
__device__ static inline struct adam adam_of_span(const struct update &u, const struct span &s) {
        struct adam a = u.adam;

        a.decay = s.row->decay;
        a.gradient_scale *= s.row->clip;
        return a;
}

template <class T> __global__ void update_adamw(struct update u, T *__restrict__ values) {
        const struct span s = span_of(u);
        const struct adam a = adam_of_span(u, s);
        float rate = s.row->rate;

        for (size_t i = s.first + threadIdx.x * FOUR; i < s.first + s.n; i += THREADS * FOUR) {
                struct four f = load_four(u, i, s.first + s.n);
#pragma unroll
                for (uint32_t j = 0; j < FOUR; j++)
                        f.p[j] -= rate * direction(a, f.g[j], f.p[j], &f.m[j], &f.v[j]);
                store4(u.m + i, f.left, f.m);
                store4(u.v + i, f.left, f.v);
                store4(u.p + i, f.left, f.p);
                if (values)
                        store4(values + i, f.left, f.p);
        }
}

/* LAMB's first half: directions in the place of gradients, squares of both for the trust ratio. */
__global__ void update_direction(struct update u) {
        const struct span s = span_of(u);
        const struct adam a = adam_of_span(u, s);
        double weights = 0, steps = 0;

        for (size_t i = s.first + threadIdx.x * FOUR; i < s.first + s.n; i += THREADS * FOUR) {
                struct four f = load_four(u, i, s.first + s.n);
#pragma unroll
                for (uint32_t j = 0; j < FOUR; j++) {
                        float d = direction(a, f.g[j], f.p[j], &f.m[j], &f.v[j]); /* behind the end: 0 */
                        weights += (double) f.p[j] * f.p[j];
                        steps += (double) d * d;
                        f.g[j] = d;
                }
                store4(u.m + i, f.left, f.m);
                store4(u.v + i, f.left, f.v);
                store4(u.g + i, f.left, f.g);
        }
        weights = block_sum(weights);
        steps = block_sum(steps);
        if (threadIdx.x == 0) {
                u.squares[2 * blockIdx.x] = weights;
                u.squares[2 * blockIdx.x + 1] = steps;
        }
}

__global__ void update_squares(struct update u) {
        const struct span s = span_of(u);
        double sum = chunk_squares(u.g + s.first, s.n);

        if (threadIdx.x == 0)
                u.squares[2 * blockIdx.x] = sum;
}

/* A thread a tensor: its chunks in order. clip_norm > 0: the factor that shortens its gradient; else its trust ratio. */
__global__ void update_factors(struct update u, double clip_norm) {
        uint32_t t = blockIdx.x * blockDim.x + threadIdx.x;
        double a = 0, b = 0;

        if (t >= u.n_rows)
                return;
        struct row *row = &u.rows[t];
        for (uint32_t c = 0; c < (row->n + CHUNK_ELEMENTS - 1) / CHUNK_ELEMENTS; c++) {
                a += u.squares[2 * (row->first_chunk + c)];
                b += u.squares[2 * (row->first_chunk + c) + 1];
        }
        double norm = u.adam.gradient_scale * sqrt(a);
        if (clip_norm > 0)
                row->clip = norm > clip_norm ? (float) (clip_norm / norm) : 1;
        else
                row->ratio = row->adapt && a > 0 && b > 0 ? (float) sqrt(a / b) : 1;
}

template <class T> __global__ void update_descend(struct update u, T *__restrict__ values) {
        const struct span s = span_of(u);
        float rate = s.row->rate * s.row->ratio;

        for (size_t i = s.first + threadIdx.x * FOUR; i < s.first + s.n; i += THREADS * FOUR) {
                size_t left = s.first + s.n - i;
                float p[FOUR], g[FOUR];
                load4(u.p + i, left, p);
                load4(u.g + i, left, g);
#pragma unroll
                for (uint32_t j = 0; j < FOUR; j++)
                        p[j] -= rate * g[j];
                store4(u.p + i, left, p);
                if (values)
                        store4(values + i, left, p);
        }
}

/* Rows of the table to the scratch memory; returns the number of chunks. */
static uint32_t upload_rows(const struct op_update *op) {
        static struct row rows[TENSORS_MAX];
        uint32_t chunks = 0;

        for (uint32_t i = 0; i < op->n_tensors; i++) {
                const struct op_update_tensor *t = &op->tensors[i];
                rows[i] = row {};
                rows[i].offset = t->offset;
                rows[i].n = t->n;
                rows[i].first_chunk = chunks;
                rows[i].rate = (float) t->rate;
                rows[i].decay = (float) t->weight_decay;
                rows[i].clip = rows[i].ratio = 1;
                rows[i].adapt = t->adapt;
                chunks += ceil_div(t->n, CHUNK_ELEMENTS);
        }
        cuda_upload(cuda_backend.scratch, rows, op->n_tensors * sizeof(*rows));
        return chunks;
}

template <class T> static void update_all(const struct op_update *op, const struct update &u, uint32_t chunks) {
        T *values = (T *) op->values;
        uint32_t factor_blocks = ceil_div(u.n_rows, 64);

        if (op->clip_norm > 0) {
                LAUNCH(update_squares, chunks, THREADS, 0, u);
                LAUNCH(update_factors, factor_blocks, 64, 0, u, op->clip_norm);
        }
        if (!op->trust_ratio) {
                LAUNCH(update_adamw<T>, chunks, THREADS, 0, u, values);
                return;
        }
        LAUNCH(update_direction, chunks, THREADS, 0, u);
        LAUNCH(update_factors, factor_blocks, 64, 0, u, 0.0);
        LAUNCH(update_descend<T>, chunks, THREADS, 0, u, values);
}

void cuda_update(const struct op_update *op) {
        struct update u = {};

        if (op->n_tensors > TENSORS_MAX) {
                cuda_fail("update", "more than 4096 tensors");
                return;
        }
        for (uint32_t i = 0; i < op->n_tensors; i++)
                if (op->tensors[i].offset % FOUR) {
                        cuda_fail("update", "a tensor that is not aligned");
                        return;
                }
        uint32_t chunks = upload_rows(op);
        u.adam = adam_of(&op->adam);
        u.rows = (struct row *) cuda_backend.scratch;
        u.n_rows = op->n_tensors;
        u.g = (float *) op->g;
        u.p = (float *) op->p;
        u.m = (float *) op->m;
        u.v = (float *) op->v;
        u.squares = (double *) ((char *) cuda_backend.scratch + TENSORS_MAX * sizeof(struct row));
        if (cuda_backend.precision == CUDA_FP16)
                update_all<fp16>(op, u, chunks);
        else
                update_all<bf16>(op, u, chunks); /* fp32: values is NULL */
}
