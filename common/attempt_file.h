/*
 * DIR/attempt.json, format version 1: what a shim is to run. bertd writes it and the shim reads it, perhaps one of
 * another version: unknown keys are ignored, and missing ones have the values given here.
 *
 *   attempt_file_write(...)   bertd: the text
 *   attempt_file_read(...)    the shim; then attempt_file_free()
 */
#ifndef COMMON_ATTEMPT_FILE_H
#define COMMON_ATTEMPT_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "bertd/job.h"
#include "common/error.h"
#include "common/known_checkpoints.h"
#include "common/run_file.h"
#include "common/scheduling.h"

#define ATTEMPT_RLIMITS_MAX 32

/* The writer borrows, the reader allocates. */
struct attempt_spec {
        uint64_t job;
        uint32_t number;
        char *nonce;
        enum job_kind kind;
        char **argv;        /* NULL-terminated, at least one */
        char **environment; /* NULL-terminated */
        char *cwd, *log;
        char *socket; /* of bertd; written alone: the shim gets it as an argument */
        mode_t umask;
        int nice;       /* 0: unchanged */
        char *cpu_list; /* NULL: unchanged */
        struct scheduling scheduling;
        struct {
                int resource;
                struct rlimit limit;
        } rlimits[ATTEMPT_RLIMITS_MAX];
        unsigned n_rlimits;
        uint64_t grace_usec, log_max_bytes;
        unsigned log_keep;          /* 0: not set by an older bertd */
        int hang_sec, start_sec;    /* −1: automatic, 0: no limit */
        unsigned lease_timeout_sec; /* 0: not a lease; see shim/lease.c */
        bool stop_by_term;          /* "stop": "term"; else SIGUSR1 to the main child */
        enum ends_with ends_with;
        char *copy_to;      /* DIR or HOST:DIR; NULL: no copies of checkpoints */
        uint32_t copy_keep; /* of them; at least 1 */
        bool ran;           /* an earlier attempt has executed it: missing files may return */
        bool lists;         /* the shim lists the checkpoints; `known` has those in bertd's ledger */
        struct known known;
        char *hosts; /* of a batch system's allocation, where mpirun starts `ranks` on each; NULL: of one, or of a gang
                      */
        uint32_t ranks;
        char *name; /* of the job, for RUN_DIR/bertd.json; NULL: the shim writes none */
        struct run_counters counters;
};

/* NULL: no memory. The caller frees. */
char *attempt_file_write(const struct attempt_spec *attempt);

/* Exit 65: not such a file. */
int attempt_file_read(const char *path, struct attempt_spec *ret, struct error *error);
void attempt_file_free(struct attempt_spec *attempt);

#endif
