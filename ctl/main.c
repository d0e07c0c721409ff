/*
 * bertctl: the client of bertd. This file holds the table of subcommands, the options that all of them know, and the one place
 * where an error is printed. Exit codes: include/bertd/exit.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/nearest.h"
#include "ctl/command.h"

static int command_help(struct ctl *ctl, int argc, char **argv);

static const struct command commands[] = {
        { "submit", command_submit, "[OPTION...] SPEC.yaml | [OPTION...] -- COMMAND...", "submit a job; prints its id",
          "SPEC.yaml is a job spec, - one on standard input; its relative paths are taken from its own folder, "
          "and\nlater "
          "changes to it change nothing.\n"
          "COMMAND is any program: it runs as it would in this shell, with this folder, environment, umask, "
          "limits,\nniceness and CPUs; its standard input is /dev/null.\n" },
        { "status", command_status, "[-w] [--json] [JOB]", "one job, or an overview of all",
          "JOB is an id or a name that only one job has.\n" },
        { "list", command_list, "[OPTION...]", "jobs, newest first", NULL },
        { "logs", command_logs, "[-f] [-n N] [--attempt K] JOB", "what a job has written",
          "Shows the current attempt. With -f, goes on through later attempts until the job has ended.\n" },
        { "wait", command_wait, "[--json] JOB", "wait until a job has ended or is paused",
          "Exit code 0: done. 1: failed, cancelled or paused. Outlives restarts of bertd.\n" },
        { "cancel", command_cancel, "[--now] JOB...", "stop a job for good",
          "A training job checkpoints first; others get SIGTERM, then SIGKILL after their grace time.\n" },
        { "pause", command_pause, "JOB...", "stop a job after a checkpoint, to be resumed", NULL },
        { "resume", command_resume, "[--ranks N] [--from STEP] JOB",
          "queue a paused, failed, cancelled or waiting job again",
          "It goes on from its newest good checkpoint. With --from, newer checkpoints are moved to abandoned/ "
          "first.\n" },
        { "checkpoint", command_checkpoint, "JOB...", "have a running job write a checkpoint now", NULL },
        { "checkpoints", command_checkpoints, "[--all] [--json] JOB", "a job's checkpoints", NULL },
        { "events", command_events, "[--json] JOB", "what happened to a job, and why", NULL },
        { "metrics", command_metrics, "[-f] [-n N] [--json] JOB", "a training job's figures, step by step",
          "Loss, masked words and sentence pairs with their accuracies, samples a second, and the share of the step's "
          "time "
          "that\nwent into reading data, forward and backward passes, exchanging gradients, updating weights and "
          "writing "
          "checkpoints.\n" },
        { "results", command_results, "[--json] NAME", "what the jobs of an array came to",
          "NAME is the spec's: the jobs NAME[...] that `submit --array` made. Each job's best loss and accuracy on "
          "held-out "
          "data and\nits test, from its metrics; where the seed varies, means and standard deviations over seeds as "
          "well.\n" },
        { "rm", command_rm, "JOB...", "remove an ended job and its folder", NULL },
        { "shutdown", command_shutdown, "[--jobs]", "stop bertd; jobs run on unless --jobs is given",
          "With --jobs the jobs checkpoint and are queued again: they resume when bertd is started.\n" },
        { "doctor", command_doctor, "[--probe] [--json] [SPEC.yaml]",
          "what on this host would kill a job, and its cure",
          "With SPEC.yaml, whether there is room for its checkpoints, too. Exit code 1 where a check fails.\n"
          "--probe submits a small job, closes the terminal that it came from, kills bertd with SIGKILL where you may "
          "and brings\nit back; other jobs are not touched. Takes at most half a minute.\n" },
        { "version", command_version, "[--json]", "versions of bertctl and bertd", NULL },
        { "help", command_help, "[COMMAND]", "help on a command", NULL },
};

static const struct command *find_command(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

static int unknown_command(struct ctl *ctl, const char *name) {
        const char *names[ELEMENTSOF(commands)];

        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                names[i] = commands[i].name;
        const char *nearest = nearest_of(name, names, ELEMENTSOF(names));
        if (nearest)
                return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "unknown command '%s': did you mean '%s'?", name,
                                   nearest);
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "unknown command '%s' (`bertctl help` lists them)", name);
}

static void print_help(void) {
        (void) printf("Usage: bertctl [--socket PATH] COMMAND [OPTION...] [ARGUMENT...]\n\n"
                      "Submits, watches and controls the jobs that bertd keeps.\n\nCommands:\n");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                (void) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
        (void) printf("\nOptions:\n"
                      "  --socket PATH  bertd's socket (else BERTD_SOCKET, your own, the system's)\n"
                      "  --version      print the version of bertctl\n"
                      "  -h, --help     this text\n\n"
                      "Exit codes: 0 ok, 1 failed, 2 wrong usage or job spec, 3 no such job, 4 no bertd.\n");
}

static int command_help(struct ctl *ctl, int argc, char **argv) {
        struct arguments arguments;
        char help[] = "--help";

        int r = command_begin(ctl, NULL, 0, argc, argv, 0, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (arguments.n == 0) {
                print_help();
                return BERTCTL_EXIT_OK;
        }
        const struct command *command = find_command(arguments.words[0]);
        if (!command)
                return command_exit(ctl, unknown_command(ctl, arguments.words[0]));
        ctl->command = command;
        return command->run(ctl, 2, (char *[]) { arguments.words[0], help, NULL });
}

static int unknown_global(struct ctl *ctl, const char *word) {
        static const char *const names[] = { "--socket", "--version", "--help" };
        const char *nearest = nearest_of(word, names, ELEMENTSOF(names));

        if (nearest)
                return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "unknown option '%s': did you mean %s?", word,
                                   nearest);
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE,
                           "unknown option '%s' (--help lists them; a command's own options follow its name)", word);
}

/* The options before the command's name. Returns the index of the name, 0 when all is done, or −errno. */
static int parse_global(struct ctl *ctl, int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--socket") == 0) {
                        if (++i == argc || !argv[i][0])
                                return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "--socket: PATH is missing");
                        ctl->socket = argv[i];
                } else if (strncmp(argv[i], "--socket=", 9) == 0 && argv[i][9])
                        ctl->socket = argv[i] + 9;
                else if (strcmp(argv[i], "--version") == 0)
                        return printf("bertctl %s\n", BERTD_VERSION), 0;
                else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return print_help(), 0;
                else if (argv[i][0] == '-')
                        return unknown_global(ctl, argv[i]);
                else
                        return i;
        }
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "a command is missing (`bertctl help` lists them)");
}

static int run(struct ctl *ctl, int argc, char **argv) {
        int i = parse_global(ctl, argc, argv);
        if (i <= 0)
                return command_exit(ctl, i);
        ctl->command = find_command(argv[i]);
        if (!ctl->command)
                return command_exit(ctl, unknown_command(ctl, argv[i]));
        return ctl->command->run(ctl, argc - i, argv + i);
}

/* ---- standard output, whose first error is kept: stdio forgets it, and goes on ---- */

static ssize_t write_output(void *cookie, const char *data, size_t size) {
        int *ret_errno = cookie;

        if (*ret_errno == 0 && write_all(STDOUT_FILENO, data, size) < 0)
                *ret_errno = errno;
        return *ret_errno == 0 ? (ssize_t) size : 0;
}

static void keep_output_error(int *ret_errno, bool tty) {
        FILE *file = fopencookie(ret_errno, "w", (cookie_io_functions_t) { .write = write_output });

        if (!file)
                return;
        (void) setvbuf(file, NULL, tty ? _IOLBF : _IOFBF, BUFSIZ);
        stdout = file;
}

int main(int argc, char **argv) {
        static int output; /* errno of the first write that failed */
        struct ctl ctl = {};

        inherited_begin_command();
        term_init(&ctl.term, STDOUT_FILENO);
        keep_output_error(&output, ctl.term.tty);
        int code = run(&ctl, argc, argv);
        (void) fflush(stdout);
        /* A reader that went away had enough. */
        if (ctl.error.code && output != EPIPE)
                (void) fprintf(stderr, "bertctl: %s\n", ctl.error.text);
        else if (output && output != EPIPE)
                (void) fprintf(stderr, "bertctl: standard output: %s\n", strerror(output));
        return output && code == BERTCTL_EXIT_OK ? BERTCTL_EXIT_FAILED : code;
}
