/* The properties of transient units, added to a StartTransientUnit call: −errno as sd_bus_message_append has it. */
#ifndef DAEMON_LAUNCH_SYSTEMD_UNIT_H
#define DAEMON_LAUNCH_SYSTEMD_UNIT_H

#include <systemd/sd-bus.h>

#include "daemon/launch/launcher.h"

#define START_TIMEOUT_USEC (60 * USEC_PER_SEC)

/* Of an attempt: a service that runs as the job's user; the shim reports when it is ready. */
int unit_add_properties(sd_bus_message *m, const struct job *job, const struct launch_request *request);

/* Of a task (user_task.h): argv as the job's user, for at most so long. */
int unit_add_task_properties(sd_bus_message *m, const struct job *job, char *const *argv, char *const *environment,
                             const char *cwd, uint64_t limit_usec);

#endif
