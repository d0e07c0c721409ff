/*
 * See spec.h. yaml.c gives the file with every scalar still text; here one table, fields.c, turns text into numbers,
 * enums and absolute paths, with ranges and defaults. A new key is one row there, and its member in struct spec.
 */
#include "common/spec/spec.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/names.h"
#include "common/file.h"
#include "common/nearest.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/spec/reader.h"
#include "common/spec/source.h"
#include "common/spec/yaml.h"

#define WEIGHT_MIN 1e-9 /* of a corpus */
#define WEIGHT_MAX 1e9

/* A number would look like a job's id, so it gets a prefix. */
static int default_name(struct spec_reader *reader, const char *base, size_t n, char **to) {
        bool is_number = strspn(base, "0123456789") >= n;

        *to = is_number ? format_string("job-%.*s", (int) n, base) : strndup(base, n);
        return *to ? 0 : spec_no_memory(reader);
}

/* The file's name without its ending; "job" for a stream. */
static int name_of_file(struct spec_reader *reader, char **to) {
        static const char *const endings[] = { ".yaml", ".yml" };
        const char *slash = strrchr(reader->path, '/'), *base = slash ? slash + 1 : reader->path;
        size_t n = strlen(base);

        if (spec_is_stream(reader->path))
                return default_name(reader, "job", 3, to);
        for (size_t i = 0; i < ELEMENTSOF(endings); i++)
                if (n == strlen(base) && n > strlen(endings[i]) && text_ends_with(base, endings[i]))
                        n -= strlen(endings[i]);
        return default_name(reader, base, n, to);
}

static int check_backoff(struct spec_reader *reader, const struct spec_restart *restart) {
        if (restart->backoff_sec[0] <= restart->backoff_sec[1])
                return 0;
        return spec_refuse(reader, "restart.backoff_sec", "the first, %u, is greater than the second, %u",
                           restart->backoff_sec[0], restart->backoff_sec[1]);
}

/* One weight for each corpus, or none at all. */
static int read_weights(struct spec_reader *reader, struct spec_data *data) {
        static const char key[] = "data.train_weights";

        if (data->n_train_weights == 0)
                return 0;
        if (data->n_train_weights != data->n_train)
                return spec_refuse(reader, key, "%u given, but data.train has %u", data->n_train_weights,
                                   data->n_train);
        data->weights = calloc(data->n_train, sizeof(*data->weights));
        if (!data->weights)
                return spec_no_memory(reader);
        for (uint32_t i = 0; i < data->n_train; i++) {
                const char *text = data->train_weights[i];
                int r = parse_double(text, WEIGHT_MIN, WEIGHT_MAX, &data->weights[i]);
                if (r == -ERANGE)
                        return spec_refuse(reader, key,
                                           "%.64s is not between %g and %g; leave a corpus without weight "
                                           "out of data.train",
                                           text, WEIGHT_MIN, WEIGHT_MAX);
                if (r < 0)
                        return spec_refuse(reader, key, "'%.64s' is not a number", text);
        }
        return 0;
}

int spec_read_values(struct spec_reader *reader, struct spec *spec) {
        int r = spec_read_field(reader, field_of("kind"), spec); /* the other rows depend on it */

        for (size_t row = 0; r == 0 && row < spec_n_fields; row++)
                r = spec_read_field(reader, row, spec);
        spec->resources.ranks_given = is_given(reader, "resources.ranks");
        if (r == 0)
                r = check_backoff(reader, &spec->restart);
        if (r == 0)
                r = spec_check_hosts(reader, spec);
        if (r == 0 && !spec->name)
                r = name_of_file(reader, &spec->name);
        if (r == 0)
                r = spec_check(reader, spec);
        return r == 0 && spec->kind != JOB_COMMAND ? read_weights(reader, &spec->data) : r;
}

/* ---- from a file or a command line ---- */

static int read_part(const char *path, struct part *file, struct spec **ret_spec, struct error *error) {
        cleanup_spec struct spec *spec = calloc(1, sizeof(*spec));
        cleanup_free char *folder = NULL;
        struct spec_idle idle[SPEC_IDLE_RULES] = {};

        int r = spec ? spec_folder(path, &folder, error) : error_errno(error, ENOMEM, "%s", path);
        if (r < 0)
                return r;
        struct spec_reader reader = {
                .path = path, .folder = folder, .file = file, .given = file->given, .idle = idle, .error = error
        };
        r = file->n_parts > 0 ? spec_read_stages(&reader, spec) : spec_read_values(&reader, spec);
        if (r == 0)
                *ret_spec = steal_pointer(&spec);
        return r;
}

static int apply_all(const char *path, struct part *file, const struct spec_setting *settings, size_t n,
                     struct error *error) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = spec_apply_setting(file, path, &settings[i], error);
        return r;
}

int spec_parse(const char *path, const char *text, size_t size, const struct spec_setting *settings, size_t n,
               struct spec **ret_spec, struct error *error) {
        cleanup_free struct part *file = calloc(1, sizeof(*file));

        if (!file)
                return error_errno(error, ENOMEM, "%s", path);
        int r = yaml_read(path, text, size, file, error);
        if (r == 0)
                r = apply_all(path, file, settings, n, error);
        if (r == 0)
                r = read_part(path, file, ret_spec, error);
        part_free(file);
        return r;
}

/* kind: command, and its words. */
static int add_command(struct part *file, char *const *command) {
        struct given *kind = &file->given[field_of("kind")], *words = &file->given[field_of("command")];
        uint32_t n = 0;

        while (command[n])
                n++;
        kind->name = strdup("kind");
        kind->text = strdup(job_kind_name(JOB_COMMAND));
        words->name = strdup("command");
        words->entries = calloc(n + 1, sizeof(char *));
        for (; words->entries && words->n < n; words->n++)
                if (!(words->entries[words->n] = strdup(command[words->n])))
                        return -ENOMEM;
        return kind->name && kind->text && words->name && words->entries ? 0 : -ENOMEM;
}

/* Named after the program if no option names it. */
static int add_name(struct part *file, const char *program, struct error *error) {
        struct given *name = &file->given[field_of("name")];
        const char *slash = strrchr(program, '/'), *base = slash && slash[1] ? slash + 1 : program;
        struct spec_reader reader = { .path = "name", .error = error };

        if (name->name)
                return 0;
        name->name = strdup("name");
        return name->name ? default_name(&reader, base, strlen(base), &name->text) : spec_no_memory(&reader);
}

int spec_of_command(char *const *command, const struct spec_setting *settings, size_t n, struct spec **ret_spec,
                    struct error *error) {
        cleanup_free struct part *file = calloc(1, sizeof(*file));

        int r = !file || add_command(file, command) < 0 ? error_errno(error, ENOMEM, "command") : 0;
        if (r == 0)
                r = apply_all("command", file, settings, n, error);
        if (r == 0)
                r = add_name(file, command[0], error);
        if (r == 0)
                r = read_part(SPEC_STDIN, file, ret_spec, error);
        if (file)
                part_free(file);
        return r;
}

int spec_load(const char *path, struct spec **ret_spec, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        int r = spec_read(path, &text, &size, error);
        return r < 0 ? r : spec_parse(path, text, size, NULL, 0, ret_spec, error);
}

char spec_delimiter(const char *text) {
        if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
                return '\t';
        if (strlen(text) != 1 || text[0] == '"' || (text[0] != '\t' && !ispunct((unsigned char) text[0])))
                return '\0';
        return text[0];
}

bool spec_is_texts(const char *path) {
        static const char *const endings[] = { ".csv", ".tsv", ".jsonl" };

        for (size_t i = 0; i < ELEMENTSOF(endings); i++)
                if (strlen(path) > strlen(endings[i]) && text_ends_with(path, endings[i]))
                        return true;
        return false;
}

void spec_free(struct spec *spec) {
        if (!spec)
                return;
        for (size_t row = 0; row < spec_n_fields; row++) {
                const struct field *field = &spec_fields[row];
                char **entries = is_list(field) ? *AT(spec, field->offset, char **) : NULL;
                for (uint32_t i = 0; entries && i < *AT(spec, field->count, uint32_t); i++)
                        free(entries[i]);
                free(entries);
                if (is_text(field))
                        free(*AT(spec, field->offset, char *));
        }
        for (uint32_t i = 0; i < spec->n_stages; i++)
                spec_free(spec->stages[i]);
        free(spec->stages);
        for (uint32_t i = 0; i < spec->n_tasks; i++)
                spec_free(spec->tasks[i]);
        free(spec->tasks);
        free(spec->data.weights);
        free(spec);
}
