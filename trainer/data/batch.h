/*
 * A packed micro-batch (contract T4): sequences laid one after the other, no padding inside. Host memory,
 * owned by its filler; the model borrows it for the duration of a call.
 */
#ifndef TRAINER_DATA_BATCH_H
#define TRAINER_DATA_BATCH_H

#include <stdint.h>

struct batch {
        uint32_t n_sequences;   /* B: a sample each, or its segments one after the other */
        uint32_t n_tokens;      /* T = cu_seqlens[B] */
        uint32_t n_masked;      /* M */
        uint32_t max_length;    /* longest sequence, tokens */
        uint32_t n_samples;     /* B if none has segments */
        int32_t *ids;           /* (T) token ids, masking applied */
        int32_t *token_types;   /* (T) 0 or 1 */
        int32_t *positions;     /* (T) position in the sequence */
        int32_t *cu_seqlens;    /* (B + 1) first token of each sequence */
        uint64_t *sample_k;     /* (B) position in the global stream, | segment << 48: the dropout key (T3) */
        int32_t *sample_begin;  /* (samples + 1) first sequence of each sample */
        double *targets;        /* (samples) of a regression; NaN: none */
        int32_t *masked_rows;   /* (M) indices into (T), ascending */
        int32_t *masked_labels; /* (M) the original ids */
        int32_t *
                sentence_labels; /* (samples) NSP: 0 = is next, 1 = random; SOP: 0 = in order, 1 = swapped; a class; −1 = none */
};

#endif
