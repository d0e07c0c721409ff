/* Where and how bertctl itself runs, as far as a job will run so, or will not. */
#ifndef CTL_SURROUNDINGS_H
#define CTL_SURROUNDINGS_H

#include <systemd/sd-bus.h>

#include "common/error.h"

/* The environment to send: what is the job's, all of it UTF-8. The vector is the caller's, its strings are not. */
int surroundings_environment(char ***ret, struct error *error);

/* The current folder, where a job can go by its name; else refused by that name, with BERTCTL_EXIT_USAGE. Caller frees.
 */
int surroundings_folder(char **ret_cwd, struct error *error);

/* The keys of Submit for umask, limits, niceness and CPUs. Returns −errno of sd-bus. */
int surroundings_append(sd_bus_message *m);

/* One line on stderr where standard input has something to read: a job never does. */
void surroundings_tell_stdin(void);

/* One line on stderr if the folder beside a bertd's own, of another machine-id, has jobs: a host that was cloned or
 * reinstalled has another one, and its bertd begins with nothing. */
void surroundings_tell_other_state(const char *state_dir);

#endif
