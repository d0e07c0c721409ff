/* See launcher.h. Role: the choice between the launchers. */
#include "daemon/launch/launcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"

/* Uses systemd only if bertd itself is a service of root's systemd: one started in a shell may have a temporary state
 * folder that no unit should outlive. */
int launcher_choose(const char *name, enum launcher_kind *ret, struct error *error) {
        static const char *const names[] = { "auto", "systemd", "fork" };
        int choice = usage_choice("--launcher", name, names, ELEMENTSOF(names), error);

        if (choice < 0)
                return choice;
        bool service = sd_booted() > 0 && geteuid() == 0 && getenv("INVOCATION_ID");
        *ret = choice == 1 || (choice == 0 && service) ? LAUNCHER_SYSTEMD : LAUNCHER_FORK;
        return 0;
}
