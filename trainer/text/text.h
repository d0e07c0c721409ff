/* Subcommands of bert-trainer that work on text. Each takes main's arguments from the subcommand's name on and returns the
 * process's exit code; the one line of an error is already on stderr. */
#ifndef TRAINER_TEXT_TEXT_H
#define TRAINER_TEXT_TEXT_H

int cmd_vocab(int argc, char **argv);    /* learn a WordPiece vocabulary */
int cmd_tokenize(int argc, char **argv); /* text to tokens, one line in, one line out */
int cmd_prepare(int argc, char **argv);  /* text to a corpus */

#endif
