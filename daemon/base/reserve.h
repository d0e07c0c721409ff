/*
 * Disk space reserved beside state.db: on a full disk the rm that frees space must itself be committed first.
 */
#ifndef DAEMON_BASE_RESERVE_H
#define DAEMON_BASE_RESERVE_H

/* Opens STATE/reserve and fills it. Returns its descriptor, or −errno: no reserve. */
int reserve_open(const char *state_dir);

/* Releases it if less than its size is free. */
void reserve_spend(int fd);

/* Takes it again if it was released and there is more than enough space. */
void reserve_fill(int fd);

#endif
