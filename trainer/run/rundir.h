/*
 * A run folder: .lock, checkpoints/step-NNNNNNNNN.ckpt, checkpoints/abandoned/, metrics.jsonl, windows-*.map. Used by
 * rank 0 alone.
 *
 *   rundir_open (makes folders, takes the lock, removes leftovers) → … → rundir_close
 */
#ifndef TRAINER_RUN_RUNDIR_H
#define TRAINER_RUN_RUNDIR_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct rundir;

/* A second trainer on one folder is refused with the holder's pid. */
int rundir_open(const char *path, struct rundir **ret, struct error *error);
void rundir_close(struct rundir *rundir);

/* RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt; caller frees; NULL: no memory. */
char *rundir_checkpoint_path(const struct rundir *rundir, uint64_t step);

/* Steps of the checkpoints there, ascending; caller frees *ret_steps. */
int rundir_list(const struct rundir *rundir, uint64_t **ret_steps, size_t *ret_n, struct error *error);

/* The same of a run folder that is not open, which may not exist; and the path of one. */
int rundir_peek(const char *run_dir, uint64_t **ret_steps, size_t *ret_n);
char *rundir_peek_path(const char *run_dir, uint64_t step);

/* Removes checkpoints but the newest `keep` (at least one), those at multiples of keep_every (0: none) and that of step `best`. */
int rundir_retain(const struct rundir *rundir, uint32_t keep, uint64_t keep_every, uint64_t best, struct error *error);

/* Moves checkpoints of later steps into checkpoints/abandoned/. */
int rundir_abandon_newer(const struct rundir *rundir, uint64_t step, struct error *error);

#endif
