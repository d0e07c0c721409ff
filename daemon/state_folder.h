/* STATE, the folder of one bertd: creates, locks and protects it, and opens its state.db. */
#ifndef DAEMON_STATE_FOLDER_H
#define DAEMON_STATE_FOLDER_H

#include "daemon/node/node.h"

/* Takes node->options.state_dir; sets lock_fd, dir_fd, jobs_fd, reserve_fd and store. A refusal is one line. */
int state_folder_open(struct node *node, struct error *error);
void state_folder_close(struct node *node);

#endif
