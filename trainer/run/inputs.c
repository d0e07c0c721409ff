/*
 * What a run is made of, from its spec: config, vocabulary and how text is folded; see run.h. Fine-tuning may leave config and vocabulary
 * to what it begins with, a checkpoint or a Hugging Face folder, and sets what its classifier looks at. Files are read by run_read_spec
 * and run_read_model alone, which share.c calls on one rank for all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/hf/folder.h"
#include "trainer/infer/bundle.h"
#include "trainer/infer/fit.h"
#include "trainer/run/run.h"

static const char *init_of(const struct run *run) { return run->job->whole->model.init; }

bool run_init_is_folder(const struct run *run) {
        struct stat st;

        return init_of(run) && stat(init_of(run), &st) == 0 && S_ISDIR(st.st_mode);
}

static int take_path(struct run *run, const char *path, struct error *error) {
        run->making->vocab_path = strdup(path);
        return run->job->vocab_path ? 0 : error_errno(error, ENOMEM, "vocabulary");
}

static int load_vocabulary(struct run *run, const char *path, struct error *error) {
        int r = take_path(run, path, error);
        if (r >= 0)
                r = assets_read(&run->making->assets, NULL, path, error);
        return r < 0 ? r : assets_vocab(&run->making->assets, path, &run->making->vocab, error);
}

static int load_from_files(struct run *run, struct error *error) {
        int r = config_load(run->job->whole->model.config, &run->making->config, error);

        return r < 0 ? r : load_vocabulary(run, run->job->whole->model.vocab, error);
}

/* ---- the rest comes from what the run begins with ---- */

static int load_from_folder(struct run *run, struct error *error) {
        const struct spec_model *m = &run->job->whole->model;
        cleanup_free char *its_vocab = NULL;
        struct labels labels = {};

        bool head = run->job->whole->kind == JOB_FINETUNE && m->head == INIT_HEAD_KEEP;
        int r = hf_folder_config(m->init, &run->making->config, head ? &labels : NULL, error);
        labels_free(&labels);
        if (r >= 0)
                r = hf_folder_text(m->init, m->vocab, &run->making->assets, &its_vocab, &run->making->text, error);
        if (r < 0)
                return r;
        if (!its_vocab)
                return error_input(error, BERTD_EXIT_INPUT,
                                   "%s: has no vocab.txt, tokenizer.json or spiece.model: name one as model.vocab",
                                   m->init);
        run->making->text_known = true;
        struct hf_limits limits;
        r = hf_folder_limits(m->init, &run->job->config, &limits, error);
        if (r < 0)
                return r;
        if (limits.sequence_length > 0)
                run->making->init_length = limits.sequence_length;
        run->making->init_tail = limits.truncates && limits.truncation == TRUNCATION_TAIL;
        r = take_path(run, its_vocab, error);
        return r < 0 ? r : assets_vocab(&run->making->assets, its_vocab, &run->making->vocab, error);
}

/* A folder's, which its import kept; those of a run are the run's own. */
static void take_lengths(struct run *run, const struct bundle *b) {
        const struct checkpoint_meta *meta = checkpoint_meta(b->checkpoint);

        if (!checkpoint_meta_get(meta, DESCRIPTION_WEIGHTS_ONLY))
                return;
        if (checkpoint_meta_get(meta, "sequence_length"))
                run->making->init_length = b->lengths.sequence_length;
        run->making->init_tail = b->lengths.truncation == TRUNCATION_TAIL;
}

/* The checkpoint's vocabulary becomes the run's, wherever it was found. */
static int take_bundle(struct run *run, struct bundle *b, struct error *error) {
        take_lengths(run, b);
        run->making->config = b->config;
        run->making->text_known = checkpoint_meta_get(checkpoint_meta(b->checkpoint), "text_options") != NULL;
        if (run->job->text_known)
                run->making->text = b->text;
        run->making->vocab = steal_pointer(&b->vocab);
        run->making->assets = b->assets;
        b->assets = (struct assets) {};
        return take_path(run, b->vocab_path, error);
}

static int load_from_checkpoint(struct run *run, struct error *error) {
        const struct spec_model *m = &run->job->whole->model;
        struct bundle bundle = {};

        int r = bundle_open(&bundle, m->init, run->job->whole->kind == JOB_FINETUNE ? USE_FINETUNE : USE_PRETRAIN,
                            m->vocab, error);
        if (r >= 0)
                r = take_bundle(run, &bundle, error);
        bundle_close(&bundle);
        if (r < 0 && error && error->exit == BERTD_EXIT_BAD_CHECKPOINT)
                error->exit = BERTD_EXIT_DATA; /* an input: there is no older one to try */
        return r < 0 ? error_prefix(error, "model.init") : 0;
}

static int check_case(const struct run *run, struct error *error) {
        if (!run->job->text_known || !run->job->text.lowercase || run->spec->data.lowercase)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG,
                           "%s: data.lowercase: false, but %s was trained with text in lower case: leave it out",
                           run->options->spec_path, init_of(run));
}

/* A configuration beside what the run begins with may have other dropouts, and no other difference. */
static int load_beside(struct run *run, struct error *error) {
        const struct spec_model *m = &run->job->whole->model;
        struct model_config given;

        int r = run_init_is_folder(run) ? load_from_folder(run, error) : load_from_checkpoint(run, error);
        if (r >= 0)
                r = check_case(run, error);
        if (r < 0 || !m->config)
                return r;
        r = config_load(m->config, &given, error);
        if (r >= 0)
                r = fit_config(m->init, &run->job->config, m->config, &given, error);
        if (r >= 0)
                run->making->config = given;
        return r;
}

/* A pretraining that is resumed has the weights: if its spec has the rest, what it began with may be gone. */
static bool needs_init(const struct run *run) {
        const struct spec_model *m = &run->job->whole->model;
        struct stat st;

        return m->init && (run->job->whole->kind == JOB_FINETUNE || !m->config || !m->vocab || stat(m->init, &st) == 0);
}

/* ---- what the spec leaves to model.init ---- */

static int resolve_data(struct run *run, struct spec_data *d, struct error *error) {
        run->making->init_cuts = run->job->init_cuts || (d->sequence_length == 0 && run->job->init_length > 0) ||
                                 (d->truncation == TRUNCATION_AUTO && run->job->init_tail);
        if (d->truncation == TRUNCATION_AUTO)
                d->truncation = run->job->init_tail ? TRUNCATION_TAIL : TRUNCATION_HEAD;
        if (d->sequence_length == 0)
                spec_data_set_length(d, run->job->init_length > 0 ? run->job->init_length
                                                                  : MIN(run->job->config.max_position_embeddings,
                                                                        (uint32_t) SPEC_LENGTH_DEFAULT));
        if (d->head_tokens <= d->sequence_length && d->max_predictions <= d->sequence_length)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG, "%s: data.%s is greater than the length of model.init, %u tokens",
                           run->options->spec_path,
                           d->head_tokens > d->sequence_length ? "head_tokens" : "max_predictions", d->sequence_length);
}

static int resolve_lengths(struct run *run, struct error *error) {
        int r = resolve_data(run, &run->job->whole->data, error);

        for (uint32_t s = 0; r >= 0 && s < run->job->whole->n_stages; s++) {
                struct spec *stage = run->job->whole->stages[s];
                r = resolve_data(run, &stage->data, error);
                for (uint32_t t = 0; r >= 0 && t < stage->n_tasks; t++)
                        r = resolve_data(run, &stage->tasks[t]->data, error);
        }
        return r;
}

/* The heads of pretraining alone. */
static void leave_classifier(struct model_config *config) {
        config->classifier = (struct classifier_config) {};
        config->without_pretraining_heads = false;
}

int run_read_model(struct run *run, struct error *error) {
        bool lower = run->spec->data.lowercase;

        run->making->text = (struct text_options) {
                .lowercase = lower, .strip_accents = lower, .chinese = true, .quotes = true, .nfkd = true
        };
        return needs_init(run) ? load_beside(run, error) : load_from_files(run, error);
}

/* ---- the classifier ---- */

static int choose_layers(const struct run *run, struct classifier_config *c, struct error *error) {
        const char *text = run->job->whole->classifier.layers;
        uint32_t layers = config_n_layers(&run->job->config), four = MIN(layers, 4u);
        const struct {
                const char *name;
                uint32_t first, n;
        } named[] = {
                { "last", layers - 1, 1 }, { "first4", 0, four }, { "last4", layers - four, four }, { "all", 0, layers }
        };
        uint64_t number = 0;

        for (size_t i = 0; i < ELEMENTSOF(named); i++)
                if (strcmp(text, named[i].name) == 0) {
                        c->first_layer = named[i].first;
                        c->n_layers = named[i].n;
                        return 0;
                }
        if (parse_u64(text, 0, layers - 1, &number) < 0)
                return error_input(
                        error, BERTD_EXIT_CONFIG,
                        "%s: classifier.layers: '%.40s' is not last, first4, last4, all or a layer from 0 to %u",
                        run->options->spec_path, text, layers - 1);
        c->first_layer = (uint32_t) number;
        c->n_layers = 1;
        return 0;
}

static bool has_stage(const struct run *run, bool classify, bool segmented) {
        for (uint32_t s = 0; s < spec_n_stages(run->job->whole); s++) {
                const struct spec_data *d = &spec_at(run->job->whole, s)->data;
                if ((d->objective == OBJECTIVE_CLASSIFY) == classify &&
                    (!segmented || d->truncation == TRUNCATION_SEGMENTS))
                        return true;
        }
        return false;
}

/* If one stage of texts has data.labels: number, all have (common/spec). */
static bool has_numbers(const struct run *run) {
        for (uint32_t s = 0; s < spec_n_stages(run->job->whole); s++) {
                const struct spec *stage = spec_at(run->job->whole, s);
                if (stage->data.objective == OBJECTIVE_CLASSIFY && spec_task(stage, 0)->numbers)
                        return true;
        }
        return false;
}

/* All but the number of classes, which comes from the data. */
static int set_classifier(struct run *run, struct error *error) {
        const struct spec_classifier *s = &run->job->whole->classifier;
        double dropout = run->job->config.classifier.n_labels > 0      ? run->job->config.classifier.dropout
                         : run->job->config.model_type == MODEL_ALBERT ? 0.1
                                                                       : run->job->config.hidden_dropout_prob;
        struct classifier_config c = { .target = has_numbers(run) ? TARGET_NUMBER : TARGET_CLASS,
                                       .combine = s->combine,
                                       .segments = s->segments,
                                       .segmented = has_stage(run, true, true),
                                       .dropout = s->dropout >= 0 ? s->dropout : dropout };

        int r = choose_layers(run, &c, error);
        if (r < 0)
                return r;
        c.input = s->input != INPUT_AUTO ? s->input : c.n_layers > 1 ? INPUT_CLS : INPUT_POOLED;
        if (c.n_layers == 1)
                c.combine = COMBINE_CONCAT;
        if (c.input == INPUT_POOLED && c.n_layers > 1 && c.combine == COMBINE_CONCAT)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "%s: classifier.input: the pooler takes one layer's width: pooled needs combine "
                                   "mean or max, or one layer",
                                   run->options->spec_path);
        run->making->config.classifier = c;
        run->making->config.without_pretraining_heads = !has_stage(run, false, false);
        return 0;
}

static int check_kind(const struct run *run, struct error *error) {
        static const char *const kinds[] = JOB_KIND_NAMES;

        if (run->job->whole->kind == run->options->kind)
                return 0;
        return error_input(error, BERTD_EXIT_CONFIG, "%s: kind: expected %s; %s %s runs it", run->options->spec_path,
                           kinds[run->options->kind], run->job->whole->kind == JOB_COMMAND ? "bertctl" : "bert-trainer",
                           run->job->whole->kind == JOB_COMMAND ? "submit" : kinds[run->job->whole->kind]);
}

int run_read_spec(struct run *run, struct error *error) {
        int r = spec_load(run->options->spec_path, &run->making->whole, error);
        if (r < 0)
                return r;
        run->spec = spec_at(run->job->whole, 0);
        return check_kind(run, error);
}

static int check_spec(const struct run *run, struct error *error) {
        const struct fit fit = { .model = spec_model_path(run->job->whole),
                                 .config = &run->job->config,
                                 .vocab_path = run->job->vocab_path,
                                 .vocab = run->job->vocab,
                                 .vouched = true, /* by the spec */
                                 .exit = BERTD_EXIT_CONFIG };
        int r = fit_vocabulary(&fit, error);
        if (r >= 0 && run->job->whole->train.fast_gelu && run->job->config.hidden_act != ACT_GELU)
                return error_input(
                        error, BERTD_EXIT_CONFIG,
                        "%s: train.fast_gelu: has no effect: %s has another hidden_act than gelu; leave it out",
                        run->options->spec_path, spec_model_path(run->job->whole));
        return r < 0 ? r : run_check_stages(run, error);
}

int run_settle_inputs(struct run *run, struct error *error) {
        bool tunes = run->job->whole->kind == JOB_FINETUNE;

        int r = resolve_lengths(run, error);
        if (r >= 0 && tunes && encoder_new(run->job->vocab, &run->making->text, 1, &run->making->encoder) < 0)
                r = error_errno(error, ENOMEM, "%s", run->job->vocab_path);
        if (!tunes)
                leave_classifier(&run->making->config);
        if (r >= 0)
                r = samples_vocab_init(&run->making->samples_vocab, run->job->vocab, run->job->vocab_path, error);
        if (r >= 0 && tunes)
                r = set_classifier(run, error);
        return r < 0 ? r : check_spec(run, error);
}
