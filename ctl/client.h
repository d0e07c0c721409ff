/*
 * The connection to bertd: finds the socket, connects, calls. Life cycle:
 *
 *   cleanup_client struct client *client = NULL;
 *   client_connect(socket, &client, &error);
 *   cleanup_message sd_bus_message *reply = NULL;
 *   client_call(client, "GetJob", &reply, &error, "t", id);
 *
 * Every failure fills the error with one line and bertctl's exit code (include/bertd/exit.h): BERTCTL_EXIT_NO_DAEMON
 * where no daemon answers or it went away, BERTCTL_EXIT_NO_SUCH_JOB, BERTCTL_EXIT_USAGE for a refused spec, else
 * BERTCTL_EXIT_FAILED. A call waits for 9 s at most: bertd answers within 8, or it hangs, is stopped, or something else
 * listens there. A call whose connection is lost, as in a restart of bertd, is made again on another, unless it may
 * have changed something.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "ctl/jobinfo.h"

#define CLIENT_CALL_TIMEOUT_USEC (9 * UINT64_C(1000000))
#define CLIENT_PATIENCE_USEC (30 * UINT64_C(1000000)) /* for a daemon that restarts while a command waits */

struct client;

/* Connects to `socket`; if NULL, to BERTD_SOCKET's, else to the user's daemon, else to the system daemon. If both
 * answer, prints on stderr which one is used. */
int client_connect(const char *socket, struct client **ret_client, struct error *error);

/* Whether client_connect would connect to the system daemon. */
bool client_is_for_system(const char *socket);

/* Connects again to the socket that answered, trying for `patience_usec` (0: once). */
int client_reconnect(struct client *client, uint64_t patience_usec, struct error *error);

/* Drops the connection; client_reconnect makes the next one. Until then client_bus is NULL and nothing may be called.
 */
void client_disconnect(struct client *client);

void client_free(struct client *client);
static inline void cleanup_client_p(struct client **client) { client_free(*client); }
#define cleanup_client cleanup(cleanup_client_p)

static inline void cleanup_message_p(sd_bus_message **message) { (void) sd_bus_message_unref(*message); }
#define cleanup_message cleanup(cleanup_message_p)
static inline void cleanup_slot_p(sd_bus_slot **slot) { (void) sd_bus_slot_unref(*slot); }
#define cleanup_slot cleanup(cleanup_slot_p)

bool client_is_silent(
        const struct client *client); /* a call was not answered in time: another try would not be, either */
const char *client_socket(const struct client *client);
sd_bus *client_bus(const struct client *client); /* borrowed; NULL after client_disconnect */

/* Calls a method with basic arguments as sd_bus_message_append. ret_reply may be NULL; the caller unrefs. */
int client_call(struct client *client, const char *method, sd_bus_message **ret_reply, struct error *error,
                const char *types, ...);

/* For arguments that are put together by hand: a new call, then its answer. */
int client_new_call(struct client *client, const char *method, sd_bus_message **ret_message, struct error *error);
int client_send(struct client *client, sd_bus_message *message, sd_bus_message **ret_reply, struct error *error);

/* −errno of sd-bus while a message was put together or read, as an error: what = the method's name. */
int client_bad_message(struct error *error, int r, const char *what);

/* One job by id. The caller clears it, also after an error. */
int client_get_job(struct client *client, uint64_t id, struct job_info *ret_job, struct error *error);

/* Jobs, newest first: all, or those that have not ended; at most `limit` (0: all). */
int client_list_jobs(struct client *client, bool active_only, uint64_t limit, struct job_list *list,
                     struct error *error);

/* A job's id from what the user typed: an id, or the name of his newest job of it, else of anyone's. */
int client_find_job(struct client *client, const char *text, uint64_t *ret_id, struct error *error);

/* Refuses a bertd of another protocol, with the cure. Every call but GetDaemon and Shutdown does the same. */
int client_check_protocol(struct client *client, struct error *error);

int client_get_daemon(struct client *client, struct daemon_info *ret_daemon, struct error *error);

/* Waits until something has changed that is durable since *serial, for `usec` at most, and without a call to bertd
 * meanwhile. 1: *serial is that of the change; 0: not yet, the next call waits further. *serial 0: none is known,
 * *serial is set at once. Progress is not durable. */
int client_next_change(struct client *client, uint64_t *serial, uint64_t usec, struct error *error);

/* Waits until the job has ended or is paused; *ret_state is its state's name (caller frees). Survives restarts of the
 * daemon. */
int client_wait_job(struct client *client, uint64_t id, char **ret_state, struct error *error);

#endif
