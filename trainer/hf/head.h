/*
 * Which head the model of a Hugging Face folder has, by config.json and by the weights themselves, and its classes' names. A class of
 * transformers loads the tensors that it finds, whatever `architectures` is; so a trained head is taken or reported, never dropped.
 */
#ifndef TRAINER_HF_HEAD_H
#define TRAINER_HF_HEAD_H

#include <jansson.h>

#include "trainer/data/examples.h"
#include "trainer/hf/weight_files.h"
#include "trainer/model/config.h"

/* Makes a classifier of `config` where the folder has one, and adds its classes to `labels`: none of one that predicts a number. Names that contradict each other, or are not
 * as many as the head has rows, are refused (65). `path` is config.json's, `root` what it holds. */
int hf_head_read(const char *path, const json_t *root, struct weight_files *files, struct model_config *config,
                 struct labels *labels, struct error *error);

#endif
