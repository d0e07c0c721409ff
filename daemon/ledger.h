/*
 * The ledger of a job's checkpoints against the files that are there (names and sizes only: bertd opens no checkpoint).
 */
#ifndef DAEMON_LEDGER_H
#define DAEMON_LEDGER_H

#include "daemon/job.h"

/* Marks rows whose file is gone as deleted; takes up files RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt that the ledger lacks.
 * Changed rows are left dirty: the caller marks the job. Returns whether anything changed. */
bool ledger_refresh(struct job *job, const char *run_dir);

/* Whether its file is where the row says. */
bool ledger_is_there(const struct checkpoint *checkpoint);

/* Its first half alone: marks rows whose file is gone. */
bool ledger_note_deleted(struct job *job);

/* Where the next attempt begins: the newest good row, at most resume_from while a `resume --from` is pending. NULL: at 0. */
struct checkpoint *ledger_choose(struct job *job);

/* Steps of the good rows, newest first; returns how many (<= max). */
size_t ledger_good_steps(const struct job *job, uint64_t *steps, size_t max);

/* Whether a good one lies in the job's own folder: it would go with it. */
bool ledger_is_below_job(const struct job *job);

/* Sets rows newer than `step` aside as abandoned. */
void ledger_abandon_newer(struct job *job, uint64_t step);

#endif
