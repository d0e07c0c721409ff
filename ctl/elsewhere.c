/* See elsewhere.h. Nothing of another host is trusted: its JSON is bounded, its texts are made harmless (term.h). */
#include "ctl/elsewhere.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/hosts.h"
#include "common/json_read.h"
#include "ctl/remote.h"
#include "ctl/table.h"

#define NOISE_MAX 1000 /* lines before an answer */

struct answers {
        struct host_list hosts;
        struct remote remotes[BERTD_HOSTS_MAX];
        json_t *values[BERTD_HOSTS_MAX]; /* NULL: that host failed */
        bool failed;
        uint32_t n_unknown; /* hosts that have no such job */
};

static void answers_clear(struct answers *a) {
        for (uint32_t i = 0; i < a->hosts.n; i++) {
                remote_clear(&a->remotes[i]);
                json_decref(a->values[i]);
        }
        hosts_clear(&a->hosts);
}
#define cleanup_answers cleanup(answers_clear)

static void say(struct answers *a, uint32_t i, const struct term *term, const char *text) {
        const struct term plain = { .utf8 = term->utf8 };

        a->failed = true;
        (void) fprintf(stderr, "bertctl: %s: ", a->hosts.names[i]);
        (void) text_put(stderr, &plain, text, 0);
        (void) fputc('\n', stderr);
}

/* An object, or a list of objects: "[1] 4242" is a shell's. */
static bool is_answer(const json_t *value) {
        const json_t *first = json_array_get(value, 0);

        return json_is_object(value) || (json_is_array(value) && (!first || json_is_object(first)));
}

/* What a .bashrc or .bash_logout prints comes before and after the JSON, which begins a line. */
static json_t *read_answer(const struct remote *h, char begin) {
        const char *at = h->output, *line;

        for (unsigned i = 0; at && *at && i < NOISE_MAX; i++) {
                json_t *value = NULL;
                if (*at == begin)
                        value = json_loadb(at, h->size - (size_t) (at - h->output),
                                           JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, NULL);
                if (is_answer(value))
                        return value;
                json_decref(value);
                line = strchr(at, '\n');
                at = line ? line + 1 : NULL;
        }
        return NULL;
}

/* Asks all; `begin` is '[' or '{'. */
static int ask(struct ctl *ctl, const char *hosts, const char *command, char begin, struct answers *a) {
        char problem[REMOTE_SAID_MAX];

        int r = hosts_add(&a->hosts, hosts, &ctl->error);
        if (r < 0) {
                ctl->error.exit = BERTCTL_EXIT_USAGE;
                return error_prefix(&ctl->error, "-H");
        }
        for (uint32_t i = 0; i < a->hosts.n; i++)
                a->remotes[i].host = a->hosts.names[i];
        remote_run(a->remotes, a->hosts.n, command, NULL, 0, REMOTE_USEC);
        for (uint32_t i = 0; i < a->hosts.n; i++) {
                const struct remote *h = &a->remotes[i];
                if (remote_problem(h, problem, sizeof(problem))[0]) {
                        say(a, i, &ctl->term, problem);
                        a->n_unknown += WIFEXITED(h->status) && WEXITSTATUS(h->status) == BERTCTL_EXIT_NO_SUCH_JOB;
                        continue;
                }
                a->values[i] = read_answer(h, begin);
                if (!a->values[i])
                        say(a, i, &ctl->term, "its bertctl printed no JSON; is it of another version?");
        }
        return 0;
}

static int exit_code(struct ctl *ctl, const struct answers *a, int r) {
        if (r < 0 || !a->failed)
                return r < 0 ? command_exit(ctl, r) : BERTCTL_EXIT_OK;
        return a->n_unknown == a->hosts.n ? BERTCTL_EXIT_NO_SUCH_JOB : BERTCTL_EXIT_FAILED;
}

/* In ASCII: some terminals obey characters of C1. */
static int print_json(json_t *all) {
        int r = json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9) | JSON_ENSURE_ASCII);

        json_decref(all);
        (void) putchar('\n');
        return r < 0 ? -EIO : 0; /* main reports the output's error */
}

/* ---- a table of jobs ---- */

static const struct table_column columns[] = {
        { .title = "HOST", .flags = TABLE_FLEX, .min_width = 4 },
        { .title = "ID", .flags = TABLE_RIGHT },
        { .title = "NAME", .flags = TABLE_FLEX, .min_width = 14 },
        { .title = "USER", .flags = TABLE_FLEX, .min_width = 6, .drop = 4 },
        { .title = "STATE" },
        { .title = "STEP", .flags = TABLE_RIGHT, .drop = 2 },
        { .title = "LOSS", .flags = TABLE_RIGHT, .drop = 3 },
        { .title = "RANKS", .flags = TABLE_RIGHT, .drop = 7 },
        { .title = "GPUS", .flags = TABLE_RIGHT, .drop = 6 },
        { .title = "REASON", .flags = TABLE_FLEX, .min_width = 28, .drop = 1 },
};

static void number_cell(struct table *table, const json_t *job, const char *key, enum style style) {
        const json_t *value = json_object_get(job, key);

        if (json_is_integer(value) && json_integer_value(value) != 0)
                table_cell(table, style, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        else if (json_is_real(value))
                table_cell(table, style, "%.4f", json_real_value(value));
        else
                table_cell(table, style, "%s", "");
}

/* Of each host, and the hosts: as in list. */
static void ranks_cell(struct table *table, const json_t *job) {
        json_int_t hosts = json_integer_value(json_object_get(job, "use"));

        if (hosts > 1)
                table_cell(table, STYLE_NONE, "%" JSON_INTEGER_FORMAT "x%" JSON_INTEGER_FORMAT,
                           json_integer_value(json_object_get(job, "ranks")), hosts);
        else
                number_cell(table, job, "ranks", STYLE_NONE);
}

static void add_row(struct table *table, const char *host, const json_t *job) {
        table_cell(table, STYLE_BOLD, "%s", host);
        number_cell(table, job, "id", STYLE_BOLD);
        table_cell(table, STYLE_NONE, "%s", json_text_or_empty(job, "name"));
        table_cell(table, STYLE_NONE, "%s", json_text_or_empty(job, "user"));
        table_cell(table, STYLE_NONE, "%s", json_text_or_empty(job, "state"));
        number_cell(table, job, "step", STYLE_NONE);
        number_cell(table, job, "loss", STYLE_NONE);
        ranks_cell(table, job);
        number_cell(table, job, "gpus", STYLE_NONE);
        table_cell(table, STYLE_DIM, "%s", json_text_or_empty(job, "reason"));
}

static void add_rows(struct table *table, const char *host, const json_t *jobs) {
        const json_t *job;
        size_t i;

        json_array_foreach(jobs, i, job) {
                if (json_is_object(job))
                        add_row(table, host, job);
        }
}

/* ---- list ---- */

static int list_json(const struct answers *a) {
        json_t *all = json_array();

        for (uint32_t i = 0; i < a->hosts.n; i++) {
                json_t *job;
                size_t k;
                json_array_foreach(a->values[i], k, job) {
                        (void) json_object_set_new(job, "host", json_string(a->hosts.names[i]));
                        (void) json_array_append(all, job);
                }
        }
        return print_json(all);
}

int elsewhere_list(struct ctl *ctl, const struct elsewhere_options *o) {
        char command[128], lines[32] = "";
        cleanup_answers struct answers a = {};

        if (o->limit > 0)
                (void) snprintf(lines, sizeof(lines), " -n %" PRIu64, o->limit);
        (void) snprintf(command, sizeof(command), "bertctl list --json%s%s", o->active ? " --active" : "", lines);
        int r = ask(ctl, o->hosts, command, '[', &a);
        if (r >= 0 && o->json)
                r = list_json(&a);
        else if (r >= 0) {
                cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));
                for (uint32_t i = 0; i < a.hosts.n; i++)
                        add_rows(table, a.hosts.names[i], a.values[i]);
                r = table_print(table, stdout, &ctl->term, 0, &ctl->error);
        }
        return exit_code(ctl, &a, r);
}

/* ---- status ---- */

static json_int_t count_at(const json_t *object, const char *key) {
        return json_integer_value(json_object_get(object, key));
}

static void print_daemon(const struct term *term, const char *host, const json_t *daemon) {
        const char *draining = json_text_or_empty(daemon, "draining");
        cleanup_free char *line = format_string(
                "%s  bertd %s  %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " slots, %" JSON_INTEGER_FORMAT
                " of %" JSON_INTEGER_FORMAT " GPUs in use%s%s",
                host, json_text_or_empty(daemon, "version"), count_at(daemon, "slots_used"), count_at(daemon, "slots"),
                count_at(daemon, "gpus_used"), count_at(daemon, "gpus"), draining[0] ? "  drained: " : "", draining);

        (void) text_put(stdout, term, line ? line : host, term->width);
        (void) putchar('\n');
}

static int print_overviews(struct ctl *ctl, const struct answers *a) {
        static const char *const sections[] = { "running", "waiting", "paused" };
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));

        for (uint32_t i = 0; i < a->hosts.n; i++) {
                if (!a->values[i])
                        continue;
                print_daemon(&ctl->term, a->hosts.names[i], json_object_get(a->values[i], "daemon"));
                for (size_t k = 0; k < ELEMENTSOF(sections); k++)
                        add_rows(table, a->hosts.names[i], json_object_get(a->values[i], sections[k]));
        }
        if (!table || table_rows(table) == 0)
                return 0;
        (void) putchar('\n');
        return table_print(table, stdout, &ctl->term, 0, &ctl->error);
}

/* One job of that id or name on each host that has it. */
static int print_jobs(struct ctl *ctl, const struct answers *a) {
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));

        for (uint32_t i = 0; i < a->hosts.n; i++)
                if (a->values[i])
                        add_row(table, a->hosts.names[i], a->values[i]);
        return table_print(table, stdout, &ctl->term, 0, &ctl->error);
}

static int status_json(const struct answers *a) {
        json_t *all = json_array();

        for (uint32_t i = 0; i < a->hosts.n; i++)
                if (a->values[i]) {
                        (void) json_object_set_new(a->values[i], "host", json_string(a->hosts.names[i]));
                        (void) json_array_append(all, a->values[i]);
                }
        return print_json(all);
}

/* For the shell there. */
static char *quoted(const char *word) {
        cleanup_free char *text = malloc(4 * strlen(word) + 3);
        char *to = text;

        if (!text)
                return NULL;
        *to++ = '\'';
        for (; *word; word++)
                if (*word == '\'')
                        to = stpcpy(to, "'\"'\"'");
                else
                        *to++ = *word;
        *to++ = '\'';
        *to = '\0';
        return steal_pointer(&text);
}

int elsewhere_status(struct ctl *ctl, const struct elsewhere_options *o) {
        cleanup_free char *word = o->job ? quoted(o->job) : NULL;
        cleanup_free char *command = format_string("bertctl status --json%s%s", word ? " -- " : "", word ? word : "");
        cleanup_answers struct answers a = {};

        if (!command || (o->job && !word))
                return command_exit(ctl, error_input(&ctl->error, BERTCTL_EXIT_FAILED, "out of memory"));
        int r = ask(ctl, o->hosts, command, '{', &a);
        if (r >= 0)
                r = o->json ? status_json(&a) : o->job ? print_jobs(ctl, &a) : print_overviews(ctl, &a);
        return exit_code(ctl, &a, r);
}
