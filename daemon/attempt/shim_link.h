/* The connection of an attempt's shim, as the attempt sees it; whoever owns the connection makes it (the bus). */
#ifndef DAEMON_ATTEMPT_SHIM_LINK_H
#define DAEMON_ATTEMPT_SHIM_LINK_H

#include <stdint.h>

struct shim_link;

struct shim_link_calls {
        /* One-way calls; losses are the caller's timer's business. */
        void (*stop)(struct shim_link *link, uint64_t grace_usec);
        int (*checkpoint)(struct shim_link *link);
        void (*drop)(struct shim_link *link); /* once the handler that is running has returned */
};

struct shim_link {
        const struct shim_link_calls *calls;
        uint64_t job; /* whose shim it is, 0 = a client */
};

#endif
