/* Calls that are answered later: Wait, WaitChange, and a submission whose user is being looked up. Each counts against
 * its peer. */
#ifndef DAEMON_BUS_WAITS_H
#define DAEMON_BUS_WAITS_H

#include <systemd/sd-bus.h>

#include "daemon/bus/server.h"

/* Keeps a WaitChange for the next change; −EBUSY: the peer already has one. */
int change_wait(struct peer *peer, sd_bus_message *message);
/* Answers every WaitChange. */
void change_tell(struct bus_server *server, uint64_t serial);

/* A copy of the call for a later answer, without its contents, which may be large; the caller unrefs. */
int call_to_answer(sd_bus_message *call, sd_bus_message **ret);

/* Keeps the call for later; −ENOBUFS beyond BERTD_WAITS_OF_CLIENT_MAX. */
int wait_add(struct job *job, struct peer *peer, sd_bus_message *message);
/* Answers all of the job's waits with its state's name. */
void wait_answer(struct job *job);
/* Answers all with an error: the job is removed, or the daemon exits. */
void wait_fail(struct job *job, const char *name, const char *text);

/* Keeps a call of `size` bytes until its user was looked up (accounts.h), then dispatches it again; −ENOBUFS beyond
 * PARKED_UID_MAX bytes per user or PARKED_MAX calls in total. */
int peer_park(struct peer *peer, sd_bus_message *message, size_t size);
void bus_server_resume(struct bus_server *server, uid_t uid);

/* Drops those of a freed peer. */
void waits_forget(struct peer *peer);

#endif
