/*
 * A Hugging Face folder as an input: config.json, model.safetensors, vocab.txt or spiece.model, tokenizer_config.json. Of BertModel,
 * BertForPreTraining, BertForMaskedLM, BertForSequenceClassification and the ALBERT ones. Nothing is kept between calls.
 */
#ifndef TRAINER_HF_FOLDER_H
#define TRAINER_HF_FOLDER_H

#include "common/error.h"
#include "trainer/config.h"
#include "trainer/model.h"
#include "trainer/text/unicode.h"
#include "trainer/texts.h"

/* The model's shape; with a classifier in place of the heads of pretraining where it says that it is …ForSequenceClassification, whose
 * class names, in order, are added to `labels`. */
int hf_folder_config(const char *folder, struct model_config *ret_config, struct labels *labels, struct error *error);

/* Path of the vocabulary, which the caller frees (NULL: there is none), and how text is folded. */
int hf_folder_text(const char *folder, char **ret_vocab, struct text_options *ret_options, struct error *error);

/* Weights into the model, whose shape must be the folder's but for heads: what the folder lacks of them stays as it is, and is told on
 * stderr, as is a classifier of other classes, and added to *fresh as bits, 1 << PART_…. */
int hf_folder_read(const char *folder, struct model *model, unsigned *fresh, struct error *error);

#endif
