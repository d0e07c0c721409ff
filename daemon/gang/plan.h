/* DIR/gang.json: what the gang is to do. bertd writes it. */
#ifndef DAEMON_GANG_PLAN_H
#define DAEMON_GANG_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct gang_plan {
        uint64_t job;
        unsigned attempt;
        char *name;              /* the job's */
        bool command;            /* else a trainer */
        char *self;              /* this host as the spec names it */
        char **hosts;            /* the others to use, sorted by name, then the spares in their order */
        size_t n_hosts, n_first; /* n_first: without the spares */
        unsigned ranks, gpus, threads, host_timeout_sec;
        uint64_t memory; /* bytes; 0: no limit */
        char *network;   /* CIDR or interface; NULL: any */
        char **travels;  /* names of variables, patterns with one * at the end; NULL-terminated */
        bool unmanaged, shrink, ran, private_shm;
        char *scratch; /* folder for Open MPI's session; NULL: its own choice */
        char *cwd;
        char **argv; /* the program; NULL-terminated */
};

int plan_read(const char *dir, struct gang_plan *ret, struct error *error);
void plan_free(struct gang_plan *plan);

#endif
