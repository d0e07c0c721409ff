/* See launcher.h. Role: the choice between the launchers. */
#include "daemon/launch/launcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

/* Only a bertd that is itself a service of root's systemd leaves its jobs to it: one started by hand in a shell may have
 * a state folder of its own that no unit should outlive. */
int launcher_choose(const char *name, enum launcher_kind *ret, struct error *error) {
        static const char *const names[] = LAUNCHER_NAMES;

        if (strcmp(name, "auto") == 0) {
                bool service = sd_booted() > 0 && geteuid() == 0 && getenv("INVOCATION_ID");
                *ret = service ? LAUNCHER_SYSTEMD : LAUNCHER_FORK;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], name) == 0) {
                        *ret = (enum launcher_kind) i;
                        return 0;
                }
        return error_input(error, BERTD_EXIT_USAGE, "--launcher: \"%s\", expected auto, systemd or fork", name);
}
