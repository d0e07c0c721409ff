/*
 * What a checkpoint records of the run that made it, and what may differ on resume (contract T10). One table decides: a
 * key that is not NOTED is refused by name, since training would silently become another run.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/task.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/infer/fit.h"
#include "trainer/model/heads.h"
#include "trainer/ops/device.h"
#include "trainer/run/run.h"

/* The last two are of keys that an older checkpoint lacks: it had none; or is not compared. */
enum policy { NOTED, FIXED, FIXED_OR_NONE, FIXED_IF_THERE };
#define NONE "none"
#define CUT_SIZE 1024                  /* what an older bert-trainer kept of a value, its end included */
enum { OF_ALL, OF_CORPORA, OF_TEXTS }; /* which stages have the key */

static const struct rule {
        const char *key, *spec_key; /* spec_key: where the user would change it back */
        enum policy policy;
        int stages; /* OF_* */
} rules[] = {
        { "seed", "train.seed", FIXED, OF_ALL },
        { "objective", "data.objective", FIXED, OF_ALL },
        { "task", "data.labels", FIXED_IF_THERE, OF_TEXTS },
        { "classes", "data.train, labels", FIXED, OF_TEXTS },
        { "labels.0", "data.train, labels", FIXED, OF_TEXTS },             /* of a number neither has them */
        { "labels_hash", "data.train, labels", FIXED_IF_THERE, OF_TEXTS }, /* of all their names */
        { "heads", "data.task, tasks", FIXED_OR_NONE, OF_TEXTS },
        { "pairs", "data.text, join", FIXED_OR_NONE, OF_TEXTS },
        { "truncation", "data.truncation, head_tokens, max_segments", FIXED, OF_TEXTS },
        { "subset", "data.split, fraction, per_class, shuffle", FIXED, OF_TEXTS },
        { "rates", "optimizer.layer_decay, freeze", FIXED, OF_TEXTS },
        { "config_hash", "model.config", FIXED, OF_ALL },
        { "vocab_hash", "model.vocab", FIXED, OF_ALL },
        { "sequence_length", "data.sequence_length", FIXED, OF_ALL },
        { "masked_fraction", "data.masked_fraction", FIXED, OF_CORPORA },
        { "max_predictions", "data.max_predictions", FIXED, OF_CORPORA },
        { "short_sequence_probability", "data.short_sequence_probability", FIXED, OF_CORPORA },
        { "masking", "data.masking, dupe_factor", FIXED, OF_CORPORA },
        { "mask_unit", "data.mask_unit", FIXED, OF_CORPORA },
        { "corpus_hash", "data.train", FIXED, OF_CORPORA },
        { "corpus_hash", "data.train, text, label", FIXED, OF_TEXTS },
        { "train_weights", "data.train_weights", FIXED_OR_NONE, OF_CORPORA },
        { "window_map_hash", "data.train", FIXED, OF_CORPORA },
        { "global_batch", "train.global_batch", FIXED, OF_ALL },
        { "precision", "train.precision", FIXED, OF_ALL },
        { "gelu", "train.fast_gelu", FIXED_OR_NONE, OF_ALL }, /* if not model.config's */
        { "optimizer", "optimizer.name", FIXED, OF_ALL },
        { "betas", "optimizer.beta1, beta2", FIXED, OF_ALL },
        { "epsilon", "optimizer.epsilon", FIXED, OF_ALL },
        { "weight_decay", "optimizer.weight_decay", FIXED, OF_ALL },
        { "clip_norm", "optimizer.clip_norm, clip_by", FIXED, OF_ALL },
        { "schedule", "optimizer.schedule, power, decay_from, step_count", FIXED, OF_ALL },
        { "warmup", "optimizer.warmup_ratio, warmup_steps", FIXED, OF_ALL },
        { "micro_batch", "train.micro_batch", NOTED, OF_ALL },
        { "ranks", "resources.ranks", NOTED, OF_ALL },
        { "backend", "device", NOTED, OF_ALL },
        { "kernel", "the machine", NOTED, OF_ALL },
        { "steps", "train.steps", NOTED, OF_ALL },
        { "learning_rate", "optimizer.learning_rate", NOTED, OF_ALL },
        { "version", "the program", NOTED, OF_ALL },
};

/* Several keys of the spec in one row, as the spec writes them. */
static void set_from_spec(struct checkpoint_meta *m, const char *key, const struct spec *spec,
                          const char *const spec_keys[], size_t n) {
        char all[128] = "", one[40];
        size_t used = 0;

        for (size_t i = 0; i < n && used < sizeof(all); i++)
                used += (size_t) snprintf(all + used, sizeof(all) - used, "%s%s", i ? " " : "",
                                          spec_get(spec, spec_keys[i], one, sizeof(one)));
        checkpoint_meta_set(m, key, "%s", all);
}
#define SET(m, key, spec, ...)                                             \
        set_from_spec(m, key, spec, (const char *const[]) { __VA_ARGS__ }, \
                      ELEMENTSOF(((const char *[]) { __VA_ARGS__ })))

/* Each corpus' share of the samples; of many corpora a hash. */
static void fill_weights(struct checkpoint_meta *m, const struct spec_data *d) {
        char text[CUT_SIZE] = "";
        size_t used = 0;
        double sum = 0;

        for (uint32_t i = 0; d->weights && i < d->n_train; i++)
                sum += d->weights[i];
        for (uint32_t i = 0; d->weights && i < d->n_train && used < sizeof(text); i++)
                used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%.6g", i ? " " : "",
                                          d->weights[i] / sum);
        if (used >= sizeof(text))
                hex_64(XXH3_64bits(d->weights, d->n_train * sizeof(*d->weights)), text);
        checkpoint_meta_set(m, "train_weights", "%s", d->weights ? text : NONE);
}

static void fill_data(struct checkpoint_meta *m, const struct spec *spec, const struct samples_options *o) {
        checkpoint_meta_set(m, "masked_fraction", "%.17g", o->masked_fraction);
        checkpoint_meta_set(m, "max_predictions", "%u", o->max_predictions);
        checkpoint_meta_set(m, "short_sequence_probability", "%.17g", o->short_probability);
        if (o->dupe_factor > 0)
                SET(m, "masking", spec, "data.masking", "data.dupe_factor");
        else
                SET(m, "masking", spec, "data.masking");
        SET(m, "mask_unit", spec, "data.mask_unit");
        fill_weights(m, &spec->data);
}

/* The stage's tasks, and the classes of all of them in their order. */
static int fill_tasks(struct checkpoint_meta *m, const struct run *run, const struct spec *spec, struct labels *all,
                      struct error *error) {
        cleanup_free char *names = NULL;
        int r = 0;

        for (uint32_t t = 0; r >= 0 && t < spec_n_tasks(spec); t++) {
                const struct spec_data *d = spec_task(spec, t);
                const struct run_task *task = run_task_of(run, d);
                char *longer = format_string("%s%s%s", names ? names : "", t > 0 ? "," : "", task->name);
                free(names);
                names = longer;
                if (!names)
                        return error_errno(error, ENOMEM, "tasks");
                for (uint32_t c = 0; r >= 0 && c < task->labels.n; c++)
                        r = labels_add(all, task->labels.name[c], error);
                if (r >= 0)
                        r = task_set_meta(m, t, task->name, run_task_width(task), task->first, d, error);
        }
        checkpoint_meta_set(m, "heads", "%s", run->job->n_tasks > 1 ? names : NONE);
        return r;
}

static int fill_texts(struct checkpoint_meta *m, const struct run *run, const struct spec *spec, struct error *error) {
        struct labels labels = {};

        checkpoint_meta_set(m, "task",
                            run->job->config.classifier.target == TARGET_NUMBER ? "regression" : "classification");
        checkpoint_meta_set(m, "classes", "%u", run->job->n_classes);
        description_set_cuts(m, &(struct texts_options) { .truncation = spec->data.truncation,
                                                          .head_tokens = spec->data.head_tokens,
                                                          .max_segments = spec->data.max_segments });
        SET(m, "subset", spec, "data.split", "data.fraction", "data.per_class", "data.shuffle");
        SET(m, "rates", spec, "optimizer.layer_decay", "optimizer.freeze");
        int r = fill_tasks(m, run, spec, &labels, error);
        if (r >= 0 && labels.n > 0)
                r = description_set_labels(m, &labels, error);
        labels_free(&labels);
        return r;
}

static void fill_train(struct checkpoint_meta *m, const struct spec *spec) {
        SET(m, "objective", spec, "data.objective");
        SET(m, "sequence_length", spec, "data.sequence_length");
        SET(m, "global_batch", spec, "train.global_batch");
        SET(m, "micro_batch", spec, "train.micro_batch");
        SET(m, "steps", spec, "train.steps");
}

static void fill_optimizer(struct checkpoint_meta *m, const struct spec *spec) {
        const struct spec_optimizer *o = &spec->optimizer;

        SET(m, "optimizer", spec, "optimizer.name");
        checkpoint_meta_set(m, "learning_rate", "%.17g", o->learning_rate);
        checkpoint_meta_set(m, "betas", "%.17g %.17g", o->beta1, o->beta2);
        checkpoint_meta_set(m, "epsilon", "%.17g", o->epsilon);
        checkpoint_meta_set(m, "weight_decay", "%.17g", o->weight_decay);
        SET(m, "clip_norm", spec, "optimizer.clip_norm", "optimizer.clip_by");
        if (o->schedule == SCHEDULE_POLY)
                SET(m, "schedule", spec, "optimizer.schedule", "optimizer.power", "optimizer.decay_from",
                    "optimizer.step_count");
        else
                SET(m, "schedule", spec, "optimizer.schedule", "optimizer.decay_from", "optimizer.step_count");
        checkpoint_meta_set(m, "warmup", "%.17g %" PRIu64, o->warmup_ratio, o->warmup_steps);
}

static void fill_machine(struct checkpoint_meta *m, const struct run *run) {
        checkpoint_meta_set(m, "precision", "%s", precision_names[run->precision]);
        if (run->spec->train.fast_gelu)
                checkpoint_meta_set(m, "gelu", "tanh");
        checkpoint_meta_set(m, "ranks", "%u", run->ranks.n);
        checkpoint_meta_set(m, "threads", "%d", omp_get_max_threads());
        checkpoint_meta_set(m, "backend", "%s", run->ops->name);
        checkpoint_meta_set(m, "kernel", "%s", run->ops->variant ? run->ops->variant() : "");
        checkpoint_meta_set(m, "libraries", "sqlite %s, xxhash %u", sqlite3_libversion(), XXH_versionNumber());
        checkpoint_meta_set(m, "version", "%s", BERTD_VERSION);
}

int run_meta_fill(struct run *run, uint32_t index, const char *corpus_hash, struct error *error) {
        struct run_stage *stage = &run->job->stages[index];
        struct checkpoint_meta *m = &stage->meta;
        bool texts = stage->spec->data.objective == OBJECTIVE_CLASSIFY;
        char hex[HEX_128_SIZE];
        int r = 0;

        checkpoint_meta_set(m, "name", "%s", run->job->whole->name ? run->job->whole->name : "");
        checkpoint_meta_set(m, "seed", "%" PRIu64, run->job->whole->train.seed);
        checkpoint_meta_set(m, "stage", "%u", index);
        checkpoint_meta_set(m, "stage_name", "%s", stage->spec->stage.name ? stage->spec->stage.name : "");
        r = description_set_config(m, &run->job->config, error);
        vocab_hash(run->job->vocab, hex);
        checkpoint_meta_set(m, "vocab_hash", "%s", hex);
        checkpoint_meta_set(m, "corpus_hash", "%s", corpus_hash);
        fill_train(m, stage->spec);
        if (r >= 0 && run_pairs_fill(run, stage->spec, m) < 0)
                r = error_errno(error, ENOMEM, "pairs");
        if (r >= 0 && texts)
                r = fill_texts(m, run, stage->spec, error);
        else if (!texts) {
                samples_map_hash(stage->samples[PART_TRAIN], hex);
                checkpoint_meta_set(m, "window_map_hash", "%s", hex);
                fill_data(m, stage->spec, samples_options(stage->samples[PART_TRAIN]));
        }
        fill_optimizer(m, stage->spec);
        fill_machine(m, run);
        return r < 0 ? r : checkpoint_meta_check(m, error);
}

/* What an update of the stage trains, or learns to live with: a classifier reads a pooler that is frozen. */
static unsigned trained_in(const struct run *run, uint32_t stage) {
        enum objective objective = run->job->stages[stage].spec->data.objective;

        if (objective == OBJECTIVE_CLASSIFY)
                return heads_of_classifier(&run->job->config);
        return HEAD(PART_MLM_HEAD) | (objective == OBJECTIVE_MLM ? 0 : HEAD(PART_SENTENCE_HEAD) | HEAD(PART_POOLER));
}

static unsigned fresh_now(const struct run *run) {
        unsigned fresh = run->out.fresh & heads_of(&run->job->config);

        for (uint32_t s = 0; s < run->job->n_stages; s++)
                if (s < run->state.stage || (s == run->state.stage && run->state.stage_step > 0))
                        fresh &= ~trained_in(run, s);
        return fresh;
}

void run_meta_now(const struct run *run, struct checkpoint_meta *m) {
        checkpoint_meta_copy(m, &run->now->meta);
        checkpoint_meta_set(m, "format", "%d", CHECKPOINT_FORMAT);
        state_to_meta(&run->state, run->spec->train.global_batch, run_classifies(run),
                      run_classifies(run) && !run_regresses(run), m);
        description_set_fresh(m, fresh_now(run));
}

static bool applies(const struct run *run, uint32_t stage, const struct rule *rule) {
        bool texts = run->job->stages[stage].spec->data.objective == OBJECTIVE_CLASSIFY;

        return rule->stages == OF_ALL || rule->stages == (texts ? OF_TEXTS : OF_CORPORA);
}

/* An older bert-trainer took two keys of which one did nothing: a ratio beside warmup_steps, a split beside validation. They come first. */
static const char *that_counts(const char *key, const char *value, bool validation) {
        const char *rest = strchr(value, ' ');

        if (rest &&
            ((strcmp(key, "warmup") == 0 && strcmp(rest, " 0") != 0) || (strcmp(key, "subset") == 0 && validation)))
                return rest;
        return value;
}

/* `then` may be what an older bert-trainer left of it. */
static bool is_same(const struct run *run, uint32_t stage, const char *key, const char *then, const char *now) {
        bool validation = run->job->stages[stage].spec->data.n_validation > 0;

        if (strcmp(key, "pairs") == 0)
                return run_pairs_are_same(then, now);
        return strcmp(that_counts(key, then, validation), that_counts(key, now, validation)) == 0 ||
               (strlen(then) == CUT_SIZE - 1 && strncmp(then, now, CUT_SIZE - 1) == 0);
}

/* A number that "%.17g" wrote, as a person does: 0.0005 and 1e-5, not 0.00050000000000000001 and 1.0000000000000001e-05; never longer. */
static size_t write_plainly(const char *word, size_t n, char *to, size_t room) {
        char *end, text[32] = "", *e;
        double v = strtod(word, &end);

        if (end != word + n || n >= sizeof(text) || (!memchr(word, '.', n) && !memmem(word, n, "e-", 2)))
                return (size_t) snprintf(to, room, "%.*s", (int) n, word);
        for (int digits = 6; digits <= 17 && !(text[0] && strtod(text, NULL) == v); digits++)
                (void) snprintf(text, sizeof(text), "%.*g", digits, v);
        if ((e = strchr(text, 'e')) && e[2] == '0')
                memmove(e + 2, e + 3, strlen(e + 3) + 1);
        if (strlen(text) > n) /* ".1", which another program wrote */
                return (size_t) snprintf(to, room, "%.*s", (int) n, word);
        return (size_t) snprintf(to, room, "%s", text);
}

char *run_plainly(const char *value) {
        size_t room = strlen(value) + 1, used = 0;
        char *text = malloc(room);

        for (const char *word = value; text; word++) {
                size_t n = strcspn(word, " ");
                used += write_plainly(word, n, text + used, room - used);
                word += n;
                if (!*word)
                        break;
                text[used++] = ' ';
        }
        return text;
}

int run_meta_compare(const struct run *run, uint32_t stage, const struct checkpoint_meta *found, const char *path,
                     struct error *error) {
        char in_stage[32] = "";

        if (run->job->n_stages > 1)
                (void) snprintf(in_stage, sizeof(in_stage), "stage %u, ", stage);
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const struct rule *rule = &rules[i];
                const char *then = checkpoint_meta_get(found, rule->key),
                           *now = checkpoint_meta_get(&run->job->stages[stage].meta, rule->key);
                if (!applies(run, stage, rule) || (!then && !now))
                        continue;
                if (rule->policy == FIXED_OR_NONE) {
                        then = then ? then : NONE;
                        now = now ? now : NONE;
                }
                if (!then && rule->policy == FIXED_IF_THERE)
                        continue;
                if (!then)
                        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is missing", path,
                                           rule->key);
                if (rule->policy == NOTED || is_same(run, stage, rule->key, then, now))
                        continue;
                cleanup_free char *was = run_plainly(then), *is = run_plainly(now);
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: made with %s %s, the spec (%s%s) now gives %s: this may not change on resume",
                                   path, rule->key, was ? was : then, in_stage, rule->spec_key, is ? is : now);
        }
        return 0;
}

static void say_other(const struct rule *rule, const struct spec *spec, const char *then, const char *now) {
        cleanup_free char *was = run_plainly(then), *is = run_plainly(now);
        char epochs[32];

        if (strcmp(rule->key, "steps") == 0 && spec->train.epochs > 0)
                (void) fprintf(stderr, "resuming with train.epochs %s: %s steps, was %s\n",
                               spec_get(spec, "train.epochs", epochs, sizeof(epochs)), now, then);
        else
                (void) fprintf(stderr, "resuming with another %s: %s, was %s\n", rule->key, is ? is : now,
                               was ? was : then);
}

void run_meta_say(const struct run *run, uint32_t stage, const struct checkpoint_meta *found) {
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                const char *then = checkpoint_meta_get(found, rules[i].key),
                           *now = checkpoint_meta_get(&run->job->stages[stage].meta, rules[i].key);
                if (rules[i].policy == NOTED && applies(run, stage, &rules[i]) && strcmp(then, now) != 0)
                        say_other(&rules[i], run->job->stages[stage].spec, then, now);
        }
}
