/*
 * A text through all cores: blocks are read one after the other, worked on by every thread, and their results consumed in the
 * text's order. Reading and consuming happen on one thread, while the others work. Memory: three groups of blocks.
 */
#ifndef TRAINER_TEXT_PIPELINE_H
#define TRAINER_TEXT_PIPELINE_H

#include "common/error.h"
#include "trainer/text/reader.h"

struct pipeline {
        void *context;
        size_t result_size; /* of one block's result: zeroed at first, then used again for other blocks */

        /* On any thread, `thread` in [0, pipeline_threads()). The block may be changed. */
        int (*work)(void *context, int thread, struct block *block, void *result, struct error *error);

        /* In order, on one thread. NULL if nothing is consumed. */
        int (*consume)(void *context, const struct block *block, void *result, struct error *error);

        void (*result_free)(void *result); /* what a result owns, which is then zeroed or freed; may be NULL */
};

/* OpenMP's number of threads (OMP_NUM_THREADS, else every core). */
int pipeline_threads(void);

int pipeline_run(const struct pipeline *pipeline, struct reader *reader, struct error *error);

#endif
