/*
 * The reference backend: every entry of ops.h as its definition reads, in double, one thread, no blocking. The naive twin
 * that the fast backends are compared with, and the one on which finite differences mean something.
 */
#include "trainer/ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/ops/cpu/host.h"
#include "trainer/ops/cpu/peak.h"

#define SQRT_HALF 0.70710678118654752440
#define SQRT_2_OVER_PI 0.79788456080286535588
#define INV_SQRT_2PI 0.39894228040143267794

static double *row(struct tensor t, size_t r) { return (double *) t.data + r * t.stride; }

static const char *fp64_variant(void) { return "fp64/naive"; }

static void *fp64_allocate(size_t size) {
        size_t rounded = (size + 63) / 64 * 64;
        void *data = aligned_alloc(64, rounded ? rounded : 64);
        if (data)
                memset(data, 0, rounded);
        return data;
}

static void fp64_release(void *data, size_t size) { free(data); }

static size_t fp64_workspace_bytes(const struct ops_shape *shape) {
        return (size_t) 3 * shape->max_length * sizeof(double);
}

static void fp64_zero(void *data, size_t size) { memset(data, 0, size); }

static void fp64_store(enum dtype of, void *data, size_t first, const double *values, size_t n) {
        (void) of;
        memcpy((double *) data + first, values, n * sizeof(double));
}

static void fp64_load(enum dtype of, const void *data, size_t first, double *values, size_t n) {
        (void) of;
        memcpy(values, (const double *) data + first, n * sizeof(double));
}

static double activate(enum activation act, double x) {
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

static double activate_derivative(enum activation act, double s) {
        double t;

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

static void begin_sum(struct tensor t) {
        for (uint32_t r = 0; t.data && t.fresh && r < t.rows; r++)
                memset(row(t, r), 0, t.columns * sizeof(double));
}

static double hidden_mask(const struct op_norm *op, uint32_t t, uint32_t column) {
        const struct dropout *d = &op->dropout;

        if (!d->threshold)
                return 1.0;
        uint32_t block = dropout_hidden_block((uint32_t) op->rows.position[t], op->x.columns);
        return dropout_keeps(d, op->rows.k[t], block, column) ? d->scale : 0.0;
}

static void fp64_embed_backward(const struct op_embed *op) {
        begin_sum(op->word);
        begin_sum(op->position);
        begin_sum(op->type);
        for (uint32_t t = 0; t < op->x.rows; t++) {
                double *w = row(op->word, (size_t) op->ids[t]), *p = row(op->position, (size_t) op->positions[t]),
                       *y = row(op->type, (size_t) op->types[t]);
                const double *x = row(op->x, t);
                for (uint32_t c = 0; c < op->x.columns; c++) {
                        w[c] += x[c];
                        p[c] += x[c];
                        y[c] += x[c];
                }
        }
}

static void fp64_linear(struct tensor x, struct tensor w, struct tensor bias, enum activation act, struct tensor pre,
                        struct tensor y) {
        for (uint32_t i = 0; i < y.rows; i++)
                for (uint32_t j = 0; j < y.columns; j++) {
                        double sum = bias.data ? row(bias, 0)[j] : 0.0;
                        for (uint32_t k = 0; k < x.columns; k++)
                                sum += row(x, i)[k] * row(w, j)[k];
                        if (pre.data)
                                row(pre, i)[j] = sum;
                        row(y, i)[j] = activate(act, sum);
                }
}

static void fp64_activation_backward(enum activation act, struct tensor saved, struct tensor dx) {
        for (uint32_t i = 0; i < dx.rows; i++)
                for (uint32_t k = 0; k < dx.columns; k++)
                        row(dx, i)[k] *= activate_derivative(act, row(saved, i)[k]);
}

static void fp64_column_sums(struct tensor x, struct tensor to) {
        begin_sum(to);
        for (uint32_t i = 0; to.data && i < x.rows; i++)
                for (uint32_t k = 0; k < x.columns; k++)
                        row(to, 0)[k] += row(x, i)[k];
}

static void fp64_linear_dx(struct tensor dy, struct tensor w, bool add, enum activation act, struct tensor saved,
                           struct tensor dx, struct tensor dbias) {
        for (uint32_t i = 0; i < dx.rows; i++) {
                if (!add)
                        memset(row(dx, i), 0, dx.columns * sizeof(double));
                for (uint32_t j = 0; j < dy.columns; j++)
                        for (uint32_t k = 0; k < dx.columns; k++)
                                row(dx, i)[k] += row(dy, i)[j] * row(w, j)[k];
        }
        if (act != ACTIVATION_NONE)
                fp64_activation_backward(act, saved, dx);
        fp64_column_sums(dx, dbias);
}

static void fp64_linear_dw_db(struct tensor dy, struct tensor x, struct tensor dw, struct tensor dbias) {
        begin_sum(dw);
        begin_sum(dbias);
        for (uint32_t i = 0; i < dy.rows; i++)
                for (uint32_t j = 0; j < dy.columns; j++) {
                        double g = row(dy, i)[j];
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
        double scale;
};

static const double *head_row(const struct attention_row *r, uint32_t third, uint32_t position) {
        return row(r->op->qkv, r->first + position) + third * r->op->context.columns + r->head * r->width;
}

static void attention_scores(const struct attention_row *r, double *scores) {
        const double *q = head_row(r, 0, r->q);

        for (uint32_t j = 0; j < r->length; j++) {
                const double *k = head_row(r, 1, j);
                scores[j] = 0;
                for (uint32_t c = 0; c < r->width; c++)
                        scores[j] += q[c] * k[c];
                scores[j] *= r->scale;
        }
}

static double attention_mask(const struct attention_row *r, uint32_t j) {
        const struct dropout *d = &r->op->dropout;

        if (!d->threshold)
                return 1.0;
        uint32_t block = dropout_attention_block(r->head, r->q, r->length);
        return dropout_keeps(d, r->op->sample_k[r->sample], block, j) ? d->scale : 0.0;
}

static void attention_row_forward(const struct attention_row *r) {
        double *scores = r->op->workspace.data, max = -INFINITY, sum = 0;
        double *out = row(r->op->context, r->first + r->q) + r->head * r->width;

        attention_scores(r, scores);
        for (uint32_t j = 0; j < r->length; j++)
                max = fmax(max, scores[j]);
        for (uint32_t j = 0; j < r->length; j++)
                sum += exp(scores[j] - max);
        row(r->op->lse, r->head)[r->first + r->q] = max + log(sum);
        memset(out, 0, r->width * sizeof(double));
        for (uint32_t j = 0; j < r->length; j++) {
                double p = exp(scores[j] - max) / sum * attention_mask(r, j);
                const double *v = head_row(r, 2, j);
                for (uint32_t c = 0; c < r->width; c++)
                        out[c] += p * v[c];
        }
}

static void attention_row_backward(const struct attention_row *r) {
        const struct op_attention *op = r->op;
        double *p = op->workspace.data, *dp = p + r->length, dot = 0, lse = row(op->lse, r->head)[r->first + r->q];
        const double *dout = row(op->dcontext, r->first + r->q) + r->head * r->width, *q = head_row(r, 0, r->q);
        uint32_t hidden = op->context.columns;
        double *dq = row(op->dqkv, r->first + r->q) + r->head * r->width;

        attention_scores(r, p);
        for (uint32_t j = 0; j < r->length; j++) {
                double mask = attention_mask(r, j), *dv = row(op->dqkv, r->first + j) + 2 * hidden + r->head * r->width;
                const double *v = head_row(r, 2, j);
                p[j] = exp(p[j] - lse);
                dp[j] = 0;
                for (uint32_t c = 0; c < r->width; c++) {
                        dp[j] += dout[c] * v[c] * mask;
                        dv[c] += p[j] * mask * dout[c];
                }
                dot += p[j] * dp[j];
        }
        for (uint32_t j = 0; j < r->length; j++) {
                double ds = p[j] * (dp[j] - dot) * r->scale,
                       *dk = row(op->dqkv, r->first + j) + hidden + r->head * r->width;
                const double *k = head_row(r, 1, j);
                for (uint32_t c = 0; c < r->width; c++) {
                        dq[c] += ds * k[c];
                        dk[c] += ds * q[c];
                }
        }
}

static void for_each_attention_row(const struct op_attention *op, void (*f)(const struct attention_row *)) {
        struct attention_row r = { .op = op, .width = op->context.columns / op->n_heads };

        r.scale = 1.0 / sqrt((double) r.width);
        for (r.sample = 0; r.sample < op->n_sequences; r.sample++) {
                r.first = (uint32_t) op->cu_seqlens[r.sample];
                r.length = (uint32_t) op->cu_seqlens[r.sample + 1] - r.first;
                for (r.head = 0; r.head < op->n_heads; r.head++)
                        for (r.q = 0; r.q < r.length; r.q++)
                                f(&r);
        }
}

static void fp64_attention_forward(const struct op_attention *op) { for_each_attention_row(op, attention_row_forward); }

static void fp64_attention_backward(const struct op_attention *op) {
        for (uint32_t t = 0; t < op->dqkv.rows; t++)
                memset(row(op->dqkv, t), 0, op->dqkv.columns * sizeof(double));
        for_each_attention_row(op, attention_row_backward);
}

static void normalise(const struct op_norm *op, uint32_t t, bool mask) {
        const double *x = row(op->x, t), *gamma = row(op->gamma, 0), *beta = row(op->beta, 0);
        uint32_t columns = op->x.columns;
        double *y = row(op->y, t), mean = 0, variance = 0;

        for (uint32_t c = 0; c < columns; c++)
                mean += x[c];
        mean /= columns;
        for (uint32_t c = 0; c < columns; c++)
                variance += (x[c] - mean) * (x[c] - mean);
        double rstd = 1.0 / sqrt(variance / columns + op->epsilon);
        row(op->mean, 0)[t] = mean;
        row(op->rstd, 0)[t] = rstd;
        for (uint32_t c = 0; c < columns; c++)
                y[c] = ((x[c] - mean) * rstd * gamma[c] + beta[c]) * (mask ? hidden_mask(op, t, c) : 1.0);
}

/* dx of the normalisation alone; `mask`: dy passes through dropout first. */
static void normalise_backward(const struct op_norm *op, uint32_t t, bool mask, double *dx) {
        const double *x = row(op->x, t), *dy = row(op->dy, t), *gamma = row(op->gamma, 0);
        double *dgamma = row(op->dgamma, 0), *dbeta = row(op->dbeta, 0), sum = 0, dot = 0;
        double mean = row(op->mean, 0)[t], rstd = row(op->rstd, 0)[t];
        uint32_t columns = op->x.columns;

        for (uint32_t c = 0; c < columns; c++) {
                double xhat = (x[c] - mean) * rstd, d = dy[c] * (mask ? hidden_mask(op, t, c) : 1.0);
                dgamma[c] += d * xhat;
                dbeta[c] += d;
                sum += d * gamma[c];
                dot += d * gamma[c] * xhat;
        }
        for (uint32_t c = 0; c < columns; c++) {
                double xhat = (x[c] - mean) * rstd, d = dy[c] * (mask ? hidden_mask(op, t, c) : 1.0);
                dx[c] = rstd * (d * gamma[c] - sum / columns - xhat * dot / columns);
        }
}

static void fp64_add_norm_forward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                double *x = row(op->x, t);
                const double *residual = row(op->residual, t);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        x[c] = residual[c] + x[c] * hidden_mask(op, t, c);
                normalise(op, t, false);
        }
}

static void fp64_add_norm_backward(const struct op_norm *op) {
        begin_sum(op->dgamma);
        begin_sum(op->dbeta);
        for (uint32_t t = 0; t < op->x.rows; t++) {
                double *dresidual = row(op->dresidual, t), *dx = row(op->dx, t);
                normalise_backward(op, t, false, dresidual);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        dx[c] = dresidual[c] * hidden_mask(op, t, c);
        }
        fp64_column_sums(op->dx, op->dbias);
}

static void fp64_norm_dropout_forward(const struct op_norm *op) {
        for (uint32_t t = 0; t < op->x.rows; t++)
                normalise(op, t, true);
}

static void fp64_embed_forward(const struct op_embed *op, const struct op_norm *norm) {
        for (uint32_t t = 0; t < op->x.rows; t++) {
                const double *w = row(op->word, (size_t) op->ids[t]), *p = row(op->position, (size_t) op->positions[t]),
                             *y = row(op->type, (size_t) op->types[t]);
                double *x = row(op->x, t);
                for (uint32_t c = 0; c < op->x.columns; c++)
                        x[c] = w[c] + p[c] + y[c];
        }
        fp64_norm_dropout_forward(norm);
}

static void fp64_norm_dropout_backward(const struct op_norm *op) {
        begin_sum(op->dgamma);
        begin_sum(op->dbeta);
        for (uint32_t t = 0; t < op->x.rows; t++)
                normalise_backward(op, t, true, row(op->dx, t));
}

static void fp64_gather_rows(struct tensor x, const int32_t *rows, struct tensor y) {
        for (uint32_t i = 0; i < y.rows; i++)
                memcpy(row(y, i), row(x, (size_t) rows[i]), y.columns * sizeof(double));
}

static void fp64_scatter_add_rows(struct tensor dy, const int32_t *rows, struct tensor dx) {
        for (uint32_t i = 0; i < dy.rows; i++)
                for (uint32_t c = 0; c < dy.columns; c++)
                        row(dx, (size_t) rows[i])[c] += row(dy, i)[c];
}

static void xent_row(const struct op_xent *op, uint32_t i, double *loss) {
        double *x = row(op->logits, i), max = -INFINITY, sum = 0;
        uint32_t columns = op->logits.columns, best = 0, label = (uint32_t) op->labels[i];

        for (uint32_t c = 0; c < columns; c++)
                if (x[c] > max) {
                        max = x[c];
                        best = c;
                }
        for (uint32_t c = 0; c < columns; c++)
                sum += exp(x[c] - max);
        *loss += max + log(sum) - x[label];
        op->sums->count++;
        op->sums->correct += best == label;
        if (!op->gradient)
                return;
        for (uint32_t c = 0; c < columns; c++)
                x[c] = op->scale * (exp(x[c] - max) / sum - (c == label));
}

static void fp64_softmax_xent(const struct op_xent *op) {
        double loss = 0;

        for (uint32_t i = 0; i < op->logits.rows; i++)
                if (op->labels[i] >= 0)
                        xent_row(op, i, &loss);
                else if (op->gradient)
                        memset(row(op->logits, i), 0, op->logits.columns * sizeof(double));
        op->sums->loss += loss;
}

static double fp64_sum_squares(const void *data, size_t n) {
        const double *x = data;
        double total = 0;

        for (size_t first = 0; first < n; first += 65536) {
                double sum = 0;
                for (size_t i = first; i < n && i < first + 65536; i++)
                        sum += x[i] * x[i];
                total += sum;
        }
        return total;
}

static void fp64_adamw(const struct op_adam *op, size_t n, const void *gradient, void *parameter, void *moment1,
                       void *moment2) {
        const double *gradients = gradient;
        double *p = parameter, *m = moment1, *v = moment2;

        for (size_t i = 0; i < n; i++) {
                double g = op->gradient_scale * gradients[i];
                m[i] = op->beta1 * m[i] + (1 - op->beta1) * g;
                v[i] = op->beta2 * v[i] + (1 - op->beta2) * g * g;
                p[i] -= op->rate * (m[i] / op->correction1 / (sqrt(v[i] / op->correction2) + op->epsilon) +
                                    op->weight_decay * p[i]);
        }
}

static void fp64_adam_direction(const struct op_adam *op, size_t n, void *gradient, const void *parameter,
                                void *moment1, void *moment2) {
        const double *p = parameter;
        double *gradients = gradient, *m = moment1, *v = moment2;

        for (size_t i = 0; i < n; i++) {
                double g = op->gradient_scale * gradients[i];
                m[i] = op->beta1 * m[i] + (1 - op->beta1) * g;
                v[i] = op->beta2 * v[i] + (1 - op->beta2) * g * g;
                gradients[i] =
                        m[i] / op->correction1 / (sqrt(v[i] / op->correction2) + op->epsilon) + op->weight_decay * p[i];
        }
}

static void fp64_descend(double rate, size_t n, const void *direction, void *parameter) {
        const double *d = direction;
        double *p = parameter;

        for (size_t i = 0; i < n; i++)
                p[i] -= rate * d[i];
}

const struct ops *ops_fp64(void) {
        static const struct ops table = {
                .name = "fp64",
                .dtype = DTYPE_FP64,
                .master = DTYPE_FP64,
                .host_memory = true,
                .variant = fp64_variant,
                .allocate = fp64_allocate,
                .release = fp64_release,
                .workspace_bytes = fp64_workspace_bytes,
                .allocate_host = host_allocate,
                .release_host = host_release,
                .upload = host_copy,
                .download = host_copy,
                .copy = host_copy,
                .allocate_spare = host_allocate_spare,
                .mark = host_mark,
                .fetch = host_fetch,
                .hash = host_hash,
                .peak_flops = cpu_peak_flops,
                .zero = fp64_zero,
                .store = fp64_store,
                .load = fp64_load,
                .embed_forward = fp64_embed_forward,
                .embed_backward = fp64_embed_backward,
                .linear = fp64_linear,
                .linear_dx = fp64_linear_dx,
                .linear_dw_db = fp64_linear_dw_db,
                .activation_backward = fp64_activation_backward,
                .attention_forward = fp64_attention_forward,
                .attention_backward = fp64_attention_backward,
                .add_norm_forward = fp64_add_norm_forward,
                .add_norm_backward = fp64_add_norm_backward,
                .norm_dropout_forward = fp64_norm_dropout_forward,
                .norm_dropout_backward = fp64_norm_dropout_backward,
                .gather_rows = fp64_gather_rows,
                .scatter_add_rows = fp64_scatter_add_rows,
                .softmax_xent = fp64_softmax_xent,
                .sum_squares = fp64_sum_squares,
                .adamw = fp64_adamw,
                .adam_direction = fp64_adam_direction,
                .descend = fp64_descend,
        };
        return &table;
}
