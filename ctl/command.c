/* See command.h: what every subcommand begins and ends with. */
#include "ctl/command.h"

#include <stdio.h>

int command_begin(struct ctl *ctl, const struct option_spec *options, size_t n_options, int argc, char **argv,
                  int min_words, int max_words, struct arguments *ret) {
        const struct command *command = ctl->command;

        /* What follows "--" is a command line only for submit, the one command whose words are counted by itself. */
        int r = options_parse(options, n_options, argc, argv, min_words < 0, ret, &ctl->error);
        if (r == 0 && ret->help) {
                (void) printf("Usage: bertctl %s %s\n\n%c%s.\n%s", command->name, command->usage,
                              command->summary[0] - 'a' + 'A', command->summary + 1,
                              command->help ? command->help : "");
                options_print(options, n_options);
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
