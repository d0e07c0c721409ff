/* `bertctl receive`: stores copies of another host's checkpoints (common/copies.h), which its bertd-shim sends over
 * ssh. Needs no bertd. */
#include <unistd.h>

#include "bertd/exit.h"
#include "common/copies.h"
#include "ctl/command.h"

int command_receive(struct ctl *ctl, int argc, char **argv) {
        struct arguments arguments;

        int r = command_begin(ctl, NULL, 0, argc, argv, 0, 0, &arguments);
        if (r > 0)
                r = copies_receive(STDIN_FILENO, STDOUT_FILENO, &ctl->error);
        return command_exit(ctl, r);
}
