/* bert-trainer: finds the subcommand. Each subcommand prints its own help and its one line of error, and returns
 * the exit code. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/nearest.h"
#include "trainer/commands/commands.h"

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
        { "finetune", "train a classifier of texts, alone or under mpirun", cmd_finetune },
        { "evaluate", "how well a classifier does on labelled texts", cmd_evaluate },
        { "predict", "a classifier's labels and probabilities of texts", cmd_predict },
        { "import", "a Hugging Face folder to a checkpoint", cmd_import },
        { "export", "a checkpoint to a Hugging Face folder", cmd_export },
        { "fill-mask", "predict the words at [MASK] in a text", cmd_fill_mask },
        { "inspect", "show and check a checkpoint", cmd_inspect },
        { "diff", "compare two checkpoints bit for bit", cmd_diff },
        { "version", "print the version", cmd_version },
};

static int usage(void) {
        (void) printf("usage: bert-trainer COMMAND [ARGUMENT…]\n\n");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                (void) printf("  %-10s %s\n", commands[i].name, commands[i].help);
        (void) printf("\nSee bert-trainer COMMAND --help for more.\n");
        return BERTD_EXIT_OK;
}

/*
 * Threads that wait must sleep: on a host that is shared, spinning ones (the default of GNU's OpenMP) take the cores from those that
 * work, and made a step 3.5 times slower. The library reads its settings before main, hence the second exec; the pid stays.
 */
static void make_waiting_threads_sleep(char **argv) {
        char path[4096];

        if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
                return;
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n <= 0 || setenv("OMP_WAIT_POLICY", "passive", 1) < 0)
                return;
        path[n] = '\0';
        (void) execv(path, argv);
}

/* What was printed must have arrived for a command to have succeeded; diff's 1 is a success, too. */
static int flushed(int code) {
        if ((fflush(stdout) == 0 && !ferror(stdout)) || code > 1)
                return code;
        (void) fprintf(stderr, "bert-trainer: standard output: %s\n", strerror(errno));
        return BERTD_EXIT_IO;
}

static int unknown_command(const char *name) {
        const char *names[ELEMENTSOF(commands)];

        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                names[i] = commands[i].name;
        const char *nearest = nearest_of(name, names, ELEMENTSOF(names));
        if (nearest)
                (void) fprintf(stderr, "bert-trainer: no command %s: did you mean %s?\n", name, nearest);
        else
                (void) fprintf(stderr, "bert-trainer: no command %s (bert-trainer --help lists them)\n", name);
        return BERTD_EXIT_USAGE;
}

int main(int argc, char **argv) {
        file_hold_standard();
        make_waiting_threads_sleep(argv);
        if (argc < 2) {
                (void) fprintf(stderr, "bert-trainer: COMMAND: missing; see bert-trainer --help\n");
                return BERTD_EXIT_USAGE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
                return flushed(usage());
        const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(name, commands[i].name) == 0)
                        return flushed(commands[i].run(argc - 1, argv + 1));
        return unknown_command(argv[1]);
}
