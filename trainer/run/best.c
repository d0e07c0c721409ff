/*
 * Which checkpoint of a classifier's stage is the best; see run.h. Invariants: best_validation_* are rank 0's, and a checkpoint that is
 * written records only what is on disk: best_kept_step is the step of a whole checkpoint of this run, or 0; retention leaves
 * it, and best.ckpt leads to it.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/run/run.h"

/* The higher accuracy wins; a tie, or numbers, which have none, goes to the lower loss. */
bool run_is_better(const struct run *run, double loss, double accuracy, bool classifies) {
        if (!isfinite(loss))
                return false;
        if (classifies && !isnan(accuracy) && !(run->state.best_validation_accuracy == accuracy))
                return !(run->state.best_validation_accuracy > accuracy);
        return !(run->state.best_validation_loss <= loss);
}

static void forget_best(struct run *run) {
        run->state.best_validation_loss = run->state.best_validation_accuracy = NAN;
        run->state.best_validation_step = run->out.best_kept_step = 0;
}

/* Opens the checkpoint of that step in the run folder: of this run and stage, and validated. */
static int open_validated(const struct run *run, uint64_t step, struct checkpoint **ret, struct run_figures *figures,
                          struct error *error) {
        cleanup_free char *path = rundir_checkpoint_path(run->out.rundir, step);
        cleanup_checkpoint struct checkpoint *c = NULL;
        uint64_t its_step = 0, its_stage = 0;

        int r = path ? checkpoint_open(path, &c, error) : error_errno(error, ENOMEM, "checkpoint");
        if (r < 0)
                return r;
        const struct checkpoint_meta *meta = checkpoint_meta(c);
        if (checkpoint_meta_u64(meta, path, "step", &its_step, NULL) < 0 ||
            checkpoint_meta_u64(meta, path, "stage", &its_stage, NULL) < 0 || its_step != step ||
            its_stage != run->state.stage || run_meta_compare(run, run->state.stage, meta, path, NULL) < 0 ||
            !state_figures(meta, step, figures))
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: of another run", path);
        *ret = steal_pointer(&c);
        return 0;
}

/* The best so far exists, whole, and is what was recorded. */
static int check_kept(const struct run *run, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct run_figures figures;

        int r = open_validated(run, run->state.best_validation_step, &c, &figures, error);
        if (r < 0)
                return r;
        if (!(figures.loss == run->state.best_validation_loss) ||
            !(figures.accuracy == run->state.best_validation_accuracy || run_regresses(run)))
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: of another run", checkpoint_path(c));
        return checkpoint_verify(c, error);
}

static void consider(struct run *run, uint64_t step) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct run_figures figures;

        if (step < MAX(run->out.first_step, UINT64_C(1)) || step > run->state.step ||
            open_validated(run, step, &c, &figures, NULL) < 0 ||
            !run_is_better(run, figures.loss, figures.accuracy, true) || checkpoint_verify(c, NULL) < 0)
                return;
        run->state.best_validation_loss = figures.loss;
        run->state.best_validation_accuracy = figures.accuracy;
        run->state.best_validation_step = run->out.best_kept_step = step;
}

/* The best of the existing checkpoints becomes the best; none if none was validated. */
static void find_best(struct run *run) {
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0;

        forget_best(run);
        if (rundir_list(run->out.rundir, &steps, &n, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                consider(run, steps[i]);
}

/* "accuracy 0.9124" */
static const char *format_best(const struct run *run, char buffer[32]) {
        bool regresses = run_regresses(run);

        (void) snprintf(buffer, 32, "%s %.4f", regresses ? "loss" : "accuracy",
                        regresses ? run->state.best_validation_loss : run->state.best_validation_accuracy);
        return buffer;
}

void run_lose_best(struct run *run, const struct error *why) {
        char was[32], is[32];

        (void) format_best(run, was);
        find_best(run);
        if (run->out.progress)
                progress_end_line(run->out.progress);
        (void) fprintf(stderr, "bert-trainer: %s: it was the best checkpoint (%s); ", why->text, was);
        if (run->out.best_kept_step > 0)
                (void) fprintf(stderr, "the best is now that of step %" PRIu64 " (%s)", run->out.best_kept_step,
                               format_best(run, is));
        else if (run->job->stages[run->state.stage].n[PART_VALIDATION] > 0)
                (void) fprintf(stderr, "the best is now looked for from step %" PRIu64 " on", run->state.step);
        else
                (void) fprintf(stderr, "nothing is held out to look for another, the last one counts");
        (void) fprintf(stderr, "%s\n",
                       why->exit == BERTD_EXIT_INPUT ? "; to keep the other, copy it there and start again" : "");
}

void run_check_best(struct run *run) {
        struct error why = {};

        if (!run_stage_classifies(run, run->state.stage) || run->state.step == 0)
                return;
        bool here = run->state.last_checkpoint_step == run->state.step; /* not from another folder */
        bool known = here && run->state.validated.step ==
                                     run->state.step; /* the weights that the run continues with, as a candidate */
        run->out.first_step = here ? 0 : run->state.step;
        if (run->state.best_validation_step == 0)
                find_best(run);
        else if (here && run->state.best_validation_step == run->state.step)
                run->out.best_kept_step = run->state.step; /* just read */
        else if (check_kept(run, &why) >= 0)
                run->out.best_kept_step = run->state.best_validation_step;
        else if (run->state.best_validation_step == run->state.step)
                run->state.evaluation_due = true; /* it is in memory, and written here */
        else {
                run_lose_best(run, &why);
                run->state.evaluation_due = run->state.evaluation_due || !known;
        }
}

void run_keep_best(struct run *run, uint64_t step) {
        if (run_classifies(run) && step == run->state.best_validation_step)
                run->out.best_kept_step = step;
}

void run_next_best(struct run *run) {
        forget_best(run);
        run->state.validated = (struct run_figures) {};
        if (run->ranks.own == 0)
                run_link_best(run);
}

/* ---- best.ckpt ---- */

static void say_link(struct run *run, const char *path, const char *problem) {
        if (!run->out.link_said)
                (void) fprintf(
                        stderr,
                        "bert-trainer: %s: %s: it will not lead to the best checkpoint; move it away and start again\n",
                        path, problem);
        run->out.link_said = true;
}

static void replace_link(struct run *run, const char *link) {
        cleanup_free char *temporary = format_string("%s.tmp", link);
        cleanup_free char *to = format_string("checkpoints/" CHECKPOINT_NAME, run->out.best_kept_step);

        if (!temporary || !to)
                return;
        (void) unlink(temporary);
        if (symlink(to, temporary) < 0)
                say_link(run, temporary, strerror(errno));
        else if (rename(temporary, link) < 0)
                say_link(run, link, strerror(errno));
}

void run_link_best(struct run *run) {
        cleanup_free char *link = format_string("%s/best.ckpt", run->options->run_dir);
        struct stat st;

        if (!link || run->job->whole->kind != JOB_FINETUNE)
                return;
        bool there = lstat(link, &st) == 0;
        if (there && S_ISDIR(st.st_mode))
                say_link(run, link, "a folder");
        else if (run->out.best_kept_step > 0)
                replace_link(run, link);
        else if (there && S_ISLNK(st.st_mode)) /* to that of another run or stage, or to nothing */
                (void) unlink(link);
}

/* ---- at the end ---- */

void run_settle_best(struct run *run) {
        struct error why = {};

        if (run->out.best_kept_step == 0)
                find_best(run);
        else if (check_kept(run, &why) < 0)
                run_lose_best(run, &why);
        run_link_best(run);
}

int run_read_best(struct run *run, bool *ret_read, struct error *error) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct run_figures figures;

        *ret_read = false;
        if (run->out.best_kept_step == 0 || run->out.best_kept_step == run->state.step)
                return 0;
        int r = open_validated(run, run->out.best_kept_step, &c, &figures, error);
        if (r >= 0)
                r = weights_read(c, run->model, error);
        *ret_read = r >= 0;
        return r;
}
