/*
 * Which tensors a model has, under which names and where in the flat runs: one table of rows for each part, for BERT and ALBERT
 * side by side, and the mapping from a layer to the parameters that it uses, which is all that sharing is.
 *
 * Attention and feed-forward come in sets; layers that share use one set. Set s carries the name of the layer (BERT) or of the
 * group and inner layer (ALBERT) that would hold it if nothing were shared, so a model that shares all has Hugging Face's names
 * and one that shares one sublayer has those of the unshared model, the shared ones once.
 *
 * Invariants: tensors start on 64-byte boundaries except k and v, which follow q without a gap (T7); gaps are never written, so
 * they stay 0 in parameters, gradients and moments. Row order is the slots' in internal.h.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/model/internal.h"

#define TENSOR_ALIGNMENT 16 /* elements */

enum dim {
        DIM_NONE,
        DIM_TWO,
        DIM_V,
        DIM_E,
        DIM_H,
        DIM_F,
        DIM_POSITIONS,
        DIM_TYPES,
        DIM_LABELS,
        DIM_FEATURES,
        DIM_ONE,
        DIM_MAX
};

struct row {
        const char *name[MODEL_TYPE_MAX]; /* after the part's prefix */
        enum dim rows, columns;           /* columns DIM_NONE: a vector */
        bool adjacent;                    /* to the row before */
};

static const struct row embedding_rows[] = {
        { { "word_embeddings.weight", "word_embeddings.weight" }, DIM_V, DIM_E, false },
        { { "position_embeddings.weight", "position_embeddings.weight" }, DIM_POSITIONS, DIM_E, false },
        { { "token_type_embeddings.weight", "token_type_embeddings.weight" }, DIM_TYPES, DIM_E, false },
        { { "LayerNorm.weight", "LayerNorm.weight" }, DIM_E, DIM_NONE, false },
        { { "LayerNorm.bias", "LayerNorm.bias" }, DIM_E, DIM_NONE, false },
};
static const struct row mapping_rows[] = {
        { { NULL, "weight" }, DIM_H, DIM_E, false },
        { { NULL, "bias" }, DIM_H, DIM_NONE, false },
};
static const struct row attention_rows[] = {
        { { "attention.self.query.weight", "attention.query.weight" }, DIM_H, DIM_H, false },
        { { "attention.self.key.weight", "attention.key.weight" }, DIM_H, DIM_H, true },
        { { "attention.self.value.weight", "attention.value.weight" }, DIM_H, DIM_H, true },
        { { "attention.self.query.bias", "attention.query.bias" }, DIM_H, DIM_NONE, false },
        { { "attention.self.key.bias", "attention.key.bias" }, DIM_H, DIM_NONE, true },
        { { "attention.self.value.bias", "attention.value.bias" }, DIM_H, DIM_NONE, true },
        { { "attention.output.dense.weight", "attention.dense.weight" }, DIM_H, DIM_H, false },
        { { "attention.output.dense.bias", "attention.dense.bias" }, DIM_H, DIM_NONE, false },
        { { "attention.output.LayerNorm.weight", "attention.LayerNorm.weight" }, DIM_H, DIM_NONE, false },
        { { "attention.output.LayerNorm.bias", "attention.LayerNorm.bias" }, DIM_H, DIM_NONE, false },
};
static const struct row feed_forward_rows[] = {
        { { "intermediate.dense.weight", "ffn.weight" }, DIM_F, DIM_H, false },
        { { "intermediate.dense.bias", "ffn.bias" }, DIM_F, DIM_NONE, false },
        { { "output.dense.weight", "ffn_output.weight" }, DIM_H, DIM_F, false },
        { { "output.dense.bias", "ffn_output.bias" }, DIM_H, DIM_NONE, false },
        { { "output.LayerNorm.weight", "full_layer_layer_norm.weight" }, DIM_H, DIM_NONE, false },
        { { "output.LayerNorm.bias", "full_layer_layer_norm.bias" }, DIM_H, DIM_NONE, false },
};
static const struct row pooler_rows[] = {
        { { "dense.weight", "weight" }, DIM_H, DIM_H, false },
        { { "dense.bias", "bias" }, DIM_H, DIM_NONE, false },
};
static const struct row mlm_rows[] = {
        { { "bias", "bias" }, DIM_V, DIM_NONE, false },
        { { "transform.dense.weight", "dense.weight" }, DIM_E, DIM_H, false },
        { { "transform.dense.bias", "dense.bias" }, DIM_E, DIM_NONE, false },
        { { "transform.LayerNorm.weight", "LayerNorm.weight" }, DIM_E, DIM_NONE, false },
        { { "transform.LayerNorm.bias", "LayerNorm.bias" }, DIM_E, DIM_NONE, false },
};
static const struct row sentence_rows[] = {
        { { "weight", "weight" }, DIM_TWO, DIM_H, false },
        { { "bias", "bias" }, DIM_TWO, DIM_NONE, false },
};
static const struct row classifier_rows[] = {
        { { "weight", "weight" }, DIM_LABELS, DIM_FEATURES, false },
        { { "bias", "bias" }, DIM_LABELS, DIM_NONE, false },
};
static const struct row segments_rows[] = {
        { { "weight", "weight" }, DIM_ONE, DIM_FEATURES, false },
};
static_assert(ELEMENTSOF(classifier_rows) == CLASSIFIER_SLOTS, "rows are slots");
static_assert(ELEMENTSOF(embedding_rows) == SLOT_ENCODER && ELEMENTSOF(mapping_rows) == MAPPING_SLOTS,
              "rows are slots");
static_assert(ELEMENTSOF(attention_rows) == ATTENTION_SLOTS, "rows are slots");
static_assert(ELEMENTSOF(feed_forward_rows) == FEED_FORWARD_SLOTS, "rows are slots");
static_assert(ELEMENTSOF(pooler_rows) + ELEMENTSOF(mlm_rows) + ELEMENTSOF(sentence_rows) == HEAD_SLOTS,
              "rows are slots");

/* Prefix of set `set` of a part. */
static void part_prefix(const struct model_config *c, enum model_part part, uint32_t set, char buffer[64]) {
        static const char *const prefixes[MODEL_PART_MAX][MODEL_TYPE_MAX] = {
                [PART_EMBEDDINGS] = { "bert.embeddings.", "albert.embeddings." },
                [PART_MAPPING] = { NULL, "albert.encoder.embedding_hidden_mapping_in." },
                [PART_POOLER] = { "bert.pooler.", "albert.pooler." },
                [PART_MLM_HEAD] = { "cls.predictions.", "predictions." },
                [PART_SENTENCE_HEAD] = { "cls.seq_relationship.", "sop_classifier.classifier." },
                [PART_CLASSIFIER] = { "classifier.", "classifier." },
                [PART_SEGMENTS] = { "segment_attention.", "segment_attention." },
        };
        uint32_t inner = c->inner_group_num;

        if (prefixes[part][c->model_type])
                (void) snprintf(buffer, 64, "%s", prefixes[part][c->model_type]);
        else if (c->model_type == MODEL_BERT)
                (void) snprintf(buffer, 64, "bert.encoder.layer.%u.", set);
        else
                (void) snprintf(buffer, 64, "albert.encoder.albert_layer_groups.%u.albert_layers.%u.", set / inner,
                                set % inner);
}

static void layout_row(struct model_layout *layout, const struct model_config *c, enum model_part part, uint32_t set,
                       const struct row *row) {
        const uint32_t sizes[DIM_MAX] = { 0,
                                          2,
                                          c->vocab_size,
                                          c->embedding_size,
                                          c->hidden_size,
                                          c->intermediate_size,
                                          c->max_position_embeddings,
                                          c->type_vocab_size,
                                          c->classifier.n_labels,
                                          config_features(c),
                                          1 };
        uint32_t i = layout->n_tensors++, rows = sizes[row->rows], columns = sizes[row->columns];
        char prefix[64];

        part_prefix(c, part, set, prefix);
        (void) snprintf(layout->names[i], TENSOR_NAME_MAX, "%s%s", prefix, row->name[c->model_type]);
        if (!row->adjacent)
                layout->n_elements = (layout->n_elements + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
        layout->tensors[i] = (struct model_tensor) {
                .name = layout->names[i],
                .part = part,
                .n_dims = columns ? 2 : 1,
                .shape = { rows, columns },
                .offset = layout->n_elements,
                .n_elements = (size_t) rows * (columns ? columns : 1),
                .decay = columns != 0,
                .uses = 1,
                .layer = -1,
        };
        layout->n_elements += layout->tensors[i].n_elements;
        layout->n_parameters += layout->tensors[i].n_elements;
}

/* Returns the slot of the first row. */
static uint32_t layout_part(struct model_layout *layout, const struct model_config *c, enum model_part part,
                            uint32_t set) {
        static const struct {
                const struct row *rows;
                size_t n;
        } parts[MODEL_PART_MAX] = {
                [PART_EMBEDDINGS] = { embedding_rows, ELEMENTSOF(embedding_rows) },
                [PART_MAPPING] = { mapping_rows, ELEMENTSOF(mapping_rows) },
                [PART_ATTENTION] = { attention_rows, ELEMENTSOF(attention_rows) },
                [PART_FEED_FORWARD] = { feed_forward_rows, ELEMENTSOF(feed_forward_rows) },
                [PART_POOLER] = { pooler_rows, ELEMENTSOF(pooler_rows) },
                [PART_MLM_HEAD] = { mlm_rows, ELEMENTSOF(mlm_rows) },
                [PART_SENTENCE_HEAD] = { sentence_rows, ELEMENTSOF(sentence_rows) },
                [PART_CLASSIFIER] = { classifier_rows, ELEMENTSOF(classifier_rows) },
                [PART_SEGMENTS] = { segments_rows, ELEMENTSOF(segments_rows) },
        };
        uint32_t first = layout->n_tensors;

        for (size_t i = 0; i < parts[part].n; i++)
                layout_row(layout, c, part, set, &parts[part].rows[i]);
        return first;
}

static bool shares_attention(const struct model_config *c) {
        return c->cross_layer_sharing == SHARING_ATTENTION || c->cross_layer_sharing == SHARING_ALL;
}
static bool shares_feed_forward(const struct model_config *c) {
        return c->cross_layer_sharing == SHARING_FFN || c->cross_layer_sharing == SHARING_ALL;
}

static uint32_t n_sets(const struct model_config *c, bool shared) {
        return (shared ? c->num_hidden_groups : c->num_hidden_layers) * c->inner_group_num;
}

/* Groups are cut as in Hugging Face's AlbertTransformer: layer i of L belongs to group floor(i · G / L). */
static uint32_t set_of(const struct model_config *c, uint32_t layer, bool shared) {
        uint32_t outer = layer / c->inner_group_num;

        if (shared)
                outer = outer * c->num_hidden_groups / c->num_hidden_layers;
        return outer * c->inner_group_num + layer % c->inner_group_num;
}

static void layout_layers(struct model_layout *layout, const struct model_config *c, uint32_t *attention,
                          uint32_t *feed_forward) {
        bool share_attention = shares_attention(c), share_feed_forward = shares_feed_forward(c);

        for (uint32_t s = 0; s < config_n_layers(c); s++) {
                if (s < n_sets(c, share_attention))
                        attention[s] = layout_part(layout, c, PART_ATTENTION, s);
                if (s < n_sets(c, share_feed_forward))
                        feed_forward[s] = layout_part(layout, c, PART_FEED_FORWARD, s);
        }
        for (uint32_t l = 0; l < config_n_layers(c); l++) {
                layout->attention[l] = attention[set_of(c, l, share_attention)];
                layout->feed_forward[l] = feed_forward[set_of(c, l, share_feed_forward)];
        }
}

static void count_use(struct model_tensor *tensor, uint32_t layer) {
        tensor->uses++;
        tensor->layer = (int32_t) layer;
}

/* A backward pass adds to a gradient once for each layer that uses it, and to the word table as decoder and as embedding. */
static void count_uses(struct model_layout *layout, const struct model_config *c) {
        for (uint32_t i = 0; i < layout->n_tensors; i++)
                if (layout->tensors[i].part == PART_ATTENTION || layout->tensors[i].part == PART_FEED_FORWARD)
                        layout->tensors[i].uses = 0;
        for (uint32_t l = 0; l < config_n_layers(c); l++) {
                for (uint32_t i = 0; i < ATTENTION_SLOTS; i++)
                        count_use(&layout->tensors[layout->attention[l] + i], l);
                for (uint32_t i = 0; i < FEED_FORWARD_SLOTS; i++)
                        count_use(&layout->tensors[layout->feed_forward[l] + i], l);
        }
        if (!c->without_pretraining_heads)
                layout->tensors[SLOT_WORD].uses = 2;
}

int model_layout_new(const struct model_config *config, struct model_layout *ret_layout, struct error *error) {
        uint32_t layers = config_n_layers(config);
        uint32_t most = SLOT_ENCODER + MAPPING_SLOTS + layers * (ATTENTION_SLOTS + FEED_FORWARD_SLOTS) + HEAD_SLOTS +
                        CLASSIFIER_SLOTS + 1;
        cleanup_free uint32_t *sets = calloc(2 * (size_t) layers, sizeof(*sets));
        struct model_layout layout = {
                .tensors = calloc(most, sizeof(struct model_tensor)),
                .names = calloc(most, TENSOR_NAME_MAX),
                .attention = calloc(layers, sizeof(uint32_t)),
                .feed_forward = calloc(layers, sizeof(uint32_t)),
        };

        if (!sets || !layout.tensors || !layout.names || !layout.attention || !layout.feed_forward) {
                model_layout_free(&layout);
                return error_set(error, ENOMEM, "no memory for the names of %u tensors", most);
        }
        (void) layout_part(&layout, config, PART_EMBEDDINGS, 0);
        if (config->embedding_mapping)
                (void) layout_part(&layout, config, PART_MAPPING, 0);
        layout_layers(&layout, config, sets, sets + layers);
        layout.head = layout_part(&layout, config, PART_POOLER, 0);
        if (!config->without_pretraining_heads) {
                (void) layout_part(&layout, config, PART_MLM_HEAD, 0);
                (void) layout_part(&layout, config, PART_SENTENCE_HEAD, 0);
        }
        layout.classifier = layout.n_tensors;
        if (config->classifier.n_labels > 0)
                (void) layout_part(&layout, config, PART_CLASSIFIER, 0);
        if (config->classifier.n_labels > 0 && config->classifier.segmented &&
            config->classifier.segments == SEGMENTS_ATTENTION)
                (void) layout_part(&layout, config, PART_SEGMENTS, 0);
        count_uses(&layout, config);
        layout.n_elements = (layout.n_elements + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
        *ret_layout = layout;
        return 0;
}

void model_layout_free(struct model_layout *layout) {
        free(layout->tensors);
        free(layout->names);
        free(layout->attention);
        free(layout->feed_forward);
        *layout = (struct model_layout) {};
}
