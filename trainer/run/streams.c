/* Corpora of a stage as streams of samples; see run.h. Rank 0 alone writes: corpora made of texts, and window maps. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run/run.h"

static struct samples_options make_options(const struct run *run, uint32_t stage, bool evaluation) {
        const struct spec_data *d = &run->job->stages[stage].spec->data;

        return (struct samples_options) {
                .seed = run->job->whole->train.seed,
                .stage = stage,
                .sequence_length = d->sequence_length,
                .objective = d->objective,
                .masked_fraction = d->masked_fraction,
                .max_predictions = d->max_predictions,
                .short_probability = d->short_sequence_probability,
                .mask_unit = d->mask_unit,
                .dupe_factor = d->masking == MASKING_STATIC ? d->dupe_factor : 0,
                .evaluation = evaluation,
                .weights = evaluation ? NULL : d->weights,
        };
}

/* Which of a stage's corpora. */
struct source {
        const char *name;
        char *const *prefixes;
        uint32_t n;
        bool evaluation;
};

static struct source source_of(const struct run *run, uint32_t stage, bool evaluation) {
        const struct spec_data *d = &run->job->stages[stage].spec->data;

        return evaluation ? (struct source) { "validation", d->validation, d->n_validation, true }
                          : (struct source) { "train", d->train, d->n_train, false };
}

/* Of files of texts rank 0 makes a corpus, which then is the source. Collective. */
static int make_corpus(struct run *run, uint32_t stage, struct source *source, struct error *error) {
        char **ret_prefix = &run->job->stages[stage].made_prefix[source->evaluation ? PART_VALIDATION : PART_TRAIN];
        bool *elsewhere = &run->job->stages[stage].made_elsewhere[source->evaluation ? PART_VALIDATION : PART_TRAIN];
        const struct spec_data *d = &run->job->stages[stage].spec->data;
        uint32_t n_texts = 0;

        for (uint32_t i = 0; i < source->n; i++)
                n_texts += spec_is_texts(source->prefixes[i]);
        if (n_texts == 0 || run->job->whole->kind != JOB_FINETUNE)
                return 0;
        if (n_texts < source->n || (d->n_train_weights > 0 && !source->evaluation))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: data.%s: either files of texts or weighed corpora",
                                   run->options->spec_path, source->name);
        *ret_prefix = format_string("%s/texts-%s-%u", run->options->run_dir, source->name, stage);
        int r = *ret_prefix ? 0 : error_errno(error, ENOMEM, "corpus");
        if (r >= 0 && run->ranks.own == 0)
                r = run_make_corpus(run, d, source->prefixes, source->n, *ret_prefix, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r >= 0)
                r = run_share_corpus(run, d, source->prefixes, source->n, ret_prefix, elsewhere, error);
        source->prefixes = ret_prefix;
        source->n = 1;
        return r;
}

bool run_text_is_models(const struct run *run) { return run->job->text_known || run->job->whole->kind == JOB_FINETUNE; }

/* Text of all corpora was made tokens alike: as finetune's own and as the model's that the run begins with, else as the first one's. */
static int check_text(const struct run *run, const struct corpora *corpora, struct error *error) {
        const struct corpora *first = run->job->stages[0].corpora[PART_TRAIN];
        bool models = run_text_is_models(run),
             chinese = !vocab_sentencepiece(run->job->vocab) /* it cuts as it was learnt */;
        const struct text_options *want =
                models ? &run->job->text : corpus_text_options((first ? first : corpora)->part[0]);

        for (uint32_t p = 0; p < corpora->n; p++) {
                const struct text_options *has = corpus_text_options(corpora->part[p]);
                if (!has || !want) /* prepared by another program, which does not record it */
                        continue;
                if (has->lowercase == want->lowercase && has->strip_accents == want->strip_accents &&
                    (!chinese || has->chinese == want->chinese))
                        continue;
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s: prepared with other settings (lowercase %d, strip accents %d, Chinese characters "
                        "apart %d) than %s (%d, %d, %d): prepare them alike",
                        corpora->prefixes[p], has->lowercase, has->strip_accents, has->chinese,
                        models ? "the model" : (first ? first : corpora)->prefixes[0], want->lowercase,
                        want->strip_accents, want->chinese);
        }
        return 0;
}

static int check_corpora(const struct run *run, const struct corpora *corpora, struct error *error) {
        char hash[VOCAB_HASH_MAX];

        vocab_hash(run->job->vocab, hash);
        int r = corpora_check(corpora, hash, error);
        return r < 0 ? r : check_text(run, corpora, error);
}

/* Collective. The corpora are closed with the stage, also after an error. */
static int open_checked(struct run *run, uint32_t index, enum run_part part, struct error *error) {
        struct source source = source_of(run, index, part == PART_VALIDATION);
        struct corpora **corpora = &run->job->stages[index].corpora[part];

        int made = make_corpus(run, index, &source, error);
        int r = made < 0 ? made : corpora_open(source.prefixes, source.n, corpora, error);
        if (run->job->stages[index].made_elsewhere[part])
                run_remove_corpus(source.prefixes[0]);
        if (made < 0)
                return made; /* on all ranks */
        if (r >= 0)
                r = check_corpora(run, *corpora, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r >= 0)
                r = run_compare_corpora(run, index, part, error);
        bool own = run->job->stages[index].made_prefix[part] != NULL; /* made just now, with this vocabulary */
        return r < 0 || own ? r : run_check_ids(run, *corpora, error);
}

/* Collective: rank 0 builds the map. */
static int open_samples(struct run *run, uint32_t index, enum run_part part, struct error *error) {
        struct samples_options options = make_options(run, index, part == PART_VALIDATION);
        struct run_stage *stage = &run->job->stages[index];
        cleanup_free char *map = format_string("%s/windows-%s-%u.map", run->options->run_dir,
                                               source_of(run, index, part == PART_VALIDATION).name, index);
        struct windows *windows = NULL;

        int r = map ? 0 : error_errno(error, ENOMEM, "window map");
        if (r >= 0 && run->ranks.own == 0)
                r = samples_build_map(map, stage->corpora[part], &options, error);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r >= 0)
                r = run_share_map(run, map, &windows, error);
        if (r < 0)
                return r;
        r = samples_with(windows, stage->corpora[part], &run->job->samples_vocab, &options, &stage->samples[part],
                         error);
        return exchange_agree(run->ranks.exchange, r, error);
}

int run_open_part(struct run *run, uint32_t index, enum run_part part, struct error *error) {
        struct run_stage *stage = &run->job->stages[index];

        int r = open_checked(run, index, part, error);
        if (r >= 0)
                r = open_samples(run, index, part, error);
        if (r < 0)
                return r;
        stage->source[part] = samples_source(stage->samples[part]);
        stage->n[part] = samples_n(stage->samples[part]);
        return 0;
}
