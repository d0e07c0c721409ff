/* The program of a command job, looked at before it is submitted, and programs that were taken for a job spec. */
#ifndef CTL_PROGRAM_H
#define CTL_PROGRAM_H

#include "common/error.h"

enum program_use { PROGRAM_OF_JOB, PROGRAM_ON_EXIT };

/* Whether `argv` can be executed here and now, by this user, in this folder, with this environment; errors are worded
 * like a shell's, with BERTCTL_EXIT_USAGE and the cure that fits its use. Nothing of the program is run. */
int program_check(char *const *argv, enum program_use use, struct error *error);

/* How a file that is a program, and no spec, is run: "./train.sh", "python3 train.py"; for a word that names no file,
 * but a program that PATH has, the word. Caller frees; NULL: it is none. */
char *program_command(const char *path);

#endif
