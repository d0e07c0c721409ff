/* What connect.c, client.c and waiting.c share of a connection. */
#ifndef CTL_CLIENT_INTERNAL_H
#define CTL_CLIENT_INTERNAL_H

#include "ctl/client.h"
#include "ctl/unit.h"

#define LOSSES_MAX 3 /* of one call's connections; a restart of bertd is one */

/* A call that may be answered late, by a bertd that lives meanwhile. */
struct late {
        sd_bus_slot *slot; /* NULL: none was made */
        sd_bus_message *reply;
        uint64_t next_look, next_ping;
};

struct client {
        sd_bus *bus;
        struct late change; /* its WaitChange */
        char *socket;
        bool silent; /* a call timed out */
};

/* ---- connect.c ---- */

/* Of a connection: closed by bertd, or by its death. */
bool is_lost(int r);
/* Of a path: no bertd listens there. */
bool is_nobody_there(int r);

/* Takes the fd, or connects if it is < 0. A bertd that ends may close a connection before any call. */
int open_bus(const char *socket, int fd, sd_bus **ret_bus);

/* The command that starts bertd, by the state of its service. */
const char *start_cure(enum unit_state state);
int no_daemon(struct error *error, int r, const char *socket);

void pause_before_retry(void);

void late_clear(struct late *late);

/* ---- client.c ---- */

/* What a failed call means for the user. */
int call_failed(struct client *client, int r, const sd_bus_error *bus_error, const char *method, struct error *error);

/* ret_again: the connection was lost, and the call was not made or may be made twice. */
int send_once(struct client *client, sd_bus_message *message, uint64_t deadline, sd_bus_message **ret_reply,
              bool *ret_again, struct error *error);

#endif
