/* bertctl checkpoints: bertd's ledger of a job's checkpoints, newest first. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/table.h"

static const struct table_column columns[] = {
        { .title = "STEP", .flags = TABLE_RIGHT },
        { .title = "SIZE", .flags = TABLE_RIGHT, .drop = 1 },
        { .title = "STATE" },
        { .title = "ATTEMPT", .flags = TABLE_RIGHT, .drop = 3 },
        { .title = "RESTORED", .flags = TABLE_RIGHT, .drop = 3 },
        { .title = "AGE", .flags = TABLE_RIGHT, .drop = 2 },
        { .title = "PATH", .flags = TABLE_FLEX, .min_width = 16 },
};

static void add_row(struct table *table, const struct checkpoint_info *checkpoint) {
        char buffer[FORMAT_MAX];
        bool good = strcmp(text_of(checkpoint->state), "good") == 0;

        table_cell(table, STYLE_BOLD, "%" PRIu64, checkpoint->step);
        table_cell(table, STYLE_NONE, "%s", format_bytes(checkpoint->size, buffer));
        table_cell(table, good ? STYLE_GREEN : STYLE_YELLOW, "%s", text_of(checkpoint->state));
        table_cell(table, STYLE_NONE, "%" PRIu64, checkpoint->attempt);
        table_cell(table, STYLE_NONE, "%" PRIu64, checkpoint->restored);
        table_cell(table, STYLE_NONE, "%s", format_age(checkpoint->created, buffer));
        table_cell(table, STYLE_NONE, "%s", text_of(checkpoint->path));
}

/* Retention deletes all day; such a row is worth a line where an attempt began from it. */
static bool is_of_interest(const struct checkpoint_info *checkpoint) {
        return strcmp(text_of(checkpoint->state), "deleted") != 0 || checkpoint->restored > 0;
}

/* One page, into the array if not NULL, else into the table, which skips *hidden rows. *before is the oldest step by
 * now. Returns how many there were. */
static int read_page(struct client *client, uint64_t id, uint64_t *before, json_t *array, struct table *table, bool all,
                     unsigned *hidden, struct error *error) {
        cleanup_message sd_bus_message *reply = NULL;
        int n = 0;

        int r = client_call(client, "ListCheckpoints", &reply, error, "tt", id, *before);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        while (r >= 0) {
                struct checkpoint_info checkpoint;
                r = checkpoint_info_read(reply, &checkpoint);
                /* Pages must go down, or a broken daemon would make this an endless loop. */
                if (r > 0 && *before > 0 && checkpoint.step >= *before)
                        r = -EBADMSG;
                if (r > 0) {
                        *before = checkpoint.step;
                        n++;
                }
                checkpoint_info_look(&checkpoint);
                if (r > 0 && array)
                        (void) json_array_append_new(array, json_checkpoint(&checkpoint));
                else if (r > 0 && !all && !is_of_interest(&checkpoint))
                        (*hidden)++;
                else if (r > 0)
                        add_row(table, &checkpoint);
                checkpoint_info_clear(&checkpoint);
                if (r == 0)
                        return n;
        }
        return client_bad_message(error, r, "ListCheckpoints");
}

int command_checkpoints(struct ctl *ctl, int argc, char **argv) {
        bool json = false, all = false;
        unsigned hidden = 0;
        const struct option_spec options[] = {
                { .name = "all",
                  .letter = 'a',
                  .kind = OPTION_FLAG,
                  .value = &all,
                  .help = "list also deleted ones that no attempt started from" },
                OPTION_JSON(json),
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));
        cleanup_json json_t *array = NULL;
        uint64_t id, before = 0;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (json)
                array = json_array();
        do
                r = r < 0 ? r : read_page(client, id, &before, array, table, all, &hidden, &ctl->error);
        while (r > 0 && before > 0);
        r = r < 0 ? r : 0;
        if (r == 0)
                r = json ? json_print(stdout, steal_pointer(&array), &ctl->error)
                         : table_print(table, stdout, &ctl->term, 0, &ctl->error);
        if (r == 0 && !json && hidden > 0)
                (void) printf("%u deleted checkpoints are not shown; use --all\n", hidden);
        return command_exit(ctl, r);
}
