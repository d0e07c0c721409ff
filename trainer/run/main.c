/*
 * A training subcommand: arguments, the loop over steps, and the end in which all ranks leave together; see run.h. Exit codes
 * are contract C6's; the one line of a failure is printed by rank 0.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/run/launcher.h"
#include "trainer/run/run.h"
#include "trainer/run/signals.h"

static const char *environment(const char *name) {
        const char *value = getenv(name);
        return value && value[0] ? value : NULL;
}

static int take(void *context, int option, struct error *error) {
        struct run_options *options = context;

        if (option == 'd')
                options->run_dir = optarg;
        else if (option == 'a')
                options->abandon_newer = true;
        else {
                options->resume = optarg;
                options->own_resume = true;
        }
        return 0;
}

/* 1: help was printed. */
static int parse_arguments(int argc, char **argv, const char *help, struct run_options *ret, struct error *error) {
        const struct usage usage = {
                .help = help,
                .options = (const struct option[]) { { "run-dir", required_argument, NULL, 'd' },
                                                     { "resume", required_argument, NULL, 'r' },
                                                     { "abandon-newer", no_argument, NULL, 'a' },
                                                     { "help", no_argument, NULL, 'h' },
                                                     {} },
                .min = 1,
                .max = 1,
                .words = "SPEC.yaml",
                .take = take,
        };

        ret->run_dir = environment(BERTD_ENV_RUN_DIR);
        ret->resume = environment(BERTD_ENV_RESUME);
        int r = usage_parse(&usage, argc, argv, ret, error);
        if (r == 0)
                ret->spec_path = argv[optind];
        return r;
}

/* After an update: validation and checkpoints that are due, as both are at the end of a stage. 1: a stop was asked for. */
static int after_step(struct run *run, uint64_t flags, struct error *error) {
        const struct spec *spec = run->spec;
        bool end = run->state.stage_step == spec->train.steps, last = end && run->state.stage + 1 == run->job->n_stages,
             made_up = run->state.evaluation_due;
        uint64_t evaluate = spec->train.evaluate_every, save = spec->checkpoint.every_steps;

        bool best = (made_up || end || (evaluate > 0 && run->state.stage_step % evaluate == 0)) && run_evaluate(run);
        if (run->state.evaluation_due)
                return 1;
        if (made_up) /* this step's checkpoint records that it is due: written again */
                run->state.last_checkpoint_step = UINT64_MAX;
        run_checkpoint_poll(run);
        if (!end && !best && !made_up && !(flags & (RUN_CHECKPOINT | RUN_INTERVAL)) &&
            (save == 0 || run->state.step % save != 0))
                return 0;
        return run_checkpoint(run, last, error);
}

static int stop_early(struct run *run, struct error *error) {
        if (run->ranks.own == 0)
                progress_stopping(run->out.progress);
        int r = run_checkpoint(run, true, error);
        if (r >= 0 && run->ranks.own == 0) {
                progress_end_line(run->out.progress);
                (void) fprintf(stderr, "stopped on request after step %" PRIu64 "\n", run->state.step);
        }
        return r < 0 ? r : BERTD_EXIT_STOPPED;
}

/* Steps to the end of the stage. 0; 1: a stop was asked for; or −errno alike on all ranks. */
static int train_stage(struct run *run, struct error *error) {
        uint64_t flags;

        int r = run->state.evaluation_due ? after_step(run, 0, error) : 0; /* of the run before */
        while (r == 0 && run->state.stage_step < run->spec->train.steps) {
                r = run_step(run, &flags, error);
                if (r == 0)
                        r = after_step(run, flags, error);
        }
        return r;
}

/* An exit code, or −errno alike on all ranks. */
static int train(struct run *run, struct error *error) {
        if (run->ranks.own == 0) {
                run_describe_texts(run);
                run_announce_samples(run);
                progress_ready(run->out.progress);
        }
        int r = train_stage(run, error);
        while (r == 0 && run->state.stage + 1 < run->job->n_stages) {
                r = run_next_stage(run, error);
                if (r >= 0 && run->ranks.own == 0)
                        run_announce_samples(run);
                if (r >= 0)
                        r = train_stage(run, error);
        }
        if (r > 0)
                return stop_early(run, error);
        /* A run that was restored at its last step has nothing to do, but its checkpoint must be in this folder. */
        if (r == 0)
                r = run_checkpoint(run, true, error);
        if (r >= 0)
                r = run_test(run, error);
        return r < 0 ? r : r > 0 ? BERTD_EXIT_STOPPED : BERTD_EXIT_OK;
}

/* Rank 0's, as another host may not have bertd's variables. */
static int settle_options(struct exchange *exchange, struct run_options *options, struct run_given *given,
                          const char *name, struct error *error) {
        bool missing = exchange_rank(exchange) == 0 && (!options->run_dir || !options->run_dir[0]);
        int r = exchange_agree(exchange, missing ? usage_missing("--run-dir DIR", name, error) : 0, error);

        return r < 0 ? r : run_share_options(exchange, options, given, error);
}

static int run_all(struct exchange *exchange, const struct run_options *options, struct error *error) {
        cleanup_free struct run *run = calloc(1, sizeof(*run));
        struct run_job job = {};
        int r = exchange_agree(exchange, run ? 0 : error_errno(error, ENOMEM, "a run"), error);
        if (r < 0 || !run)
                return r;

        run->options = options;
        run->ranks = (struct run_ranks) { exchange, exchange_rank(exchange), exchange_n_ranks(exchange) };
        run->job = run->making = &job;
        r = run_setup(run, error);
        if (r >= 0)
                r = run_restore(run, error);
        run->making = NULL;
        if (r >= 0)
                r = train(run, error);
        run_free(run, &job); /* waits for the current checkpoint */
        exchange_barrier(exchange);
        return r;
}

int run_main(int argc, char **argv, enum job_kind kind, const char *help) {
        struct run_options options = { .kind = kind };
        struct exchange *exchange = NULL;
        struct run_given given = {};
        struct error error = {};

        signals_install(!launcher_read().is_mpirun);
        int r = parse_arguments(argc, argv, help, &options, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0)
                r = exchange_new(&exchange, &error);
        if (r < 0)
                return error_report(&error);
        r = exchange_connect(exchange, &error);
        if (r >= 0)
                r = exchange_agree(exchange, signals_check_nccl(&error), &error);
        if (r >= 0)
                r = settle_options(exchange, &options, &given, argv[0], &error);
        if (r >= 0)
                r = run_all(exchange, &options, &error);
        if (r < 0 && exchange_rank(exchange) == 0)
                r = error_report(&error);
        else if (r < 0)
                r = error.exit > 0 ? error.exit : BERTD_EXIT_FAILURE;
        exchange_barrier(exchange);
        exchange_free(exchange);
        run_given_free(&given);
        return r;
}
