/*
 * The classifier, forward and backward: outputs of some layers at [CLS] → combined (concatenated, mean or maximum) → through the pooler
 * or not → where a text is several segments, pooled over them (mean, maximum, attention) → dropout → linear → softmax cross-entropy.
 * With the last layer, the pooler and one segment it is BertForSequenceClassification.
 *
 * What no entry of the operations table does touches a few rows a text, so it is done in double on the host, through the backend's load and store:
 * the same on every backend.
 */
#include <math.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/model/internal.h"

#define OUT_OF_THE_QUESTION (-6e4) /* a logit whose exponential is 0 beside any other; finite in fp16 */

static const struct tensor absent = {};

static uint32_t classifier_slot(const struct model *model, uint32_t slot) { return model->layout.classifier + slot; }

/* (n_sequences, H) of the j-th of the classifier's layers. */
static struct tensor of_layer(const struct model *model, struct tensor all, uint32_t j, uint32_t n_sequences) {
        size_t at = (size_t) j * model->limits.max_sequences * all.stride * dtype_size(all.dtype);

        all.data = (char *) all.data + at;
        return view_rows(all, n_sequences);
}

static void load(const struct model *model, struct tensor t, double *values) {
        model->ops->load(t.dtype, t.data, 0, values, (size_t) t.rows * t.columns);
}
static void store(const struct model *model, struct tensor t, const double *values) {
        model->ops->store(t.dtype, t.data, 0, values, (size_t) t.rows * t.columns);
}

/* All layers' rows side by side: (L, n, H) without gaps. */
static void load_layers(const struct model *model, struct tensor all, uint32_t n, double *values) {
        for (uint32_t j = 0; j < model->config.classifier.n_layers; j++)
                load(model, of_layer(model, all, j, n), values + (size_t) j * n * all.columns);
}

void classifier_take_layer(struct model *model, const struct batch *batch, uint32_t layer) {
        const struct classifier_config *c = &model->config.classifier;

        if (layer >= c->first_layer && layer < c->first_layer + c->n_layers)
                model->ops->gather_rows(
                        model_layer_input(model, batch, layer + 1), batch->cu_seqlens,
                        of_layer(model, model->buffers.layers_first, layer - c->first_layer, batch->n_sequences));
}

void classifier_give_layer(struct model *model, const struct batch *batch, uint32_t layer, struct tensor d_hidden) {
        const struct classifier_config *c = &model->config.classifier;

        if (layer >= c->first_layer && layer < c->first_layer + c->n_layers)
                model->ops->scatter_add_rows(
                        of_layer(model, model->buffers.d_layers_first, layer - c->first_layer, batch->n_sequences),
                        batch->cu_seqlens, d_hidden);
}

/* ---- layers: (L, n, H) ↔ (n, D) ---- */

static uint32_t greatest(const double *x, uint32_t n, size_t stride) {
        uint32_t best = 0;

        for (uint32_t i = 1; i < n; i++)
                if (x[i * stride] > x[best * stride])
                        best = i;
        return best;
}

static void combine(const struct classifier_config *c, uint32_t n, uint32_t h, const double *in, double *out) {
        size_t stride = (size_t) n * h;

        for (uint32_t i = 0; i < n; i++)
                for (uint32_t k = 0; k < h; k++) {
                        const double *x = in + (size_t) i * h + k; /* of layer j at x[j · stride] */
                        double sum = 0;
                        for (uint32_t j = 0; j < c->n_layers; j++) {
                                sum += x[j * stride];
                                if (c->combine == COMBINE_CONCAT)
                                        out[((size_t) i * c->n_layers + j) * h + k] = x[j * stride];
                        }
                        if (c->combine == COMBINE_MEAN)
                                out[(size_t) i * h + k] = sum / c->n_layers;
                        else if (c->combine == COMBINE_MAX)
                                out[(size_t) i * h + k] = x[greatest(x, c->n_layers, stride) * stride];
                }
}

/* `in` (L, n, H) becomes its own gradient. */
static void combine_backward(const struct classifier_config *c, uint32_t n, uint32_t h, const double *d_out,
                             double *in) {
        size_t stride = (size_t) n * h;

        for (uint32_t i = 0; i < n; i++)
                for (uint32_t k = 0; k < h; k++) {
                        double *x = in + (size_t) i * h + k;
                        uint32_t best = greatest(x, c->n_layers, stride);
                        for (uint32_t j = 0; j < c->n_layers; j++)
                                x[j * stride] = c->combine == COMBINE_CONCAT
                                                        ? d_out[((size_t) i * c->n_layers + j) * h + k]
                                                : c->combine == COMBINE_MEAN ? d_out[(size_t) i * h + k] / c->n_layers
                                                                             : (j == best) * d_out[(size_t) i * h + k];
                }
}

/* ---- segments: (B, D) ↔ (texts, D) ---- */

/* Weights of n segments of a text by softmax of x · w, in `weights`. */
static void attend(const double *x, const double *w, uint32_t n, uint32_t d, double *weights) {
        double highest = -INFINITY, sum = 0;

        for (uint32_t s = 0; s < n; s++) {
                weights[s] = 0;
                for (uint32_t k = 0; k < d; k++)
                        weights[s] += x[(size_t) s * d + k] * w[k];
                highest = fmax(highest, weights[s]);
        }
        for (uint32_t s = 0; s < n; s++)
                sum += weights[s] = exp(weights[s] - highest);
        for (uint32_t s = 0; s < n; s++)
                weights[s] /= sum;
}

static void pool(enum classifier_segments how, const double *x, const double *w, uint32_t n, uint32_t d, double *out) {
        double weights[SPEC_SEGMENTS_MAX];

        if (how == SEGMENTS_ATTENTION)
                attend(x, w, n, d, weights);
        for (uint32_t k = 0; k < d; k++) {
                out[k] = how == SEGMENTS_MAX ? x[(size_t) greatest(x + k, n, d) * d + k] : 0;
                for (uint32_t s = 0; s < n && how != SEGMENTS_MAX; s++)
                        out[k] += x[(size_t) s * d + k] * (how == SEGMENTS_MEAN ? 1.0 / n : weights[s]);
        }
}

/* x (n, D) becomes its own gradient; adds w's to d_w. */
static void attend_backward(double *x, const double *w, uint32_t n, uint32_t d, const double *d_out, double *d_w) {
        double weights[SPEC_SEGMENTS_MAX], g[SPEC_SEGMENTS_MAX], mean = 0;

        attend(x, w, n, d, weights);
        for (uint32_t s = 0; s < n; s++) {
                g[s] = 0;
                for (uint32_t k = 0; k < d; k++)
                        g[s] += d_out[k] * x[(size_t) s * d + k];
                mean += weights[s] * g[s];
        }
        for (uint32_t s = 0; s < n; s++) {
                double d_score = weights[s] * (g[s] - mean);
                for (uint32_t k = 0; k < d; k++) {
                        d_w[k] += d_score * x[(size_t) s * d + k];
                        x[(size_t) s * d + k] = weights[s] * d_out[k] + d_score * w[k];
                }
        }
}

static void pool_backward(enum classifier_segments how, double *x, uint32_t n, uint32_t d, const double *d_out) {
        for (uint32_t k = 0; k < d; k++) {
                uint32_t best = greatest(x + k, n, d);
                for (uint32_t s = 0; s < n; s++)
                        x[(size_t) s * d + k] = how == SEGMENTS_MEAN ? d_out[k] / n : (s == best) * d_out[k];
        }
}

static void pool_segments(struct model *model, const struct batch *batch) {
        const struct model_buffers *b = &model->buffers;
        const struct classifier_config *c = &model->config.classifier;
        uint32_t d = config_features(&model->config);
        double *in = b->host_in, *out = b->host_out, *w = b->host_query;

        load(model, view_rows(b->class_pooled, batch->n_sequences), in);
        if (c->segments == SEGMENTS_ATTENTION)
                load(model, model_parameter(model, classifier_slot(model, CLASSIFIER_SEGMENTS)), w);
        for (uint32_t i = 0; i < batch->n_samples; i++) {
                int32_t first = model->host_batch->sample_begin[i];
                pool(c->segments, in + (size_t) first * d, w,
                     (uint32_t) (model->host_batch->sample_begin[i + 1] - first), d, out + (size_t) i * d);
        }
        store(model, view_rows(b->features, batch->n_samples), out);
}

/* d_dropped, gradient of the features (texts, D), → (B, D) in its place. */
static void pool_segments_backward(struct model *model, const struct batch *batch) {
        const struct model_buffers *b = &model->buffers;
        const struct classifier_config *c = &model->config.classifier;
        uint32_t d = config_features(&model->config);
        bool attention = c->segments == SEGMENTS_ATTENTION;
        struct tensor gradient = absent;
        double *x = b->host_in, *d_out = b->host_out, *w = b->host_query, *d_w = b->host_query + d;

        load(model, view_rows(b->class_pooled, batch->n_sequences), x);
        load(model, view_rows(b->d_dropped, batch->n_samples), d_out);
        if (attention) {
                load(model, model_parameter(model, classifier_slot(model, CLASSIFIER_SEGMENTS)), w);
                gradient = model_gradient(model, classifier_slot(model, CLASSIFIER_SEGMENTS));
                load(model, gradient, d_w);
                for (uint32_t k = 0; gradient.fresh && k < d; k++)
                        d_w[k] = 0;
        }
        for (uint32_t i = 0; i < batch->n_samples; i++) {
                double *own = x + (size_t) model->host_batch->sample_begin[i] * d;
                uint32_t n = (uint32_t) (model->host_batch->sample_begin[i + 1] - model->host_batch->sample_begin[i]);
                if (attention)
                        attend_backward(own, w, n, d, d_out + (size_t) i * d, d_w);
                else
                        pool_backward(c->segments, own, n, d, d_out + (size_t) i * d);
        }
        if (attention)
                store(model, gradient, d_w);
        store(model, view_rows(b->d_dropped, batch->n_sequences), x);
}

/* ---- dropout ---- */

static struct dropout classifier_dropout(const struct model *model, const struct model_pass *pass) {
        return dropout_new(pass->dropout ? model->config.classifier.dropout : 0, pass->seed, pass->stage,
                           DROPOUT_LAYER_EMBEDDINGS, DROPOUT_CLASSIFIER);
}

/* The mask of dropout_keeps, eight elements a call. */
static void drop_row(const struct dropout *dropout, uint64_t k, double *x, uint32_t n) {
        for (uint32_t first = 0; first < n; first += 8) {
                struct philox r = philox(dropout->seed, first / 8, dropout->site, k);
                for (uint32_t e = 0; e < 8 && first + e < n; e++) {
                        uint32_t half = (e & 1 ? r.v[e >> 1] >> 16 : r.v[e >> 1]) & 0xffff;
                        x[first + e] = half >= dropout->threshold ? x[first + e] * dropout->scale : 0;
                }
        }
}

/* from (texts, D) → to; the same mask forward and backward. */
static void drop(struct model *model, const struct batch *batch, const struct model_pass *pass, struct tensor from,
                 struct tensor to) {
        struct dropout dropout = classifier_dropout(model, pass);
        double *x = model->buffers.host_out;

        load(model, from, x);
        for (uint32_t i = 0; i < batch->n_samples && dropout.threshold > 0; i++)
                drop_row(&dropout, model->host_batch->sample_k[model->host_batch->sample_begin[i]],
                         x + (size_t) i * from.columns, from.columns);
        store(model, to, x);
}

/* ---- all of it ---- */

static struct tensor pooler(const struct model *model, uint32_t slot) {
        return model_parameter(model, head_slot(model, slot));
}

/* Classes of other tasks than a text's are out of the question. */
static void mask_tasks(struct model *model, const struct model_pass *pass, struct tensor logits) {
        const struct batch *batch = model->host_batch;
        double *x = model->buffers.host_logits;

        load(model, logits, x);
        for (uint32_t i = 0; i < batch->n_samples; i++) {
                int32_t label = batch->sentence_labels[i];
                for (uint32_t c = 0; label >= 0 && c < logits.columns; c++)
                        if (c < pass->ranges[label].begin || c >= pass->ranges[label].end)
                                x[(size_t) i * logits.columns + c] = OUT_OF_THE_QUESTION;
        }
        store(model, logits, x);
}

struct tensor classifier_forward(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        const struct classifier_config *c = &model->config.classifier;
        uint32_t n = batch->n_sequences, texts = batch->n_samples;
        struct tensor logits = view_rows(b->class_logits, texts); /* (texts, labels) */

        if (c->n_layers > 1) {
                load_layers(model, b->layers_first, n, b->host_in);
                combine(c, n, model->config.hidden_size, b->host_in, b->host_out);
                store(model, view_rows(b->combined, n), b->host_out); /* (B, D) */
        }
        if (c->input == INPUT_POOLED)
                ops->linear(view_rows(b->combined, n), pooler(model, HEAD_POOLER_WEIGHT),
                            pooler(model, HEAD_POOLER_BIAS), ACTIVATION_TANH, absent,
                            view_rows(b->class_pooled, n)); /* (B, H) */
        if (c->segmented)
                pool_segments(model, batch);
        if (c->dropout > 0)
                drop(model, batch, pass, view_rows(b->features, texts), view_rows(b->dropped, texts));
        ops->linear(view_rows(b->dropped, texts), model_parameter(model, classifier_slot(model, CLASSIFIER_WEIGHT)),
                    model_parameter(model, classifier_slot(model, CLASSIFIER_BIAS)), ACTIVATION_NONE, absent, logits);
        return logits;
}

static void forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient) {
        struct op_xent xent = {
                .logits = classifier_forward(model, batch, pass),
                .labels = batch->sentence_labels,
                .scale = pass->sentence_scale,
                .gradient = gradient,
                .sums = model->sentence_sums,
                .workspace = model->buffers.workspace,
        };

        if (pass->ranges)
                mask_tasks(model, pass, xent.logits);
        model->ops->softmax_xent(&xent);
}

/* d_dropped (B, D): gradient of what the pooler puts out → d_combined. */
static void backward_input(struct model *model, uint32_t n, bool frozen) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        const struct classifier_config *c = &model->config.classifier;
        struct tensor d = view_rows(b->d_dropped, n), d_combined = view_rows(b->d_combined, n);

        if (c->input == INPUT_POOLED) {
                ops->activation_backward(ACTIVATION_TANH, view_rows(b->class_pooled, n), d);
                if (!frozen)
                        ops->linear_dw_db(d, view_rows(b->combined, n),
                                          model_gradient(model, head_slot(model, HEAD_POOLER_WEIGHT)),
                                          model_gradient(model, head_slot(model, HEAD_POOLER_BIAS)));
                ops->linear_dx(d, pooler(model, HEAD_POOLER_WEIGHT), false, ACTIVATION_NONE, absent, d_combined,
                               absent);
        } else {
                load(model, d, b->host_out);
                store(model, d_combined, b->host_out);
        }
}

void classifier_backward(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct ops *ops = model->ops;
        const struct model_buffers *b = &model->buffers;
        const struct classifier_config *c = &model->config.classifier;
        uint32_t n = batch->n_sequences, texts = batch->n_samples;
        struct tensor d_logits = view_rows(b->class_logits, texts), d = view_rows(b->d_dropped, texts);

        ops->linear_dw_db(d_logits, view_rows(b->dropped, texts),
                          model_gradient(model, classifier_slot(model, CLASSIFIER_WEIGHT)),
                          model_gradient(model, classifier_slot(model, CLASSIFIER_BIAS)));
        ops->linear_dx(d_logits, model_parameter(model, classifier_slot(model, CLASSIFIER_WEIGHT)), false,
                       ACTIVATION_NONE, absent, d, absent);
        if (c->dropout > 0)
                drop(model, batch, pass, d, d);
        if (c->segmented)
                pool_segments_backward(model, batch);
        backward_input(model, n, pass->frozen == FREEZE_FEATURES);
        if (c->n_layers == 1)
                return;
        load_layers(model, b->layers_first, n, b->host_in);
        load(model, view_rows(b->d_combined, n), b->host_out);
        combine_backward(c, n, model->config.hidden_size, b->host_out, b->host_in);
        for (uint32_t j = 0; j < c->n_layers; j++)
                store(model, of_layer(model, b->d_layers_first, j, n),
                      b->host_in + (size_t) j * n * model->config.hidden_size);
}

uint32_t classifier_n_layers(const struct model *model) {
        return model->config.classifier.first_layer + model->config.classifier.n_layers;
}

double classifier_flops(const struct model *model, const struct batch *batch, enum freeze frozen) {
        const struct classifier_config *c = &model->config.classifier;
        double h = model->config.hidden_size, features = config_features(&model->config);
        bool layers = frozen < FREEZE_ENCODER, pooled = c->input == INPUT_POOLED, pooler = frozen < FREEZE_FEATURES;
        double flops =
                flops_with_backward(2 * features * c->n_labels * batch->n_samples, true, layers || (pooled && pooler));

        return pooled ? flops + flops_with_backward(2 * h * h * batch->n_sequences, pooler, layers) : flops;
}

const struct model_head classifier_head = { .n_layers = classifier_n_layers,
                                            .take_layer = classifier_take_layer,
                                            .forward = forward,
                                            .backward = classifier_backward,
                                            .give_layer = classifier_give_layer,
                                            .flops = classifier_flops };
