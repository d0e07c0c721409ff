/* See inputs.h. Owns nothing. */
#include "ctl/inputs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/corpus_prefix.h"
#include "common/file.h"
#include "ctl/program.h"

static int check_file(const char *key, const char *path, const char *suffix, struct error *error) {
        struct stat st;
        cleanup_free char *file = format_string("%s%s", path, suffix);

        if (!file)
                return error_errno(error, ENOMEM, "%s", key);
        if (stat(file, &st) < 0 || access(file, R_OK) < 0)
                return error_set(error, errno, "%s: %s: %s", key, file, strerror(errno));
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return error_set(error, EINVAL, "%s: %s: the file is empty", key, file);
        return 0;
}

static int check_files(const char *key, char *const *paths, uint32_t n, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = check_file(key, paths[i], "", error);
        return r;
}

static int check_corpus(const char *key, const char *prefix, struct error *error) {
        struct error why = {};
        char expected[512];

        int r = check_file(key, prefix, ".idx", &why);
        if (r == -ENOENT && corpus_prefix_mistaken(prefix, expected, sizeof(expected)))
                return error_set(error, EINVAL, "%s: %s: %s", key, prefix, expected);
        if (r < 0)
                *error = why;
        return r < 0 ? r : check_file(key, prefix, ".bin", error);
}

/* finetune may make a corpus of texts itself. */
static int check_corpora(const char *key, enum job_kind kind, char *const *prefixes, uint32_t n, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < n; i++) {
                bool texts = kind == JOB_FINETUNE && spec_is_texts(prefixes[i]);
                r = texts ? check_file(key, prefixes[i], "", error) : check_corpus(key, prefixes[i], error);
        }
        return r;
}

/* A checkpoint, or a Hugging Face folder. */
static int check_init(const char *path, struct error *error) {
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return check_file("model.init", path, "/config.json", error);
        return check_file("model.init", path, "", error);
}

static int check_data(enum job_kind kind, const struct spec_data *data, struct error *error) {
        const struct {
                const char *key;
                char *const *paths;
                uint32_t n;
        } parts[] = { { "data.train", data->train, data->n_train },
                      { "data.validation", data->validation, data->n_validation },
                      { "data.test", data->test, data->n_test } };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(parts); i++)
                r = data->objective == OBJECTIVE_CLASSIFY
                            ? check_files(parts[i].key, parts[i].paths, parts[i].n, error)
                            : check_corpora(parts[i].key, kind, parts[i].paths, parts[i].n, error);
        return r;
}

static int check_on_exit(const char *program, struct error *error) {
        char *const argv[] = { (char *) program, NULL };

        if (!program || program_check(argv, PROGRAM_ON_EXIT, error) == 0)
                return 0;
        return error_prefix(error, "on_exit");
}

int inputs_check(const struct spec *spec, struct error *error) {
        int r = check_on_exit(spec->on_exit, error);

        if (r < 0)
                return r;
        if (spec->kind == JOB_COMMAND) {
                r = program_check(spec->command, PROGRAM_OF_JOB, error);
                return r < 0 ? error_prefix(error, "command") : 0;
        }
        if (spec->model.config)
                r = check_file("model.config", spec->model.config, "", error);
        if (r == 0 && spec->model.vocab)
                r = check_file("model.vocab", spec->model.vocab, "", error);
        if (r == 0 && spec->model.init)
                r = check_init(spec->model.init, error);
        for (uint32_t i = 0; r == 0 && i < spec_n_stages(spec); i++)
                for (uint32_t t = 0; r == 0 && t < spec_n_tasks(spec_at(spec, i)); t++)
                        r = check_data(spec->kind, spec_task(spec_at(spec, i), t), error);
        return r;
}
