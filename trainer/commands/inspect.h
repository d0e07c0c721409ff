/* `bert-trainer inspect CKPT`, `bert-trainer diff A B` and `bert-trainer fill-mask CKPT`. argv[0] is the subcommand; each returns an exit
 * code. */
#ifndef TRAINER_COMMANDS_INSPECT_H
#define TRAINER_COMMANDS_INSPECT_H

/* Prints meta, assets and tensors and checks every checksum: exit 0, or 76 with one line. --json for programs. */
int cmd_inspect(int argc, char **argv);

/* Exit 0 only where both hold the same tensors bit for bit; else 1 and the first that differs on stdout. Meta is
 * not compared. */
int cmd_diff(int argc, char **argv);

/* The likeliest tokens for every [MASK] of texts, by a checkpoint's weights. */
int cmd_fill_mask(int argc, char **argv);

#endif
