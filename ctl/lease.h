/* The parts of `bertctl lease`, which another host's bertd runs over ssh: common/leash.h has its lines. */
#ifndef CTL_LEASE_H
#define CTL_LEASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "ctl/client.h"

struct lease_options {
        const char *of, *name, *network;
        uint64_t attempt, ranks, gpus, threads, memory, host_timeout_sec;
        bool unmanaged, probe, inputs, pairs, only;
};

/* ---- lease_host.c ---- */

/* This host as the head sees it: versions, GPUs, network, inputs (borrowed, NULL: none). `daemon` NULL: no bertd.
 * `refused` (borrowed, NULL: none): why it lends nothing. Takes at most some seconds, whatever hangs; a new reference,
 * NULL: no memory. */
json_t *lease_host(const struct lease_options *options, const struct daemon_info *daemon, const json_t *inputs,
                   const json_t *refused);

/* ---- lease_only.c ---- */

/* Runs the command of SSH_ORIGINAL_COMMAND in this process's place if it is one of those that a key with
 * command="bertctl lease --only" may run. Returns −errno. */
int lease_only(struct error *error);
/* Its words, without a shell; NULL-terminated, in one block that the caller frees. NULL: it needs one. */
char **lease_words(const char *line);

#endif
