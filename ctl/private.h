/*
 * A bertd of this process alone (bertd --owner): in its own folder, mode 0700, on a local disk. It ends with this
 * process, jobs first, and removes the folder.
 *
 *   private_start(&private, options, &error)
 *   private_look(&private, &error)     after SIGCHLD: starts it again if it died; its jobs continue
 *   private_end(&private)              also after an error
 */
#ifndef CTL_PRIVATE_H
#define CTL_PRIVATE_H

#include <sys/types.h>

#include "common/error.h"

struct private_options {
        const char *slots, *gpus; /* bertd's --slots and --gpus; NULL: what it finds */
};

struct private {
        struct private_options options;
        char *program, *folder, *socket;
        pid_t pid; /* 0: does not run */
        unsigned starts;
};

/* Returns when it answers. `options` are borrowed. */
int private_start(struct private *private, const struct private_options *options, struct error *error);

/* Reaps it if it has died, and starts it again, a bounded number of times. */
int private_look(struct private *private, struct error *error);

/* Shuts it down and waits until it has ended; bounded. */
void private_end(struct private *private);

#endif
