/* TCP between each pair of a job's hosts, for `bertctl lease --probe --pairs`: each listens, then tries the others. */
#ifndef CTL_LEASE_PAIRS_H
#define CTL_LEASE_PAIRS_H

#include <jansson.h>

/* Listens on the address of `network` in the line, else on any, and adds "listen": its port. A descriptor, which the
 * caller closes, or −errno: the line has no port. */
int lease_pairs_listen(json_t *host);

/* Reads one line {"type":"connect","to":[{"host","address","port"}]} from standard input, tries all at once, returns
 * the answer {"type":"connected","failed":[{"host","address","reason"}]}, a new reference; NULL: no such line. */
json_t *lease_pairs_connect(void);

/* Until the end of standard input: others may still try this host. */
void lease_pairs_wait(void);

#endif
