/*
 * The subcommands of bert-trainer. Each takes main's arguments from its own name on, prints its help or its one line of error, and returns
 * the exit code (contract C6). What several share in text_arguments.h.
 */
#ifndef TRAINER_COMMANDS_COMMANDS_H
#define TRAINER_COMMANDS_COMMANDS_H

/* Text. */
int cmd_vocab(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_prepare(int argc, char **argv);

/* Training: one rank of it. */
int cmd_pretrain(int argc, char **argv);
int cmd_finetune(int argc, char **argv);

/* What a checkpoint answers. */
int cmd_evaluate(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_fill_mask(int argc, char **argv);
int cmd_embed(int argc, char **argv);

/*
 * Models in Hugging Face folders: config.json and model.safetensors, whose tensors are named as the classes of transformers name them, and
 * the tokenizer's files. Import takes BertModel, BertForPreTraining, BertForMaskedLM, BertForSequenceClassification and the ALBERT ones;
 * export writes BertForPreTraining, or BertForSequenceClassification if the checkpoint is a classifier's, or the ALBERT ones, layers that
 * share one sublayer only (which transformers does not have) unshared. What comes in goes out bit for bit.
 */
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);

/* Models and checkpoints. diff exits with 0 only if both hold the same tensors bit for bit; meta is not compared. */
int cmd_params(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_diff(int argc, char **argv);

#endif
