/* bert-trainer: finds the subcommand. Each subcommand prints its own help and its one line of error, and returns
 * the exit code. */
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/exchange.h"
#include "trainer/inspect.h"
#include "trainer/params.h"
#include "trainer/pretrain.h"
#include "trainer/signals.h"
#include "trainer/text/text.h"

static int cmd_version(int argc, char **argv) {
        (void) printf("bert-trainer %s\n", BERTD_VERSION);
        return BERTD_EXIT_OK;
}

static const struct command {
        const char *name, *help;
        int (*run)(int argc, char **argv); /* argv[0] is the name; returns an exit code */
} commands[] = {
        { "vocab", "learn a WordPiece vocabulary from text", cmd_vocab },
        { "tokenize", "text to tokens, one line in, one line out", cmd_tokenize },
        { "prepare", "text to a corpus (.bin, .idx)", cmd_prepare },
        { "params", "count the parameters of a config.json", cmd_params },
        { "pretrain", "train a model, alone or under mpirun", cmd_pretrain },
        { "inspect", "show and check a checkpoint", cmd_inspect },
        { "diff", "compare two checkpoints bit for bit", cmd_diff },
        { "version", "print the version", cmd_version },
};

static int usage(FILE *to) {
        (void) fprintf(to, "usage: bert-trainer COMMAND [ARGUMENT…]\n\n");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                (void) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
        (void) fprintf(to, "\nbert-trainer COMMAND --help says more.\n");
        return to == stdout ? BERTD_EXIT_OK : BERTD_EXIT_USAGE;
}

int main(int argc, char **argv) {
        signals_install(!exchange_launched());
        if (argc < 2)
                return usage(stderr);
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
                return usage(stdout);
        const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(name, commands[i].name) == 0)
                        return commands[i].run(argc - 1, argv + 1);
        (void) fprintf(stderr, "bert-trainer: no command %s (bert-trainer --help lists them)\n", argv[1]);
        return BERTD_EXIT_USAGE;
}
