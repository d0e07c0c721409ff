/* bertctl version: this program's and that of the daemon that answers. */
#include <inttypes.h>
#include <stdio.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"

static uint64_t protocol_of(const struct daemon_info *daemon) { return daemon->protocol > 0 ? daemon->protocol : 1; }

static json_t *json_versions(const struct daemon_info *daemon, const char *socket) {
        json_t *object = json_object();

        (void) json_object_set_new(object, "bertctl", json_string(BERTD_VERSION));
        (void) json_object_set_new(object, "bertctl_protocol", json_count(BERTD_PROTOCOL));
        (void) json_object_set_new(object, "bertd", json_text(daemon->version));
        (void) json_object_set_new(object, "bertd_protocol", json_count(protocol_of(daemon)));
        (void) json_object_set_new(object, "pid", json_count(daemon->pid));
        (void) json_object_set_new(object, "socket", json_text(socket));
        return object;
}

int command_version(struct ctl *ctl, int argc, char **argv) {
        bool json = false;
        const struct option_spec options[] = { OPTION_JSON(json) };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_daemon_info struct daemon_info daemon = {};

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 0, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (!json) {
                (void) printf("bertctl %s (protocol %d)\n", BERTD_VERSION, BERTD_PROTOCOL);
                (void) fflush(stdout);
        }
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_get_daemon(client, &daemon, &ctl->error);
        if (r == 0 && json)
                r = json_print(stdout, json_versions(&daemon, client_socket(client)), &ctl->error);
        else if (r == 0)
                (void) printf("bertd %s (protocol %" PRIu64 ", pid %" PRIu64 ", %s)\n", text_of(daemon.version),
                              protocol_of(&daemon), daemon.pid, client_socket(client));
        return command_exit(ctl, r);
}
