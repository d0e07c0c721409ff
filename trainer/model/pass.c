/*
 * A micro-batch through the encoder and a head, forward and backward, and what is summed of it. Owns nothing; leaves the model's batch and sums
 * as the last pass made them.
 */
#include <assert.h>

#include "common/clock.h"
#include "trainer/model/internal.h"

/* Of texts, by what their labels are. */
static const struct model_head *const heads[CLASSIFIER_TARGET_MAX] = {
        [TARGET_CLASS] = &classifier_head,
        [TARGET_NUMBER] = &regression_head,
};

static const struct model_head *head_of(const struct model *model, const struct model_pass *pass) {
        return pass->classify ? heads[model->config.classifier.target] : &pretraining_head;
}

/* ---- through encoder and head ---- */

static void forward(struct model *model, const struct batch *batch, const struct model_pass *pass, bool gradient) {
        const struct model_head *head = head_of(model, pass);

        encoder_forward_embeddings(model, batch, pass);
        for (uint32_t l = 0; l < head->n_layers(model); l++) {
                encoder_forward_layer(model, batch, pass, l);
                if (head->take_layer)
                        head->take_layer(model, batch, l);
        }
        head->forward(model, batch, pass, gradient);
}

static void backward_layers(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            const struct model_head *head, uint32_t n) {
        for (uint32_t l = n; l-- > 0;) {
                if (head->give_layer)
                        head->give_layer(model, batch, l, view_rows(model->buffers.d_hidden, batch->n_tokens));
                if (model->limits.recompute && l + 1 < n) /* the last one's activations are still in memory */
                        encoder_forward_layer(model, batch, pass, l);
                encoder_backward_layer(model, batch, pass, l);
        }
}

/* From the head down to the lowest part that is not frozen. Then every gradient is complete, those of parts that the loss does not reach
 * being 0. */
static void backward(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        enum freeze frozen = pass->classify ? pass->frozen : FREEZE_NONE;
        struct tensor d_hidden = view_rows(model->buffers.d_hidden, batch->n_tokens);
        const struct model_head *head = head_of(model, pass);
        bool first = model->n_passes == 0;

        if (first && frozen != FREEZE_NONE) /* most of them stay 0 */
                state_zero_gradients(&model->state);
        for (uint32_t i = 0; i < model->layout.n_tensors; i++) {
                model->pending[i] = model->layout.tensors[i].uses;
                model->stale[i] = first && frozen == FREEZE_NONE;
        }
        model->ops->zero(d_hidden.data, (size_t) d_hidden.rows * d_hidden.stride * dtype_size(d_hidden.dtype));
        head->backward(model, batch, pass);
        backward_layers(model, batch, pass, head, frozen >= FREEZE_ENCODER ? 0 : head->n_layers(model));
        if (frozen == FREEZE_NONE)
                encoder_backward_embeddings(model, batch, pass);
        else if (frozen == FREEZE_EMBEDDINGS && model->config.embedding_mapping)
                encoder_backward_mapping(model, batch, pass);
        for (uint32_t i = 0; i < model->layout.n_tensors; i++)
                while (model->pending[i] > 0)
                        model_count_off(model, pass, i, 1);
}

/* ---- a batch ---- */

static void zero_sums(struct model *model) {
        model->ops->zero(model->mlm_sums, sizeof(*model->mlm_sums));
        model->ops->zero(model->sentence_sums, sizeof(*model->sentence_sums));
}

/* In a step's first micro-batch: one of them is enough. */
static void stamp(struct model *model, enum model_stamp i) {
        if (model->ops->stamp && model->n_passes == 0)
                model->ops->stamp(i);
}

void model_zero_gradients(struct model *model) {
        model->n_passes = 0;
        model->n_steps++;
        stamp(model, STAMP_BEGIN);
        zero_sums(model);
}

void model_settle_gradients(struct model *model) {
        if (model->n_passes == 0)
                state_zero_gradients(&model->state);
}

static void check_batch(const struct model *model, const struct batch *batch, const struct model_pass *pass) {
        const struct model_config *c = &model->config;

        assert(batch->n_tokens <= model->limits.max_tokens && batch->n_sequences <= model->limits.max_sequences);
        assert(batch->n_masked <= model->limits.max_masked && batch->max_length <= model->limits.max_length);
        assert(batch->cu_seqlens[0] == 0 && batch->cu_seqlens[batch->n_sequences] == (int32_t) batch->n_tokens);
        for (uint32_t t = 0; t < batch->n_tokens; t++) {
                assert((uint32_t) batch->ids[t] < c->vocab_size);
                assert((uint32_t) batch->positions[t] < c->max_position_embeddings);
                assert((uint32_t) batch->token_types[t] < c->type_vocab_size);
        }
        for (uint32_t i = 0; i < batch->n_masked; i++) {
                assert((uint32_t) batch->masked_rows[i] < batch->n_tokens);
                assert(batch->masked_labels[i] < (int32_t) c->vocab_size);
        }
        for (uint32_t i = 0; i < batch->n_sequences; i++)
                assert(batch->cu_seqlens[i] < batch->cu_seqlens[i + 1]);
        if (!pass->classify) {
                for (uint32_t i = 0; i < batch->n_samples; i++)
                        assert(batch->sentence_labels[i] < 2);
                return;
        }
        assert(c->classifier.target != TARGET_NUMBER || batch->targets);
        assert(batch->sample_begin[0] == 0 && batch->sample_begin[batch->n_samples] == (int32_t) batch->n_sequences);
        for (uint32_t i = 0; i < batch->n_samples; i++)
                assert(batch->sentence_labels[i] < (int32_t) c->classifier.n_labels);
}

static void upload_batch(struct model *model, const struct batch *from) {
        const struct ops *ops = model->ops;
        struct batch *to = &model->batch;
        size_t t = from->n_tokens * sizeof(int32_t), b = from->n_sequences * sizeof(int32_t),
               m = from->n_masked * sizeof(int32_t);

        to->n_sequences = from->n_sequences;
        to->n_samples = from->n_samples;
        to->n_tokens = from->n_tokens;
        to->n_masked = from->n_masked;
        to->max_length = from->max_length;
        ops->upload(to->ids, from->ids, t);
        ops->upload(to->token_types, from->token_types, t);
        ops->upload(to->positions, from->positions, t);
        ops->upload(to->cu_seqlens, from->cu_seqlens, b + sizeof(int32_t));
        ops->upload(to->sample_k, from->sample_k, 2 * b);
        ops->upload(to->masked_rows, from->masked_rows, m);
        ops->upload(to->masked_labels, from->masked_labels, m);
        ops->upload(to->sentence_labels, from->sentence_labels, from->n_samples * sizeof(int32_t));
        ops->upload(model->row_k, model->host_row_k, 2 * t);
}

static void begin_batch(struct model *model, const struct batch *batch, const struct model_pass *pass) {
        check_batch(model, batch, pass);
        for (uint32_t s = 0; s < batch->n_sequences; s++)
                for (int32_t t = batch->cu_seqlens[s]; t < batch->cu_seqlens[s + 1]; t++)
                        model->host_row_k[t] = batch->sample_k[s];
        model->host_batch = batch;
        if (model->ops->host_memory)
                model->batch = *batch;
        else
                upload_batch(model, batch);
}

void model_take_loss(struct model *model, struct model_loss *loss) {
        struct xent_sums mlm, sentence;

        model->ops->download(&mlm, model->mlm_sums, sizeof(mlm));
        model->ops->download(&sentence, model->sentence_sums, sizeof(sentence));
        zero_sums(model);
        loss->mlm_sum += mlm.loss;
        loss->mlm_count += mlm.count;
        loss->mlm_correct += mlm.correct;
        loss->sentence_sum += sentence.loss;
        loss->sentence_count += sentence.count;
        loss->sentence_correct += sentence.correct;
}

/* A graph is made while the device still has something to do: the micro-batch before, or the update of the step before; for the very first
 * micro-batch it would wait. The classifier computes on the host too, and who listens for gradients sends them on. */
static bool may_be_graph(const struct model *model, const struct model_pass *pass) {
        return model->ops->begin_graph && (model->n_passes > 0 || model->n_steps > 1) && !pass->classify &&
               !pass->ready;
}

/* When forward had been called to its end, by the host's clock. */
static uint64_t forward_backward(struct model *model, const struct model_pass *pass) {
        forward(model, &model->batch, pass, true);
        stamp(model, STAMP_FORWARD);
        uint64_t forward_end = clock_monotonic_usec();
        backward(model, &model->batch, pass);
        stamp(model, STAMP_BACKWARD);
        return forward_end;
}

/* ---- passes ---- */

void model_forward_backward(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            struct model_loss *loss) {
        assert(model->limits.training);
        if (!batch->n_sequences)
                return;
        uint64_t begin = clock_monotonic_usec();
        begin_batch(model, batch, pass);
        bool graph = may_be_graph(model, pass) && model->ops->begin_graph();
        model->forward_usec += forward_backward(model, pass) - begin;
        if (graph && !model->ops->end_graph())
                (void) forward_backward(model, pass);
        model->n_passes++;
        if (loss)
                model_take_loss(model, loss);
        model->usec += clock_monotonic_usec() - begin;
}

double model_take_forward_share(struct model *model) {
        const struct ops *ops = model->ops;
        double forward = (double) model->forward_usec, all = (double) model->usec;

        if (ops->stamp) {
                forward = ops->between(STAMP_BEGIN, STAMP_FORWARD);
                all = ops->between(STAMP_BEGIN, STAMP_BACKWARD);
        }
        model->forward_usec = model->usec = 0;
        return all > 0 ? forward / all : 0;
}

void model_evaluate(struct model *model, const struct batch *batch, const struct model_pass *pass,
                    struct model_loss *loss) {
        if (!batch->n_sequences)
                return;
        begin_batch(model, batch, pass);
        forward(model, &model->batch, pass, false);
        model_take_loss(model, loss);
}

void model_encode(struct model *model, const struct batch *batch, uint32_t n_layers, double *hidden) {
        const struct model_pass pass = {};

        if (!batch->n_sequences)
                return;
        begin_batch(model, batch, &pass);
        encoder_forward_embeddings(model, &model->batch, &pass);
        for (uint32_t l = 0; l < n_layers; l++)
                encoder_forward_layer(model, &model->batch, &pass, l);
        struct tensor last = model_layer_input(model, &model->batch, n_layers);
        model->ops->load(last.dtype, last.data, 0, hidden, (size_t) last.rows * last.columns);
}

void model_masked_logits(struct model *model, uint32_t row, double *logits) {
        const struct tensor *all = &model->buffers.logits;

        model->ops->load(all->dtype, all->data, (size_t) row * all->stride, logits, model->config.vocab_size);
}

void model_classify(struct model *model, const struct batch *batch, double *logits) {
        const struct model_pass pass = { .classify = true };
        struct model_loss loss = {};

        model_evaluate(model, batch, &pass, &loss);
        if (batch->n_sequences)
                model->ops->load(model->ops->dtype, model->buffers.class_logits.data, 0, logits,
                                 (size_t) batch->n_samples * model->config.classifier.n_labels);
}

/* ---- what they cost ---- */

static double encoder_flops(const struct model *model, double n, const struct model_pass *pass, enum freeze frozen) {
        const struct model_config *c = &model->config;
        bool layers = frozen < FREEZE_ENCODER, embeddings = frozen < FREEZE_EMBEDDINGS;
        double h = c->hidden_size, f = c->intermediate_size, e = c->embedding_size;
        double layer = 8 * n * h * h + 4 * n * h * f + 4 * n * n * h;
        double flops = flops_with_backward(head_of(model, pass)->n_layers(model) * layer, layers, layers);

        if (c->embedding_mapping)
                return flops + flops_with_backward(2 * n * e * h, layers, embeddings);
        return layers && !embeddings ? flops - 6 * n * h * h : flops;
}

double model_batch_flops(const struct model *model, const struct batch *batch, const struct model_pass *pass) {
        enum freeze frozen = pass->classify ? pass->frozen : FREEZE_NONE;
        double flops = head_of(model, pass)->flops(model, batch, frozen);

        for (uint32_t s = 0; s < batch->n_sequences; s++)
                flops += encoder_flops(model, batch->cu_seqlens[s + 1] - batch->cu_seqlens[s], pass, frozen);
        return flops;
}
