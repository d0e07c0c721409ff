/* bert-trainer: finds the subcommand. Each subcommand prints its own help and its one line of error, and returns
 * the exit code. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/nearest.h"
#include "common/usage.h"
#include "trainer/commands/commands.h"

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

enum group { GROUP_TEXT, GROUP_TRAIN, GROUP_APPLY, GROUP_EXCHANGE, GROUP_LOOK, GROUP_PROGRAM, GROUP_MAX };

static const char *const group_names[GROUP_MAX] = {
        [GROUP_TEXT] = "Prepare text",
        [GROUP_TRAIN] = "Train a model",
        [GROUP_APPLY] = "Apply a trained model",
        [GROUP_EXCHANGE] = "Exchange models with Hugging Face",
        [GROUP_LOOK] = "Look at models and checkpoints",
        [GROUP_PROGRAM] = "This program",
};

/* By group, in the order of --help. */
static const struct command {
        const char *name, *help;
        enum group group;
        int (*run)(int argc, char **argv); /* argv[0] is the name; returns an exit code */
} commands[] = {
        { "vocab", "learn a WordPiece vocabulary from text", GROUP_TEXT, cmd_vocab },
        { "tokenize", "print the tokens of text, or their ids", GROUP_TEXT, cmd_tokenize },
        { "prepare", "make a corpus for pretraining from text", GROUP_TEXT, cmd_prepare },

        { "pretrain", "pretrain BERT or ALBERT, alone or under mpirun", GROUP_TRAIN, cmd_pretrain },
        { "finetune", "train a classifier or regression of texts", GROUP_TRAIN, cmd_finetune },

        { "evaluate", "measure a classifier or regression on labelled texts", GROUP_APPLY, cmd_evaluate },
        { "predict", "label texts: classes and probabilities, or numbers", GROUP_APPLY, cmd_predict },
        { "embed", "compute a vector for each text", GROUP_APPLY, cmd_embed },
        { "fill-mask", "predict the words at [MASK] in a text", GROUP_APPLY, cmd_fill_mask },

        { "import", "make a checkpoint from a Hugging Face folder", GROUP_EXCHANGE, cmd_import },
        { "export", "write a checkpoint as a Hugging Face folder", GROUP_EXCHANGE, cmd_export },

        { "params", "count a model's parameters and the memory to train it", GROUP_LOOK, cmd_params },
        { "inspect", "show a checkpoint and verify its checksums", GROUP_LOOK, cmd_inspect },
        { "diff", "compare two checkpoints bit for bit", GROUP_LOOK, cmd_diff },

        { "version", "print the version", GROUP_PROGRAM, cmd_version },
        { "help", "print the help of a command", GROUP_PROGRAM, cmd_help },
};

static const struct command *find_command(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(name, commands[i].name) == 0)
                        return &commands[i];
        return NULL;
}

static int unknown_command(const char *name) {
        const char *names[ELEMENTSOF(commands)];

        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                names[i] = commands[i].name;
        const char *nearest = nearest_of(name, names, ELEMENTSOF(names));
        if (nearest && name[0] != '-')
                (void) fprintf(stderr, "bert-trainer: no command %s: did you mean %s?\n", name, nearest);
        else
                (void) fprintf(stderr, "bert-trainer: no %s %s (bert-trainer --help lists them)\n",
                               name[0] == '-' ? "option" : "command", name[0] ? name : "''");
        return BERTD_EXIT_USAGE;
}

static int print_help(void) {
        (void) printf("usage: bert-trainer COMMAND [OPTION...] [ARGUMENT...]\n\n"
                      "Train BERT and ALBERT, from text to a pretrained model and classifiers of texts.\n");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                if (i == 0 || commands[i].group != commands[i - 1].group)
                        (void) printf("\n%s:\n", group_names[commands[i].group]);
                (void) printf("  %-12s %s\n", commands[i].name, commands[i].help);
        }
        (void) printf("\n      --version   print the version\n"
                      "  -h, --help      print this help; of a command: bert-trainer COMMAND --help\n\n"
                      "Examples:\n"
                      "  bert-trainer pretrain bert-base.yaml --run-dir runs/a\n"
                      "  mpirun -n 8 bert-trainer finetune reviews.yaml --run-dir runs/b\n"
                      "  bert-trainer predict runs/b/best.ckpt reviews.csv\n\n"
                      "Exit status: 0 ok, 2 wrong usage, 75 stopped on request; see bert-trainer(1).\n");
        return BERTD_EXIT_OK;
}

static const struct option only_help[] = { { "help", no_argument, NULL, 'h' }, {} };

static int cmd_version(int argc, char **argv) {
        static const struct usage line = {
                .help = "usage: bert-trainer version\n\nPrints the version.\n\n  -h, --help    print this help\n",
                .options = only_help,
        };
        struct error error = {};

        int r = usage_parse(&line, argc, argv, NULL, &error);
        if (r == 0)
                (void) printf("bert-trainer %s\n", BERTD_VERSION);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}

static int cmd_help(int argc, char **argv) {
        static const struct usage line = {
                .help = "usage: bert-trainer help [COMMAND]\n\nPrints the help of a command, or the list of "
                        "commands.\n\n  -h, --help    print this help\n",
                .options = only_help,
                .max = 1,
        };
        struct error error = {};
        char help[] = "--help";

        int r = usage_parse(&line, argc, argv, NULL, &error);
        if (r != 0)
                return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
        if (optind == argc)
                return print_help();
        const struct command *command = find_command(argv[optind]);
        if (!command)
                return unknown_command(argv[optind]);
        char *words[] = { argv[optind], help, NULL };
        optind = 0; /* getopt begins again */
        return command->run(2, words);
}

/*
 * Threads that wait must sleep: on a host that is shared, spinning ones (the default of GNU's OpenMP) take the cores from those that
 * work, and made a step 3.5 times slower. But they look LOOKS times first, a few microseconds: most waits of a step are shorter than a
 * sleep and a wake, which cost a tiny model 8 % of its speed. The library reads its settings before main, hence the second exec; the pid stays.
 */
#define LOOKS "300"

static void make_waiting_threads_sleep(char **argv) {
        char path[4096];

        if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
                return;
        executable_self(path, sizeof(path));
        if (path[0] && setenv("OMP_WAIT_POLICY", "passive", 1) >= 0 && setenv("GOMP_SPINCOUNT", LOOKS, 1) >= 0)
                (void) execv(path, argv);
}

/* What was printed must have arrived for a command to have succeeded; diff's 1 is a success, too. */
static int flushed(int code) {
        if ((fflush(stdout) == 0 && !ferror(stdout)) || code > 1)
                return code;
        (void) fprintf(stderr, "bert-trainer: standard output: %s\n", strerror(errno));
        return BERTD_EXIT_IO;
}

int main(int argc, char **argv) {
        file_hold_standard();
        make_waiting_threads_sleep(argv);
        if (argc < 2) {
                (void) fprintf(stderr, "bert-trainer: COMMAND: missing; see bert-trainer --help\n");
                return BERTD_EXIT_USAGE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
                return flushed(print_help());
        const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
        const struct command *command = find_command(name);
        return command ? flushed(command->run(argc - 1, argv + 1)) : unknown_command(argv[1]);
}
