/* See usage.h. Owns nothing; uses getopt's optind and optopt. */
#include "common/usage.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/nearest.h"
#include "common/parse.h"

static int wrong(const char *word, const char *problem, const char *command, struct error *error) {
        return error_input(error, BERTD_EXIT_USAGE, "%.64s: %s; see %s%s%s --help", word, problem,
                           program_invocation_short_name, command ? " " : "", command ? command : "");
}

static int unknown(const char *word, const struct option *options, const char *command, struct error *error) {
        cleanup_free char *name = strndup(word + 2, strcspn(word + 2, "="));
        const char *nearest = NULL;
        char problem[128];
        size_t best = NEAREST_FAR;

        for (const struct option *o = options; name && o->name; o++) {
                size_t d = nearest_distance(name, o->name);
                if (d < best) {
                        best = d;
                        nearest = o->name;
                }
        }
        if (!nearest)
                return wrong(word, "unknown option", command, error);
        (void) snprintf(problem, sizeof(problem), "unknown option: did you mean --%.64s?", nearest);
        return wrong(word, problem, command, error);
}

int usage_option(int option, char **argv, const struct option *options, const char *command, struct error *error) {
        const char *word = argv[optind - 1];
        char letter[] = { '-', (char) optopt, '\0' };

        if (option == ':')
                return wrong(word, "argument missing", command, error);
        if (optopt == 0)
                return unknown(word, options, command, error);
        /* A long option that exists has its value in optopt, too. Where letters follow the unknown one, optind is still
         * at its word. */
        const char *next = argv[optind];
        bool among_letters = next && next[0] == '-' && next[1] != '-' && strchr(next, optopt);
        if (!among_letters && strncmp(word, "--", 2) == 0 && strchr(word, '='))
                return wrong(word, "takes no argument", command, error);
        return wrong(letter, "unknown option", command, error);
}

int usage_missing(const char *what, const char *command, struct error *error) {
        return wrong(what, "missing", command, error);
}

int usage_choice(const char *option, const char *text, const char *const *names, unsigned n, struct error *error) {
        int choice = parse_choice(text, names, n);
        if (choice >= 0)
                return choice;
        const char *nearest = nearest_of(text, names, n);
        char expected[128];
        join_choices(names, n, expected, sizeof(expected));
        return error_input(error, BERTD_EXIT_USAGE, "%s: '%.64s', expected %s%s%s%s", option, text, expected,
                           nearest ? ": did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

int usage_count(int argc, char **argv, int min, int max, const char *what, const char *command, struct error *error) {
        if (argc - optind < min)
                return usage_missing(what, command, error);
        if (argc - optind > max)
                return wrong(argv[optind + max], "one argument too many", command, error);
        return 0;
}

int usage_parse(const struct usage *usage, int argc, char **argv, void *context, struct error *error) {
        const char *letters = usage->letters ? usage->letters : ":h";
        int r = 0;

        for (int o; r == 0 && (o = getopt_long(argc, argv, letters, usage->options, NULL)) >= 0;) {
                if (o == 'h') {
                        (void) fputs(usage->help, stdout); /* main looks whether it arrived */
                        return 1;
                }
                r = o == '?' || o == ':' ? usage_option(o, argv, usage->options, argv[0], error)
                                         : usage->take(context, o, error);
        }
        return r < 0 ? r : usage_count(argc, argv, usage->min, usage->max, usage->words, argv[0], error);
}
