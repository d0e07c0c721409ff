/* bertd as the first process of a container. */
#ifndef DAEMON_INIT_H
#define DAEMON_INIT_H

#include "common/error.h"

/* As process 1: continues in a child, and returns 1 there. Process 1 itself never returns: it forwards SIGTERM, SIGINT
 * and SIGQUIT to that child, reaps orphans (shims, and processes of killed ones), and exits with the child's status
 * when it has no children left. Otherwise returns 0. −errno: fork failed. */
int init_split(struct error *error);

#endif
