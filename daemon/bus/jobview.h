/* What clients see: jobs, checkpoints and the daemon as a{sv} (include/bertd/bus.h). */
#ifndef DAEMON_BUS_JOBVIEW_H
#define DAEMON_BUS_JOBVIEW_H

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "daemon/node/node.h"

#define JOBVIEW_MAX (32u << 10) /* bytes of a job without its command, of a checkpoint, of the daemon */

/* A command's arguments, packed as in job.h. */
struct jobview_command {
        char *words;
        size_t size;
};

/* Each appends one a{sv} and returns its size in bytes. `owner`: the caller is the job's user or root. `command`, only
 * for owners, may be NULL. */
int jobview_job(sd_bus_message *m, const struct node *node, const struct job *job, bool owner,
                const struct jobview_command *command);
/* The reason of an event for this caller. */
const char *jobview_event_reason(const struct event_row *event, bool owner);
int jobview_checkpoint(sd_bus_message *m, const struct checkpoint *checkpoint);
int jobview_daemon(sd_bus_message *m, const struct node *node);

#endif
