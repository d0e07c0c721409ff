/* How many files bertd may have open, and what of them is for whom. Pure but for descriptors_read. */
#ifndef DAEMON_DESCRIPTORS_H
#define DAEMON_DESCRIPTORS_H

#include <stdint.h>

struct descriptors {
        uint64_t limit;    /* of bertd */
        uint32_t clients;  /* connections at a time, BERTD_CLIENTS_MAX where there is room */
        uint32_t attempts; /* that may run at a time */
};

#define DESCRIPTORS_MIN 192 /* with less bertd may be deaf one day */

/* At least one attempt may run. */
void descriptors_share(uint64_t limit, struct descriptors *ret);

/* Of this process. */
void descriptors_read(struct descriptors *ret);

#endif
