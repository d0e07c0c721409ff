/*
 * The reference backend: every entry of ops.h as its definition reads, in float, one thread, no blocking. The naive twin
 * that the fast backends are compared with, and the one on which finite differences mean something.
 */
#include "trainer/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SQRT_HALF 0.70710678118654752440
#define SQRT_2_OVER_PI 0.79788456080286535588
#define INV_SQRT_2PI 0.39894228040143267794

static float *row(struct tensor t, size_t r) { return (float *) t.data + r * t.stride; }

static const char *cpu_variant(void) { return "fp64/naive"; }

static void *cpu_allocate(size_t size) {
        size_t rounded = (size + 63) / 64 * 64;
        void *data = aligned_alloc(64, rounded ? rounded : 64);
        if (data)
                memset(data, 0, rounded);
        return data;
}

static void cpu_release(void *data, size_t size) { free(data); }

static size_t cpu_workspace_bytes(const struct ops_shape *shape) {
        return (size_t) 3 * shape->max_length * sizeof(float);
}

static void cpu_zero(void *data, size_t n) { memset(data, 0, n * sizeof(float)); }

static void cpu_store(void *data, size_t first, const double *values, size_t n) {
        for (size_t i = 0; i < n; i++)
                ((float *) data)[first + i] = (float) values[i];
}

static void cpu_load(const void *data, size_t first, double *values, size_t n) {
        for (size_t i = 0; i < n; i++)
                values[i] = ((const float *) data)[first + i];
}

static float activate(enum activation act, float x) {
        switch (act) {
        case ACTIVATION_GELU:
                return 0.5 * x * (1.0 + erf(x * SQRT_HALF));
        case ACTIVATION_GELU_NEW:
                return 0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
        case ACTIVATION_RELU:
                return x > 0 ? x : 0;
        case ACTIVATION_TANH:
                return tanh(x);
        default:
                return x;
        }
}

static float activate_derivative(enum activation act, float s) {
        float t;

        switch (act) {
        case ACTIVATION_GELU:
                return 0.5 * (1.0 + erf(s * SQRT_HALF)) + s * INV_SQRT_2PI * exp(-0.5 * s * s);
        case ACTIVATION_GELU_NEW:
                t = tanh(SQRT_2_OVER_PI * (s + 0.044715 * s * s * s));
                return 0.5 * (1.0 + t) + 0.5 * s * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * s * s);
        case ACTIVATION_RELU:
                return s > 0;
        case ACTIVATION_TANH:
                return 1.0 - s * s;
        default:
                return 1.0;
        }
}

static float hidden_mask(const struct op_norm *op, uint32_t t, uint32_t column) {
        const struct dropout *d = &op->dropout;

        if (!d->threshold)
                return 1.0;
        uint32_t block = dropout_hidden_block((uint32_t) op->rows.position[t], op->x.columns);
        return dropout_keeps(d, op->rows.k[t], block, column) ? d->scale : 0.0;
}

static void cpu_embed_forward(const struct op_embed *op) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                const float *w = row(op->word, (size_t) op->ids[t]), *p = row(op->position, (size_t) op->positions[t]),
                             *y = row(op->type, (size_t) op->types[t]);
                float *x = row(op->x, t);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        x[c] = w[c] + p[c] + y[c];
        }
}

static void cpu_embed_backward(const struct op_embed *op) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                float *w = row(op->word, (size_t) op->ids[t]), *p = row(op->position, (size_t) op->positions[t]),
                       *y = row(op->type, (size_t) op->types[t]);
                const float *x = row(op->x, t);
                for (uint32_t c = 0; c < op->x.columns; c++) {
                        w[c] += x[c];
                        p[c] += x[c];
                        y[c] += x[c];
                }
        }
}

static void cpu_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre, struct tensor y) {
        for (uint32_t i = 0; i < y.rows; i++)
                for (uint32_t j = 0; j < y.columns; j++) {
                        float sum = bias.data ? row(bias, 0)[j] : 0.0;
                        for (uint32_t k = 0; k < x.columns; k++)
                                sum += row(x, i)[k] * row(w, j)[k];
                        if (pre.data)
                                row(pre, i)[j] = sum;
                        row(y, i)[j] = activate(act, sum);
                }
}

static void cpu_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        for (uint32_t i = 0; i < dx.rows; i++)
                for (uint32_t k = 0; k < dx.columns; k++)
                        row(dx, i)[k] *= activate_derivative(act, row(saved, i)[k]);
}

static void cpu_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved, struct tensor dx) {
        for (uint32_t i = 0; i < dx.rows; i++) {
                if (!add)
                        memset(row(dx, i), 0, dx.columns * sizeof(float));
                for (uint32_t j = 0; j < dy.columns; j++)
                        for (uint32_t k = 0; k < dx.columns; k++)
                                row(dx, i)[k] += row(dy, i)[j] * row(w, j)[k];
        }
        if (act != ACTIVATION_NONE)
                cpu_activation_backward(act, saved, dx);
}

static void cpu_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        for (uint32_t i = 0; i < dy.rows; i++)
                for (uint32_t j = 0; j < dy.columns; j++) {
                        float g = row(dy, i)[j];
                        for (uint32_t k = 0; k < x.columns; k++)
                                row(dw, j)[k] += g * row(x, i)[k];
                        if (dbias.data)
                                row(dbias, 0)[j] += g;
                }
}

/* One row of one head: the scores of query q against all keys of its sample. */
struct attention_row {
        const struct op_attention *op;
        uint32_t sample, head, q, first, length, width; /* width: columns of a head */
        float scale;
};

static const float *head_row(const struct attention_row *r, uint32_t third, uint32_t position) {
        return row(r->op->qkv, r->first + position) + third * r->op->context.columns + r->head * r->width;
}

static void attention_scores(const struct attention_row *r, float *scores) {
        const float *q = head_row(r, 0, r->q);

        for (uint32_t j = 0; j < r->length; j++) {
                const float *k = head_row(r, 1, j);
                scores[j] = 0;
                for (uint32_t c = 0; c < r->width; c++)
                        scores[j] += q[c] * k[c];
                scores[j] *= r->scale;
        }
}

static float attention_mask(const struct attention_row *r, uint32_t j) {
        const struct dropout *d = &r->op->dropout;

        if (!d->threshold)
                return 1.0;
        uint32_t block = dropout_attention_block(r->head, r->q, r->length);
        return dropout_keeps(d, r->op->sample_k[r->sample], block, j) ? d->scale : 0.0;
}

static void attention_row_forward(const struct attention_row *r) {
        float *scores = r->op->workspace.data, max = -INFINITY, sum = 0;
        float *out = row(r->op->context, r->first + r->q) + r->head * r->width;

        attention_scores(r, scores);
        for (uint32_t j = 0; j < r->length; j++)
                max = fmax(max, scores[j]);
        for (uint32_t j = 0; j < r->length; j++)
                sum += exp(scores[j] - max);
        row(r->op->lse, r->head)[r->first + r->q] = max + log(sum);
        memset(out, 0, r->width * sizeof(float));
        for (uint32_t j = 0; j < r->length; j++) {
                float p = exp(scores[j] - max) / sum * attention_mask(r, j);
                const float *v = head_row(r, 2, j);
                for (uint32_t c = 0; c < r->width; c++)
                        out[c] += p * v[c];
        }
}

static void attention_row_backward(const struct attention_row *r) {
        const struct op_attention *op = r->op;
        float *p = op->workspace.data, *dp = p + r->length, dot = 0, lse = row(op->lse, r->head)[r->first + r->q];
        const float *dout = row(op->dcontext, r->first + r->q) + r->head * r->width, *q = head_row(r, 0, r->q);
        uint32_t hidden = op->context.columns;
        float *dq = row(op->dqkv, r->first + r->q) + r->head * r->width;

        attention_scores(r, p);
        for (uint32_t j = 0; j < r->length; j++) {
                float mask = attention_mask(r, j), *dv = row(op->dqkv, r->first + j) + 2 * hidden + r->head * r->width;
                const float *v = head_row(r, 2, j);
                p[j] = exp(p[j] - lse);
                dp[j] = 0;
                for (uint32_t c = 0; c < r->width; c++) {
                        dp[j] += dout[c] * v[c] * mask;
                        dv[c] += p[j] * mask * dout[c];
                }
                dot += p[j] * dp[j];
        }
        for (uint32_t j = 0; j < r->length; j++) {
                float ds = p[j] * (dp[j] - dot) * r->scale, *dk = row(op->dqkv, r->first + j) + hidden + r->head * r->width;
                const float *k = head_row(r, 1, j);
                for (uint32_t c = 0; c < r->width; c++) {
                        dq[c] += ds * k[c];
                        dk[c] += ds * q[c];
                }
        }
}

static void for_each_attention_row(const struct op_attention *op, void (*f)(const struct attention_row *)) {
        struct attention_row r = { .op = op, .width = op->context.columns / op->n_heads };

        r.scale = 1.0 / sqrt((float) r.width);
        for (r.sample = 0; r.sample < op->n_samples; r.sample++) {
                r.first = (uint32_t) op->cu_seqlens[r.sample];
                r.length = (uint32_t) op->cu_seqlens[r.sample + 1] - r.first;
                for (r.head = 0; r.head < op->n_heads; r.head++)
                        for (r.q = 0; r.q < r.length; r.q++)
                                f(&r);
        }
}

static void cpu_attention_forward(const struct op_attention *op) { for_each_attention_row(op, attention_row_forward); }

static void cpu_attention_backward(const struct op_attention *op) {
        for (uint32_t t = 0; t < op->dqkv.rows; t++)
                memset(row(op->dqkv, t), 0, op->dqkv.columns * sizeof(float));
        for_each_attention_row(op, attention_row_backward);
}

static void normalise(const struct op_norm *op, uint32_t t, bool mask) {
        const float *x = row(op->x, t), *gamma = row(op->gamma, 0), *beta = row(op->beta, 0);
        uint32_t columns = op->x.columns;
        float *y = row(op->y, t), mean = 0, variance = 0;

        for (uint32_t c = 0; c < columns; c++)
                mean += x[c];
        mean /= columns;
        for (uint32_t c = 0; c < columns; c++)
                variance += (x[c] - mean) * (x[c] - mean);
        float rstd = 1.0 / sqrt(variance / columns + op->epsilon);
        row(op->mean, 0)[t] = mean;
        row(op->rstd, 0)[t] = rstd;
        for (uint32_t c = 0; c < columns; c++)
                y[c] = ((x[c] - mean) * rstd * gamma[c] + beta[c]) * (mask ? hidden_mask(op, t, c) : 1.0);
}

/* dx of the normalisation alone; `mask`: dy passes through dropout first. */
static void normalise_backward(const struct op_norm *op, uint32_t t, bool mask, float *dx) {
        const float *x = row(op->x, t), *dy = row(op->dy, t), *gamma = row(op->gamma, 0);
        float *dgamma = row(op->dgamma, 0), *dbeta = row(op->dbeta, 0), sum = 0, dot = 0;
        float mean = row(op->mean, 0)[t], rstd = row(op->rstd, 0)[t];
        uint32_t columns = op->x.columns;

        for (uint32_t c = 0; c < columns; c++) {
                float xhat = (x[c] - mean) * rstd, d = dy[c] * (mask ? hidden_mask(op, t, c) : 1.0);
                dgamma[c] += d * xhat;
                dbeta[c] += d;
                sum += d * gamma[c];
                dot += d * gamma[c] * xhat;
        }
        for (uint32_t c = 0; c < columns; c++) {
                float xhat = (x[c] - mean) * rstd, d = dy[c] * (mask ? hidden_mask(op, t, c) : 1.0);
                dx[c] = rstd * (d * gamma[c] - sum / columns - xhat * dot / columns);
        }
}

static void cpu_add_norm_forward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                float *x = row(op->x, t);
                const float *residual = row(op->residual, t);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        x[c] = residual[c] + x[c] * hidden_mask(op, t, c);
                normalise(op, t, false);
        }
}

static void cpu_add_norm_backward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                float *dresidual = row(op->dresidual, t), *dx = row(op->dx, t);
                normalise_backward(op, t, false, dresidual);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        dx[c] = dresidual[c] * hidden_mask(op, t, c);
        }
}

static void cpu_norm_dropout_forward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++)
                normalise(op, t, true);
}

static void cpu_norm_dropout_backward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++)
                normalise_backward(op, t, true, row(op->dx, t));
}

static void cpu_gather_rows(struct tensor x, const int32_t *rows, struct tensor y) {
        for (uint32_t i = 0; i < y.rows; i++)
                memcpy(row(y, i), row(x, (size_t) rows[i]), y.columns * sizeof(float));
}

static void cpu_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx) {
        for (uint32_t i = 0; i < dy.rows; i++)
                for (uint32_t c = 0; c < dy.columns; c++)
                        row(dx, (size_t) rows[i])[c] += row(dy, i)[c];
}

static void xent_row(struct op_xent *op, uint32_t i) {
        float *x = row(op->logits, i), max = -INFINITY, sum = 0;
        uint32_t columns = op->logits.columns, best = 0, label = (uint32_t) op->labels[i];

        for (uint32_t c = 0; c < columns; c++)
                if (x[c] > max) {
                        max = x[c];
                        best = c;
                }
        for (uint32_t c = 0; c < columns; c++)
                sum += exp(x[c] - max);
        op->loss_sum += max + log(sum) - x[label];
        op->count++;
        op->correct += best == label;
        if (!op->gradient)
                return;
        for (uint32_t c = 0; c < columns; c++)
                x[c] = op->scale * (exp(x[c] - max) / sum - (c == label));
}

static void cpu_softmax_xent(struct op_xent *op) {
        for (uint32_t i = 0; i < op->logits.rows; i++)
                if (op->labels[i] >= 0)
                        xent_row(op, i);
                else if (op->gradient)
                        memset(row(op->logits, i), 0, op->logits.columns * sizeof(float));
}

static double cpu_sum_squares(const void *data, size_t n) {
        const float *x = data;
        float total = 0;

        for (size_t first = 0; first < n; first += 65536) {
                float sum = 0;
                for (size_t i = first; i < n && i < first + 65536; i++)
                        sum += x[i] * x[i];
                total += sum;
        }
        return total;
}

static void cpu_adamw(const struct op_adamw *op, size_t n, const void *gradient, void *parameter, void *moment1, void *moment2) {
        const float *gradients = gradient;
        float *p = parameter, *m = moment1, *v = moment2;

        for (size_t i = 0; i < n; i++) {
                float g = op->gradient_scale * gradients[i];
                m[i] = op->beta1 * m[i] + (1 - op->beta1) * g;
                v[i] = op->beta2 * v[i] + (1 - op->beta2) * g * g;
                p[i] -= op->rate * (m[i] / op->correction1 / (sqrt(v[i] / op->correction2) + op->epsilon) + op->weight_decay * p[i]);
        }
}

const char *ops_cpu_variant(void) { return "cpu"; }

const struct ops *ops_cpu(void) {
        static const struct ops table = {
                .name = "cpu",
                .dtype = DTYPE_FP32,
                .variant = cpu_variant,
                .allocate = cpu_allocate,
                .release = cpu_release,
                .workspace_bytes = cpu_workspace_bytes,
                .zero = cpu_zero,
                .store = cpu_store,
                .load = cpu_load,
                .embed_forward = cpu_embed_forward,
                .embed_backward = cpu_embed_backward,
                .linear = cpu_linear,
                .linear_dx = cpu_linear_dx,
                .linear_dw_db = cpu_linear_dw_db,
                .activation_backward = cpu_activation_backward,
                .attention_forward = cpu_attention_forward,
                .attention_backward = cpu_attention_backward,
                .add_norm_forward = cpu_add_norm_forward,
                .add_norm_backward = cpu_add_norm_backward,
                .norm_dropout_forward = cpu_norm_dropout_forward,
                .norm_dropout_backward = cpu_norm_dropout_backward,
                .gather_rows = cpu_gather_rows,
                .scatter_add_rows = cpu_scatter_add_rows,
                .softmax_xent = cpu_softmax_xent,
                .sum_squares = cpu_sum_squares,
                .adamw = cpu_adamw,
        };
        return &table;
}
