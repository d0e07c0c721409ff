/* bertd's listening socket, which is restored if its file is removed. */
#ifndef DAEMON_BUS_LISTENING_H
#define DAEMON_BUS_LISTENING_H

#include "common/error.h"
#include "daemon/base/loop.h"

struct listening;

/* Listens at `path`: with the socket passed by systemd, or if `passed` is 0 with a new one. `ready` accepts waiting
 * connections; it is called once more for a replaced socket. Borrows `path`, takes `passed`. */
int listening_new(struct loop *loop, const char *path, int passed, loop_ready_t ready, void *userdata,
                  struct listening **ret, struct error *error);

/* Removes the file if it was created here. */
void listening_free(struct listening *listening); /* NULL is fine */

void listening_enable(const struct listening *listening, bool on); /* off: new connections wait in the kernel's queue */

#endif
