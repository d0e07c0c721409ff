/* See bundle.h. */
#include "trainer/infer/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/parse.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/infer/fit.h"
#include "trainer/model/heads.h"

static int bad(struct error *error, int r) {
        if (r < 0 && error && error->exit == BERTD_EXIT_DATA)
                error->exit = BERTD_EXIT_BAD_CHECKPOINT;
        return r;
}

static int check_vocabulary(const struct bundle *b, const char *path, const struct vocab *vocab, struct error *error) {
        const struct fit fit = { .model = checkpoint_path(b->checkpoint),
                                 .config = &b->config,
                                 .vocab_path = path,
                                 .vocab = vocab,
                                 .vocab_hash = checkpoint_meta_get(checkpoint_meta(b->checkpoint), "vocab_hash"),
                                 .exit = BERTD_EXIT_DATA };

        return fit_vocabulary(&fit, error);
}

static int check_given(const struct bundle *b, const char *path, const char *option, struct error *error) {
        cleanup_vocab struct vocab *vocab = NULL;
        int r = vocab_load(path, &vocab, error);

        return r < 0 ? error_prefix(error, "%s", option) : check_vocabulary(b, path, vocab, error);
}

/* Its own; a file that is given beside it must be the same. */
static int use_own(struct bundle *b, const char *given, const char *option, struct error *error) {
        const char *path = checkpoint_path(b->checkpoint);

        int r = assets_vocab(&b->assets, path, &b->vocab, error);
        if (r >= 0)
                r = check_vocabulary(b, path, b->vocab, error);
        if (r < 0)
                return bad(error, r);
        b->vocab_path = strdup(path);
        if (!b->vocab_path)
                return error_errno(error, ENOMEM, "%s", path);
        return given ? check_given(b, given, option, error) : 0;
}

static int use_file(struct bundle *b, const char *path, const char *option, struct error *error) {
        b->vocab_path = strdup(path);
        if (!b->vocab_path)
                return error_errno(error, ENOMEM, "%s", path);
        int r = assets_read(&b->assets, NULL, path, error);
        if (r >= 0)
                r = assets_vocab(&b->assets, path, &b->vocab, error);
        return r < 0 ? error_prefix(error, "%s", option) : check_vocabulary(b, path, b->vocab, error);
}

static int open_vocabulary(struct bundle *b, enum bundle_use use, const char *given, struct error *error) {
        const char *recorded = checkpoint_meta_get(checkpoint_meta(b->checkpoint), "vocab_path");
        bool spec = use == USE_PRETRAIN || use == USE_FINETUNE;
        const char *option = spec ? "model.vocab" : "--vocab FILE";

        int r = checkpoint_read_assets(b->checkpoint, &b->assets, error);
        if (r < 0)
                return r;
        if (assets_vocabulary(&b->assets))
                return use_own(b, given, option, error);
        if (given || recorded)
                return use_file(b, given ? given : recorded, option, error);
        if (use == USE_EXPORT)
                return 0;
        return error_input(error, spec ? BERTD_EXIT_INPUT : BERTD_EXIT_USAGE,
                           "%s contains neither a vocabulary nor the path of one; give %s",
                           checkpoint_path(b->checkpoint), option);
}

static int check_labels(const struct bundle *b, struct error *error) {
        bool tasks = checkpoint_meta_get(checkpoint_meta(b->checkpoint), "task.0") != NULL;
        struct labels labels = {};

        int r = description_labels(b->checkpoint, &labels, error);
        if (r >= 0 && labels.n > 0)
                r = fit_labels(checkpoint_path(b->checkpoint), &b->config, labels.n, tasks, error);
        labels_free(&labels);
        return r;
}

static int read_lengths(struct bundle *b, struct error *error) {
        int r = description_cuts(b->checkpoint, b->config.max_position_embeddings, &b->lengths, error);

        return r < 0 ? r
                     : fit_length(checkpoint_path(b->checkpoint), &b->config, "meta key sequence_length",
                                  b->lengths.sequence_length, BERTD_EXIT_BAD_CHECKPOINT, error);
}

/* Heads before the vocabulary: a checkpoint of the wrong kind is reported as one, whatever else it lacks. */
static int check_heads(const struct bundle *b, enum bundle_use use, struct error *error) {
        const char *path = checkpoint_path(b->checkpoint),
                   *precision = checkpoint_meta_get(checkpoint_meta(b->checkpoint), "precision");
        bool computes = use == USE_MASKS || use == USE_CLASSIFIER || use == USE_ENCODER;
        unsigned needed = use == USE_CLASSIFIER                     ? heads_of_classifier(&b->config)
                          : use == USE_MASKS || use == USE_PRETRAIN ? HEAD(PART_MLM_HEAD)
                                                                    : 0;

        int r = fit_heads(path, &b->config, needed, computes ? b->fresh : 0, error);
        if (r >= 0 && computes && precision && strcmp(precision, "fp64") == 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: is of the fp64 reference; expected fp32 weights", path);
        return r;
}

int bundle_open(struct bundle *b, const char *path, enum bundle_use use, const char *vocab_path, struct error *error) {
        int r = checkpoint_open(path, &b->checkpoint, error);

        if (r >= 0)
                r = description_config(b->checkpoint, &b->config, error);
        if (r >= 0)
                r = description_fresh(b->checkpoint, &b->fresh, error);
        if (r >= 0)
                r = check_heads(b, use, error);
        if (r >= 0)
                r = check_labels(b, error);
        if (r >= 0)
                r = description_text(b->checkpoint, &b->text, error);
        if (r >= 0)
                r = read_lengths(b, error);
        return r < 0 ? r : open_vocabulary(b, use, vocab_path, error);
}

void bundle_close(struct bundle *b) {
        vocab_free(b->vocab);
        assets_free(&b->assets);
        free(b->vocab_path);
        checkpoint_close(b->checkpoint);
        *b = (struct bundle) {};
}

int bundle_text(const char *path, struct vocab **ret, struct text_options *ret_options,
                struct texts_options *ret_lengths, struct error *error) {
        struct bundle bundle = {};

        int r = bundle_open(&bundle, path, USE_TEXT, NULL, error);
        if (r >= 0) {
                *ret = steal_pointer(&bundle.vocab);
                *ret_options = bundle.text;
                if (ret_lengths)
                        *ret_lengths = bundle.lengths;
        }
        bundle_close(&bundle);
        return r;
}
