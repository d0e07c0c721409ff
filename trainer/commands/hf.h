/*
 * Models in Hugging Face folders: `bert-trainer import HF_DIR --output CKPT` and `bert-trainer export CKPT --output HF_DIR`. argv[0] is
 * the subcommand; both return an exit code.
 *
 * A folder holds config.json and model.safetensors, whose tensors are named as the classes of transformers name them, and the
 * tokenizer's files. Import takes BertModel, BertForPreTraining, BertForMaskedLM, BertForSequenceClassification and the ALBERT ones;
 * export writes BertForPreTraining, or BertForSequenceClassification where the checkpoint is a classifier's, or the ALBERT ones, layers that share one sublayer only (which transformers does not have) unshared. What comes in goes out
 * bit for bit.
 */
#ifndef TRAINER_COMMANDS_HF_H
#define TRAINER_COMMANDS_HF_H

int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);

#endif
