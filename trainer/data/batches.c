/*
 * See batches.h. Owns one set of arrays for max_share full samples. Invariants: a micro-batch's arrays are adjacent
 * slices of them; cu_seqlens and sample_begin have one more entry a micro-batch, so their slices start at (row + micro-batch).
 */
#include "trainer/data/batches.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/cleanup.h"

struct batches {
        struct sample_source source;
        struct batches_limits limits;
        uint32_t n;
        uint64_t n_samples, n_sequences, n_tokens, n_masked, hash;
        struct batch *micro;
        int32_t *ids, *token_types, *positions, *cu_seqlens, *sample_begin, *masked_rows, *masked_labels,
                *sentence_labels;
        uint32_t *segment_lengths;
        uint64_t *sample_k;
        double *targets;
};

void batches_share(uint64_t count, uint32_t rank, uint32_t n_ranks, uint64_t *ret_begin, uint64_t *ret_end) {
        *ret_begin = (uint64_t) ((unsigned __int128) count * rank / n_ranks);
        *ret_end = (uint64_t) ((unsigned __int128) count * (rank + 1) / n_ranks);
}

int batches_new(const struct sample_source *source, const struct batches_limits *limits, struct batches **ret,
                struct error *error) {
        size_t share = MAX(limits->max_share, 1u), tokens = share * source->max_length,
               masked = share * source->max_predictions + 1, sequences = share * source->max_segments;
        struct batches *b = calloc(1, sizeof(*b));
        if (!b)
                return error_errno(error, ENOMEM, "batches");

        b->source = *source;
        b->limits = *limits;
        b->micro = calloc(share, sizeof(*b->micro));
        b->ids = calloc(tokens, sizeof(*b->ids));
        b->token_types = calloc(tokens, sizeof(*b->token_types));
        b->positions = calloc(tokens, sizeof(*b->positions));
        b->cu_seqlens = calloc(sequences + share, sizeof(*b->cu_seqlens));
        b->sample_begin = calloc(2 * share, sizeof(*b->sample_begin));
        b->segment_lengths = calloc(source->max_segments, sizeof(*b->segment_lengths));
        b->masked_rows = calloc(masked, sizeof(*b->masked_rows));
        b->masked_labels = calloc(masked, sizeof(*b->masked_labels));
        b->sentence_labels = calloc(share, sizeof(*b->sentence_labels));
        b->sample_k = calloc(sequences, sizeof(*b->sample_k));
        b->targets = calloc(share, sizeof(*b->targets));
        if (!b->sample_begin || !b->segment_lengths || !b->micro || !b->ids || !b->token_types || !b->positions ||
            !b->cu_seqlens || !b->masked_rows || !b->masked_labels || !b->sentence_labels || !b->sample_k ||
            !b->targets) {
                batches_free(b);
                return error_errno(error, ENOMEM, "batches of %zu samples a rank", share);
        }
        *ret = b;
        return 0;
}

void batches_free(struct batches *b) {
        if (!b)
                return;
        free(b->micro);
        free(b->ids);
        free(b->token_types);
        free(b->positions);
        free(b->cu_seqlens);
        free(b->sample_begin);
        free(b->segment_lengths);
        free(b->masked_rows);
        free(b->masked_labels);
        free(b->sentence_labels);
        free(b->sample_k);
        free(b->targets);
        free(b);
}

static void open_micro(struct batches *b) {
        b->micro[b->n] = (struct batch) {
                .ids = b->ids + b->n_tokens,
                .token_types = b->token_types + b->n_tokens,
                .positions = b->positions + b->n_tokens,
                .cu_seqlens = b->cu_seqlens + b->n_sequences + b->n,
                .sample_k = b->sample_k + b->n_sequences,
                .sample_begin = b->sample_begin + b->n_samples + b->n,
                .masked_rows = b->masked_rows + b->n_masked,
                .masked_labels = b->masked_labels + b->n_masked,
                .sentence_labels = b->sentence_labels + b->n_samples,
                .targets = b->targets + b->n_samples,
        };
        b->micro[b->n].sample_begin[0] = 0;
        b->micro[b->n++].cu_seqlens[0] = 0;
}

static bool fits(const struct batches *b, const struct sample *s) {
        const struct batch *m = &b->micro[b->n - 1];

        return m->n_tokens + s->length <= b->limits.max_tokens && m->n_masked + s->n_masked <= b->limits.max_masked &&
               m->n_sequences + s->n_segments <= b->limits.max_sequences;
}

/* Masked positions are counted in the sample, so the hash is the same wherever the sample lies. */
static uint64_t sample_hash(const struct sample *s) {
        uint64_t target; /* 0 of a class */

        memcpy(&target, &s->target, sizeof(target));
        uint64_t parts[4] = { XXH3_64bits(s->ids, s->length * sizeof(*s->ids)),
                              XXH3_64bits(s->masked_positions, s->n_masked * sizeof(*s->masked_positions)),
                              XXH3_64bits(s->masked_labels, s->n_masked * sizeof(*s->masked_labels)),
                              (uint64_t) (int64_t) s->sentence_label ^ target };
        uint64_t hash = XXH3_64bits(parts, sizeof(parts));

        return s->n_segments == 1
                       ? hash
                       : XXH3_64bits_withSeed(s->segment_lengths, s->n_segments * sizeof(*s->segment_lengths), hash);
}

/* Positions begin again at 0, and draws are a segment's own. */
static void append_segment(struct batches *b, struct batch *m, uint32_t length, uint64_t key) {
        for (uint32_t i = 0; i < length; i++)
                b->positions[b->n_tokens + i] = (int32_t) i;
        m->sample_k[m->n_sequences++] = key;
        m->n_tokens += length;
        m->cu_seqlens[m->n_sequences] = (int32_t) m->n_tokens;
        m->max_length = MAX(m->max_length, length);
        b->n_sequences++;
        b->n_tokens += length;
}

static void append(struct batches *b, const struct sample *s, uint64_t k) {
        if (b->n == 0 || !fits(b, s))
                open_micro(b);

        struct batch *m = &b->micro[b->n - 1];
        for (uint32_t i = 0; i < s->n_masked; i++)
                s->masked_positions[i] += (int32_t) m->n_tokens;
        for (uint32_t i = 0; i < s->n_segments; i++)
                append_segment(b, m, s->segment_lengths[i], k | (uint64_t) i << 48);
        m->targets[m->n_samples] = s->target;
        m->sentence_labels[m->n_samples++] = s->sentence_label;
        m->sample_begin[m->n_samples] = (int32_t) m->n_sequences;
        m->n_masked += s->n_masked;
        b->n_samples++;
        b->n_masked += s->n_masked;
}

void batches_fill(struct batches *b, uint64_t begin, uint64_t end) {
        b->n = 0;
        b->n_samples = b->n_sequences = b->n_tokens = b->n_masked = b->hash = 0;
        for (uint64_t k = begin; k < end; k++) {
                struct sample s = { .ids = b->ids + b->n_tokens,
                                    .token_types = b->token_types + b->n_tokens,
                                    .masked_positions = b->masked_rows + b->n_masked,
                                    .masked_labels = b->masked_labels + b->n_masked,
                                    .segment_lengths = b->segment_lengths };
                b->source.make(b->source.context, k, &s);
                b->hash += sample_hash(&s);
                append(b, &s, k);
        }
}

uint32_t batches_n(const struct batches *b) { return b->n; }

const struct batch *batches_get(const struct batches *b, uint32_t index) { return &b->micro[index]; }

uint64_t batches_n_masked(const struct batches *b) { return b->n_masked; }

uint64_t batches_n_tokens(const struct batches *b) { return b->n_tokens; }

uint64_t batches_hash(const struct batches *b) { return b->hash; }
