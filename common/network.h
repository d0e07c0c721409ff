/* The network of a job over several hosts: the name of an interface, as "eth1", or an IPv4 address with the length of
 * its prefix, as "10.0.0.0/16". */
#ifndef COMMON_NETWORK_H
#define COMMON_NETWORK_H

#include <ifaddrs.h>
#include <stdbool.h>

bool network_is_valid(const char *network);

/* Whether an interface is the network, or its address, an IPv4 one, is in it. */
bool network_has(const char *network, const struct ifaddrs *interface);

#endif
