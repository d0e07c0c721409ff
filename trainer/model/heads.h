/* A model's heads as bits, 1 << PART_…: which a configuration has, and their names. Sets of them list which were never trained. */
#ifndef TRAINER_MODEL_HEADS_H
#define TRAINER_MODEL_HEADS_H

#include <stddef.h>

#include "trainer/model/config.h"
#include "trainer/model/model.h"

#define HEAD(part) (1u << (part))
#define PRETRAINING_HEADS (HEAD(PART_MLM_HEAD) | HEAD(PART_SENTENCE_HEAD))
#define CLASSIFIER_HEADS (HEAD(PART_CLASSIFIER) | HEAD(PART_SEGMENTS))
#define ALL_HEADS (HEAD(PART_POOLER) | PRETRAINING_HEADS | CLASSIFIER_HEADS)

/* Those of a model of this configuration. */
unsigned heads_of(const struct model_config *config);

/* Those that its classifier, if it has one, reads: with the pooler if it does. */
unsigned heads_of_classifier(const struct model_config *config);

/* "pooler mlm_head", as files have them; and back: names that are not a head's are skipped, *ret_unknown (may be NULL) points at the
 * first. */
#define HEADS_TEXT_MAX 128
void heads_format(unsigned heads, char text[HEADS_TEXT_MAX]);
unsigned heads_parse(const char *text, const char **ret_unknown);

/* "pooler, MLM head": for people. */
void heads_describe(unsigned heads, char *buffer, size_t size);

#endif
