/*
 * What ranks compare with each other (contract C11); see run.h. In this order: the spec, key by key and stage by
 * stage, with defaults for what it leaves out; the model's config; the vocabulary; how text is folded; the weights
 * to begin with; then, once they are open, each stage's data. Paths do not count, contents do. What only
 * bertd or rank 0 reads is not compared.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "common/parse.h"
#include "trainer/run/fingerprint.h"
#include "trainer/run/run.h"
#include "trainer/text/content.h"

#define NAME_MAX_BYTES 160

/* ---- the spec ---- */

struct walk {
        struct fingerprint *fingerprint;
        const char *prefix;
        bool data_only; /* of a stage's task */
        bool finetune;
};

static bool is_for_others(const char *key) {
        static const char *const others[] = { "name", "priority", "ends_with", "resources.", "restart.", "log." };

        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                size_t n = strlen(others[i]);
                if (strncmp(key, others[i], n) == 0 && (others[i][n - 1] == '.' || key[n] == '\0'))
                        return true;
        }
        return false;
}

static void add_key(void *userdata, const char *key, bool path, const char *value) {
        struct walk *walk = userdata;
        char name[NAME_MAX_BYTES];

        if (is_for_others(key) || (walk->data_only && strncmp(key, "data.", strlen("data.")) != 0))
                return;
        (void) snprintf(name, sizeof(name), "%s%s", walk->prefix, key);
        if (path && strncmp(key, "data.", strlen("data.")) == 0)
                value = walk->finetune && spec_is_texts(value) ? "a file of texts" : "a corpus";
        else if (path && strcmp(key, "model.init") == 0)
                value = value ? "a path" : NULL;
        else if (path)
                return;
        fingerprint_add(walk->fingerprint, name, value);
}

static void stage_prefix(const struct run *run, uint32_t stage, char *prefix, size_t size) {
        prefix[0] = '\0';
        if (run->job->whole->n_stages > 0)
                (void) snprintf(prefix, size, "stage %u: ", stage);
}

static void add_spec(struct fingerprint *f, const struct run *run, const struct spec *spec, const char *prefix,
                     bool data_only) {
        struct walk walk = { f, prefix, data_only, run->job->whole->kind == JOB_FINETUNE };

        spec_walk(spec, add_key, &walk);
}

static void add_number(struct fingerprint *f, const char *prefix, const char *name, uint64_t value) {
        char full[NAME_MAX_BYTES], text[32];

        (void) snprintf(full, sizeof(full), "%s%s", prefix, name);
        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        fingerprint_add(f, full, text);
}

static void add_specs(struct fingerprint *f, const struct run *run) {
        static const char *const kinds[] = JOB_KIND_NAMES;
        char prefix[NAME_MAX_BYTES], task[NAME_MAX_BYTES];

        fingerprint_add(f, "kind", kinds[run->job->whole->kind]);
        add_number(f, "", "stages", spec_n_stages(run->job->whole));
        for (uint32_t s = 0; s < spec_n_stages(run->job->whole); s++) {
                const struct spec *spec = spec_at(run->job->whole, s);
                stage_prefix(run, s, prefix, sizeof(prefix));
                add_number(f, prefix, "tasks", spec_n_tasks(spec));
                add_spec(f, run, spec, prefix, false);
                for (uint32_t t = 0; t < spec->n_tasks; t++) {
                        (void) snprintf(task, sizeof(task), "%.100stask %u: ", prefix, t);
                        add_spec(f, run, spec->tasks[t], task, true);
                }
        }
}

/* ---- the model ---- */

static void add_config(struct fingerprint *f, const struct run *run) {
        json_t *json = config_json(&run->job->config), *value;
        const char *key;

        f->no_memory = f->no_memory || !json;
        json_object_foreach(json, key, value) {
                cleanup_free char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
                cleanup_free char *said = text ? run_plainly(text) : NULL;
                char name[NAME_MAX_BYTES];
                (void) snprintf(name, sizeof(name), FINGERPRINT_CONFIG "%s", key);
                f->no_memory = f->no_memory || !said;
                fingerprint_add(f, name, said);
        }
        json_decref(json);
}

static void add_text_options(struct fingerprint *f, const struct text_options *o) {
        add_number(f, "text: ", "lowercase", o->lowercase);
        add_number(f, "text: ", "strip_accents", o->strip_accents);
        add_number(f, "text: ", "chinese", o->chinese);
        add_number(f, "text: ", "quotes", o->quotes);
        add_number(f, "text: ", "nfkd", o->nfkd);
}

static int is_weights(const struct dirent *entry) { return text_ends_with(entry->d_name, ".safetensors"); }

/* All of a Hugging Face folder's weights, by the names of their files. */
static bool hash_folder(const char *path, char hex[CONTENT_HASH_MAX]) {
        struct dirent **list = NULL;
        int n = scandir(path, &list, is_weights, alphasort);
        XXH3_state_t *state = XXH3_createState();
        bool read = state && n > 0;

        if (state)
                (void) XXH3_128bits_reset(state);
        for (int i = 0; i < n; i++) {
                cleanup_free char *file = format_string("%s/%s", path, list[i]->d_name);
                read = read && file && content_hash_file(file, hex) >= 0;
                if (read)
                        (void) XXH3_128bits_update(state, hex, CONTENT_HASH_MAX);
                free(list[i]);
        }
        free(list);
        if (read) {
                XXH128_hash_t h = XXH3_128bits_digest(state);
                hex_128(h.high64, h.low64, hex);
        }
        XXH3_freeState(state);
        return read;
}

/* Rank 0 alone reads the weights: another rank that has no such file misses nothing. `own`: this rank was given the path, and some rank
 * other than rank 0 was. */
static void add_weights(struct fingerprint *f, const char *name, const char *path, bool own) {
        char hex[CONTENT_HASH_MAX];
        bool read = own && path && (content_hash_file(path, hex) >= 0 || hash_folder(path, hex));

        fingerprint_add_content(f, name, path, read ? hex : NULL);
}

int run_compare_inputs(struct run *run, struct error *error) {
        const struct run_options *o = run->options;
        struct fingerprint f = {};
        char hex[CONTENT_HASH_MAX];

        if (run->ranks.n == 1)
                return 0;
        add_specs(&f, run);
        add_config(&f, run);
        vocab_hash(run->job->vocab, hex);
        fingerprint_add_content(&f, "model.vocab", run->job->vocab_path, hex);
        if (run->job->whole->kind == JOB_FINETUNE) /* else a corpus' text was folded when it was prepared */
                add_text_options(&f, &run->job->text);
        add_weights(&f, "model.init", run->job->whole->model.init, o->compares_files && o->own_spec);
        fingerprint_add(&f, "--resume", o->resume ? "given" : NULL);
        add_weights(&f, "--resume", o->resume, o->compares_files && o->own_resume);
        int r = fingerprint_compare(&f, run->ranks.exchange, error);
        fingerprint_free(&f);
        return r;
}

/* ---- the backend ---- */

/* What computes the same bits from the same sums: "generic" alone does not. */
static const char *backend_of(const struct run *run) {
        const char *kernel = run->ops->variant && run->ops->host_memory ? run->ops->variant() : "";

        return strcmp(kernel, "generic") == 0 ? "cpu without AVX2" : run->ops->name;
}

int run_compare_backend(struct run *run, struct error *error) {
        struct fingerprint f = {};

        if (run->ranks.n == 1)
                return 0;
        fingerprint_add(&f, FINGERPRINT_BACKEND, backend_of(run));
        int r = fingerprint_compare(&f, run->ranks.exchange, error);
        fingerprint_free(&f);
        return r;
}

/* ---- the data ---- */

static const char *const part_names[PART_MAX] = { "data.train", "data.validation", "data.test" };

static char *const *files_of(const struct spec_data *d, enum run_part part, uint32_t *ret_n) {
        *ret_n = part == PART_TRAIN ? d->n_train : part == PART_VALIDATION ? d->n_validation : d->n_test;
        return part == PART_TRAIN ? d->train : part == PART_VALIDATION ? d->validation : d->test;
}

static void add_files(struct fingerprint *f, const struct spec *spec, const char *prefix, enum run_part part) {
        char name[NAME_MAX_BYTES], hex[CONTENT_HASH_MAX];

        (void) snprintf(name, sizeof(name), "%s%s", prefix, part_names[part]);
        for (uint32_t t = 0; t < spec_n_tasks(spec); t++) {
                uint32_t n;
                char *const *files = files_of(spec_task(spec, t), part, &n);
                for (uint32_t i = 0; i < n; i++)
                        if (spec_is_texts(files[i]))
                                fingerprint_add_content(f, name, files[i],
                                                        content_hash_file(files[i], hex) < 0 ? NULL : hex);
        }
}

static void add_texts(struct fingerprint *f, const struct run_stage *stage, const char *prefix, enum run_part part) {
        const struct text_set *set = &stage->set[part];
        char name[NAME_MAX_BYTES], hex[CONTENT_HASH_MAX];

        if (set->n == 0)
                return;
        (void) snprintf(name, sizeof(name), "%s%s", prefix, part_names[part]);
        texts_hash(set->texts, hex);
        fingerprint_add_content(f, name, "the texts", hex);
        content_hash(set->index, set->n * sizeof(*set->index), hex);
        fingerprint_add_content(f, name, "the choice of texts", hex);
}

/* The sidecar; NULL: there is none. */
static const char *sidecar_of(const struct corpus *corpus, char *text, size_t size) {
        const struct text_options *o = corpus_text_options(corpus);
        const char *vocab = corpus_vocab_hash(corpus);

        if (!o || !vocab)
                return NULL;
        (void) snprintf(text, size, "%s %d%d%d", vocab, o->lowercase, o->strip_accents, o->chinese);
        return text;
}

int run_compare_corpora(struct run *run, uint32_t stage, enum run_part part, struct error *error) {
        const struct corpora *corpora = run->job->stages[stage].corpora[part];
        struct fingerprint f = {};
        char hex[CONTENT_HASH_MAX], sidecar[CONTENT_HASH_MAX + 8];

        if (run->ranks.n == 1 || !corpora)
                return 0;
        for (uint32_t p = 0; p < corpora->n; p++) {
                const struct corpus *corpus = corpora->part[p];
                cleanup_free char *path = format_string("%s.json", corpora->prefixes[p]);
                corpus_content_hash(corpus, hex);
                fingerprint_add_content(&f, part_names[part], corpora->prefixes[p], hex);
                fingerprint_add_content(&f, part_names[part], path, sidecar_of(corpus, sidecar, sizeof(sidecar)));
        }
        int r = fingerprint_compare(&f, run->ranks.exchange, error);
        fingerprint_free(&f);
        return r;
}

static void add_map(struct fingerprint *f, const struct run_stage *stage, const char *prefix, enum run_part part) {
        char name[NAME_MAX_BYTES], hex[CONTENT_HASH_MAX];

        if (!stage->samples[part])
                return;
        (void) snprintf(name, sizeof(name), "%s%s", prefix, part_names[part]);
        samples_map_hash(stage->samples[part], hex);
        fingerprint_add_content(f, name, "the window map", hex);
}

static void add_stage(struct fingerprint *f, const struct run *run, uint32_t index) {
        const struct run_stage *stage = &run->job->stages[index];
        char prefix[NAME_MAX_BYTES];

        stage_prefix(run, index, prefix, sizeof(prefix));
        for (enum run_part part = 0; part < PART_MAX; part++) {
                add_files(f, stage->spec, prefix, part);
                add_texts(f, stage, prefix, part);
                add_map(f, stage, prefix, part);
                add_number(f, prefix, "samples an epoch", stage->n[part]);
        }
        add_number(f, prefix, "train.steps", stage->spec->train.steps);
        add_number(f, prefix, "train.evaluate_every", stage->spec->train.evaluate_every);
}

static void add_classes(struct fingerprint *f, const struct run *run) {
        char name[NAME_MAX_BYTES];

        for (uint32_t t = 0; t < run->job->n_tasks; t++)
                for (uint32_t c = 0; c < run->job->tasks[t].labels.n; c++) {
                        (void) snprintf(name, sizeof(name), "%.80s%sclass %u", run->job->tasks[t].name,
                                        run->job->tasks[t].name[0] ? ": " : "", c);
                        fingerprint_add(f, name, run->job->tasks[t].labels.name[c]);
                }
}

int run_compare_data(struct run *run, uint32_t first, uint32_t n, struct error *error) {
        struct fingerprint f = {};

        if (run->ranks.n == 1)
                return 0;
        for (uint32_t s = first; s < first + n; s++)
                add_stage(&f, run, s);
        add_classes(&f, run);
        int r = fingerprint_compare(&f, run->ranks.exchange, error);
        fingerprint_free(&f);
        return r;
}

/* ---- the weights ---- */

bool run_find_odd_weights(struct run *run, uint32_t *ret_rank) {
        uint64_t mine = run->ranks.n > 1 ? state_hash(model_state(run->model)) : 0;
        const uint64_t *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        uint32_t rank = 1;

        while (rank < run->ranks.n && all[rank] == all[0])
                rank++;
        *ret_rank = rank;
        return rank < run->ranks.n;
}

int run_compare_weights(struct run *run, struct error *error) {
        uint32_t rank;

        if (!run_find_odd_weights(run, &rank))
                return 0;
        (void) error_input(error, BERTD_EXIT_DATA,
                           "the weights to begin with differ from those of rank 0 on %s: all ranks need the same "
                           "program and libraries",
                           exchange_host(run->ranks.exchange, 0));
        return exchange_blame(run->ranks.exchange, rank, error);
}
