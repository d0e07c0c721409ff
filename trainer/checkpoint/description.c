/* See description.h. Owns nothing. */
#include "trainer/checkpoint/description.h"

#include <errno.h>
#include <stdint.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/hex.h"
#include "common/parse.h"
#include "trainer/model/heads.h"

#define FRESH_KEY "fresh_heads"
#define NO_HEAD "none"
#define LABELS_PIECE 1000 /* bytes of a row */
#define LABELS_PIECES_MAX 3000

static int refuse_key(const struct checkpoint *checkpoint, const char *key, const char *value, struct error *error) {
        return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key %s is '%.64s'", checkpoint_path(checkpoint),
                           key, value);
}

static const char *get(const struct checkpoint *checkpoint, const char *key) {
        return checkpoint_meta_get(checkpoint_meta(checkpoint), key);
}

int description_set_config(struct checkpoint_meta *meta, const struct model_config *config, struct error *error) {
        json_t *json = config_json(config);
        cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        char hash[HEX_128_SIZE];

        json_decref(json);
        if (!text)
                return error_errno(error, ENOMEM, "config");
        config_hash(config, hash);
        checkpoint_meta_set(meta, "config", "%s", text);
        checkpoint_meta_set(meta, "config_hash", "%s", hash);
        return 0;
}

int description_config(const struct checkpoint *checkpoint, struct model_config *ret, struct error *error) {
        const char *text = checkpoint_meta_get(checkpoint_meta(checkpoint), "config"),
                   *path = checkpoint_path(checkpoint);

        if (!text)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: meta key config is missing: written by an older bert-trainer", path);
        if (config_parse(path, text, strlen(text), ret, error) >= 0)
                return 0;
        if (error)
                error->exit = BERTD_EXIT_BAD_CHECKPOINT;
        return -EINVAL;
}

/* ---- text ---- */

#define FOLDS 5
static const char *const fold_names[FOLDS] = { "lowercase", "strip_accents", "chinese", "quotes", "nfkd" };

/* "lowercase 1, strip_accents 1, …" */
static void format_folds(const struct text_options *o, char *buffer, size_t size) {
        const bool values[FOLDS] = { o->lowercase, o->strip_accents, o->chinese, o->quotes, o->nfkd };
        size_t used = 0;

        for (size_t i = 0; i < FOLDS; i++)
                used += (size_t) snprintf(buffer + used, size - used, "%s%s %d", i > 0 ? ", " : "", fold_names[i],
                                          values[i]);
}

static bool parse_folds(const char *text, struct text_options *ret) {
        bool values[FOLDS];

        for (size_t i = 0; i < FOLDS; i++) {
                const char *before = i > 0 ? ", " : "";
                size_t skip = strlen(before), n = strlen(fold_names[i]);
                if (strncmp(text, before, skip) != 0 || strncmp(text + skip, fold_names[i], n) != 0)
                        return false;
                text += skip + n;
                if (text[0] != ' ' || (text[1] != '0' && text[1] != '1'))
                        return false;
                values[i] = text[1] == '1';
                text += 2;
        }
        *ret = (struct text_options) { values[0], values[1], values[2], values[3], values[4] };
        return *text == '\0';
}

void description_set_text(struct checkpoint_meta *meta, const char *vocab_path, const struct text_options *options) {
        char text[128];

        checkpoint_meta_set(meta, "vocab_path", "%s", vocab_path);
        if (!options)
                return;
        format_folds(options, text, sizeof(text));
        checkpoint_meta_set(meta, "text_options", "%s", text);
}

int description_text(const struct checkpoint *checkpoint, struct text_options *ret, struct error *error) {
        const char *text = get(checkpoint, "text_options");

        *ret = (struct text_options) { true, true, true, true, true };
        return text && !parse_folds(text, ret) ? refuse_key(checkpoint, "text_options", text, error) : 0;
}

/* ---- how texts are cut ---- */

static const char *const truncations[TRUNCATION_MAX] = TRUNCATION_NAMES;

void description_set_cuts(struct checkpoint_meta *meta, const struct texts_options *o) {
        checkpoint_meta_set(meta, "truncation", "%s %u %u", truncations[o->truncation], o->head_tokens,
                            o->max_segments);
}

/* The next word as a number of at most `max`. */
static bool take_number(const char **text, uint64_t min, uint64_t max, uint32_t *ret) {
        size_t n = strcspn(*text, " ");
        uint64_t value;
        char word[16];

        if (n >= sizeof(word))
                return false;
        (void) snprintf(word, sizeof(word), "%.*s", (int) n, *text);
        *text += n + ((*text)[n] == ' ');
        if (parse_u64(word, min, max, &value) < 0)
                return false;
        *ret = (uint32_t) value;
        return true;
}

/* "head_tail 128 1" */
static bool parse_cuts(const char *text, struct texts_options *o) {
        size_t n = strcspn(text, " ");
        char word[16];

        (void) snprintf(word, sizeof(word), "%.*s", (int) n, text);
        int how = parse_choice(word, truncations, TRUNCATION_MAX);
        if (how < 0)
                return false;
        o->truncation = (enum truncation) how;
        text += n + (text[n] == ' ');
        return take_number(&text, 0, UINT32_MAX, &o->head_tokens) &&
               take_number(&text, 1, SPEC_SEGMENTS_MAX, &o->max_segments) && !*text;
}

int description_cuts(const struct checkpoint *checkpoint, uint32_t longest, struct texts_options *ret,
                     struct error *error) {
        const char *length = get(checkpoint, "sequence_length"), *how = get(checkpoint, "truncation"), *word = length;

        *ret = (struct texts_options) { .sequence_length = longest, .max_segments = 1 };
        if (how && !parse_cuts(how, ret))
                return refuse_key(checkpoint, "truncation", how, error);
        if (length && (!take_number(&word, TEXTS_LENGTH_MIN, UINT32_MAX, &ret->sequence_length) || *word))
                return refuse_key(checkpoint, "sequence_length", length, error);
        return 0;
}

/* ---- heads ---- */

void description_set_fresh(struct checkpoint_meta *meta, unsigned heads) {
        char text[HEADS_TEXT_MAX];

        heads_format(heads, text);
        checkpoint_meta_set(meta, FRESH_KEY, "%s", text[0] ? text : NO_HEAD);
}

int description_fresh(const struct checkpoint *checkpoint, unsigned *ret_heads, struct error *error) {
        const char *text = checkpoint_meta_get(checkpoint_meta(checkpoint), FRESH_KEY);
        const char *unknown = NULL;
        unsigned heads = text && strcmp(text, NO_HEAD) != 0 ? heads_parse(text, &unknown) : 0;

        if (unknown)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT, "%s: meta key " FRESH_KEY " names '%.64s'",
                                   checkpoint_path(checkpoint), unknown);
        *ret_heads = heads;
        return 0;
}

/* ---- classes ---- */

int description_set_labels(struct checkpoint_meta *meta, const struct labels *labels, struct error *error) {
        cleanup_free char *text = labels_json(labels);
        size_t n = text ? strlen(text) : 0;
        char key[24], hash[HEX_64_SIZE];

        if (!text)
                return error_errno(error, ENOMEM, "labels");
        if (n > (size_t) LABELS_PIECE * LABELS_PIECES_MAX)
                return error_input(error, BERTD_EXIT_DATA, "the names of %u classes take %zu bytes, more than %d",
                                   labels->n, n, LABELS_PIECE * LABELS_PIECES_MAX);
        hex_64(XXH3_64bits(text, n), hash);
        checkpoint_meta_set(meta, "labels_hash", "%s", hash);
        for (size_t i = 0; i * LABELS_PIECE < n; i++) {
                (void) snprintf(key, sizeof(key), "labels.%zu", i);
                checkpoint_meta_set(meta, key, "%.*s", LABELS_PIECE, text + i * LABELS_PIECE);
        }
        return 0;
}

int description_labels(const struct checkpoint *checkpoint, struct labels *labels, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size, i = 0;
        char key[32] = "labels.0", hash[HEX_64_SIZE];
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return error_errno(error, ENOMEM, "%s", checkpoint_path(checkpoint));
        for (const char *piece; (piece = checkpoint_meta_get(checkpoint_meta(checkpoint), key));) {
                (void) fputs(piece, stream);
                (void) snprintf(key, sizeof(key), "labels.%zu", ++i);
        }
        if (fclose(stream) != 0)
                return error_errno(error, ENOMEM, "%s", checkpoint_path(checkpoint));
        const char *recorded = get(checkpoint, "labels_hash");
        hex_64(XXH3_64bits(text, size), hash);
        if (recorded && strcmp(recorded, hash) != 0)
                return error_input(error, BERTD_EXIT_BAD_CHECKPOINT,
                                   "%s: meta keys labels.0 and so on: not what labels_hash is of",
                                   checkpoint_path(checkpoint));
        return size > 0 ? labels_parse(labels, text, checkpoint_path(checkpoint), error) : 0;
}
