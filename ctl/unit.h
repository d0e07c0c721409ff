/* What systemd knows of the system's bertd: bertd.service, and bertd.socket at which its clients connect. Nothing where it is not installed. */
#ifndef CTL_UNIT_H
#define CTL_UNIT_H

#include <stdbool.h>

#include "common/error.h"

enum unit_state {
        UNIT_NONE,    /* no systemd, or no bertd.service */
        UNIT_UNKNOWN, /* systemd does not say */
        UNIT_INACTIVE,
        UNIT_ACTIVE,
        UNIT_CHANGING, /* being started, stopped, or started again after a failure */
        UNIT_FAILED,
};

enum unit_state unit_service_state(void);

/* Stops bertd.socket, so that no client starts bertd. Only for root. */
int unit_stop_socket(struct error *error);

#endif
