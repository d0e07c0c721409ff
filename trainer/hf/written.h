/*
 * A Hugging Face folder as an output. A model must not be written among the files of another: old files and new ones would load
 * together without a word. So the folder is empty, or what a model's folder is made of (config.json, model.safetensors or its shards and
 * their index, vocabulary and tokenizer files) is removed first, and nothing else. config.json goes first and comes last: a folder that is
 * half written is not a model.
 *
 *   model_folder_check → model_folder_clear → { the files } → config.json;  model_folder_drop where one fails
 */
#ifndef TRAINER_HF_WRITTEN_H
#define TRAINER_HF_WRITTEN_H

#include <stdbool.h>

#include "common/error.h"

/* Whether a model may be written there: the folder is absent or empty, or `force`. Changes nothing. Exit 65. */
int model_folder_check(const char *folder, bool force, struct error *error);

/* Makes the folder, and removes a model's files from it. Links are removed, never followed. */
int model_folder_clear(const char *folder, struct error *error);

/* As far as it goes. */
void model_folder_drop(const char *folder);

#endif
