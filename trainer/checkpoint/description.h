/* What a checkpoint's meta records of its model, vocabulary, texts and classes: each thing as a type, written and read here. */
#ifndef TRAINER_CHECKPOINT_DESCRIPTION_H
#define TRAINER_CHECKPOINT_DESCRIPTION_H

#include "trainer/checkpoint/reader.h"
#include "trainer/data/examples.h"
#include "trainer/data/labels.h"
#include "trainer/model/config.h"

#define DESCRIPTION_WEIGHTS_ONLY "contents" /* key: "weights" if there are no moments and no run to resume */

/* The model's config as JSON, and its hash; a checkpoint by an older bert-trainer has none (exit 76). */
int description_set_config(struct checkpoint_meta *meta, const struct model_config *config, struct error *error);
int description_config(const struct checkpoint *checkpoint, struct model_config *ret, struct error *error);

/* Where the vocabulary lay, for people, and how text was folded (NULL: not known; read as all true). */
void description_set_text(struct checkpoint_meta *meta, const char *vocab_path, const struct text_options *options);
int description_text(const struct checkpoint *checkpoint, struct text_options *ret, struct error *error);

/* How texts are shortened; the sequence length is a separate key, `longest` if the checkpoint does not record it. */
void description_set_cuts(struct checkpoint_meta *meta, const struct texts_options *options);
int description_cuts(const struct checkpoint *checkpoint, uint32_t longest, struct texts_options *ret,
                     struct error *error);

/* Heads that were never trained, as bits (model/heads.h); those that a checkpoint does not mention were trained. */
void description_set_fresh(struct checkpoint_meta *meta, unsigned heads);
int description_fresh(const struct checkpoint *checkpoint, unsigned *ret_heads, struct error *error);

/* Class names, in as many rows of meta as they need (65 if they need too many); a checkpoint without any gives none. */
int description_set_labels(struct checkpoint_meta *meta, const struct labels *labels, struct error *error);
int description_labels(const struct checkpoint *checkpoint, struct labels *labels, struct error *error);

#endif
