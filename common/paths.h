/* Where the daemon's state and socket are (contract C1). Pure except for the environment, the uid and /etc/machine-id.
 */
#ifndef COMMON_PATHS_H
#define COMMON_PATHS_H

#include "common/error.h"

#define BERTD_SYSTEM_STATE_DIR "/var/lib/bertd"
#define BERTD_SYSTEM_SOCKET "/run/bertd/bertd.sock"
#define BERTD_STATE_DB "state.db"

/* The state folder: `override` (--state-dir, may be NULL), BERTD_STATE_DIR, as root the system daemon's, else the
 * user's. Caller frees. */
int paths_state_dir(const char *override, char **ret_path, struct error *error);

/* The daemon's socket to listen on: `override` (--socket, may be NULL), BERTD_SOCKET, as root the system daemon's, else
 * the user's
 * ($XDG_RUNTIME_DIR/bertd/bertd.sock, else in the state folder). Caller frees. Paths longer than sun_path are refused.
 */
int paths_socket(const char *override, const char *state_dir, char **ret_path, struct error *error);

/* The socket of the user's daemon, for bertctl: in $XDG_RUNTIME_DIR, or in the state folder if only that one exists
 * (used by a daemon that outlives its user's sessions without linger). Caller frees. */
int paths_user_socket(char **ret_path, struct error *error);

/* A path typed by a user: absolute, relative to `base`, or relative to the home folder if it starts with "~/" or is
 * "~", which a shell does not expand in "--option=~/x". Caller frees. */
int paths_expand(const char *base, const char *path, char **ret_path, struct error *error);

#endif
