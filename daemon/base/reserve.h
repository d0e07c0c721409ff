/*
 * Some disk space of bertd's own beside state.db: on a full disk the rm that would make room must be written first.
 */
#ifndef DAEMON_RESERVE_H
#define DAEMON_RESERVE_H

/* Opens STATE/reserve and fills it. Returns its descriptor, or −errno: then there is none. */
int reserve_open(const char *state_dir);

/* Gives it up where less than its size is free. */
void reserve_spend(int fd);

/* Takes it, where it was given up and there is room for more than it. */
void reserve_fill(int fd);

#endif
