/*
 * BERT and ALBERT, forward and backward, written once over the operations table (ops.h). Life cycle:
 *
 *   config_load → model_new → [model_init | checkpoint restore] → { model_zero_gradients → model_forward_backward × n
 *   → (exchange of gradients) → optimizer_update } × steps → model_free
 *
 * One arena is planned at model_new for the largest batch allowed; nothing is allocated inside a step (T7). Parameters,
 * gradients and moments are its state (state.h). Tensors are named and shaped as in the state_dict of Hugging Face's
 * BertForPreTraining or AlbertForPreTraining, and those of the classifiers (BertForSequenceClassification and AlbertFor…) where the
 * config has one; the tied decoder.weight and decoder.bias are not repeated. q, k, v are adjacent: one
 * (3H, H) GEMM (T7). Layers that share parameters add to one gradient.
 */
#ifndef TRAINER_MODEL_MODEL_H
#define TRAINER_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "trainer/data/batch.h"
#include "trainer/model/config.h"
#include "trainer/model/state.h"

struct ops; /* ops.h: a backend */
struct model;

struct model_limits {
        uint32_t max_tokens;    /* T of the largest micro-batch */
        uint32_t max_sequences; /* B */
        uint32_t max_masked;    /* M */
        uint32_t max_length;    /* longest sample */
        bool training;          /* false: no gradients, no moments, no saved activations beyond what evaluation needs */
        bool recompute;         /* keep only each layer's output and run its forward again in backward: the same bits */
        bool fast_gelu; /* gelu is computed as gelu_new, which cuBLASLt fuses with products: 4.8e-4 apart at most */
};

/* The limits of micro-batches of `micro_batch` full samples; short ones may be up to 4 times as many. */
static inline struct model_limits model_limits_of(uint64_t micro_batch, uint32_t sequence_length,
                                                  uint32_t max_predictions) {
        return (struct model_limits) { .max_tokens = (uint32_t) micro_batch * sequence_length,
                                       .max_sequences = (uint32_t) micro_batch * 4,
                                       .max_masked = (uint32_t) micro_batch * max_predictions,
                                       .max_length = sequence_length,
                                       .training = true };
}

/* Bytes that model_new takes of the backend's memory; the snapshot is the saver's (checkpoint/saver.h). */
struct model_memory {
        size_t parameters, gradients, moments; /* parameters: with their rounded copy; moments: both */
        size_t activations;                    /* with their gradients and the operations' scratch */
        size_t snapshot;                       /* of parameters and moments, for checkpoints */
};
static inline size_t model_memory_sum(const struct model_memory *m) {
        return m->parameters + m->gradients + m->moments + m->activations;
}

enum model_part {
        PART_EMBEDDINGS,
        PART_MAPPING, /* ALBERT's E to H */
        PART_ATTENTION,
        PART_FEED_FORWARD,
        PART_POOLER,
        PART_MLM_HEAD,
        PART_SENTENCE_HEAD,
        PART_CLASSIFIER,
        PART_SEGMENTS, /* attention over a text's segments */
        MODEL_PART_MAX,
};

struct model_tensor {
        const char *name; /* "bert.encoder.layer.0.attention.self.query.weight" */
        enum model_part part;
        uint32_t n_dims;   /* 1 or 2 */
        uint32_t shape[2]; /* rows, columns */
        size_t offset;     /* first element in the flat runs */
        size_t n_elements;
        bool decay;    /* weight decay applies: not LayerNorm, not biases */
        uint32_t uses; /* times that one backward pass adds to its gradient */
        int32_t layer; /* the highest layer that uses it; −1: not of a layer */
};

/* Sums over a micro-batch, in double, not yet divided: the caller adds micro-batches and ranks in fixed order. */
struct model_loss {
        double mlm_sum;      /* Σ cross-entropy over masked tokens, nats */
        double sentence_sum; /* Σ cross-entropy over samples, of NSP, SOP or the classifier */
        uint64_t mlm_count, mlm_correct;
        uint64_t sentence_count, sentence_correct;
};

/* Classes [begin, end) are one task's: a separate head of the classifier. */
struct class_range {
        uint32_t begin, end;
};

/* What one call of model_forward_backward is keyed on and divided by (T1, T3). */
struct model_pass {
        uint64_t seed;
        uint32_t stage;
        bool dropout;          /* false: evaluation, gradient checks */
        double mlm_scale;      /* 1 / N, N = masked tokens of the whole global batch; 0 where N = 0 */
        double sentence_scale; /* 1 / B, B = samples of the whole global batch */
        bool classify;         /* the classifier's loss in place of the two of pretraining */
        const struct class_range
                *ranges;    /* classify: (labels) the task of each class, a text being of its label's; NULL: one */
        enum freeze frozen; /* classify: parts whose gradients nobody wants, from the embeddings up */
        /* May be NULL: called in backward for each tensor once its last use has added to its gradient (T7). */
        void (*ready)(void *context, uint32_t tensor);
        void *context;
};

int model_new(const struct model_config *config, const struct ops *ops, const struct model_limits *limits,
              struct model **ret_model, struct error *error);
void model_free(struct model *model);
/* The plan by which model_new allocates. The table may be one of ops/planned.h. */
int model_plan_memory(const struct model_config *config, const struct ops *ops, const struct model_limits *limits,
                      struct model_memory *ret_memory, struct error *error);

/* BERT's and ALBERT's initialisation: normal(0, initializer_range) truncated at two standard deviations, biases 0, LayerNorm 1 and 0.
 * A function of (seed, tensor, element) alone. */
void model_init(struct model *model, uint64_t seed);

uint32_t model_n_tensors(const struct model *model);
const struct model_tensor *model_tensor(const struct model *model, uint32_t index);
uint64_t model_n_parameters(const struct model *model); /* without alignment gaps */
const struct model_state *model_state(const struct model *model);
const struct model_config *model_config(const struct model *model);

/* What broke in the backend, or NULL. */
const char *model_failed(const struct model *model);

/* The gradients count as 0 from here on, and the first micro-batch replaces what they hold; who reads them where there may have been none
 * calls model_settle_gradients before. Also forgets losses that were not taken. */
void model_zero_gradients(struct model *model);
void model_settle_gradients(struct model *model);

/* Adds the micro-batch's gradients to the state's and its sums to *loss, waiting for them; where that is NULL they stay for
 * model_take_loss. The batch must fit the limits. */
void model_forward_backward(struct model *model, const struct batch *batch, const struct model_pass *pass,
                            struct model_loss *loss);

/* Adds the sums since the last call to *loss. */
void model_take_loss(struct model *model, struct model_loss *loss);

/* What part of model_forward_backward's time since the last call was forward. Of a device, once it was waited for: of the first micro-batch
 * since model_zero_gradients, by its own clock (ops.h). */
double model_take_forward_share(struct model *model);
enum model_stamp {
        STAMP_BEGIN, /* model_zero_gradients */
        STAMP_FORWARD,
        STAMP_BACKWARD,
        MODEL_STAMPS, /* from here on the caller's */
};

/* Forward only; adds to *loss. */
void model_evaluate(struct model *model, const struct batch *batch, const struct model_pass *pass,
                    struct model_loss *loss);

/* Logits of masked position `row` of the micro-batch that was computed last: (vocab_size). */
void model_masked_logits(struct model *model, uint32_t row, double *logits);

/* The first `n_layers` of the encoder, 0: the embeddings alone; `hidden` (tokens, H) is what the last of them puts out: transformers'
 * hidden_states[n_layers]. */
void model_encode(struct model *model, const struct batch *batch, uint32_t n_layers, double *hidden);

/* Classes' logits of each text: (texts, n_labels). */
void model_classify(struct model *model, const struct batch *batch, double *logits);

/*
 * FLOPs that one training step's share takes, over the valid tokens of `batch`: what MFU counts. A multiply and an add
 * are two; products alone count (Narayanan et al. 2021, arXiv:2104.04473, without padding and with logits of masked tokens
 * alone), and what is computed again counts once (Chowdhery et al. 2022, arXiv:2204.02311, appendix B). Forward, of a
 * sequence of n tokens (H wide, F in the feed-forward, E in the embeddings):
 *
 *   a layer          8nH² + 4nHF + 4n²H    each of those that the pass needs, also where they share weights
 *   mapping          2nEH                  if the model has one
 *   pooler           2H²                   where a sentence or a class is asked for
 *   masked tokens    2HE + 2EV             each
 *   classifier       2DC                   a text; D features, C classes
 *
 * Backward costs as much again for gradients of weights that are trained, and as much for those of the input where anything below is
 * trained: three times in all, once for what is frozen. Where the lowest layer is the lowest part that is trained, nobody wants the
 * gradient of its input, 6nH².
 */
double model_batch_flops(const struct model *model, const struct batch *batch, const struct model_pass *pass);

#endif
