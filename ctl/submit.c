/*
 * bertctl submit: a spec file or a command line becomes one Submit call. What the submitter's shell had becomes the job's: folder,
 * environment, umask, limits. Invariant: nothing is sent that the protocol cannot carry (its strings are UTF-8).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/limits.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/spec/spec.h"
#include "common/usage.h"
#include "common/utf8.h"
#include "ctl/array.h"
#include "ctl/command.h"
#include "ctl/dict.h"
#include "ctl/inputs.h"
#include "ctl/json.h"
#include "ctl/program.h"
#include "ctl/submission.h"
#include "ctl/surroundings.h"

/* The options of a command job; the spec's own defaults where they are not given. */
struct command_options {
        const char *name, *run_dir, *memory, *cpus, *ends_with, *log_max_size;
        uint64_t ranks, threads, gpus, grace_sec, retries, log_keep;
        int64_t priority, hang_sec, start_sec;
};

static int read_log_size(const struct command_options *o, struct spec_log *ret, struct error *error) {
        ret->max_size = BERTD_LOG_SIZE_DEFAULT;
        ret->keep = o->log_keep == 0 ? BERTD_LOG_KEEP_DEFAULT : (uint32_t) o->log_keep;
        if (o->log_max_size && parse_size(o->log_max_size, BERTD_LOG_SIZE_MIN, BERTD_LOG_SIZE_MAX, &ret->max_size) < 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--log-max-size: expected bytes, or a number with K, M, G or T, from 64K to 1T; not "
                                   "'%.64s'",
                                   o->log_max_size);
        return 0;
}

static int read_limits(const struct command_options *o, struct spec_resources *ret, struct error *error) {
        if (o->memory && parse_size(o->memory, BERTD_MEMORY_MIN, BERTD_MEMORY_MAX, &ret->memory) < 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--memory: expected bytes, or a number with K, M, G or T, at least 1M; not '%.64s'",
                                   o->memory);
        if (o->cpus && parse_double(o->cpus, BERTD_CPUS_MIN, BERTD_CPUS_MAX, &ret->cpus) < 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "--cpus: expected a number from %g to %d, not '%.64s'",
                                   BERTD_CPUS_MIN, BERTD_CPUS_MAX, o->cpus);
        return 0;
}

static int read_end(const char *text, enum ends_with *ret, struct error *error) {
        static const char *const names[] = { [ENDS_WITH_FIRST] = "first", [ENDS_WITH_LAST] = "last" };
        int choice = text ? usage_choice("--ends-with", text, names, ELEMENTSOF(names), error) : ENDS_WITH_FIRST;

        if (choice < 0)
                return choice;
        *ret = (enum ends_with) choice;
        return 0;
}

/* Fills a spec that borrows everything: never spec_free it. */
static int fill_command(const struct command_options *o, const struct arguments *arguments, const char *run_dir,
                        struct spec *ret, struct error *error) {
        const char *slash = strrchr(arguments->rest[0], '/');
        const char *name = o->name ? o->name : slash && slash[1] ? slash + 1 : arguments->rest[0];

        if (!text_is_utf8(name))
                return error_input(error, BERTCTL_EXIT_USAGE, "--name: not UTF-8");
        *ret = (struct spec) {
                .name = (char *) name,
                .kind = JOB_COMMAND,
                .priority = (int32_t) o->priority,
                .run_dir = (char *) run_dir,
                .command = arguments->rest,
                .n_command = (uint32_t) arguments->n_rest,
                .resources = { .ranks = (uint32_t) o->ranks,
                               .threads = (uint32_t) o->threads,
                               .gpus = (uint32_t) o->gpus },
                .restart = { .max_without_progress = (uint32_t) o->retries,
                             .backoff_sec = { BERTD_BACKOFF_FIRST_DEFAULT, BERTD_BACKOFF_LAST_DEFAULT },
                             .grace_sec = (uint32_t) o->grace_sec,
                             .hang_sec = (int32_t) o->hang_sec,
                             .start_sec = (int32_t) o->start_sec },
                .checkpoint = { .every_sec = BERTD_EVERY_SEC_DEFAULT, .keep = BERTD_KEEP_DEFAULT },
        };
        int r = read_end(o->ends_with, &ret->ends_with, error);
        if (r >= 0)
                r = read_log_size(o, &ret->log, error);
        return r < 0 ? r : read_limits(o, &ret->resources, error);
}

static int submit_command(struct ctl *ctl, struct client *client, const struct command_options *o,
                          const struct arguments *arguments, uint64_t *ret_id) {
        cleanup_free char *cwd = NULL, *run_dir = NULL;
        struct spec spec;

        int r = surroundings_folder(&cwd, &ctl->error);
        if (r == 0 && o->run_dir && paths_expand(cwd, o->run_dir, &run_dir, &ctl->error) < 0) {
                ctl->error.exit = BERTCTL_EXIT_USAGE;
                return error_prefix(&ctl->error, "--run-dir");
        }
        if (r == 0)
                r = fill_command(o, arguments, run_dir, &spec, &ctl->error);
        return r < 0 ? r : submission_send(client, &spec, ret_id, &ctl->error);
}

/* No spec, but something else where it should stand. */
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
static int check_usage(const struct arguments *arguments, bool has_command_options, bool has_spec_options,
                       struct error *error) {
        if (arguments->rest && has_spec_options)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: --set and --array go with a spec file");
        if (arguments->rest && arguments->n_rest == 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: a command is missing after --");
        if (arguments->rest && arguments->n > 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "submit: either a spec file or `-- COMMAND...`, not both: '%s'",
                                   arguments->words[0]);
        if (!arguments->rest && arguments->n != 1)
                return refuse_words(arguments, error);
        if (!arguments->rest && has_command_options)
                return error_input(
                        error, BERTCTL_EXIT_USAGE,
                        "submit: --name, --ranks and the like go with `-- COMMAND...`; a spec file says them itself");
        return 0;
}

/* What is to be submitted, read once: it may be a pipe. */
struct source {
        const char *path;
        char *text;
        size_t size;
};
static void cleanup_source_p(struct source *source) { free(source->text); }
#define cleanup_source cleanup(cleanup_source_p)

/* A script or another program in a spec's place: how it is run. */
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

/* `submit ./train.sh --lr 1`: those were the program's. */
static void refuse_options(const char *path, struct error *error) {
        cleanup_free char *command = program_command(path);
        struct error own = *error;

        if (!command)
                return;
        *error = (struct error) {};
        (void) error_input(error, own.exit, "%.600s; a program's own options follow --: `bertctl submit -- %s ...`",
                           own.text, command);
}

static int read_source(const char *path, struct source *ret, struct error *error) {
        *ret = (struct source) { .path = path };
        if (!path[0])
                return error_input(error, BERTCTL_EXIT_USAGE, "submit: the spec's name is an empty word");
        int r = spec_read(path, &ret->text, &ret->size, error);
        if (r < 0) {
                error->exit = BERTCTL_EXIT_USAGE;
                r = refuse_program(path, error);
        }
        return r;
}

/* `look`: at what it names, too. */
static int load_spec(const struct source *source, const struct option_list *settings, bool look, struct spec **ret_spec,
                     struct error *error) {
        struct spec_setting set[OPTION_LIST_MAX];

        for (size_t i = 0; i < settings->n; i++)
                set[i] = (struct spec_setting) { .option = "set", .value = settings->items[i] };
        int r = spec_parse(source->path, source->text, source->size, set, settings->n, ret_spec, error);

        if (r < 0)
                r = refuse_program(source->path, error);
        else if (look && (r = inputs_check(*ret_spec, error)) < 0)
                (void) error_prefix(error, "%s", source->path);
        /* Whatever is wrong with a spec is wrong usage of bertctl. */
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

/* One job of an array: its keys set, and in its name and its folder. */
static int load_member(const struct source *source, const struct option_list *settings, const struct array *array,
                       size_t index, bool look, struct spec **ret_spec, struct error *error) {
        struct option_list all = *settings;
        cleanup_free char *label = NULL, *name = NULL, *run_dir = NULL;
        char *own[ARRAY_AXES_MAX] = {};

        int r = array_member(array, index, own, &label, error);
        for (size_t i = 0; r == 0 && i < array->n; i++) {
                if (all.n == OPTION_LIST_MAX)
                        r = error_input(error, BERTCTL_EXIT_USAGE, "more than %d keys are set", OPTION_LIST_MAX);
                else
                        all.items[all.n++] = own[i];
        }
        if (r == 0)
                r = load_spec(source, &all, look, ret_spec, error);
        for (size_t i = 0; i < array->n; i++)
                free(own[i]);
        if (r < 0)
                return r;
        struct spec *spec = *ret_spec;
        name = format_string("%s[%s]", spec->name, label);
        run_dir = spec->run_dir ? format_string("%s/%s", spec->run_dir, label) : NULL;
        if (!name || (spec->run_dir && !run_dir))
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        if (strlen(name) > BERTD_NAME_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--array: the name %s has %zu bytes, more than %d", name,
                                   strlen(name), BERTD_NAME_MAX);
        for (char *p = run_dir ? run_dir + strlen(spec->run_dir) + 1 : NULL; p && *p; p++)
                *p = *p == '/' ? '-' : *p; /* a value's; the folder is one */
        free(spec->name);
        free(spec->run_dir);
        spec->name = steal_pointer(&name);
        spec->run_dir = steal_pointer(&run_dir);
        return 0;
}

static int tell_id(struct ctl *ctl, uint64_t id, bool json) {
        int r = 0;

        if (json) {
                json_t *object = json_object();
                (void) json_object_set_new(object, "id", json_count(id));
                r = json_print(stdout, object, &ctl->error);
        } else
                (void) printf("%" PRIu64 "\n", id);
        if (r == 0 && fflush(stdout) == 0)
                return 0;
        /* Or it would be submitted again. */
        return error_input(&ctl->error, BERTCTL_EXIT_FAILED, "job %" PRIu64 " is submitted; standard output: %s", id,
                           strerror(errno));
}

/* All jobs of the array, or none where one of their specs is wrong. */
static int submit_array(struct ctl *ctl, const struct source *source, const struct option_list *settings,
                        const struct array *array, bool json) {
        cleanup_client struct client *client = NULL;
        cleanup_json json_t *ids = json_array();
        size_t total = array_size(array);
        bool command = false;

        for (size_t i = 0; i < 2 * total; i++) { /* first every spec, then every job */
                cleanup_spec struct spec *spec = NULL;
                uint64_t id;
                int r = load_member(source, settings, array, i % total, i < total, &spec, &ctl->error);
                if (r == 0 && i == total)
                        r = client_connect(ctl->socket, &client, &ctl->error);
                if (r == 0 && i >= total)
                        r = submission_send(client, spec, &id, &ctl->error);
                command = r == 0 && spec->kind == JOB_COMMAND && strcmp(source->path, SPEC_STDIN) != 0;
                if (r < 0 && i > total) { /* those are told, or they would be submitted again */
                        (void) error_prefix(&ctl->error, "after %zu of %zu jobs", i - total, total);
                        if (json)
                                (void) json_print(stdout, steal_pointer(&ids), NULL);
                }
                if (r < 0)
                        return r;
                if (i >= total && json)
                        (void) json_array_append_new(ids, json_count(id));
                else if (i >= total && (r = tell_id(ctl, id, false)) < 0)
                        return r;
        }
        if (command)
                surroundings_tell_stdin();
        return json ? json_print(stdout, steal_pointer(&ids), &ctl->error) : 0;
}

int command_submit(struct ctl *ctl, int argc, char **argv) {
        bool wait = false, json = false;
        struct option_list settings = {}, axes = {};
        cleanup_array struct array array = {};
        struct command_options o = { .ranks = 0,
                                     .threads = 0,
                                     .gpus = UINT64_MAX,
                                     .grace_sec = UINT64_MAX,
                                     .retries = UINT64_MAX,
                                     .priority = INT64_MAX,
                                     .hang_sec = -1,
                                     .start_sec = -1 };
        const struct option_spec options[] = {
                { .name = "wait",
                  .letter = 'w',
                  .kind = OPTION_FLAG,
                  .value = &wait,
                  .help = "wait for its end, as `bertctl wait` does" },
                OPTION_JSON(json),
                { .name = "set",
                  .kind = OPTION_LIST,
                  .value = &settings,
                  .argument = "KEY=VALUE",
                  .help = "SPEC: in place of what the file says, as train.seed=7; again for more" },
                { .name = "array",
                  .kind = OPTION_LIST,
                  .value = &axes,
                  .argument = "KEY=V,V,...",
                  .help = "SPEC: a job for each value (of several: each combination); see results" },
                { .name = "name",
                  .kind = OPTION_STRING,
                  .value = &o.name,
                  .argument = "NAME",
                  .help = "COMMAND: the job's name" },
                { .name = "ranks",
                  .kind = OPTION_U64,
                  .value = &o.ranks,
                  .min = 1,
                  .max = BERTD_RANKS_MAX,
                  .argument = "N",
                  .help = "COMMAND: processes that it will have (" BERTD_TEXT(BERTD_RANKS_DEFAULT) ")" },
                { .name = "threads",
                  .kind = OPTION_U64,
                  .value = &o.threads,
                  .min = 1,
                  .max = BERTD_THREADS_MAX,
                  .argument = "N",
                  .help = "COMMAND: threads of each (" BERTD_TEXT(BERTD_THREADS_DEFAULT) ")" },
                { .name = "gpus",
                  .kind = OPTION_U64,
                  .value = &o.gpus,
                  .min = 0,
                  .max = BERTD_GPUS_MAX,
                  .argument = "N",
                  .help = "COMMAND: GPUs (" BERTD_TEXT(BERTD_GPUS_DEFAULT) ")" },
                { .name = "priority",
                  .kind = OPTION_I64,
                  .value = &o.priority,
                  .min = BERTD_PRIORITY_MIN,
                  .max = BERTD_PRIORITY_MAX,
                  .argument = "N",
                  .help = "COMMAND: higher starts first (" BERTD_TEXT(BERTD_PRIORITY_DEFAULT) ")" },
                { .name = "run-dir",
                  .kind = OPTION_STRING,
                  .value = &o.run_dir,
                  .argument = "DIR",
                  .help = "COMMAND: folder for its files (default: the job's own)" },
                { .name = "grace",
                  .kind = OPTION_U64,
                  .value = &o.grace_sec,
                  .min = 1,
                  .max = BERTD_GRACE_MAX,
                  .argument = "SEC",
                  .help = "COMMAND: between SIGTERM and SIGKILL (" BERTD_TEXT(BERTD_GRACE_DEFAULT) ")" },
                { .name = "ends-with",
                  .kind = OPTION_STRING,
                  .value = &o.ends_with,
                  .argument = "first|last",
                  .help = "COMMAND: end with the first process, or with the last one (first)" },
                { .name = "memory",
                  .kind = OPTION_STRING,
                  .value = &o.memory,
                  .argument = "SIZE",
                  .help = "COMMAND: its limit, as 512M or 16G (none)" },
                { .name = "cpus",
                  .kind = OPTION_STRING,
                  .value = &o.cpus,
                  .argument = "N",
                  .help = "COMMAND: CPU time it may use, in CPUs, as 2.5 (no limit)" },
                { .name = "hang-sec",
                  .kind = OPTION_I64,
                  .value = &o.hang_sec,
                  .min = 0,
                  .max = BERTD_HANG_MAX,
                  .argument = "SEC",
                  .help = "COMMAND: without a reported step it hangs (20 median steps, at least 300; 0: never)" },
                { .name = "start-sec",
                  .kind = OPTION_I64,
                  .value = &o.start_sec,
                  .min = 0,
                  .max = BERTD_HANG_MAX,
                  .argument = "SEC",
                  .help = "COMMAND: to its first reported step (0: any time)" },
                { .name = "log-max-size",
                  .kind = OPTION_STRING,
                  .value = &o.log_max_size,
                  .argument = "SIZE",
                  .help = "COMMAND: of an attempt's log, as 512K or 1G (64M); its first 1 MB is kept beside" },
                { .name = "log-keep",
                  .kind = OPTION_U64,
                  .value = &o.log_keep,
                  .min = 1,
                  .max = BERTD_LOG_KEEP_MAX,
                  .argument = "N",
                  .help = "COMMAND: files that it is in; the oldest makes room (" BERTD_TEXT(
                          BERTD_LOG_KEEP_DEFAULT) ")" },
                { .name = "retries",
                  .kind = OPTION_U64,
                  .value = &o.retries,
                  .min = 0,
                  .max = BERTD_RETRIES_MAX,
                  .argument = "N",
                  .help = "COMMAND: new attempts after a failure of its own (" BERTD_TEXT(
                          BERTD_RETRIES_DEFAULT) "; 0: none)" },
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;
        cleanup_spec struct spec *spec = NULL;
        cleanup_source struct source source = {};
        uint64_t id;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, -1, 0, &arguments);
        if (r < 0 && arguments.n > 0 && !arguments.rest)
                refuse_options(arguments.words[0], &ctl->error);
        if (r <= 0)
                return command_exit(ctl, r);
        bool given = o.name || o.run_dir || o.ranks || o.threads || o.gpus != UINT64_MAX || o.grace_sec != UINT64_MAX ||
                     o.retries != UINT64_MAX || o.priority != INT64_MAX || o.memory || o.cpus || o.hang_sec >= 0 ||
                     o.start_sec >= 0 || o.ends_with || o.log_max_size || o.log_keep > 0;
        r = check_usage(&arguments, given, settings.n + axes.n > 0, &ctl->error);
        if (r == 0)
                r = array_parse(&axes, &array, &ctl->error);
        if (r == 0 && array.n > 0 && wait)
                r = error_input(&ctl->error, BERTCTL_EXIT_USAGE, "submit: --wait waits for one job, not for an array");
        if (r == 0 && !arguments.rest)
                r = read_source(arguments.words[0], &source, &ctl->error);
        if (r == 0 && array.n > 0)
                return command_exit(ctl, submit_array(ctl, &source, &settings, &array, json));
        o.ranks = o.ranks == 0 ? BERTD_RANKS_DEFAULT : o.ranks;
        o.threads = o.threads == 0 ? BERTD_THREADS_DEFAULT : o.threads;
        o.gpus = o.gpus == UINT64_MAX ? BERTD_GPUS_DEFAULT : o.gpus;
        o.grace_sec = o.grace_sec == UINT64_MAX ? BERTD_GRACE_DEFAULT : o.grace_sec;
        o.retries = o.retries == UINT64_MAX ? BERTD_RETRIES_DEFAULT : o.retries;
        o.priority = o.priority == INT64_MAX ? BERTD_PRIORITY_DEFAULT : o.priority;
        /* What is wrong here is told whether or not a daemon is there. */
        if (r == 0 && !arguments.rest)
                r = load_spec(&source, &settings, true, &spec, &ctl->error);
        else if (r == 0)
                r = check_command(&arguments, &ctl->error);
        if (r == 0)
                r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = spec ? submission_send(client, spec, &id, &ctl->error)
                         : submit_command(ctl, client, &o, &arguments, &id);
        if (r == 0)
                r = tell_id(ctl, id, json);
        if (r == 0 && (!spec || (spec->kind == JOB_COMMAND && strcmp(source.path, SPEC_STDIN) != 0)))
                surroundings_tell_stdin();
        if (r < 0 || !wait)
                return command_exit(ctl, r);
        (void) fflush(stdout);
        return wait_and_tell(ctl, client, id, false);
}
