/* A JSON value as a line of output. */
#ifndef TRAINER_COMMANDS_JSON_LINE_H
#define TRAINER_COMMANDS_JSON_LINE_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

/* Takes `owned`; NULL: there was no memory for it. `flags`: jansson's. 0 or −errno. */
int json_line(json_t *owned, size_t flags, FILE *to);

#endif
