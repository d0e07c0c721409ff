/*
 * The ledger of a job's checkpoints: what its rows mean, and what the shim says of the files. Pure: bertd looks at no file of a
 * user's. What changes more than one row, or looks for one that is not the newest good, needs the whole ledger in memory
 * (store_load_ledger). Changed rows are left dirty: the caller marks the job.
 */
#ifndef DAEMON_LEDGER_H
#define DAEMON_LEDGER_H

#include "daemon/rules/job.h"

/* What the shim says: files RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt that it found, three numbers each (step, bytes, usec since the
 * epoch), and steps of good rows whose file is gone. Borrowed. */
struct ledger_news {
        const uint64_t *found, *gone;
        size_t n_found, n_gone; /* numbers, not rows */
};

/* Takes it up: a row goes from good to deleted and back, a file without a row gets one; what was set aside stays so. Returns
 * whether anything changed. */
bool ledger_take(struct job *job, const char *run_dir, const struct ledger_news *news);

/* Where the trainer puts the checkpoint of a step. Caller frees; NULL: no memory. */
char *ledger_path(const char *run_dir, uint64_t step);

/* May a row have this path? It must lie below the job's run folder, a command's there or below its working directory. */
bool ledger_may_hold(const struct job *job, const char *run_dir, const char *path);

/* Where the next attempt begins: the newest good row, at most resume_from while a `resume --from` is pending. NULL: at 0. */
struct checkpoint *ledger_choose(struct job *job);

/* Steps of the good rows, newest first; returns how many (<= max). */
size_t ledger_good_steps(const struct job *job, uint64_t *steps, size_t max);

/* Whether a good one lies in the job's own folder: it would go with it. */
bool ledger_is_below_job(const struct job *job);

/* Sets rows newer than `step` aside as abandoned. */
void ledger_abandon_newer(struct job *job, uint64_t step);

#endif
