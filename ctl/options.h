/*
 * Command lines by table: one struct option_spec an option; the same table prints --help. Options and arguments may be
 * mixed; "--" ends the options. A wrong command line is one line of error and BERTCTL_EXIT_USAGE, with the word that
 * was meant where one is near.
 */
#ifndef CTL_OPTIONS_H
#define CTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define OPTION_LIST_MAX 32

enum option_kind { OPTION_FLAG, OPTION_STRING, OPTION_LIST, OPTION_KEY, OPTION_U64, OPTION_I64 };

struct option_spec;

/* What an option that may be given again and again was given. */
struct option_list {
        const char *items[OPTION_LIST_MAX];                 /* borrowed from argv */
        const struct option_spec *options[OPTION_LIST_MAX]; /* that gave them */
        size_t n;
};

struct option_spec {
        const char *name; /* without "--" */
        char letter;      /* 0: none */
        enum option_kind kind;
        void *value; /* bool, const char * (borrowed from argv), struct option_list, uint64_t or int64_t; untouched if
                        not given */
        int64_t min, max;     /* of numbers */
        const char *argument; /* its name in the help; NULL for a flag */
        const char *help;     /* --help wraps it */
        const char *section;  /* of --help, "Options with SPEC.yaml"; NULL: "Options", which come first */
        const char *key;      /* of OPTION_KEY, which adds to a list: a job spec's, whose table knows its values */
};

/* What remains: arguments in order, and those after "--". Points into argv. */
struct arguments {
        char **words;
        int n;
        char **rest; /* after "--"; NULL where there was no "--" */
        int n_rest;
        bool help; /* --help or -h was given: nothing else was checked */
};

/* Parses argv[1..argc-1]; reorders argv. min_words..max_words arguments are wanted, named in the errors by `usage`.
 * With `stop_at_dashes`, what follows "--" is kept apart in `rest`; else it joins the words. */
int options_parse(const struct option_spec *options, size_t n_options, int argc, char **argv, bool stop_at_dashes,
                  struct arguments *ret, struct error *error);

/* Checks the number of words: error "usage: bertctl NAME USAGE". */
int options_check_count(const struct arguments *arguments, int min_words, int max_words, const char *name,
                        const char *usage, struct error *error);

/* Prints the words of `text` in lines of at most 79 columns, each from column `indent` on; the cursor is at `column`.
 * "\n" in the text begins a line. */
void print_wrapped(const char *text, unsigned indent, unsigned column);

/* The options of --help, by section. */
void options_print(const struct option_spec *options, size_t n_options);

#endif
