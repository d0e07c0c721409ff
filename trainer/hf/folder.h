/*
 * A Hugging Face folder as an input: config.json, model.safetensors, vocab.txt or spiece.model, tokenizer_config.json. Of BertModel,
 * BertForPreTraining, BertForMaskedLM, BertForSequenceClassification and the ALBERT ones. Nothing is kept between calls.
 */
#ifndef TRAINER_HF_FOLDER_H
#define TRAINER_HF_FOLDER_H

#include "common/error.h"
#include "trainer/data/examples.h"
#include "trainer/model/config.h"
#include "trainer/model/model.h"
#include "trainer/text/assets.h"
#include "trainer/text/unicode.h"

/* The model's shape. `labels` NULL: its body is wanted, whatever its head. Else with a classifier in place of the heads of pretraining
 * if config.json or the weights have one, whose class names, in order, are added to `labels`. Opens the weights: as many classes as the
 * head has rows. */
int hf_folder_config(const char *folder, struct model_config *ret_config, struct labels *labels, struct error *error);

/* The folder's vocabulary and added tokens into `assets`, how text is folded, and the vocabulary's path, which the caller frees (NULL:
 * there is none, and nothing is set). `file` (NULL: none) gives the vocabulary of a folder that has none, or none that can be read;
 * one that differs from the folder's own is refused. It may be another folder, whose tokenizer is then taken as a whole. What the user
 * should know of the files is printed on stderr. */
int hf_folder_text(const char *folder, const char *file, struct assets *assets, char **ret_vocab,
                   struct text_options *ret_options, struct error *error);

/* How long a text may be and which end of a longer one is kept, as tokenizer_config.json and tokenizer.json set: 0 if they do not. */
struct hf_limits {
        uint32_t sequence_length;   /* at most the model's max_position_embeddings */
        bool truncates;             /* and so: */
        enum truncation truncation; /* head or tail */
};
int hf_folder_limits(const char *folder, const struct model_config *config, struct hf_limits *ret, struct error *error);

/* Weights into the model, whose shape must be the folder's but for heads. `rows`, if not NULL: the folder's row of each class of
 * the model, −1 for one that stays as it is. What the folder lacks of heads stays as it is, is printed on stderr and added to *fresh
 * as bits, 1 << PART_…. */
int hf_folder_read(const char *folder, struct model *model, const int32_t *rows, unsigned *fresh, struct error *error);

#endif
