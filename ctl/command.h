/*
 * A subcommand: a row of the table in main.c and one handler. The handler parses its own options with command_begin,
 * does its work, and returns an exit code of bertctl; where it fails it leaves the message in ctl->error, which main
 * prints once.
 */
#ifndef CTL_COMMAND_H
#define CTL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/exit.h"
#include "common/error.h"
#include "ctl/client.h"
#include "ctl/options.h"
#include "ctl/term.h"

struct command;

struct ctl {
        const struct command *command;
        const char *socket; /* --socket, NULL = not given */
        struct term term;   /* of stdout */
        struct error error;
};

struct command {
        const char *name;
        int (*run)(struct ctl *ctl, int argc, char **argv); /* argv[0] is the command's name */
        const char *usage;                                  /* "[OPTION...] JOB" */
        unsigned group;                                     /* of main.c's --help */
        const char *summary;                                /* "stop a job for good" */
        const char *help;                                   /* paragraphs that --help wraps, or NULL */
        const char *examples;                               /* command lines, or NULL */
};

/* Parses the options of ctl->command and checks the number of words. Returns 1: continue; 0: help was printed; −errno:
 * see ctl->error. */
int command_begin(struct ctl *ctl, const struct option_spec *options, size_t n_options, int argc, char **argv,
                  int min_words, int max_words, struct arguments *ret);

/* The exit code that belongs to ctl->error, or 0 for r >= 0. */
int command_exit(const struct ctl *ctl, int r);

#define OPTION_JSON(variable) \
        { .name = "json", .kind = OPTION_FLAG, .value = &(variable), .help = "print JSON" }

int command_submit(struct ctl *ctl, int argc, char **argv);
int command_run(struct ctl *ctl, int argc, char **argv);
int command_status(struct ctl *ctl, int argc, char **argv);
int command_list(struct ctl *ctl, int argc, char **argv);
int command_logs(struct ctl *ctl, int argc, char **argv);
int command_wait(struct ctl *ctl, int argc, char **argv);
int command_cancel(struct ctl *ctl, int argc, char **argv);
int command_pause(struct ctl *ctl, int argc, char **argv);
int command_receive(struct ctl *ctl, int argc, char **argv);
int command_resume(struct ctl *ctl, int argc, char **argv);
int command_checkpoint(struct ctl *ctl, int argc, char **argv);
int command_checkpoints(struct ctl *ctl, int argc, char **argv);
int command_events(struct ctl *ctl, int argc, char **argv);
int command_results(struct ctl *ctl, int argc, char **argv);
int command_rm(struct ctl *ctl, int argc, char **argv);
int command_shutdown(struct ctl *ctl, int argc, char **argv);
int command_lease(struct ctl *ctl, int argc, char **argv);
int command_drain(struct ctl *ctl, int argc, char **argv);
int command_undrain(struct ctl *ctl, int argc, char **argv);
int command_metrics(struct ctl *ctl, int argc, char **argv);
int command_doctor(struct ctl *ctl, int argc, char **argv);
int command_version(struct ctl *ctl, int argc, char **argv);

/* Waits until the job has ended, prints how on stderr unless it is done, and returns wait's exit code. */
int wait_and_tell(struct ctl *ctl, struct client *client, uint64_t id, bool json);

#endif
