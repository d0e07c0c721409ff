/* bertctl wait, and the waiting half of submit --wait. Waiting outlives restarts of the daemon (client_wait_job). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"

/* A job that is done has a reason where it left something behind. */
static void tell_done(struct client *client, uint64_t id) {
        cleanup_job_info struct job_info job = {};
        struct error ignored = {};

        if (client_get_job(client, id, &job, &ignored) >= 0 && text_of(job.reason)[0])
                (void) fprintf(stderr, "bertctl: job %" PRIu64 " is done: %s\n", id, job.reason);
}

int wait_and_tell(struct ctl *ctl, struct client *client, uint64_t id, bool json) {
        cleanup_free char *state = NULL;
        cleanup_job_info struct job_info job = {};

        int r = client_wait_job(client, id, &state, &ctl->error);
        if (r < 0)
                return command_exit(ctl, r);
        bool done = job_state_from_name(state) == JOB_DONE;
        if (json || !done)
                r = client_get_job(client, id, &job, &ctl->error);
        if (r == 0 && json)
                r = json_print(stdout, json_job(&job), &ctl->error);
        if (r < 0)
                return command_exit(ctl, r);
        if (!done)
                (void) error_input(
                        &ctl->error, BERTCTL_EXIT_FAILED, "job %" PRIu64 " %s %s%s%s", id,
                        job_state_from_name(state) == JOB_PAUSED || job_state_from_name(state) == JOB_CANCELLED ? "is"
                                                                                                                : "has",
                        state, text_of(job.reason)[0] ? ": " : "", text_of(job.reason));
        else if (!json)
                tell_done(client, id);
        return done ? BERTCTL_EXIT_OK : BERTCTL_EXIT_FAILED;
}

int command_wait(struct ctl *ctl, int argc, char **argv) {
        bool json = false;
        const struct option_spec options[] = { OPTION_JSON(json) };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        uint64_t id;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        return r < 0 ? command_exit(ctl, r) : wait_and_tell(ctl, client, id, json);
}
