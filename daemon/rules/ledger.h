/*
 * The ledger of a job's checkpoints: the meaning of its rows, and updates from the shim's reports of files. Pure: bertd
 * opens no user's files. A function that changes more than one row, or searches for one that is not the newest good,
 * needs the whole ledger in memory (store_load_ledger). Changed rows are set dirty: the caller marks the job.
 */
#ifndef DAEMON_RULES_LEDGER_H
#define DAEMON_RULES_LEDGER_H

#include "daemon/rules/job.h"

/* A report of the shim: files RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt that it found, three numbers each (step, bytes,
 * usec since the epoch), and steps of good rows whose file is missing. Borrowed. */
struct ledger_news {
        const uint64_t *found, *gone;
        size_t n_found, n_gone; /* numbers, not rows */
};

/* Applies it: rows change from good to deleted and back, files without a row get one; demoted and abandoned rows stay.
 * Returns whether anything changed. */
bool ledger_take(struct job *job, const char *run_dir, const struct ledger_news *news);

/* A program may save under one name again and again: marks older rows of this path as deleted. */
void ledger_overwritten(struct job *job, const struct checkpoint *by);

/* Path of the trainer's checkpoint of a step. Caller frees; NULL: no memory. */
char *ledger_path(const char *run_dir, uint64_t step);

/* Whether a row may have this path: below the job's run folder, or, for a command, below its working directory. */
bool ledger_may_hold(const struct job *job, const char *run_dir, const char *path);

/* The checkpoint for the next attempt: the newest good row, else the newest unconfirmed one; at most resume_from while
 * a `resume --from` is pending. NULL: start at 0. */
struct checkpoint *ledger_choose(struct job *job);

/* Steps of the good rows, without one those of the unconfirmed; newest first; returns their number (<= max). */
size_t ledger_good_steps(const struct job *job, uint64_t *steps, size_t max);

/* Whether a usable one is in the job's own folder, with which it would be removed. */
bool ledger_is_below_job(const struct job *job);

/* Marks rows newer than `step` abandoned. */
void ledger_abandon_newer(struct job *job, uint64_t step);

/* A program that is `at` a step has saved: if it has gone back below its newest checkpoint, those newer than `saved`
 * are of the course that it has left, and become abandoned. */
void ledger_rolled_back(struct job *job, const struct checkpoint *saved, uint64_t at);

#endif
