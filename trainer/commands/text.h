/* Subcommands of bert-trainer that work on text. Each takes main's arguments from the subcommand's name on and returns the
 * process's exit code; the one line of an error is already on stderr. */
#ifndef TRAINER_COMMANDS_TEXT_H
#define TRAINER_COMMANDS_TEXT_H

#include "trainer/commands/text_arguments.h"

int cmd_vocab(int argc, char **argv); /* learn a WordPiece vocabulary */

/* With what opens a checkpoint, for --checkpoint. */
int text_tokenize(int argc, char **argv, checkpoint_text open); /* text to tokens, one line in, one line out */
int text_prepare(int argc, char **argv, checkpoint_text open);  /* text to a corpus */

#endif
