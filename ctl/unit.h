/* systemd's units of the system daemon: bertd.service, and bertd.socket to which clients connect. Both may be missing.
 */
#ifndef CTL_UNIT_H
#define CTL_UNIT_H

#include <stdbool.h>

#include "common/error.h"

enum unit_state {
        UNIT_NONE,    /* no systemd, or no bertd.service */
        UNIT_UNKNOWN, /* systemd gives no answer */
        UNIT_INACTIVE,
        UNIT_ACTIVE,
        UNIT_CHANGING, /* being started, stopped, or started again after a failure */
        UNIT_FAILED,
};

enum unit_state unit_service_state(void);

/* Stops bertd.socket, so that no client starts bertd. Only for root. */
int unit_stop_socket(struct error *error);

#endif
