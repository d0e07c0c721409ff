/* bertctl list: one line a job, newest first. On a terminal the newest LIST_TERMINAL_MAX, unless asked for more. */
#include <inttypes.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "ctl/command.h"
#include "ctl/elsewhere.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/surroundings.h"
#include "ctl/table.h"

#define LIST_TERMINAL_MAX 100

static const struct table_column columns[] = {
        { .title = "ID", .flags = TABLE_RIGHT },
        { .title = "NAME", .flags = TABLE_FLEX, .min_width = 14 },
        { .title = "USER", .flags = TABLE_FLEX, .min_width = 6, .drop = 4 },
        { .title = "STATE" },
        { .title = "STEP", .flags = TABLE_RIGHT, .drop = 2 },
        { .title = "LOSS", .flags = TABLE_RIGHT, .drop = 3 },
        { .title = "RATE", .flags = TABLE_RIGHT, .drop = 6 },
        { .title = "ETA", .flags = TABLE_RIGHT, .drop = 3 },
        { .title = "RANKS", .flags = TABLE_RIGHT, .drop = 7 },
        { .title = "GPUS", .flags = TABLE_RIGHT, .drop = 7 },
        { .title = "TRIES", .flags = TABLE_RIGHT, .drop = 5 },
        { .title = "AGE", .flags = TABLE_RIGHT, .drop = 4 },
        { .title = "REASON", .flags = TABLE_FLEX, .min_width = 28, .drop = 1 },
};

static void add_row(struct table *table, const struct job_info *job) {
        char buffer[FORMAT_MAX];
        uint64_t eta;

        table_cell(table, STYLE_BOLD, "%" PRIu64, job->id);
        table_cell(table, STYLE_NONE, "%s", text_of(job->name));
        table_cell(table, STYLE_NONE, "%s", text_of(job->user));
        table_cell(table, job_style(job), "%s", text_of(job->state));
        table_cell(table, STYLE_NONE, "%s", format_steps(job, buffer));
        table_cell(table, STYLE_NONE, "%s", format_loss(job->loss, buffer));
        table_cell(table, STYLE_NONE, "%s", format_rate(job->rate, buffer));
        table_cell(table, STYLE_NONE, "%s", job_eta(job, &eta) ? format_short_duration(eta, buffer) : "");
        if (job->use > 1) /* of each host, and the hosts */
                table_cell(table, STYLE_NONE, "%" PRIu64 "x%" PRIu64, job->ranks, job->use);
        else
                table_cell(table, STYLE_NONE, "%" PRIu64, job->ranks);
        if (job->gpus > 0)
                table_cell(table, STYLE_NONE, "%" PRIu64, job->gpus);
        else
                table_cell(table, STYLE_NONE, "%s", "");
        table_cell(table, STYLE_NONE, "%" PRIu64, job->attempts);
        table_cell(table, STYLE_NONE, "%s", format_age(job->submitted, buffer));
        table_cell(table, STYLE_DIM, "%s", text_of(job->reason));
}

static void print_held(struct client *client) {
        cleanup_daemon_info struct daemon_info daemon = {};
        struct error ignored = {};

        if (client_get_daemon(client, &daemon, &ignored) == 0 && daemon.held > 0)
                (void) fprintf(stderr,
                               "bertctl: %" PRIu64
                               " ended jobs hold checkpoints in the state folder; they are kept until "
                               "`bertctl rm`\n",
                               daemon.held);
}

/* Nothing at all, also nothing that has ended. */
static void look_beside(struct client *client) {
        cleanup_daemon_info struct daemon_info daemon = {};
        struct error ignored = {};
        uint64_t jobs = 0;

        if (client_get_daemon(client, &daemon, &ignored) < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(daemon.counts); i++)
                jobs += daemon.counts[i];
        if (jobs == 0)
                surroundings_tell_other_state(text_of(daemon.state_dir));
}

static int print_table(struct ctl *ctl, const struct job_list *list) {
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));

        for (size_t i = 0; i < list->n; i++)
                add_row(table, &list->jobs[i]);
        return table_print(table, stdout, &ctl->term, 0, &ctl->error);
}

int command_list(struct ctl *ctl, int argc, char **argv) {
        bool json = false, all = false, active = false;
        const char *hosts = NULL;
        uint64_t limit = 0;
        const struct option_spec options[] = {
                { .name = "all",
                  .letter = 'a',
                  .kind = OPTION_FLAG,
                  .value = &all,
                  .help = "show all jobs, not only the newest 100" },
                { .name = "active",
                  .kind = OPTION_FLAG,
                  .value = &active,
                  .help = "show only jobs that have not ended" },
                { .name = "lines",
                  .letter = 'n',
                  .kind = OPTION_U64,
                  .value = &limit,
                  .min = 1,
                  .max = 1000000,
                  .argument = "N",
                  .help = "show at most N jobs" },
                OPTION_HOSTS(hosts),
                OPTION_JSON(json),
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_job_list struct job_list list = {};

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 0, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (hosts)
                return elsewhere_list(ctl, &(struct elsewhere_options) {
                                                   .hosts = hosts, .active = active, .json = json, .limit = limit });
        bool bounded = limit == 0 && !all && !json && ctl->term.tty;
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_list_jobs(client, active, bounded ? LIST_TERMINAL_MAX : limit, &list, &ctl->error);
        if (r == 0)
                r = json ? json_print(stdout, json_jobs(&list), &ctl->error) : print_table(ctl, &list);
        if (r == 0 && bounded && list.n == LIST_TERMINAL_MAX && list.jobs[list.n - 1].id > 1)
                (void) fprintf(stderr, "bertctl: showing the newest %d jobs; use --all for the rest\n",
                               LIST_TERMINAL_MAX);
        if (r == 0 && all && ctl->term.tty)
                print_held(client);
        if (r == 0 && list.n == 0)
                look_beside(client);
        return command_exit(ctl, r);
}
