/* What clients see: jobs, checkpoints and the daemon as a{sv} (include/bertd/bus.h). */
#ifndef DAEMON_JOBVIEW_H
#define DAEMON_JOBVIEW_H

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "daemon/manager.h"

/* Each appends one a{sv}. `owner`: the caller is the job's user or root. */
int jobview_job(sd_bus_message *m, const struct manager *manager, const struct job *job, bool owner);
int jobview_checkpoint(sd_bus_message *m, const struct checkpoint *checkpoint);
int jobview_daemon(sd_bus_message *m, const struct manager *manager);

#endif
