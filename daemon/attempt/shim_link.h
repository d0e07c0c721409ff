/* The attempt's view of its shim's connection, which the bus creates and owns. */
#ifndef DAEMON_ATTEMPT_SHIM_LINK_H
#define DAEMON_ATTEMPT_SHIM_LINK_H

#include <stdint.h>

struct shim_link;

struct shim_link_calls {
        /* One-way calls; the caller's timer handles losses. */
        void (*stop)(struct shim_link *link, uint64_t grace_usec);
        int (*checkpoint)(struct shim_link *link);
        void (*move)(struct shim_link *link, const char *reason); /* of a lease: its head is asked to go */
        void (*drop)(struct shim_link *link);                     /* after the running handler has returned */
};

struct shim_link {
        const struct shim_link_calls *calls;
        uint64_t job; /* job of the shim, 0 = a client */
};

#endif
