/*
 * A subcommand's command line, and one that is wrong as an error of exit code BERTD_EXIT_USAGE: the word, what is wrong
 * with it, whose --help to read. usage_parse reads it all; the others are its parts, for a program that has no
 * subcommands. They need getopt_long with an option string that begins with ':', so that it prints no messages.
 * `command` is the subcommand, NULL for such a program. All return −EINVAL but usage_count, which returns 0 where the
 * count is right, and usage_choice.
 */
#ifndef COMMON_USAGE_H
#define COMMON_USAGE_H

#include <getopt.h>

#include "common/error.h"

/* What a command line takes. */
struct usage {
        const char *help;             /* what --help prints */
        const char *letters;          /* getopt's; NULL: ":h" */
        const struct option *options; /* with "help" as 'h' */
        int min, max;                 /* words after the options */
        const char *words;            /* what those that must be given are called */
        /* Takes an option, whose argument is optarg. 0 or −errno. NULL: there is no option but --help. */
        int (*take)(void *context, int option, struct error *error);
};

/* 0, the words being at optind; 1: help was printed; or −EINVAL. argv[0] is the subcommand. */
int usage_parse(const struct usage *usage, int argc, char **argv, void *context, struct error *error);

/* `option`: '?' or ':', as getopt_long has just returned it. `options`: its table, of which one may have been meant. */
int usage_option(int option, char **argv, const struct option *options, const char *command, struct error *error);

int usage_missing(const char *what, const char *command, struct error *error);

/* The index of `text`, the argument of `option` ("--format"), in the n names that it takes. */
int usage_choice(const char *option, const char *text, const char *const *names, unsigned n, struct error *error);

/* `what` names the words that are expected from optind on. */
int usage_count(int argc, char **argv, int min, int max, const char *what, const char *command, struct error *error);

#endif
