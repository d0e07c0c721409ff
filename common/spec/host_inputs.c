/* See host_inputs.h. Owns nothing. */
#include "common/spec/host_inputs.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"

static void add_name(json_t *paths, const char *path) {
        for (size_t i = 0; i < json_array_size(paths); i++)
                if (strcmp(json_string_value(json_array_get(paths, i)), path) == 0)
                        return;
        if (json_array_size(paths) < HOST_INPUTS_MAX)
                (void) json_array_append_new(paths, json_string(path));
}

static void add_names(json_t *paths, char *const *names, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                add_name(paths, names[i]);
}

static void add_data(json_t *paths, const struct spec *spec) {
        for (uint32_t i = 0; i < spec_n_stages(spec); i++)
                for (uint32_t t = 0; t < spec_n_tasks(spec_at(spec, i)); t++) {
                        const struct spec_data *data = spec_task(spec_at(spec, i), t);
                        add_names(paths, data->train, data->n_train);
                        add_names(paths, data->validation, data->n_validation);
                        add_names(paths, data->test, data->n_test);
                }
}

/* NULL: no memory. */
static json_t *program_to_find(const char *program, const char *folder) {
        const char *search = getenv("PATH"), *name = strncmp(program, "./", 2) == 0 ? program + 2 : program;
        bool relative = program[0] != '/' && strchr(program, '/');
        cleanup_free char *path = relative ? format_string("%s/%s", folder, name) : strdup(program);

        return path ? json_pack("{s:s,s:s,s:s}", "name", path, "search", search ? search : "", "folder", folder) : NULL;
}

json_t *host_inputs_line(const struct spec *spec, const char *folder, const char *program, char *const *hosts) {
        json_t *paths = json_array(), *names = json_array();

        if (paths && spec && spec->kind != JOB_COMMAND)
                add_data(paths, spec);
        if (paths && folder)
                add_name(paths, folder);
        for (; names && hosts && *hosts; hosts++)
                (void) json_array_append_new(names, json_string(*hosts));
        return json_pack("{s:s,s:o,s:o,s:o*}", "type", "inputs", "paths", paths, "hosts", names, "program",
                         folder && program ? program_to_find(program, folder) : NULL);
}
