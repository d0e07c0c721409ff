/*
 * One sample, and where samples come from: what batches and prefetch know of a stream (samples.h: pretraining; examples.h:
 * classification). A sample is one sequence of tokens, or several (a long text in segments), each of which the encoder sees alone.
 */
#ifndef TRAINER_DATA_SAMPLE_H
#define TRAINER_DATA_SAMPLE_H

#include <stdint.h>

struct sample {
        uint32_t length, n_masked, n_segments; /* length: tokens of all segments */
        int32_t *ids, *token_types;            /* room for the source's max_length */
        int32_t *masked_positions;             /* ascending; room for max_predictions */
        int32_t *masked_labels;
        uint32_t *segment_lengths; /* room for max_segments */
        int32_t sentence_label;    /* as struct batch's */
        double target;             /* as struct batch's; 0 of what has none */
};

struct sample_source {
        const void *context; /* borrowed */
        uint32_t max_length, max_predictions, max_segments;
        /* Fills *sample, whose arrays are the caller's, with sample k of the stream. Thread-safe. */
        void (*make)(const void *context, uint64_t k, struct sample *sample);
};

#endif
