/*
 * The gang of an attempt on several hosts: its main child is bertd-gang, which holds the leases of the other hosts. The
 * shim and bertd-gang exchange lines of JSON over a socket pair; what it reports is kept here until the attempt is
 * judged. Without DIR/gang.json there is none, and every function does nothing.
 */
#ifndef DAEMON_SHIM_GANG_H
#define DAEMON_SHIM_GANG_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/exit_record.h"
#include "common/leash.h"
#include "daemon/shim/stacks.h"

#define GANG_NAMES_MAX (64 * 256) /* bytes of host names joined by commas */

struct shim;

struct shim_gang {
        bool is;      /* the attempt has one */
        int fd, peer; /* peer: the child's end until it is started; −1 */
        sd_event_source *source;
        struct leash_reader reader;
        unsigned ranks_of_host; /* ranks of each host; 0: not known */
        char *in_use;           /* names, the head first; NULL: not yet */
        char *oom;              /* names of hosts where the kernel killed a process; NULL: none */
        bool judged, weak;      /* `verdict` is bertd-gang's */
        bool gave_status;       /* progress.status is */
        struct exit_verdict verdict;
        char drain[EXIT_RECORD_REASON_MAX]; /* why the attempt moves away; "" = it does not */
        unsigned stacks_due;                /* hosts whose stacks are awaited */
        struct evidence_ranks ranks;        /* of the other hosts */
        char stopped_host[EXIT_RECORD_HOST_MAX];
};

/* Before the main child is started: looks for gang.json, and makes the socket pair. 0 or −errno. */
int shim_gang_open(struct shim *shim);
void shim_gang_started(struct shim *shim); /* the child has its end */
void shim_gang_read(struct shim *shim);    /* its last lines, after its end */
void shim_gang_close(struct shim *shim);

/* "stop" or "checkpoint"; `signal`: what a command has declared for it, 0: nothing. */
void shim_gang_ask(struct shim *shim, const char *type, int signal);

/* Asks every host for stacks, into the folder of the evidence. */
void shim_gang_ask_stacks(struct shim *shim);

/* Its verdict, which takes precedence over what mpirun printed; a weak one only if that blames no rank (`judged`: the
 * verdict made of it; NULL: not yet made). False: it has none. */
bool shim_gang_verdict(const struct shim *shim, const struct exit_verdict *judged, struct exit_verdict *ret);

#endif
