/* The socket that bertd listens at, for as long as it lives: whatever becomes of its file. */
#ifndef DAEMON_BUS_LISTENING_H
#define DAEMON_BUS_LISTENING_H

#include "common/error.h"
#include "daemon/base/loop.h"

struct listening;

/* Listens at `path`: with the socket that systemd passed, or where `passed` is 0 with one of its own. `ready` accepts what waits there;
 * it is called once more for a socket that is replaced. Borrows `path`, takes `passed`. */
int listening_new(struct loop *loop, const char *path, int passed, loop_ready_t ready, void *userdata,
                  struct listening **ret, struct error *error);

/* Removes the file, if it was made here. */
void listening_free(struct listening *listening); /* NULL is fine */

void listening_enable(const struct listening *listening, bool on); /* off: who connects waits in the kernel's queue */

#endif
