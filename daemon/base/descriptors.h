/* How many files bertd may open, and how they are divided between clients and attempts. Pure except descriptors_read.
 */
#ifndef DAEMON_BASE_DESCRIPTORS_H
#define DAEMON_BASE_DESCRIPTORS_H

#include <stdint.h>

struct descriptors {
        uint64_t limit;    /* of bertd */
        uint32_t clients;  /* concurrent connections, at most BERTD_CLIENTS_MAX */
        uint32_t attempts; /* concurrent attempts */
};

#define DESCRIPTORS_MIN 192 /* with fewer bertd might be unable to accept clients */

/* Always allows at least one attempt. */
void descriptors_share(uint64_t limit, struct descriptors *ret);

/* The limit of this process. */
void descriptors_read(struct descriptors *ret);

#endif
