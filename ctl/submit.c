/*
 * bertctl submit: a spec file, an array of them, or a command line becomes a job. A command's options are keys of a
 * spec: one table, common/spec's, knows what each takes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/paths.h"
#include "common/spec/spec.h"
#include "ctl/array.h"
#include "ctl/command.h"
#include "ctl/hosts.h"
#include "ctl/inputs.h"
#include "ctl/json.h"
#include "ctl/program.h"
#include "ctl/sbatch.h"
#include "ctl/submission.h"
#include "ctl/surroundings.h"
#include "ctl/this_host.h"

/* ---- options ---- */

/* What the command line gave; cleared by command_submit. */
static struct {
        bool wait, json;
        bool slurm, print;
        const char *continued; /* a run's folder, NULL: none */
        struct option_list set, array, keys, hosts;
} given;

static const char with_spec[] = "Options with SPEC.yaml", with_command[] = "Options with -- COMMAND",
                  with_slurm[] = "Options with --slurm";

#define KEY(option, row, word, text)                                                                                  \
        {                                                                                                             \
                .name = option, .kind = OPTION_KEY, .value = &given.keys, .key = row, .argument = word, .help = text, \
                .section = with_command                                                                               \
        }

static const struct option_spec options[] = {
        { .name = "wait",
          .letter = 'w',
          .kind = OPTION_FLAG,
          .value = &given.wait,
          .help = "wait until the job ends, like `bertctl wait`" },
        OPTION_JSON(given.json),
        { .name = "continue",
          .kind = OPTION_STRING,
          .value = &given.continued,
          .argument = "RUN_DIR",
          .help = "continue the run in this folder from its newest good checkpoint, also after its host was lost" },
        { .name = "hosts",
          .kind = OPTION_KEY,
          .value = &given.hosts,
          .key = "resources.hosts",
          .argument = "HOST,...",
          .help = "run it on these hosts, this one among them, each with its ranks and GPUs; node lists such as "
                  "gpu[01-04] are expanded" },
        { .name = "use",
          .kind = OPTION_KEY,
          .value = &given.hosts,
          .key = "resources.use",
          .argument = "N",
          .help = "run it on N of them; the others are spares (default: all)" },
        { .name = "slurm",
          .kind = OPTION_FLAG,
          .value = &given.slurm,
          .help = "submit a Slurm job that runs the spec with `bertctl run --requeue`; other options are those of "
                  "sbatch",
          .section = with_slurm },
        { .name = "print",
          .kind = OPTION_FLAG,
          .value = &given.print,
          .help = "print the batch script, and submit nothing",
          .section = with_slurm },
        { .name = "set",
          .kind = OPTION_LIST,
          .value = &given.set,
          .argument = "KEY=VALUE",
          .help = "override a key of the file, e.g. train.seed=7; may be given several times",
          .section = with_spec },
        { .name = "array",
          .kind = OPTION_LIST,
          .value = &given.array,
          .argument = "KEY=V,V,...",
          .help = "submit one job per value or, given several times, per combination of values; see bertctl results",
          .section = with_spec },
        KEY("name", "name", "NAME", "name of the job (default: the program's)"),
        KEY("comment", "comment", "COMMENT", "a line of text that `bertctl status` shows its owner"),
        KEY("ranks", "resources.ranks", "N", "number of processes (default: " BERTD_TEXT(BERTD_RANKS_DEFAULT) ")"),
        KEY("threads", "resources.threads", "N",
            "threads per process (default: " BERTD_TEXT(BERTD_THREADS_DEFAULT) ")"),
        KEY("gpus", "resources.gpus", "N", "number of GPUs (default: " BERTD_TEXT(BERTD_GPUS_DEFAULT) ")"),
        KEY("priority", "priority", "N",
            "jobs with a higher one start first (default: " BERTD_TEXT(BERTD_PRIORITY_DEFAULT) ")"),
        KEY("run-dir", "run_dir", "DIR", "folder for its files (default: a folder in bertd's state)"),
        KEY("grace", "restart.grace_sec", "SEC",
            "seconds between SIGTERM and SIGKILL (default: " BERTD_TEXT(BERTD_GRACE_DEFAULT) ")"),
        KEY("ends-with", "ends_with", "first|last", "end with its first or its last process (default: first)"),
        KEY("memory", "resources.memory", "SIZE", "memory limit, e.g. 512M or 16G (default: none)"),
        KEY("cpus", "resources.cpus", "N", "CPU limit in CPUs, e.g. 2.5 (default: none)"),
        KEY("hang-sec", "restart.hang_sec", "SEC",
            "treat it as hung after SEC without a step (default: 20 x the median step, at least 300; 0: never)"),
        KEY("start-sec", "restart.start_sec", "SEC", "limit until its first step (default: 0, no limit)"),
        KEY("log-max-size", "log.max_size", "SIZE",
            "size of the end of its log to keep, e.g. 512K or 1G (default: 64M); the first 1 MB is kept as well"),
        KEY("log-keep", "log.keep", "N", "number of log files (default: " BERTD_TEXT(BERTD_LOG_KEEP_DEFAULT) ")"),
        KEY("retries", "restart.max_without_progress", "N",
            "retries after a failure of the command itself (default: " BERTD_TEXT(BERTD_RETRIES_DEFAULT) ")"),
};

/* The settings that common/spec takes. Returns how many. */
static size_t add_settings(const struct option_list *list, size_t n, struct spec_setting *ret) {
        for (size_t i = 0; i < list->n; i++)
                ret[n++] = (struct spec_setting) { list->options[i]->name, list->options[i]->key, list->items[i] };
        return n;
}

#define SETTINGS_MAX (2 * OPTION_LIST_MAX)
static size_t settings_of(const struct option_list *list, struct spec_setting ret[SETTINGS_MAX]) {
        return add_settings(&given.hosts, add_settings(list, 0, ret), ret);
}

/* ---- arguments ---- */

/* The words are not a spec. */
static int refuse_words(const struct arguments *arguments, struct error *error) {
        if (arguments->n == 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: expected one SPEC.yaml, or `-- COMMAND...`");
        return error_input(error, BERTCTL_EXIT_USAGE,
                           "submit: expected one SPEC.yaml; to run a program: `bertctl submit -- %s %s%s`",
                           arguments->words[0], arguments->words[1], arguments->n > 2 ? " ..." : "");
}

static int check_command(const struct arguments *arguments, struct error *error) {
        cleanup_free char *cwd = NULL;

        int r = surroundings_folder(&cwd, error);
        if (r == 0)
                r = submission_check_words(arguments->rest, (size_t) arguments->n_rest, error);
        return r < 0 ? r : program_check(arguments->rest, PROGRAM_OF_JOB, error);
}

/* Exactly one of a spec file and a command, and no option that would silently do nothing. */
static int check_usage(const struct arguments *arguments, struct error *error) {
        if (given.slurm || given.print)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: --slurm comes first, --print only with it");
        if (arguments->rest && given.set.n + given.array.n > 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: --set and --array only apply to a spec file");
        if (arguments->rest && arguments->n_rest == 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: missing COMMAND after --");
        if (arguments->rest && arguments->n > 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "submit: either a spec file or `-- COMMAND...`, not both: '%s'",
                                   arguments->words[0]);
        if (!arguments->rest && arguments->n != 1)
                return refuse_words(arguments, error);
        const struct option_spec *key = given.keys.n > 0 ? given.keys.options[0] : NULL;
        if (!arguments->rest && key)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--%s: only applies to `-- COMMAND...`; with a spec file, use --set %s=%.64s",
                                   key->name, key->key, given.keys.items[0]);
        return 0;
}

/* A spec's text, read only once: it may be a pipe. */
struct source {
        const char *path;
        char *text;
        size_t size;
};
static void cleanup_source_p(struct source *source) { free(source->text); }
#define cleanup_source cleanup(cleanup_source_p)

/* A script or another program in place of a spec: how to run it. */
static int refuse_program(const char *path, struct error *error) {
        const char *dot = strrchr(path, '.');
        bool yaml = dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
        cleanup_free char *command = yaml ? NULL : program_command(path);

        if (!command)
                return -error->code;
        *error = (struct error) {};
        return error_input(error, BERTCTL_EXIT_USAGE,
                           "%s: not a job spec but a program; to run it: `bertctl submit -- %s`", path, command);
}

/* `submit ./train.sh --lr 1`: the options were meant for the program. */
static void refuse_options(const char *path, struct error *error) {
        cleanup_free char *command = program_command(path);
        struct error own = *error;

        if (!command)
                return;
        *error = (struct error) {};
        (void) error_input(error, own.exit, "%.600s; options for the program follow --: `bertctl submit -- %s ...`",
                           own.text, command);
}

static int read_source(const char *path, struct source *ret, struct error *error) {
        *ret = (struct source) { .path = path };
        if (!path[0])
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: SPEC.yaml: empty argument");
        int r = spec_read(path, &ret->text, &ret->size, error);
        if (r < 0) {
                error->exit = BERTCTL_EXIT_USAGE;
                r = refuse_program(path, error);
        }
        return r;
}

/* `look`: also check that its files exist. */
static int load_spec(const struct source *source, const struct spec_setting *settings, size_t n, bool look,
                     struct spec **ret_spec, struct error *error) {
        int r = spec_parse(source->path, source->text, source->size, settings, n, ret_spec, error);

        if (r < 0)
                r = refuse_program(source->path, error);
        else if (look && (r = inputs_check(*ret_spec, error)) < 0)
                (void) error_prefix(error, "%s", source->path);
        if (r == 0)
                r = this_host_first(*ret_spec, error);
        /* A wrong spec is wrong usage of bertctl. */
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

/* Adds the label to the job's name and folder. */
static int label_spec(struct spec *spec, const char *label, struct error *error) {
        cleanup_free char *name = format_string("%s[%s]", spec->name, label);
        cleanup_free char *run_dir = spec->run_dir ? format_string("%s/%s", spec->run_dir, label) : NULL;

        if (!name || (spec->run_dir && !run_dir))
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        if (strlen(name) > BERTD_NAME_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--array: the name %s has %zu bytes, more than %d", name,
                                   strlen(name), BERTD_NAME_MAX);
        for (char *p = run_dir ? run_dir + strlen(spec->run_dir) + 1 : NULL; p && *p; p++)
                *p = *p == '/' ? '-' : *p; /* of a value; the label is one folder */
        free(spec->name);
        free(spec->run_dir);
        spec->name = steal_pointer(&name);
        spec->run_dir = steal_pointer(&run_dir);
        return 0;
}

/* One job of an array: --set's keys, then its own. */
static int load_member(const struct source *source, const struct array *array, size_t index, bool look,
                       struct spec **ret_spec, struct error *error) {
        struct spec_setting settings[SETTINGS_MAX + ARRAY_AXES_MAX];
        size_t n = settings_of(&given.set, settings);
        char *own[ARRAY_AXES_MAX] = {};
        cleanup_free char *label = NULL;

        int r = array_member(array, index, own, &label, error);
        for (size_t i = 0; i < array->n; i++)
                settings[n++] = (struct spec_setting) { .option = "array", .value = own[i] };
        if (r == 0)
                r = load_spec(source, settings, n, look, ret_spec, error);
        for (size_t i = 0; i < array->n; i++)
                free(own[i]);
        return r < 0 ? r : label_spec(*ret_spec, label, error);
}

/* ---- submitting ---- */

static int tell_id(struct ctl *ctl, uint64_t id) {
        int r = 0;

        if (given.json) {
                json_t *object = json_object();
                (void) json_object_set_new(object, "id", json_count(id));
                r = json_print(stdout, object, &ctl->error);
        } else
                (void) printf("%" PRIu64 "\n", id);
        if (r == 0 && fflush(stdout) == 0)
                return 0;
        /* An error without the id would make the user submit it again. */
        return error_input(&ctl->error, BERTCTL_EXIT_FAILED, "job %" PRIu64 " is submitted; standard output: %s", id,
                           strerror(errno));
}

/* Sends the array's jobs, whose specs were checked before, and prints their ids one by one, or collects them in `ids`.
 */
static int send_array(struct ctl *ctl, const struct source *source, const struct array *array, json_t *ids) {
        cleanup_client struct client *client = NULL;
        size_t total = array_size(array), i = 0;

        int r = client_connect(ctl->socket, &client, &ctl->error);
        for (; r == 0 && i < total; i++) {
                cleanup_spec struct spec *spec = NULL;
                uint64_t id;
                r = load_member(source, array, i, false, &spec, &ctl->error);
                if (r == 0)
                        r = submission_send(client, spec, NULL, &id, &ctl->error);
                if (r < 0 && i > 0)
                        (void) error_prefix(&ctl->error, "after %zu of %zu jobs", i, total);
                if (r == 0 && given.json)
                        (void) json_array_append_new(ids, json_count(id));
                else if (r == 0)
                        r = tell_id(ctl, id);
        }
        return r;
}

/* Submits all jobs of the array, or none if one of their specs is wrong. */
static int submit_array(struct ctl *ctl, const struct source *source, const struct array *array) {
        cleanup_json json_t *ids = json_array();
        bool command = false;
        int r = 0;

        for (size_t i = 0; r == 0 && i < array_size(array); i++) {
                cleanup_spec struct spec *spec = NULL;
                r = load_member(source, array, i, true, &spec, &ctl->error);
                command = r == 0 && spec->kind == JOB_COMMAND;
                if (r == 0 && i == 0) /* the others have the same hosts, but for one that is an axis */
                        r = hosts_check(spec, &ctl->error);
        }
        if (r == 0)
                r = send_array(ctl, source, array, ids);
        /* Also prints those that were submitted before an error, or they would be submitted again. */
        if (given.json && (r == 0 || json_array_size(ids) > 0)) {
                int written = json_print(stdout, steal_pointer(&ids), r == 0 ? &ctl->error : NULL);
                r = r < 0 ? r : written;
        }
        if (r == 0 && command && strcmp(source->path, SPEC_STDIN) != 0)
                surroundings_tell_stdin();
        return r;
}

/* With --continue: the job's folder is the run's, whose past it gets. */
static int find_past(struct spec *spec, struct past *ret, struct error *error) {
        cleanup_free char *cwd = NULL, *run_dir = NULL;

        int r = surroundings_folder(&cwd, error);
        if (r == 0)
                r = paths_expand(cwd, given.continued, &run_dir, error);
        if (r == 0)
                r = past_find(run_dir, ret, error);
        if (r < 0)
                return r;
        free(spec->run_dir);
        spec->run_dir = steal_pointer(&run_dir);
        return 0;
}

/* One job; with --wait, waits until it ends. Returns bertctl's exit code. */
static int submit_one(struct ctl *ctl, struct spec *spec, bool reads_stdin) {
        cleanup_client struct client *client = NULL;
        cleanup_past struct past past = {};
        uint64_t id;

        int r = given.continued ? find_past(spec, &past, &ctl->error) : 0;
        if (r == 0)
                r = hosts_check(spec, &ctl->error);
        if (r == 0)
                r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = submission_send(client, spec, given.continued ? &past : NULL, &id, &ctl->error);
        if (r == 0)
                r = tell_id(ctl, id);
        if (r == 0 && spec->kind == JOB_COMMAND && !reads_stdin)
                surroundings_tell_stdin();
        if (r < 0 || !given.wait)
                return command_exit(ctl, r);
        (void) fflush(stdout);
        return wait_and_tell(ctl, client, id, false);
}

static int submit_file(struct ctl *ctl, const char *path) {
        cleanup_array struct array array = {};
        cleanup_source struct source source = {};
        cleanup_spec struct spec *spec = NULL;
        struct spec_setting settings[SETTINGS_MAX];

        int r = array_parse(&given.array, &array, &ctl->error);
        if (r == 0 && array.n > 0 && given.wait)
                r = error_input(&ctl->error, BERTCTL_EXIT_USAGE, "submit: --wait waits for one job, not for an array");
        if (r == 0 && array.n > 0 && given.continued)
                r = error_input(&ctl->error, BERTCTL_EXIT_USAGE, "submit: --continue continues one job, not an array");
        if (r == 0)
                r = read_source(path, &source, &ctl->error);
        if (r == 0 && array.n > 0)
                r = submit_array(ctl, &source, &array);
        else if (r == 0)
                r = load_spec(&source, settings, settings_of(&given.set, settings), true, &spec, &ctl->error);
        return r < 0 || !spec ? command_exit(ctl, r) : submit_one(ctl, spec, strcmp(path, SPEC_STDIN) == 0);
}

static int submit_command(struct ctl *ctl, const struct arguments *arguments) {
        cleanup_spec struct spec *spec = NULL;
        struct spec_setting settings[SETTINGS_MAX];

        int r = check_command(arguments, &ctl->error);
        if (r < 0)
                return command_exit(ctl, r);
        r = spec_of_command(arguments->rest, settings, settings_of(&given.keys, settings), &spec, &ctl->error);
        if (r == 0)
                r = this_host_first(spec, &ctl->error);
        if (r < 0)
                ctl->error.exit = BERTCTL_EXIT_USAGE;
        return r < 0 ? command_exit(ctl, r) : submit_one(ctl, spec, false);
}

/* Reports what is wrong with a job even if no daemon answers. */
int command_submit(struct ctl *ctl, int argc, char **argv) {
        struct arguments arguments;

        if (sbatch_is_asked(argc, argv))
                return sbatch_submit(ctl, argc, argv);
        memset(&given, 0, sizeof(given));
        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, -1, 0, &arguments);
        if (r < 0 && arguments.n > 0 && !arguments.rest)
                refuse_options(arguments.words[0], &ctl->error);
        if (r > 0)
                r = check_usage(&arguments, &ctl->error) < 0 ? -EINVAL : 1;
        if (r <= 0)
                return command_exit(ctl, r);
        return arguments.rest ? submit_command(ctl, &arguments) : submit_file(ctl, arguments.words[0]);
}
