/* Small random models and batches for the trainer's tests: shapes that no block size divides, deterministic. */
#ifndef TESTS_MODEL_HELPERS_H
#define TESTS_MODEL_HELPERS_H

#include <assert.h>
#include <stdlib.h>

#include "common/spec/spec.h"
#include "trainer/model/internal.h"
#include "trainer/random/philox.h"

static const struct spec_optimizer helper_lamb __attribute__((unused)) = {
        .name = OPTIMIZER_LAMB, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6, .weight_decay = 0.01, .layer_decay = 1
};

#define HELPER_TOKENS_MAX 32768

struct test_batch {
        struct batch batch;
        int32_t ids[HELPER_TOKENS_MAX], types[HELPER_TOKENS_MAX], positions[HELPER_TOKENS_MAX],
                cu_seqlens[HELPER_TOKENS_MAX + 1], sample_begin[HELPER_TOKENS_MAX + 1];
        int32_t masked_rows[HELPER_TOKENS_MAX], masked_labels[HELPER_TOKENS_MAX], sentence_labels[HELPER_TOKENS_MAX];
        double targets[HELPER_TOKENS_MAX];
        uint64_t sample_k[HELPER_TOKENS_MAX];
};

static inline double helper_random(uint64_t seed, uint32_t i) {
        return philox_unit(philox(seed, i, 0, 99).v[0]) * 2.0 - 1.0;
}

static inline struct model_config helper_config(uint32_t vocab, uint32_t hidden, uint32_t layers, uint32_t heads,
                                                uint32_t ffn, double dropout) {
        struct model_config config = {
                .vocab_size = vocab,
                .hidden_size = hidden,
                .num_hidden_layers = layers,
                .num_attention_heads = heads,
                .intermediate_size = ffn,
                .max_position_embeddings = 512,
                .type_vocab_size = 2,
                .hidden_act = ACT_GELU,
                .hidden_dropout_prob = dropout,
                .attention_probs_dropout_prob = dropout,
                .initializer_range = 0.02,
                .layer_norm_eps = 1e-12,
        };
        config_set_bert(&config);
        return config;
}

/* The same as an ALBERT. `groups` as config.json has it: 1 for attention and ffn, the number of layers for none. */
static inline struct model_config helper_albert(struct model_config config, uint32_t embedding,
                                                enum cross_layer_sharing sharing, uint32_t groups, uint32_t inner) {
        config.model_type = MODEL_ALBERT;
        config.embedding_size = embedding;
        config.num_hidden_groups = groups;
        config.inner_group_num = inner;
        config.cross_layer_sharing = sharing;
        config.embedding_mapping = true;
        return config;
}

/* `n` samples of at most `length` tokens (every third shorter), about 15 % masked, sample keys from `first_k`. */
static inline struct test_batch *helper_batch(uint32_t vocab, uint32_t n, uint32_t length, uint64_t first_k,
                                              bool ragged) {
        struct test_batch *t = calloc(1, sizeof(*t));
        struct batch *b = &t->batch;

        assert(t && n * length <= HELPER_TOKENS_MAX);
        *b = (struct batch) { .n_sequences = n,
                              .n_samples = n,
                              .max_length = length,
                              .ids = t->ids,
                              .token_types = t->types,
                              .positions = t->positions,
                              .cu_seqlens = t->cu_seqlens,
                              .sample_k = t->sample_k,
                              .sample_begin = t->sample_begin,
                              .masked_rows = t->masked_rows,
                              .masked_labels = t->masked_labels,
                              .sentence_labels = t->sentence_labels,
                              .targets = t->targets };
        for (uint32_t s = 0; s < n; s++) {
                uint32_t own = ragged && s % 3 == 1 ? length / 2 + 1 : length;
                t->sample_k[s] = first_k + s;
                t->sentence_labels[s] = (int32_t) (s & 1);
                for (uint32_t p = 0; p < own; p++) {
                        struct philox r = philox(7, p, 0, first_k + s);
                        uint32_t i = b->n_tokens++;
                        t->ids[i] = (int32_t) philox_below(r.v[0], vocab);
                        t->types[i] = p > own / 2;
                        t->positions[i] = (int32_t) p;
                        if (p % 7 == 3) {
                                t->masked_rows[b->n_masked] = (int32_t) i;
                                t->masked_labels[b->n_masked++] = (int32_t) philox_below(r.v[1], vocab);
                        }
                }
                t->cu_seqlens[s + 1] = (int32_t) b->n_tokens;
                t->sample_begin[s + 1] = (int32_t) s + 1;
        }
        return t;
}

static inline struct model *helper_model(const struct model_config *config, const struct ops *ops,
                                         const struct batch *b) {
        struct model_limits limits = { .max_tokens = b->n_tokens,
                                       .max_sequences = b->n_sequences,
                                       .max_masked = b->n_masked ? b->n_masked : 1,
                                       .max_length = b->max_length,
                                       .training = true };
        struct error error = {};
        struct model *model = NULL;
        int r = model_new(config, ops, &limits, &model, &error);

        assert(r == 0);
        (void) r;
        return model;
}

static inline struct model_pass helper_pass(const struct batch *b, bool dropout) {
        return (struct model_pass) {
                .seed = 42,
                .dropout = dropout,
                .mlm_scale = b->n_masked ? 1.0 / b->n_masked : 0,
                .sentence_scale = 1.0 / b->n_sequences,
        };
}

#endif
