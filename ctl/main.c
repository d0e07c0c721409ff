/*
 * bertctl: the client of bertd. This file holds the table of subcommands, the options before their names, and the one
 * place where an error is printed. Exit codes: include/bertd/exit.h.
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

enum group { GROUP_JOBS, GROUP_LOOK, GROUP_CHECKPOINTS, GROUP_DAEMON, GROUP_MAX, GROUP_HIDDEN = GROUP_MAX };

static const char *const group_names[GROUP_MAX] = {
        [GROUP_JOBS] = "Start and stop jobs",
        [GROUP_LOOK] = "Look at jobs",
        [GROUP_CHECKPOINTS] = "Checkpoints",
        [GROUP_DAEMON] = "The daemon and this host",
};

/* By group, in the order of --help. */
static const struct command commands[] = {
        { "submit", command_submit, "[OPTION...] SPEC.yaml | [OPTION...] -- COMMAND...", GROUP_JOBS,
          .summary = "submit a job and print its id",
          .help = "SPEC.yaml is a job spec; - reads it from standard input. Relative paths in it are relative to its "
                  "folder, and later changes to the file do not affect the job.\n"
                  "COMMAND is any program. It runs as it would in this shell, with the same folder, environment, "
                  "umask, limits, niceness and CPUs; its standard input is /dev/null.",
          .examples = "bertctl submit --set train.seed=7 train.yaml\n"
                      "bertctl submit --gpus 1 -- python train.py\n"
                      "bertctl submit --slurm --time=12:00:00 train.yaml" },
        { "run", command_run, "[--requeue] [--set KEY=VALUE] SPEC.yaml", GROUP_JOBS,
          .summary = "run a job here and now, e.g. inside a Slurm allocation",
          .help = "Starts a private bertd for this job alone, with the CPUs and GPUs of the allocation, prints the "
                  "job's output and ends with its exit code. SIGUSR1, SIGTERM and ^C stop the job after a checkpoint; "
                  "the exit code is then 75. Everything that must outlive the allocation is in the job's run_dir.",
          .examples = "bertctl run train.yaml" },
        { "cancel", command_cancel, "[--now] JOB...", GROUP_JOBS, .summary = "stop a job for good",
          .help = "A training job writes a checkpoint first. Any other job gets SIGTERM, and SIGKILL when its grace "
                  "time is over." },
        { "pause", command_pause, "JOB...", GROUP_JOBS,
          .summary = "stop a job after a checkpoint, to resume it later" },
        { "resume", command_resume, "[--ranks N] [--from STEP] JOB", GROUP_JOBS,
          .summary = "queue a paused, failed, cancelled or waiting job again",
          .help = "The job resumes from its newest good checkpoint. With --from, newer checkpoints are first moved to "
                  "the folder abandoned/.",
          .examples = "bertctl resume --from 12000 bert-base" },
        { "wait", command_wait, "[--json] JOB", GROUP_JOBS, .summary = "wait until a job has ended or is paused",
          .help = "Exit status: 0 if the job is done; 1 if it failed, was cancelled or is paused. Survives restarts of "
                  "bertd.",
          .examples = "bertctl wait 42 && echo done" },
        { "rm", command_rm, "JOB...", GROUP_JOBS, .summary = "remove an ended job and its folder" },

        { "status", command_status, "[-w] [--json] [JOB]", GROUP_LOOK, .summary = "show one job, or an overview",
          .examples = "bertctl status\n"
                      "bertctl status -w bert-base" },
        { "list", command_list, "[OPTION...]", GROUP_LOOK, .summary = "list jobs, newest first",
          .examples = "bertctl list --active\n"
                      "bertctl list --json | jq '.[] | select(.state == \"failed\") | .reason'" },
        { "logs", command_logs, "[-f] [-n N] [--attempt K] JOB", GROUP_LOOK, .summary = "print the output of a job",
          .help = "Prints the output of the current attempt. With -f, continues through later attempts until the job "
                  "has ended.",
          .examples = "bertctl logs -f -n 20 bert-base" },
        { "events", command_events, "[--json] JOB", GROUP_LOOK, .summary = "list what happened to a job, and why" },
        { "metrics", command_metrics, "[-f] [-n N] [--json] JOB", GROUP_LOOK,
          .summary = "print the metrics of a training job, step by step",
          .help = "Loss, masked words and sentence pairs with their accuracies, samples per second, and the share of "
                  "the step's time spent on reading data, forward and backward passes, exchanging gradients, updating "
                  "weights and writing checkpoints." },
        { "results", command_results, "[--json] NAME", GROUP_LOOK, .summary = "compare the jobs of an array",
          .help = "NAME is the name in the spec, of the jobs NAME[...] that `submit --array` made. Prints each job's "
                  "best loss and accuracy on held-out data and on its test, from its metrics. If the seed varies, also "
                  "means and standard deviations over seeds.",
          .examples = "bertctl results tune" },

        { "checkpoint", command_checkpoint, "JOB...", GROUP_CHECKPOINTS,
          .summary = "write a checkpoint of a running job now" },
        { "checkpoints", command_checkpoints, "[--all] [--json] JOB", GROUP_CHECKPOINTS,
          .summary = "list the checkpoints of a job" },

        { "drain", command_drain, "[--reason TEXT] [--move]", GROUP_DAEMON,
          .summary = "start nothing new on this host, and lend nothing",
          .help = "Running jobs continue. With --move, jobs of other hosts that use this one checkpoint and leave it. "
                  "For root. Survives restarts of bertd, until `bertctl undrain`.",
          .examples = "bertctl drain --reason 'new cooling, back at 14:00' --move" },
        { "undrain", command_undrain, "", GROUP_DAEMON, .summary = "let jobs start again" },
        { "doctor", command_doctor, "[--probe] [--json] [--hosts SPEC|JOB|HOST,...] [SPEC.yaml]", GROUP_DAEMON,
          .summary = "check this host for what would kill a job",
          .help = "Prints each problem with its cure. With SPEC.yaml, also checks that there is room for the job's "
                  "checkpoints. Exit status 1 if a check fails.\n"
                  "--probe submits a small job, closes the terminal it came from, kills bertd with SIGKILL if you are "
                  "allowed to, and restarts it. Other jobs are not affected. Takes at most half a minute.\n"
                  "--hosts checks the hosts of a job of many: reachable, versions, GPUs, clock, data, TCP between each "
                  "pair; and prints a line for their authorized_keys." },
        { "shutdown", command_shutdown, "[--jobs]", GROUP_DAEMON, .summary = "stop bertd; running jobs continue",
          .help = "With --jobs, jobs write a checkpoint and are queued again; they resume when bertd is started." },
        { "version", command_version, "[--json]", GROUP_DAEMON, .summary = "print the versions of bertctl and bertd" },
        { "help", command_help, "[COMMAND]", GROUP_DAEMON, .summary = "print the help of a command" },

        { "lease", command_lease, "--of HOST:JOB [OPTION...]", GROUP_HIDDEN,
          .summary = "lend this host to a job of another",
          .help = "For bertd and bertctl on other hosts, which run it over ssh. Prints what this host is, or why it is "
                  "not lent, as lines of JSON; then standard input and output belong to the job." },
        { "receive", command_receive, "", GROUP_HIDDEN, .summary = "store copies of another host's checkpoints",
          .help = "For bertd-shim on other hosts, which runs it over ssh for checkpoint.copy_to. Reads the files from "
                  "standard input, and answers with lines of JSON. Needs no bertd." },
};

static const struct option_spec global_options[] = {
        { .name = "socket",
          .kind = OPTION_STRING,
          .argument = "PATH",
          .help = "socket of bertd (your own, else the system's)" },
        { .name = "version", .kind = OPTION_FLAG, .help = "print the version of bertctl" },
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
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "unknown command '%s'; see bertctl --help", name);
}

static void print_help(void) {
        (void) printf("Usage: bertctl [--socket PATH] COMMAND [OPTION...] [ARGUMENT...]\n\n"
                      "Submit, watch and control the jobs that bertd keeps running.\n");
        for (size_t i = 0; i < ELEMENTSOF(commands) && commands[i].group != GROUP_HIDDEN; i++) {
                if (i == 0 || commands[i].group != commands[i - 1].group)
                        (void) printf("\n%s:\n", group_names[commands[i].group]);
                (void) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
        }
        (void) putchar('\n');
        options_print(global_options, ELEMENTSOF(global_options));
        (void) printf("\nExamples:\n"
                      "  bertctl submit -- python train.py   any program can be a job\n"
                      "  bertctl logs -f 1                   follow its output\n\n"
                      "Exit status: 0 ok, 1 failed, 2 wrong usage or spec, 3 no such job, 4 no bertd.\n");
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
                           "unknown option '%s'; put options of a command after its name (see bertctl --help)", word);
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
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "missing COMMAND; see bertctl --help");
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

/* ---- standard output: keeps its first error, which stdio would lose ---- */

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
