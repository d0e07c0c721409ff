/* Which of a job's hosts is this one. */
#ifndef CTL_THIS_HOST_H
#define CTL_THIS_HOST_H

#include <stdbool.h>

#include "common/error.h"
#include "common/spec/spec.h"

/* Whether the name is this host's: its host name with or without its domain, its FQDN, or a name or number of an
 * address that it has (not a loopback one). May ask the resolver. */
bool this_host_is(const char *name);

/* Moves this host to the front of resources.hosts: it is the head. Exit 2 if it is not one of them, or twice. Nothing
 * to do without hosts. */
int this_host_first(struct spec *spec, struct error *error);

#endif
