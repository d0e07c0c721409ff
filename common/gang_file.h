/*
 * DIR/gang.json, format version 1: what bertd-gang is to start over several hosts, beside attempt.json. bertd writes
 * it; bertd-gang and bertd-shim read it, perhaps one of another version: unknown keys are ignored. A file with this
 * name makes an attempt one of many hosts.
 *
 *   gang_file_write(...)   bertd: the text
 *   gang_file_read(...)    bertd-gang, the shim; then gang_file_free()
 */
#ifndef COMMON_GANG_FILE_H
#define COMMON_GANG_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "bertd/job.h"
#include "common/error.h"
#include "common/hosts.h"

#define GANG_FILE "gang.json"

/* The writer borrows, the reader allocates. */
struct gang_plan {
        uint64_t job;
        uint32_t attempt;
        enum job_kind kind;
        char *name;                    /* of the job */
        char *head;                    /* this host, as `hosts` has it */
        char **hosts;                  /* to use, sorted, the head among them; NULL-terminated, as all lists */
        char **spares;                 /* to be used in place of one that is away, in order */
        bool shrink;                   /* with neither, starts with fewer */
        bool cooling;                  /* the job has more hosts, which cool down */
        uint32_t ranks, gpus, threads; /* of each host */
        uint64_t memory;               /* bytes of each host, 0 = no limit */
        uint32_t host_timeout_sec, grace_sec;
        char *network;  /* CIDR or interface; NULL: Open MPI chooses */
        char **travels; /* names of variables, "A", "B_*" */
        bool lasts;     /* of a command: what its first process leaves behind is waited for */
        bool unmanaged; /* hosts without a bertd may be used */
        bool ran;       /* an earlier attempt has executed it: what is missing may return */
        char *spec;     /* path of the normalised spec, which names the inputs; of a command: it has none of interest */
        char *scratch;  /* short folder for Open MPI's session; NULL: none */
        bool private_shm;
        char **argv; /* the program alone: bert-trainer's or the command's words */
};

/* NULL: no memory. The caller frees. */
char *gang_file_write(const struct gang_plan *plan);

/* Exit 65: not such a file. −ENOENT: the attempt is of one host. */
int gang_file_read(const char *path, struct gang_plan *ret, struct error *error);
void gang_file_free(struct gang_plan *plan);

#endif
