/* Calls that are answered later: Wait, WaitChange, and a submission whose user is being looked up. Each counts against its peer. */
#ifndef DAEMON_BUS_WAITS_H
#define DAEMON_BUS_WAITS_H

#include <systemd/sd-bus.h>

#include "daemon/bus/server.h"

/* Keeps a WaitChange for the next one; −EBUSY: there is one already. */
int change_wait(struct peer *peer, sd_bus_message *message);
/* Answers every WaitChange. */
void change_tell(struct bus_server *server, uint64_t serial);

/* A call to be answered later, without what it carries, which may be large; the caller unrefs. */
int call_to_answer(sd_bus_message *call, sd_bus_message **ret);

/* Keeps the call for later; −ENOBUFS beyond BERTD_WAITS_OF_CLIENT_MAX. */
int wait_add(struct job *job, struct peer *peer, sd_bus_message *message);
/* Answers all of the job's waits with its state's name. */
void wait_answer(struct job *job);
/* Answers with an error: the job is being removed, or the daemon ends. */
void wait_fail(struct job *job, const char *name, const char *text);

/* Keeps a call of so many bytes until who its user is is known (accounts.h), then dispatches it again; −ENOBUFS beyond PARKED_UID_MAX
 * bytes of a user's calls, PARKED_MAX of all. */
int peer_park(struct peer *peer, sd_bus_message *message, size_t size);
void bus_server_resume(struct bus_server *server, uid_t uid);

/* Of a peer that is freed. */
void waits_forget(struct peer *peer);

#endif
