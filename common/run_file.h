/*
 * RUN_DIR/bertd.json, format version 1: what another bertd needs to continue a job from its run folder, on this host or
 * another. The shim writes it (as the user); bertctl reads it.
 *
 *   run_file_write(...)   the text
 *   run_file_read(...)    then run_file_clear()
 */
#ifndef COMMON_RUN_FILE_H
#define COMMON_RUN_FILE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define RUN_FILE "bertd.json"

/* Of a job, before its newest attempt or with what is known of it. */
struct run_counters {
        uint32_t deaths, free_deaths; /* struct policy_counters */
        uint64_t run_steps;           /* steps of all attempts */
        uint64_t run_usec;            /* their time */
        uint64_t active_usec;         /* wall time since the first start, without pauses */
        char *lost;                   /* "killed=12500000": wall time lost by class of exit; NULL: none */
};

enum run_checkpoint_state { RUN_GOOD, RUN_DEMOTED, RUN_UNCONFIRMED, RUN_CHECKPOINT_STATE_MAX };

struct run_checkpoint {
        uint64_t step;
        enum run_checkpoint_state state;
        char *path; /* absolute; NULL: RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt */
};

/* "good", also on the wire. */
const char *run_checkpoint_state_name(enum run_checkpoint_state state);

/* The writer borrows, the reader allocates. */
struct run_file {
        char *name, *host; /* of the job; where it ran */
        uint64_t job;
        uint32_t attempt;
        struct run_counters counters;
        struct run_checkpoint *checkpoints;
        size_t n;
        uint64_t updated; /* usec since the epoch */
};

/* NULL: no memory. The caller frees. Paths below run_dir are written relative to it: the folder may be copied. */
char *run_file_write(const struct run_file *file, const char *run_dir);

/* −ENOENT: missing. Exit 65: not such a file. */
int run_file_read(const char *run_dir, struct run_file *ret, struct error *error);
void run_file_clear(struct run_file *file);

/* Also in attempt.json. A value out of range reads as 0. */
json_t *run_counters_object(const struct run_counters *counters);
void run_counters_read(const json_t *object, struct run_counters *ret);

#endif
