/* bertctl drain and undrain: whether this host starts and lends anything new. */
#include <stdio.h>

#include "common/cleanup.h"
#include "ctl/command.h"

int command_drain(struct ctl *ctl, int argc, char **argv) {
        const char *reason = "";
        bool move = false;
        const struct option_spec options[] = {
                { .name = "reason",
                  .kind = OPTION_STRING,
                  .value = &reason,
                  .argument = "TEXT",
                  .help = "shown to those whose jobs wait" },
                { .name = "move",
                  .kind = OPTION_FLAG,
                  .value = &move,
                  .help = "ask jobs of other hosts that use this one to checkpoint and leave" },
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 0, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_call(client, "Drain", NULL, &ctl->error, "sb", reason, (int) move);
        if (r == 0 && ctl->term.tty)
                (void) printf("nothing new starts here until `bertctl undrain`; running jobs continue\n");
        return command_exit(ctl, r);
}

int command_undrain(struct ctl *ctl, int argc, char **argv) {
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, NULL, 0, argc, argv, 0, 0, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_call(client, "Undrain", NULL, &ctl->error, "");
        return command_exit(ctl, r);
}
