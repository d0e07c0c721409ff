/* bertd as the first process of a container. */
#ifndef DAEMON_INIT_H
#define DAEMON_INIT_H

#include "common/error.h"

/* Where this is process 1: goes on in a child, and returns 1 there. The first process itself never returns: it hands SIGTERM, SIGINT
 * and SIGQUIT to that child, reaps whatever comes to it (shims, and what killed ones leave behind), and ends with the child's status when
 * it has no children any more. Elsewhere: 0. −errno: no child could be made. */
int init_split(struct error *error);

#endif
