/*
 * A checkpoint opened for use, with all that belongs to it and checked against each other (fit.h): configuration, the tokenizer's files,
 * how text is folded, heads that were never trained. What the checkpoint does not hold, one of an older bert-trainer, is found by the path
 * that it recorded.
 *
 *   bundle_open → bundle_close
 */
#ifndef TRAINER_INFER_BUNDLE_H
#define TRAINER_INFER_BUNDLE_H

#include <stdbool.h>

#include "trainer/checkpoint/reader.h"
#include "trainer/data/examples.h"
#include "trainer/model/config.h"
#include "trainer/text/assets.h"

struct bundle {
        struct checkpoint *checkpoint;
        struct model_config config;
        struct assets assets; /* of its vocabulary, from wherever that is; empty: none */
        struct vocab *vocab;  /* NULL: none */
        char *vocab_path;     /* where it is from, for messages: the checkpoint, or a file */
        struct text_options text;
        struct texts_options
                lengths; /* how long a text may be, and what is cut; an import records nothing: as the model takes */
        unsigned fresh;  /* heads that were never trained, 1 << PART_… */
};

/* What for: decides which heads must be there, and trained, and whether it must have a vocabulary. */
enum bundle_use {
        USE_EXPORT,     /* anything; no vocabulary if none is known */
        USE_TEXT,       /* its vocabulary alone */
        USE_ENCODER,    /* what all have */
        USE_MASKS,      /* the MLM head, trained */
        USE_CLASSIFIER, /* the classifier, trained, with the pooler where it reads that */
        USE_PRETRAIN,   /* to begin with: the MLM head */
        USE_FINETUNE,   /* to begin with */
};

/* `vocab_path`: --vocab FILE or model.vocab; NULL: none given. Zeroed before; to be closed in any case. */
int bundle_open(struct bundle *bundle, const char *path, enum bundle_use use, const char *vocab_path,
                struct error *error);
void bundle_close(struct bundle *bundle);

/* Its vocabulary alone, which the caller frees, how its text was folded, and (may be NULL) how it was shortened. */
int bundle_text(const char *path, struct vocab **ret, struct text_options *ret_options,
                struct texts_options *ret_lengths, struct error *error);

#endif
