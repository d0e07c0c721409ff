/* bertctl events: a job's transitions, oldest first, read page by page. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/table.h"

#define PAGE BERTD_LIST_PAGE_MAX

struct event {
        uint64_t id, time;
        const char *from, *to, *what, *reason,
                *exit_class; /* borrowed from the message; class empty: no attempt ended */
        uint64_t step, lost;
};

static const struct table_column columns[] = {
        { .title = "TIME" },
        { .title = "STATE" },
        { .title = "WHAT", .flags = TABLE_FLEX, .min_width = 10 },
        { .title = "CLASS", .drop = 3 },
        { .title = "STEP", .flags = TABLE_RIGHT, .drop = 4 },
        { .title = "LOST", .flags = TABLE_RIGHT, .drop = 5 },
        { .title = "REASON", .flags = TABLE_FLEX, .min_width = 16, .drop = 2 },
};

struct output {
        json_t *array; /* or NULL: */
        struct table *table;
};

/* The three cells that only the end of an attempt fills. */
static void add_end(struct table *table, const struct event *event) {
        table_cell(table, STYLE_NONE, "%s", event->exit_class);
        if (event->exit_class[0]) {
                table_cell(table, STYLE_NONE, "%" PRIu64, event->step);
                table_cell(table, STYLE_NONE, "%" PRIu64, event->lost);
                return;
        }
        table_cell(table, STYLE_NONE, "%s", "");
        table_cell(table, STYLE_NONE, "%s", "");
}

static void add_event(const struct output *output, const struct event *event) {
        char when[FORMAT_MAX];

        if (!output->array) {
                table_cell(output->table, STYLE_NONE, "%s", format_local_time(event->time, when));
                bool moved = strcmp(event->from, event->to) != 0 && event->from[0];
                table_cell(output->table, job_style(&(struct job_info) { .state = (char *) event->to }), "%s%s%s",
                           moved ? event->from : "", moved ? " -> " : "", event->to);
                table_cell(output->table, STYLE_NONE, "%s", event->what);
                add_end(output->table, event);
                table_cell(output->table, STYLE_NONE, "%s", event->reason);
                return;
        }
        json_t *object = json_object();
        (void) json_object_set_new(object, "id", json_count(event->id));
        (void) json_object_set_new(object, "time", json_time(event->time));
        (void) json_object_set_new(object, "from", json_text(event->from));
        (void) json_object_set_new(object, "to", json_text(event->to));
        (void) json_object_set_new(object, "what", json_text(event->what));
        (void) json_object_set_new(object, "reason", json_text(event->reason));
        (void) json_object_set_new(object, "class", json_text(event->exit_class));
        (void) json_object_set_new(object, "step", json_count(event->step));
        (void) json_object_set_new(object, "lost_steps", json_count(event->lost));
        (void) json_array_append_new(output->array, object);
}

/* Returns how many events the page had; *after moves to the last one. */
static int read_page(struct client *client, uint64_t job, uint64_t *after, const struct output *output,
                     struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;
        struct event event;
        int n = 0;

        int r = client_call(client, "GetEvents", &reply, error, "ttu", job, *after, (uint32_t) PAGE);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "(ttssssstt)");
        while (r >= 0 &&
               (r = sd_bus_message_read(reply, "(ttssssstt)", &event.id, &event.time, &event.from, &event.to,
                                        &event.what, &event.reason, &event.exit_class, &event.step, &event.lost)) > 0) {
                /* Ids must go up, or a broken daemon would make this an endless loop. */
                if (event.id <= *after)
                        return client_bad_message(error, -EBADMSG, "GetEvents");
                *after = event.id;
                add_event(output, &event);
                n++;
        }
        return r < 0 ? client_bad_message(error, r, "GetEvents") : n;
}

int command_events(struct ctl *ctl, int argc, char **argv) {
        bool json = false;
        const struct option_spec options[] = { OPTION_JSON(json) };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));
        cleanup_json json_t *array = NULL;
        uint64_t id, after = 0;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (json)
                array = json_array();
        while (r >= 0) {
                r = read_page(client, id, &after, &(struct output) { .array = array, .table = table }, &ctl->error);
                if (r <= 0)
                        break;
        }
        if (r == 0)
                r = json ? json_print(stdout, steal_pointer(&array), &ctl->error)
                         : table_print(table, stdout, &ctl->term, 0, &ctl->error);
        return command_exit(ctl, r);
}
