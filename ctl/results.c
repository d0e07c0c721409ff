/*
 * bertctl results: compares the jobs of an array, one line per job, and prints means over seeds. A job's keys are in
 * its name (array.h); its figures come from its run folder's metrics.jsonl, read with the caller's own rights: the best
 * validation and the test.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "ctl/array.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/table.h"

#define ROW_MAX 65536 /* bytes; a longer line is not a row of the trainer */
#define SEED "seed"

/* NaN: none. Accuracies are of the classes or, without classes, of masked words. */
struct figures {
        double loss, accuracy, test_loss, test_accuracy;
};
#define NO_FIGURES \
        (struct figures) { NAN, NAN, NAN, NAN }
enum { N_FIGURES = sizeof(struct figures) / sizeof(double) };
static const char *const figure_names[N_FIGURES] = { "loss", "accuracy", "test_loss", "test_accuracy" };

struct member {
        struct job_info *job; /* borrowed */
        char *label;          /* "learning_rate=2e-5,seed=1" taken apart; owned */
        char *keys[ARRAY_AXES_MAX], *values[ARRAY_AXES_MAX];
        size_t n;
        union {
                struct figures figures;
                double numbers[N_FIGURES];
        };
};

struct members {
        struct member *list;
        size_t n;
};

static void members_free(struct members *members) {
        for (size_t i = 0; i < members->n; i++)
                free(members->list[i].label);
        free(members->list);
}
#define cleanup_members cleanup(members_free)

/* ---- from names to members ---- */

/* Whether the job is of that array: its label begins at *ret. */
static bool is_member(const char *name, const char *array, const char **ret, size_t *ret_size) {
        size_t n = strlen(array), all = strlen(name);

        if (all < n + 3 || strncmp(name, array, n) != 0 || name[n] != '[' || name[all - 1] != ']')
                return false;
        *ret = name + n + 1;
        *ret_size = all - n - 2;
        return true;
}

static void take_apart(struct member *member) {
        char *rest = member->label;

        for (char *pair; (pair = strsep(&rest, ",")) && member->n < ARRAY_AXES_MAX;) {
                char *equals = strchr(pair, '=');
                if (!equals)
                        continue;
                *equals = '\0';
                member->keys[member->n] = pair;
                member->values[member->n++] = equals + 1;
        }
}

static bool same_keys(const struct member *a, const struct member *b) {
        for (size_t i = 0; i < a->n && a->n == b->n; i++)
                if (strcmp(a->keys[i], b->keys[i]) != 0)
                        return false;
        return a->n == b->n;
}

static bool is_known(const struct members *all, const char *name) {
        for (size_t i = 0; i < all->n; i++)
                if (strcmp(all->list[i].job->name, name) == 0)
                        return true;
        return false;
}

/* The caller's jobs, or for root those of the newest one's user; with the keys of the newest, since others are another
 * array; of several jobs of one name the newest, which the list has first. Then in the order of submission. */
static int collect(const struct job_list *jobs, const char *array, struct members *ret, struct error *error) {
        uint64_t uid = geteuid();
        size_t others = 0;

        ret->list = calloc(jobs->n + 1, sizeof(*ret->list));
        if (!ret->list)
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        for (size_t i = 0; i < jobs->n; i++) {
                const char *label = NULL;
                size_t size = 0;
                if (!is_member(text_of(jobs->jobs[i].name), array, &label, &size))
                        continue;
                if (uid == 0 && ret->n == 0)
                        uid = jobs->jobs[i].uid;
                if (jobs->jobs[i].uid != uid || is_known(ret, jobs->jobs[i].name))
                        continue;
                struct member *member = &ret->list[ret->n];
                *member = (struct member) { .job = &jobs->jobs[i], .label = strndup(label, size) };
                if (!member->label)
                        return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
                take_apart(member);
                if (ret->n == 0 || same_keys(&ret->list[0], member)) {
                        ret->n++;
                        continue;
                }
                free(member->label);
                others++;
        }
        if (others > 0)
                (void) fprintf(stderr, "bertctl: skipping %zu jobs of older arrays with this name and other keys\n",
                               others);
        for (size_t i = 0; i < ret->n / 2; i++) {
                struct member other = ret->list[i];
                ret->list[i] = ret->list[ret->n - 1 - i];
                ret->list[ret->n - 1 - i] = other;
        }
        return ret->n > 0 ? 0
                          : error_input(error, BERTCTL_EXIT_NO_SUCH_JOB,
                                        "no job of an array is named %s[...]; see `bertctl submit --array`", array);
}

/* ---- from metrics.jsonl to figures ---- */

static double number_of(const json_t *row, const char *key) {
        const json_t *value = json_object_get(row, key);
        return json_is_number(value) ? json_number_value(value) : (double) NAN;
}

static double accuracy_of(const json_t *losses) {
        double classes = number_of(losses, "accuracy");
        return isnan(classes) ? number_of(losses, "mlm_accuracy") : classes;
}

/* Of classifiers the most accurate one counts, as the trainer keeps it; of others the least loss. */
static void take_row(const json_t *row, struct figures *figures) {
        const json_t *held_out = json_object_get(row, "validation"), *test = json_object_get(row, "test");
        double loss = number_of(held_out, "loss"), accuracy = accuracy_of(held_out);
        bool classifies = json_object_get(held_out, "accuracy") != NULL;
        bool less = isnan(figures->loss) || loss < figures->loss;

        if (json_is_object(held_out) &&
            (classifies ? !(accuracy <= figures->accuracy) || (accuracy == figures->accuracy && less) : less)) {
                figures->loss = loss;
                figures->accuracy = accuracy;
        }
        if (json_is_object(test)) {
                figures->test_loss = number_of(test, "loss");
                figures->test_accuracy = accuracy_of(test);
        }
}

/* A folder without metrics, or of another user, has no figures. */
static struct figures read_figures(const struct job_info *job) {
        static char line[ROW_MAX];
        double stage = NAN;
        struct figures figures = NO_FIGURES;
        cleanup_free char *path = format_string("%s/metrics.jsonl", text_of(job->run_dir));
        struct stat st;

        int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
        FILE *file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
        if (!file) {
                if (fd >= 0)
                        (void) close(fd);
                return figures;
        }
        while (fgets(line, sizeof(line), file)) {
                if (!strstr(line, "\"validation\": {") && !strstr(line, "\"test\": {"))
                        continue;
                cleanup_json json_t *row = json_loads(line, 0, NULL);
                if (!json_is_object(row))
                        continue;
                if (number_of(row, "stage") > stage) /* of other data: the last stage is what counts */
                        figures = NO_FIGURES;
                stage = number_of(row, "stage");
                take_row(row, &figures);
        }
        (void) fclose(file);
        return figures;
}

/* ---- over seeds ---- */

struct group {
        const struct member *first; /* whose keys but the seed are the group's */
        size_t n[N_FIGURES], members;
        double mean[N_FIGURES], deviation[N_FIGURES];
};

static bool same_but_seed(const struct member *a, const struct member *b) {
        for (size_t i = 0; i < a->n && a->n == b->n; i++)
                if (strcmp(a->keys[i], b->keys[i]) != 0 ||
                    (strcmp(a->keys[i], SEED) != 0 && strcmp(a->values[i], b->values[i]) != 0))
                        return false;
        return a->n == b->n;
}

/* Mean and sample standard deviation (n − 1; NaN for one) of each figure over the group's members that have it. */
static struct group make_group(const struct members *all, const struct member *first) {
        struct group g = { .first = first };

        for (int pass = 0; pass < 2; pass++)
                for (size_t i = 0; i < all->n; i++) {
                        const struct member *m = &all->list[i];
                        if (!same_but_seed(first, m))
                                continue;
                        g.members += pass == 0;
                        for (size_t f = 0; f < N_FIGURES; f++) {
                                double x = m->numbers[f];
                                if (isnan(x))
                                        continue;
                                if (pass == 0)
                                        g.mean[f] += (x - g.mean[f]) / (double) ++g.n[f];
                                else
                                        g.deviation[f] += (x - g.mean[f]) * (x - g.mean[f]);
                        }
                }
        for (size_t f = 0; f < N_FIGURES; f++) {
                g.mean[f] = g.n[f] > 0 ? g.mean[f] : (double) NAN;
                g.deviation[f] = g.n[f] > 1 ? sqrt(g.deviation[f] / (double) (g.n[f] - 1)) : (double) NAN;
        }
        return g;
}

static bool is_first(const struct members *all, size_t i) {
        for (size_t k = 0; k < i; k++)
                if (same_but_seed(&all->list[k], &all->list[i]))
                        return false;
        return true;
}

/* ---- output ---- */

static void figure_cell(struct table *table, double value, double scale, int digits) {
        if (isfinite(value))
                table_cell(table, STYLE_NONE, "%.*f", digits, scale * value);
        else
                table_cell(table, STYLE_DIM, "-");
}

static void mean_cell(struct table *table, const struct group *g, size_t f, double scale, int digits) {
        if (isfinite(g->deviation[f]))
                table_cell(table, STYLE_NONE, "%.*f ± %.*f", digits, scale * g->mean[f], digits,
                           scale * g->deviation[f]);
        else
                figure_cell(table, g->mean[f], scale, digits);
}

static int print_jobs(struct ctl *ctl, const struct members *all) {
        const struct member *first = &all->list[0];
        struct table_column columns[TABLE_COLUMNS_MAX] = { { .title = "ID", .flags = TABLE_RIGHT } };
        size_t n = 1;

        for (size_t i = 0; i < first->n; i++)
                columns[n++] = (struct table_column) { .title = first->keys[i], .flags = TABLE_RIGHT };
        columns[n++] = (struct table_column) { .title = "STATE" };
        columns[n++] = (struct table_column) { .title = "STEP", .flags = TABLE_RIGHT, .drop = 1 };
        columns[n++] = (struct table_column) { .title = "LOSS", .flags = TABLE_RIGHT };
        columns[n++] = (struct table_column) { .title = "ACCURACY %", .flags = TABLE_RIGHT };
        columns[n++] = (struct table_column) { .title = "TEST LOSS", .flags = TABLE_RIGHT };
        columns[n++] = (struct table_column) { .title = "TEST %", .flags = TABLE_RIGHT };
        cleanup_table struct table *table = table_new(columns, n);
        for (size_t i = 0; i < all->n; i++) {
                const struct member *m = &all->list[i];
                char buffer[FORMAT_MAX];
                table_cell(table, STYLE_BOLD, "%" PRIu64, m->job->id);
                for (size_t k = 0; k < first->n; k++)
                        table_cell(table, STYLE_NONE, "%s", k < m->n ? m->values[k] : "");
                table_cell(table, job_style(m->job), "%s", text_of(m->job->state));
                table_cell(table, STYLE_NONE, "%s", format_steps(m->job, buffer));
                figure_cell(table, m->figures.loss, 1, 4);
                figure_cell(table, m->figures.accuracy, 100, 2);
                figure_cell(table, m->figures.test_loss, 1, 4);
                figure_cell(table, m->figures.test_accuracy, 100, 2);
        }
        return table_print(table, stdout, &ctl->term, 0, &ctl->error);
}

static int print_groups(struct ctl *ctl, const struct members *all) {
        const struct member *first = &all->list[0];
        struct table_column columns[TABLE_COLUMNS_MAX];
        size_t n = 0;

        for (size_t i = 0; i < first->n; i++)
                if (strcmp(first->keys[i], SEED) != 0)
                        columns[n++] = (struct table_column) { .title = first->keys[i], .flags = TABLE_RIGHT };
        static const char *const titles[] = { "SEEDS", "LOSS", "ACCURACY %", "TEST LOSS", "TEST %" };
        for (size_t i = 0; i < ELEMENTSOF(titles); i++)
                columns[n++] = (struct table_column) { .title = titles[i], .flags = TABLE_RIGHT };
        cleanup_table struct table *table = table_new(columns, n);
        for (size_t i = 0; i < all->n; i++) {
                if (!is_first(all, i))
                        continue;
                struct group g = make_group(all, &all->list[i]);
                for (size_t k = 0; k < first->n; k++)
                        if (strcmp(first->keys[k], SEED) != 0)
                                table_cell(table, STYLE_NONE, "%s", k < g.first->n ? g.first->values[k] : "");
                table_cell(table, STYLE_NONE, "%zu", g.members);
                for (size_t f = 0; f < N_FIGURES; f++)
                        mean_cell(table, &g, f, f % 2 ? 100 : 1, f % 2 ? 2 : 4);
        }
        (void) printf("\nOver seeds: mean ± standard deviation\n");
        return table_print(table, stdout, &ctl->term, 0, &ctl->error);
}

static bool varies_seed(const struct members *all) {
        for (size_t i = 0; i < all->list[0].n; i++)
                if (strcmp(all->list[0].keys[i], SEED) == 0)
                        return true;
        return false;
}

static json_t *json_keys(const struct member *m, bool seed) {
        json_t *keys = json_object();

        for (size_t i = 0; i < m->n; i++)
                if (seed || strcmp(m->keys[i], SEED) != 0)
                        (void) json_object_set_new(keys, m->keys[i], json_text(m->values[i]));
        return keys;
}

static int print_json(const struct members *all, struct error *error) {
        json_t *jobs = json_array(), *groups = json_array(), *root = json_object();

        for (size_t i = 0; i < all->n; i++) {
                const struct member *m = &all->list[i];
                json_t *job = json_object();
                (void) json_object_set_new(job, "id", json_count(m->job->id));
                (void) json_object_set_new(job, "state", json_text(m->job->state));
                (void) json_object_set_new(job, "keys", json_keys(m, true));
                for (size_t f = 0; f < N_FIGURES; f++)
                        (void) json_object_set_new(job, figure_names[f], json_number(m->numbers[f]));
                (void) json_array_append_new(jobs, job);
                if (!varies_seed(all) || !is_first(all, i))
                        continue;
                struct group g = make_group(all, m);
                json_t *group = json_object();
                (void) json_object_set_new(group, "keys", json_keys(m, false));
                (void) json_object_set_new(group, "seeds", json_count(g.members));
                for (size_t f = 0; f < N_FIGURES; f++) {
                        json_t *pair = json_object();
                        (void) json_object_set_new(pair, "mean", json_number(g.mean[f]));
                        (void) json_object_set_new(pair, "deviation", json_number(g.deviation[f]));
                        (void) json_object_set_new(group, figure_names[f], pair);
                }
                (void) json_array_append_new(groups, group);
        }
        (void) json_object_set_new(root, "jobs", jobs);
        (void) json_object_set_new(root, "seeds", groups);
        return json_print(stdout, root, error);
}

int command_results(struct ctl *ctl, int argc, char **argv) {
        bool json = false;
        const struct option_spec options[] = { OPTION_JSON(json) };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_job_list struct job_list jobs = {};
        cleanup_members struct members all = {};

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_list_jobs(client, false, 0, &jobs, &ctl->error);
        if (r == 0)
                r = collect(&jobs, arguments.words[0], &all, &ctl->error);
        for (size_t i = 0; r == 0 && i < all.n; i++)
                all.list[i].figures = read_figures(all.list[i].job);
        if (r == 0 && json)
                return command_exit(ctl, print_json(&all, &ctl->error));
        if (r == 0)
                r = print_jobs(ctl, &all);
        if (r == 0 && varies_seed(&all))
                r = print_groups(ctl, &all);
        return command_exit(ctl, r);
}
