/* See command.h. The parts of a subcommand that all of them have: options, --help, the exit code. */
#include "ctl/command.h"

#include <stdio.h>
#include <string.h>

static void print_examples(const char *examples) {
        (void) printf("\nExample%s:\n", strchr(examples, '\n') ? "s" : "");
        for (const char *line = examples; *line;) {
                int n = (int) strcspn(line, "\n");
                (void) printf("  %.*s\n", n, line);
                line += n + (line[n] == '\n');
        }
}

static void print_help(const struct command *command, const struct option_spec *options, size_t n_options) {
        (void) printf("Usage: bertctl %s %s\n\n%c%s.\n", command->name, command->usage, command->summary[0] - 'a' + 'A',
                      command->summary + 1);
        if (strstr(command->usage, "JOB"))
                (void) printf("JOB is the id or the name of a job; a name means your newest job of that name.\n");
        if (command->help)
                print_wrapped(command->help, 0, 0);
        (void) putchar('\n');
        options_print(options, n_options);
        if (command->examples)
                print_examples(command->examples);
}

int command_begin(struct ctl *ctl, const struct option_spec *options, size_t n_options, int argc, char **argv,
                  int min_words, int max_words, struct arguments *ret) {
        const struct command *command = ctl->command;

        /* What follows "--" is a command line only for submit, the one command whose words are counted by itself. */
        int r = options_parse(options, n_options, argc, argv, min_words < 0, ret, &ctl->error);
        if (r == 0 && ret->help) {
                print_help(command, options, n_options);
                return 0;
        }
        if (r == 0 && min_words >= 0)
                r = options_check_count(ret, min_words, max_words, command->name, command->usage, &ctl->error);
        return r < 0 ? r : 1;
}

int command_exit(const struct ctl *ctl, int r) {
        if (r >= 0)
                return BERTCTL_EXIT_OK;
        return ctl->error.exit > 0 && ctl->error.exit <= BERTCTL_EXIT_NO_DAEMON ? ctl->error.exit : BERTCTL_EXIT_FAILED;
}
