/*
 * See samples.h. Owns the mapped window map; everything else is computed on the spot. Invariants: no draw depends on
 * an earlier sample, on the rank or on the micro-batch; places (last argument of philox_site) keep the uses of one
 * domain apart and are never renumbered.
 */
#include "trainer/data/samples.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/hex.h"
#include "trainer/data/mixture.h"
#include "trainer/data/windows.h"
#include "trainer/random/permute.h"
#include "trainer/random/philox.h"

enum place { PLACE_SHUFFLE, PLACE_PAIR, PLACE_CUT, PLACE_PICK, PLACE_ORDER, PLACE_LENGTH, PLACE_TURN };

struct samples {
        const struct corpora *corpora;
        struct windows *windows;
        struct mixture *mixture; /* NULL: no weights */
        struct samples_vocab vocab;
        struct samples_options options;
        _Atomic(const struct corpus *) *spoilt; /* one that had an id beyond the vocabulary; set by any thread */
};

/* A run of sentences of one corpus, and the part of its tokens that the sample takes. */
struct segment {
        struct corpus *corpus;
        uint64_t first, n_sentences;
        uint64_t offset; /* tokens of the first sentence that are not of it */
        uint64_t n_tokens, skip, take;
};

static bool two_segments(const struct samples_options *o) { return o->objective != OBJECTIVE_MLM; }

static uint32_t max_text(const struct samples_options *o) { return o->sequence_length - (two_segments(o) ? 3 : 2); }

/* Of the documents [from, to) those that hold text; 2 stands for more, too. */
static uint64_t count_filled(const struct corpora *corpora, uint64_t from, uint64_t to) {
        uint64_t filled = 0, begin, end;

        for (uint64_t d = from; d < to && filled < 2; d++) {
                (void) corpora_locate(corpora, d, &begin, &end);
                filled += end > begin;
        }
        return filled;
}

static bool has_pair(const struct corpus *corpus) {
        for (uint64_t d = 0; d < corpus_n_documents(corpus); d++)
                if (corpus_document_begin(corpus, d + 1) - corpus_document_begin(corpus, d) >= 2)
                        return true;
        return false;
}

static int check_pairs(const struct corpora *corpora, enum objective objective, struct error *error) {
        for (uint32_t p = 0; p < corpora->n; p++)
                if (!has_pair(corpora->part[p]))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: no document has two sentences, which mlm+%s needs: prepare it with "
                                           "sentences split, or use objective: mlm",
                                           corpora->prefixes[p], objective == OBJECTIVE_MLM_NSP ? "nsp" : "sop");
        return 0;
}

/* Random sentences come from another document: of any corpus, or, with weights, of the same one. */
static int check_others(const struct corpora *corpora, bool weighted, struct error *error) {
        for (uint32_t p = 0; p < (weighted ? corpora->n : 1); p++) {
                uint64_t from = corpora->first_document[p], to = corpora->first_document[weighted ? p + 1 : corpora->n];
                if (count_filled(corpora, from, to) < 2)
                        return error_input(
                                error, BERTD_EXIT_DATA,
                                "%s: one document only, mlm+nsp takes its random sentences from another one%s "
                                "(objective: mlm needs none)",
                                corpora->prefixes[p], weighted ? " of the same corpus if there are weights" : "");
        }
        return 0;
}

int samples_build_map(const char *map_path, const struct corpora *corpora, const struct samples_options *options,
                      struct error *error) {
        struct windows_options w = { .seed = options->seed,
                                     .stage = options->stage,
                                     .max_tokens = max_text(options),
                                     .two_segments = two_segments(options),
                                     .short_probability = options->short_probability };
        int r = 0;

        if (count_filled(corpora, 0, corpora_n_documents(corpora)) == 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: holds no text", corpora->prefixes[0]);
        if (options->objective == OBJECTIVE_MLM_NSP)
                r = check_others(corpora, options->weights, error);
        if (r >= 0 && two_segments(options))
                r = check_pairs(corpora, options->objective, error);
        return r < 0 ? r : windows_build(map_path, corpora, &w, error);
}

int samples_with(struct windows *windows, const struct corpora *corpora, const struct samples_vocab *vocab,
                 const struct samples_options *options, struct samples **ret, struct error *error) {
        struct samples *samples = calloc(1, sizeof(*samples));
        if (!samples) {
                windows_close(windows);
                return error_errno(error, ENOMEM, "samples");
        }

        samples->windows = windows;
        samples->corpora = corpora;
        samples->vocab = *vocab;
        samples->options = *options;
        samples->spoilt = calloc(1, sizeof(*samples->spoilt));
        int r = samples->spoilt ? 0 : error_errno(error, ENOMEM, "samples");
        if (r >= 0 && options->weights)
                r = mixture_new(corpora, samples->windows, options->weights, &samples->mixture, error);
        if (r < 0) {
                samples_free(samples);
                return r;
        }
        *ret = samples;
        return 0;
}

int samples_new(const char *map_path, const struct corpora *corpora, const struct samples_vocab *vocab,
                const struct samples_options *options, struct samples **ret, struct error *error) {
        struct windows *windows = NULL;

        int r = windows_open(map_path, &windows, error);
        return r < 0 ? r : samples_with(windows, corpora, vocab, options, ret, error);
}

int samples_check(const struct samples *samples, struct error *error) {
        const struct corpus *corpus = atomic_load(samples->spoilt);

        return !corpus ? 0
                       : error_input(error, BERTD_EXIT_DATA,
                                     "%s.bin: an id beyond the vocabulary: the file changed since it was checked",
                                     corpus_prefix(corpus));
}

void samples_free(struct samples *samples) {
        if (!samples)
                return;
        windows_close(samples->windows);
        mixture_free(samples->mixture);
        free(samples->spoilt);
        free(samples);
}

uint64_t samples_n(const struct samples *samples) { return windows_n(samples->windows); }

const struct samples_options *samples_options(const struct samples *samples) { return &samples->options; }

void samples_map_hash(const struct samples *samples, char hex[HEX_128_SIZE]) { windows_hash(samples->windows, hex); }

static uint32_t site(const struct samples *s, enum place place) {
        static const enum philox_domain domains[] = {
                [PLACE_SHUFFLE] = PHILOX_SHUFFLE, [PLACE_PAIR] = PHILOX_PAIR,     [PLACE_CUT] = PHILOX_PAIR,
                [PLACE_PICK] = PHILOX_MASKING,    [PLACE_ORDER] = PHILOX_MASKING, [PLACE_LENGTH] = PHILOX_MASKING,
                [PLACE_TURN] = PHILOX_SHUFFLE
        };
        enum philox_domain domain = s->options.evaluation ? PHILOX_EVALUATE : domains[place];
        return philox_site(domain, s->options.stage, 0, (uint32_t) place);
}

static struct philox draw(const struct samples *s, enum place place, uint64_t key) {
        return philox(s->options.seed, 0, site(s, place), key);
}

/* Place `index` of n in the order that `key` gives. */
static uint64_t shuffled(const struct samples *s, enum place place, uint64_t key, uint64_t n, uint64_t index) {
        struct permute permute;

        permute_init(&permute, n, s->options.seed, site(s, place), key);
        return permute_index(&permute, index);
}

/* Sample k's window, and the key of its draws. */
static const struct window *window_of(const struct samples *s, uint64_t k, uint64_t *ret_key) {
        uint64_t n = windows_n(s->windows), epoch = k / n, index = shuffled(s, PLACE_SHUFFLE, epoch, n, k % n);

        if (s->mixture) {
                struct turn t = mixture_turn(s->mixture, epoch, index);
                index = t.first + shuffled(s, PLACE_TURN, t.epoch * s->corpora->n + t.part, t.n, t.index);
                epoch = t.epoch;
        }
        *ret_key = (s->options.dupe_factor > 0 ? epoch % s->options.dupe_factor : epoch) * n + index;
        return windows_get(s->windows, index);
}

static void count_tokens(struct segment *g) {
        g->n_tokens = 0;
        for (uint64_t i = 0; i < g->n_sentences; i++)
                g->n_tokens += corpus_sentence_length(g->corpus, g->first + i);
}

/* Text of another document from a random sentence on, up to `wanted` tokens, at least one sentence. */
static struct segment random_segment(const struct samples *s, uint32_t own_document, uint64_t wanted,
                                     const struct philox *p) {
        uint64_t first = 0, last = corpora_n_documents(s->corpora), begin, end;
        struct segment g = {};

        if (s->mixture)
                corpora_part(s->corpora, own_document, &first, &last);
        uint64_t document = first + philox_below(p->v[2], (uint32_t) (last - first) - 1);
        document += document >= own_document;
        for (;;) {
                g.corpus = corpora_locate(s->corpora, document, &begin, &end);
                if (end > begin && document != own_document)
                        break;
                document = document + 1 < last ? document + 1 : first;
        }
        g.first = begin + philox_below(p->v[3], (uint32_t) MIN(end - begin, UINT32_MAX));
        g.n_tokens = g.n_sentences = 0;
        while (g.first + g.n_sentences < end && (g.n_sentences == 0 || g.n_tokens < wanted))
                g.n_tokens += corpus_sentence_length(g.corpus, g.first + g.n_sentences++);
        return g;
}

/* Shortens the longer of the two first, as truncate_seq_pair of create_pretraining_data.py; how much goes at the
 * front is one uniform draw a segment in place of its coin a token: O(1), and every cut is as likely. */
static void fit_pair(const struct samples *s, uint64_t key, struct segment *a, struct segment *b) {
        uint64_t max = max_text(&s->options), low = MIN(a->n_tokens, b->n_tokens);
        struct philox p = draw(s, PLACE_CUT, key);

        a->take = a->n_tokens;
        b->take = b->n_tokens;
        if (a->n_tokens + b->n_tokens > max) {
                bool a_longer = a->n_tokens > b->n_tokens;
                if (low <= max / 2)
                        *(a_longer ? &a->take : &b->take) = max - low;
                else {
                        b->take = max / 2;
                        a->take = max - b->take;
                }
        }
        a->skip = philox_below(p.v[0], (uint32_t) MIN(a->n_tokens - a->take, UINT32_MAX - 1) + 1);
        b->skip = philox_below(p.v[1], (uint32_t) MIN(b->n_tokens - b->take, UINT32_MAX - 1) + 1);
}

static void copy_segment(const struct segment *g, int32_t *to) {
        uint64_t skip = g->offset + g->skip, left = g->take;

        for (uint64_t i = 0; i < g->n_sentences && left > 0; i++) {
                uint32_t length = corpus_sentence_length(g->corpus, g->first + i);
                if (skip >= length) {
                        skip -= length;
                        continue;
                }
                uint32_t n = (uint32_t) MIN(left, length - skip);
                corpus_sentence_copy(g->corpus, g->first + i, (uint32_t) skip, n, to);
                to += n;
                left -= n;
                skip = 0;
        }
}

/* No id leads out of the model's memory, whatever became of the file. */
static void check_ids(const struct samples *s, const struct segment *g, int32_t *ids, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if ((uint32_t) ids[i] >= s->vocab.size) {
                        ids[i] = s->vocab.sep;
                        atomic_store(s->spoilt, g->corpus);
                }
}

static void put_segment(const struct samples *s, struct sample *sample, const struct segment *g, int32_t type) {
        uint32_t n = (uint32_t) g->take;

        copy_segment(g, sample->ids + sample->length);
        check_ids(s, g, sample->ids + sample->length, n);
        sample->ids[sample->length + n] = s->vocab.sep;
        for (uint32_t i = 0; i <= n; i++)
                sample->token_types[sample->length + i] = type;
        sample->length += n + 1;
}

/* One sentence becomes two segments; one token cannot. Returns whether there are two. */
static bool split_sentence(struct segment *a, struct segment *b, uint32_t word) {
        if (a->n_tokens < 2)
                return false;
        *b = *a;
        b->offset = 1 + philox_below(word, (uint32_t) MIN(a->n_tokens - 1, UINT32_MAX));
        b->n_tokens = a->n_tokens - b->offset;
        a->n_tokens = b->offset;
        return true;
}

static int32_t choose_order(struct segment *a, struct segment *b, const struct philox *p) {
        bool swapped = p->v[1] >> 31;

        if (b->n_sentences == 0 && !split_sentence(a, b, p->v[0]))
                return -1;
        if (swapped) {
                struct segment swap = *a;
                *a = *b;
                *b = swap;
        }
        return swapped;
}

/* Splits the window in two; for NSP it may replace the second part, for SOP swap them. Returns the sentence label. */
static int32_t choose_pair(const struct samples *s, uint64_t key, const struct window *w, struct segment *a,
                           struct segment *b) {
        struct philox p = draw(s, PLACE_PAIR, key);
        bool coin = p.v[1] >> 31, single = w->n_sentences < 2;
        uint32_t a_n = single ? w->n_sentences : 1 + philox_below(p.v[0], w->n_sentences - 1);

        *b = (struct segment) { .corpus = a->corpus, .first = a->first + a_n, .n_sentences = w->n_sentences - a_n };
        a->n_sentences = a_n;
        count_tokens(a);
        if (s->options.objective == OBJECTIVE_MLM_NSP && (coin || single)) {
                *b = random_segment(s, w->document, w->target > a->n_tokens ? w->target - a->n_tokens : 0, &p);
                return 1;
        }
        count_tokens(b);
        return s->options.objective == OBJECTIVE_MLM_SOP ? choose_order(a, b, &p) : 0;
}

static void mask(const struct samples *s, uint64_t key, struct sample *sample) {
        struct masking masking = { .vocab = &s->vocab,
                                   .unit = s->options.mask_unit,
                                   .fraction = s->options.masked_fraction,
                                   .max_predictions = s->options.max_predictions,
                                   .seed = s->options.seed,
                                   .pick_site = site(s, PLACE_PICK),
                                   .order_site = site(s, PLACE_ORDER),
                                   .length_site = site(s, PLACE_LENGTH) };

        sample->n_masked = masking_apply(&masking, key, sample->ids, sample->length, sample->masked_positions,
                                         sample->masked_labels);
}

void samples_make(const struct samples *samples, uint64_t k, struct sample *sample) {
        uint64_t begin, end, key;
        const struct window *w = window_of(samples, k, &key);
        struct segment a = { .corpus = corpora_locate(samples->corpora, w->document, &begin, &end) }, b = {};

        a.first = begin + w->first;
        a.n_sentences = w->n_sentences;
        sample->ids[0] = samples->vocab.cls;
        sample->token_types[0] = 0;
        sample->length = 1;
        sample->sentence_label = -1;
        if (two_segments(&samples->options))
                sample->sentence_label = choose_pair(samples, key, w, &a, &b);
        else
                count_tokens(&a);
        fit_pair(samples, key, &a, &b);
        put_segment(samples, sample, &a, 0);
        if (two_segments(&samples->options))
                put_segment(samples, sample, &b, 1);
        mask(samples, key, sample);
        sample->n_segments = 1;
        sample->segment_lengths[0] = sample->length;
}

static void make(const void *context, uint64_t k, struct sample *sample) { samples_make(context, k, sample); }

struct sample_source samples_source(const struct samples *samples) {
        return (struct sample_source) { samples, samples->options.sequence_length, samples->options.max_predictions, 1,
                                        make };
}
