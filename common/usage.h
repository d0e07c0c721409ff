/*
 * A command line that is wrong, as an error of exit code BERTD_EXIT_USAGE: the word, what is wrong with it, whose
 * --help to read. For getopt_long with an option string that begins with ':', so that it prints no messages. `command`
 * is the subcommand, NULL for a program that has none. All return −EINVAL but usage_count, which returns 0 where the
 * count is right, and usage_choice.
 */
#ifndef COMMON_USAGE_H
#define COMMON_USAGE_H

#include <getopt.h>

#include "common/error.h"

/* `option`: '?' or ':', as getopt_long has just returned it. `options`: its table, of which one may have been meant. */
int usage_option(int option, char **argv, const struct option *options, const char *command, struct error *error);

int usage_missing(const char *what, const char *command, struct error *error);

/* The index of `text`, the argument of `option` ("--format"), in the n names that it takes. */
int usage_choice(const char *option, const char *text, const char *const *names, unsigned n, struct error *error);

/* `what` names the words that are expected from optind on. */
int usage_count(int argc, char **argv, int min, int max, const char *what, const char *command, struct error *error);

#endif
