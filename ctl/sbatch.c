/*
 * See sbatch.h. `submit --slurm [SBATCH-OPTION...] [--set KEY=VALUE] [--print] SPEC`: the last word is the spec; all
 * that is not ours is sbatch's, in the script's #SBATCH lines after our own, which it overrides. Owns nothing.
 */
#include "ctl/sbatch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "common/utf8.h"

#define MARGIN_SEC 60 /* of the signal before the end: for the exit after the checkpoint */

bool sbatch_is_asked(int argc, char **argv) {
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return false;
        return argc > 1 && strcmp(argv[1], "--slurm") == 0;
}

/* ---- the command line ---- */

struct request {
        bool print;
        const char *path;                      /* of the spec */
        const char *settings[OPTION_LIST_MAX]; /* of --set */
        size_t n_settings;
        char **options; /* sbatch's */
        size_t n_options;
};

static int take_setting(struct request *request, const char *text, struct error *error) {
        if (request->n_settings == OPTION_LIST_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--set: given more than %d times", OPTION_LIST_MAX);
        request->settings[request->n_settings++] = text;
        return 0;
}

/* Options of a plain submit that sbatch has not, and would not miss. */
static const char *cure_of(const char *option) {
        static const struct {
                const char *name, *cure;
        } own[] = {
                { "--hosts", "Slurm chooses the hosts; use sbatch's --nodes or --nodelist" },
                { "--use", "Slurm chooses the hosts; use sbatch's --nodes" },
                { "--continue", "a run continues in its run_dir by itself; use --set run_dir=RUN_DIR" },
        };
        size_t n = strcspn(option, "=");

        for (size_t i = 0; i < ELEMENTSOF(own); i++)
                if (strlen(own[i].name) == n && strncmp(option, own[i].name, n) == 0)
                        return own[i].cure;
        return NULL;
}

/* A line of the script is a line. */
static int take_option(struct request *request, char *text, struct error *error) {
        const char *cure = cure_of(text);

        if (cure)
                return error_input(error, BERTCTL_EXIT_USAGE, "submit --slurm: %.*s: %s", (int) strcspn(text, "="),
                                   text, cure);
        for (const char *p = text; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return error_input(error, BERTCTL_EXIT_USAGE,
                                           "submit --slurm: an option of sbatch has a control character");
        request->options[request->n_options++] = text;
        return 0;
}

static int parse(int argc, char **argv, struct request *ret, struct error *error) {
        int r = 0;

        if (argc < 3 || argv[argc - 1][0] == '-' || !argv[argc - 1][0])
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "submit --slurm: the last argument must be SPEC.yaml, a file");
        ret->path = argv[argc - 1];
        for (int i = 2; r == 0 && i < argc - 1; i++) {
                bool set = strcmp(argv[i], "--set") == 0;
                if (strcmp(argv[i], "--print") == 0)
                        ret->print = true;
                else if (set && i + 1 < argc - 1)
                        r = take_setting(ret, argv[++i], error);
                else if (set)
                        r = error_input(error, BERTCTL_EXIT_USAGE, "--set: KEY=VALUE is missing");
                else if (strncmp(argv[i], "--set=", 6) == 0)
                        r = take_setting(ret, argv[i] + 6, error);
                else if (strcmp(argv[i], "--") == 0)
                        r = error_input(error, BERTCTL_EXIT_USAGE,
                                        "submit --slurm: runs a spec; for a command, write one of kind: command");
                else
                        r = take_option(ret, argv[i], error);
        }
        return r;
}

static int load(const struct request *request, struct spec **ret, struct error *error) {
        struct spec_setting settings[OPTION_LIST_MAX];
        cleanup_free char *text = NULL;
        size_t size;

        for (size_t i = 0; i < request->n_settings; i++)
                settings[i] = (struct spec_setting) { .option = "set", .value = request->settings[i] };
        int r = spec_read(request->path, &text, &size, error);
        if (r >= 0)
                r = spec_parse(request->path, text, size, settings, request->n_settings, ret, error);
        if (r >= 0 && !(*ret)->run_dir && (*ret)->kind != JOB_COMMAND)
                r = error_input(error, BERTCTL_EXIT_USAGE,
                                "%s: run_dir: missing; a Slurm job keeps nothing else: give a folder on a shared file "
                                "system, e.g. --set run_dir=runs/a",
                                request->path);
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

/* ---- the script ---- */

/* In a #SBATCH line, where sbatch reads quotes and backslashes. */
static void put_sbatch_word(FILE *f, const char *text) {
        bool quoted = !text[0] || strpbrk(text, " '\"\\#");

        (void) fputs(quoted ? " \"" : " ", f);
        for (; *text; text++)
                (void) fprintf(f, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
        if (quoted)
                (void) fputc('"', f);
}

/* A value stays in the line of its option ("-p gpu"). */
static void put_options(FILE *f, char *const *options, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (i == 0 || options[i][0] == '-')
                        (void) fprintf(f, "%s#SBATCH", i > 0 ? "\n" : "");
                put_sbatch_word(f, options[i]);
        }
        if (n > 0)
                (void) fputc('\n', f);
}

static void put_word(FILE *f, const char *text) {
        (void) fputs(" '", f);
        for (; *text; text++)
                if (*text == '\'')
                        (void) fputs("'\\''", f);
                else
                        (void) fputc(*text, f);
        (void) fputc('\'', f);
}

/* CPUs of a rank: its threads; of a command also its CPU limit. */
static uint64_t cpus_of(const struct spec_resources *r) {
        double shared = ceil(r->cpus / (double) MAX(r->ranks, 1u));

        return MAX((uint64_t) r->threads, (uint64_t) shared);
}

static void put_resources(FILE *f, const struct spec *spec) {
        const struct spec_resources *r = &spec->resources;

        uint32_t nodes = r->use > 0 ? r->use : MAX(r->n_hosts, 1u);

        (void) fprintf(f, "#SBATCH --nodes=%u\n", nodes);
        (void) fprintf(f, "#SBATCH --ntasks-per-node=%" PRIu64 "\n", (uint64_t) r->ranks);
        (void) fprintf(f, "#SBATCH --cpus-per-task=%" PRIu64 "\n", cpus_of(r));
        if (r->gpus > 0)
                (void) fprintf(f, "#SBATCH --gpus-per-node=%" PRIu64 "\n", (uint64_t) r->gpus);
        if (r->memory > 0)
                (void) fprintf(f, "#SBATCH --mem=%" PRIu64 "M\n", (uint64_t) ((r->memory + (1 << 20) - 1) >> 20));
}

static void put_script(FILE *f, const struct request *request, const struct spec *spec, const char *self,
                       const char *path) {
        cleanup_free char *name = format_string("--job-name=%s", spec->name);

        (void) fputs("#!/bin/sh\n", f);
        put_options(f, &name, name ? 1 : 0);
        (void) fputs("#SBATCH --requeue\n#SBATCH --open-mode=append\n", f);
        (void) fprintf(f, "#SBATCH --signal=B:USR1@%" PRIu64 "\n", (uint64_t) spec->restart.grace_sec + MARGIN_SEC);
        put_resources(f, spec);
        put_options(f, request->options, request->n_options);
        (void) fputs("exec", f);
        put_word(f, self);
        (void) fputs(" run --requeue", f);
        for (size_t i = 0; i < request->n_settings; i++) {
                (void) fputs(" --set", f);
                put_word(f, request->settings[i]);
        }
        put_word(f, path);
        (void) fputc('\n', f);
}

static int write_script(const struct request *request, const struct spec *spec, char **ret, struct error *error) {
        char self[PATH_MAX];
        size_t size;
        cleanup_free char *path = realpath(request->path, NULL);

        if (!path)
                return error_errno(error, errno, "%s", request->path);
        executable_self(self, sizeof(self));
        if (!self[0])
                return error_errno(error, errno, "/proc/self/exe");
        FILE *f = open_memstream(ret, &size);
        if (!f)
                return error_errno(error, ENOMEM, "the batch script");
        put_script(f, request, spec, self, path);
        return fclose(f) == EOF ? error_errno(error, ENOMEM, "the batch script") : 0;
}

/* Its standard input is the script. */
static int execute(const char *script, struct error *error) {
        cleanup_free char *path = NULL;
        cleanup_close int fd = memfd_create("script", MFD_CLOEXEC);

        if (executable_find("sbatch", &path) < 0)
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "sbatch is not in PATH: add the folder of Slurm's programs, or submit the script of "
                                   "`bertctl submit --slurm --print` where it is");
        if (fd < 0 || write_all(fd, script, strlen(script)) < 0 || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
                return error_errno(error, errno, "the batch script");
        (void) execl(path, "sbatch", "--parsable", (char *) NULL);
        return error_errno(error, errno, "%s", path);
}

int sbatch_submit(struct ctl *ctl, int argc, char **argv) {
        cleanup_free char **options = calloc((size_t) argc, sizeof(*options));
        cleanup_free char *script = NULL;
        struct request request = { .options = options };
        cleanup_spec struct spec *spec = NULL;

        int r = options ? parse(argc, argv, &request, &ctl->error) : error_errno(&ctl->error, ENOMEM, "options");
        if (r >= 0)
                r = load(&request, &spec, &ctl->error);
        if (r >= 0)
                r = write_script(&request, spec, &script, &ctl->error);
        if (r >= 0 && request.print)
                (void) fputs(script, stdout);
        else if (r >= 0)
                r = execute(script, &ctl->error);
        return command_exit(ctl, r);
}
