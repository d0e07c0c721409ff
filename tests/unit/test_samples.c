/* The sample stream: a pure function of (seed, stage, k), within its bounds, with BERT's proportions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "tests/close.h"
#include "tests/unit/trainer-corpus.h"
#include "trainer/data/mixture.h"
#include "trainer/data/samples.h"
#include "trainer/random/permute.h"
#include "trainer/text/vocab.h"

enum { LENGTH = 32, VOCAB = 120, N = 4000 };

struct fixture {
        char *folder, *prefixes[2], *map;
        struct corpora *corpora;
};

static const struct samples_vocab vocab = {
        .size = VOCAB, .cls = 2, .sep = 3, .mask = 4, .special = { 0, 1, 2, 3, 4 }, .n_special = 5
};

static struct samples_options options(enum objective objective) {
        return (struct samples_options) { .seed = 42,
                                          .sequence_length = LENGTH,
                                          .objective = objective,
                                          .masked_fraction = 0.15,
                                          .max_predictions = 5,
                                          .short_probability = 0.1 };
}

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        f->folder = make_folder();
        f->prefixes[0] = format_string("%s/a", f->folder);
        f->prefixes[1] = format_string("%s/b", f->folder);
        f->map = format_string("%s/map", f->folder);
        write_corpus(f->prefixes[0], 20, 11);
        write_documents(f->prefixes[1], 7, (uint64_t[]) { 1, 1, 2 }, 3); /* documents of one sentence, and of two */
        if (corpora_open(f->prefixes, 2, &f->corpora, NULL) < 0)
                return -1;
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;
        corpora_close(f->corpora);
        free(f->prefixes[0]);
        free(f->prefixes[1]);
        free(f->map);
        remove_folder(f->folder);
        free(f);
        return 0;
}

static struct samples *open_samples(struct fixture *f, const struct samples_options *o) {
        struct samples *samples = NULL;
        struct error error = {};
        assert_int_equal(samples_build_map(f->map, f->corpora, o, &error), 0);
        assert_int_equal(samples_new(f->map, f->corpora, &vocab, o, &samples, &error), 0);
        return samples;
}

struct storage {
        int32_t ids[LENGTH], types[LENGTH], positions[LENGTH], labels[LENGTH];
        uint32_t lengths[1];
};

static struct sample make(const struct samples *samples, uint64_t k, struct storage *s) {
        struct sample sample = {
                .ids = s->ids,
                .token_types = s->types,
                .masked_positions = s->positions,
                .masked_labels = s->labels,
                .segment_lengths = s->lengths,
        };
        memset(s, 0xee, sizeof(*s));
        samples_make(samples, k, &sample);
        return sample;
}

static void test_permutation(void **state) {
        static const uint64_t sizes[] = { 1, 2, 3, 5, 16, 17, 1000 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                uint8_t seen[1000] = {};
                struct permute p;
                permute_init(&p, sizes[i], 7, 0, i);
                for (uint64_t v = 0; v < sizes[i]; v++) {
                        uint64_t to = permute_index(&p, v);
                        assert_true(to < sizes[i]);
                        assert_int_equal(seen[to]++, 0);
                }
        }
}

static void test_shape(void **state) {
        struct samples_options o = options(OBJECTIVE_MLM_NSP);
        struct samples *samples = open_samples(*state, &o);
        struct storage storage;

        for (uint64_t k = 0; k < N; k++) {
                struct sample s = make(samples, k, &storage);
                int separators = 0;
                assert_in_range(s.length, 5, LENGTH);
                assert_int_equal(s.ids[0], vocab.cls);
                assert_int_equal(s.ids[s.length - 1], vocab.sep);
                for (uint32_t i = 0; i < s.length; i++) {
                        assert_int_equal(s.token_types[i],
                                         separators > 0 &&
                                                 !(separators == 1 && s.ids[i] == vocab.sep && s.token_types[i] == 0));
                        assert_in_range(s.ids[i], 2, VOCAB - 1);
                        separators += s.ids[i] == vocab.sep;
                }
                assert_int_equal(separators, 2);
        }
        samples_free(samples);
}

static void test_masking(void **state) {
        struct samples_options o = options(OBJECTIVE_MLM_NSP);
        struct samples *samples = open_samples(*state, &o);
        struct storage storage;
        uint64_t masked = 0, mask = 0, kept = 0;

        for (uint64_t k = 0; k < N; k++) {
                struct sample s = make(samples, k, &storage);
                assert_in_range(s.n_masked, 1, o.max_predictions);
                for (uint32_t i = 0; i < s.n_masked; i++) {
                        int32_t id = s.ids[s.masked_positions[i]], label = s.masked_labels[i];
                        assert_true(i == 0 || s.masked_positions[i] > s.masked_positions[i - 1]);
                        assert_true(label >= 10); /* never a special token */
                        assert_true(id == vocab.mask || id > 4);
                        mask += id == vocab.mask;
                        kept += id == label;
                }
                masked += s.n_masked;
        }
        assert_true((double) mask > 0.78 * (double) masked && (double) mask < 0.82 * (double) masked);
        assert_true((double) kept > 0.085 * (double) masked && (double) kept < 0.12 * (double) masked);
        samples_free(samples);
}

static void test_pure(void **state) {
        struct samples_options o = options(OBJECTIVE_MLM_NSP), other = o;
        struct samples *samples = open_samples(*state, &o);
        struct storage a, b;

        for (uint64_t k = 0; k < 100; k++) {
                struct sample x = make(samples, k, &a);
                (void) make(samples, 1000 - k, &b);
                struct sample y = make(samples, k, &b);
                assert_int_equal(x.sentence_label, y.sentence_label);
                assert_memory_equal(&a, &b, sizeof(a));
        }
        samples_free(samples);
        other.stage = 1;
        samples = open_samples(*state, &o);
        struct samples *second = open_samples(*state, &other);
        int same = 0;
        for (uint64_t k = 0; k < 100; k++) {
                (void) make(samples, k, &a);
                (void) make(second, k, &b);
                same += memcmp(&a, &b, sizeof(a)) == 0;
        }
        assert_true(same < 5); /* another stage is another stream */
        samples_free(second);
        samples_free(samples);
}

static double share_of_ones(struct fixture *f, enum objective objective) {
        struct samples_options o = options(objective);
        struct samples *samples = open_samples(f, &o);
        struct storage storage;
        int ones = 0;

        for (uint64_t k = 0; k < N; k++)
                ones += make(samples, k, &storage).sentence_label == 1;
        samples_free(samples);
        return (double) ones / N;
}

static void test_labels(void **state) {
        struct samples_options o = options(OBJECTIVE_MLM);
        struct storage storage;
        double nsp = share_of_ones(*state, OBJECTIVE_MLM_NSP), sop = share_of_ones(*state, OBJECTIVE_MLM_SOP);

        assert_true(nsp > 0.48 && nsp < 0.58); /* documents of one sentence can only be random pairs */
        assert_true(sop > 0.48 && sop < 0.52);
        struct samples *samples = open_samples(*state, &o);
        for (uint64_t k = 0; k < 50; k++)
                assert_int_equal(make(samples, k, &storage).sentence_label, -1);
        samples_free(samples);
}

/* The words of one corpus, one after the other; nothing of another. */
struct stream {
        int32_t ids[4096];
        uint32_t n;
};

static void read_stream(const struct corpus *corpus, struct stream *t) {
        t->n = 0;
        for (uint64_t s = 0; s < corpus_n_sentences(corpus); s++) {
                uint32_t n = corpus_sentence_length(corpus, s);
                assert_true(t->n + n <= 4096);
                corpus_sentence_copy(corpus, s, 0, n, t->ids + t->n);
                t->n += n;
        }
}

static bool is_in_stream(const struct stream *t, const int32_t *text, uint32_t n) {
        for (uint32_t at = 0; at + n <= t->n; at++)
                if (memcmp(t->ids + at, text, n * sizeof(*text)) == 0)
                        return true;
        return false;
}

/* SOP: the two segments are neighbours, in order or swapped, whatever the document has. */
static void test_sentence_order(void **state) {
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM_SOP);
        struct stream *streams = calloc(2, sizeof(*streams));
        struct samples *samples = open_samples(f, &o);
        struct storage storage;
        int looked_at[2] = {};

        assert_non_null(streams);
        for (int i = 0; i < 2; i++)
                read_stream(f->corpora->part[i], &streams[i]);
        for (uint64_t k = 0; k < N; k++) {
                struct sample s = make(samples, k, &storage);
                uint32_t a = 0;
                int32_t text[LENGTH];
                assert_in_range(s.sentence_label, 0, 1);
                if (s.length == LENGTH)
                        continue; /* may have been cut to fit, with a gap */
                for (uint32_t i = 0; i < s.n_masked; i++)
                        s.ids[s.masked_positions[i]] = s.masked_labels[i];
                while (s.ids[1 + a] != vocab.sep)
                        a++;
                uint32_t b = s.length - 3 - a;
                assert_true(a > 0 && b > 0);
                const int32_t *first = s.ids + 1, *second = s.ids + 2 + a;
                memcpy(text, s.sentence_label ? second : first, (s.sentence_label ? b : a) * sizeof(*text));
                memcpy(text + (s.sentence_label ? b : a), s.sentence_label ? first : second,
                       (s.sentence_label ? a : b) * sizeof(*text));
                assert_true(is_in_stream(&streams[0], text, a + b) || is_in_stream(&streams[1], text, a + b));
                looked_at[s.sentence_label]++;
        }
        assert_true(looked_at[0] > N / 10 && looked_at[1] > N / 10);
        samples_free(samples);
        free(streams);
}

/* SOP of a document with one sentence cuts it in two, which one token cannot be. */
static void test_short_sentences(void **state) {
        struct fixture *f = *state;
        char *prefix = format_string("%s/short", f->folder);
        struct samples_options o = options(OBJECTIVE_MLM_SOP);

        for (uint64_t shortest = 1; shortest <= 2; shortest++) {
                struct corpora *corpora = NULL;
                struct samples *samples = NULL;
                struct storage storage;
                int whole = 0;
                write_sentences(prefix, 36, (uint64_t[]) { 1, 2 }, 2, 10, 80, shortest);
                assert_int_equal(corpora_open(&prefix, 1, &corpora, NULL), 0);
                assert_int_equal(samples_build_map(f->map, corpora, &o, NULL), 0);
                assert_int_equal(samples_new(f->map, corpora, &vocab, &o, &samples, NULL), 0);
                for (uint64_t k = 0; k < N; k++) {
                        struct sample s = make(samples, k, &storage);
                        assert_true(s.sentence_label >= 0 || s.length == 4); /* [CLS] a [SEP] [SEP] */
                        whole += s.sentence_label < 0;
                }
                assert_int_equal(whole > 0, shortest == 1);
                samples_free(samples);
                corpora_close(corpora);
        }
        free(prefix);
}

/* Order-independent sum over the samples of an epoch. */
static uint64_t epoch_hash(const struct samples *samples, uint64_t epoch) {
        uint64_t n = samples_n(samples), sum = 0;
        struct storage storage;

        for (uint64_t k = epoch * n; k < (epoch + 1) * n; k++) {
                (void) make(samples, k, &storage);
                sum += XXH3_64bits(&storage, sizeof(storage));
        }
        return sum;
}

static void test_static(void **state) {
        struct samples_options o = options(OBJECTIVE_MLM_NSP);
        struct samples *dynamic = open_samples(*state, &o);
        struct storage a, b;

        o.dupe_factor = 2;
        struct samples *fixed = open_samples(*state, &o);
        uint64_t n = samples_n(fixed), first = epoch_hash(fixed, 0), second = epoch_hash(fixed, 1);
        int same_place = 0;
        assert_true(first != second);
        assert_true(epoch_hash(fixed, 2) == first && epoch_hash(fixed, 5) == second);
        assert_true(epoch_hash(dynamic, 0) == first && epoch_hash(dynamic, 1) == second);
        assert_true(epoch_hash(dynamic, 2) != first && epoch_hash(dynamic, 5) != second);
        for (uint64_t k = 0; k < n; k++) {
                (void) make(fixed, k, &a);
                (void) make(fixed, k + 2 * n, &b);
                same_place += memcmp(&a, &b, sizeof(a)) == 0;
        }
        assert_true(same_place < (int) n / 4); /* each epoch has an order of its own */
        samples_free(fixed);
        samples_free(dynamic);
}

/* ---- corpora by weight ---- */

/* Two corpora whose ids tell them apart, the first five times the size of the second. */
static struct corpora *open_apart(struct fixture *f) {
        struct corpora *corpora = NULL;
        write_ids(f->prefixes[0], 100, (uint64_t[]) { 9 }, 1, 10, 30);
        write_ids(f->prefixes[1], 20, (uint64_t[]) { 9 }, 1, 60, 30);
        assert_int_equal(corpora_open(f->prefixes, 2, &corpora, NULL), 0);
        return corpora;
}

/* Which corpus the whole sample is of; masked tokens are what they were. */
static uint32_t part_of(struct sample *s) {
        uint32_t second = 0, text = 0;
        for (uint32_t i = 0; i < s->n_masked; i++)
                s->ids[s->masked_positions[i]] = s->masked_labels[i];
        for (uint32_t i = 0; i < s->length; i++) {
                text += s->ids[i] >= 10;
                second += s->ids[i] >= 60;
        }
        assert_true(second == 0 || second == text);
        return second > 0;
}

static void test_weights(void **state) {
        struct fixture *f = *state;
        const double weights[] = { 1, 3 }, scaled[] = { 0.5, 1.5 };
        struct samples_options o = options(OBJECTIVE_MLM_NSP), p = options(OBJECTIVE_MLM_NSP);
        struct samples *one = NULL, *other = NULL;
        struct storage a, b;

        corpora_close(f->corpora);
        f->corpora = open_apart(f);
        o.weights = weights;
        p.weights = scaled;
        one = open_samples(f, &o);
        other = open_samples(f, &p);
        uint64_t n = samples_n(one);
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
                double second = 0;
                for (uint64_t k = epoch * n; k < (epoch + 1) * n; k++) {
                        struct sample s = make(one, k, &a);
                        (void) make(other, k, &b);
                        assert_memory_equal(&a, &b, sizeof(a));
                        second += part_of(&s);
                }
                assert_true(fabs(second - 0.75 * (double) n) <= 0.5);
        }
        o.weights = NULL;
        samples_free(other);
        other = open_samples(f, &o);
        assert_int_equal(samples_n(other), n);
        assert_true(epoch_hash(other, 0) != epoch_hash(one, 0));
        samples_free(one);
        samples_free(other);
}

/* Over many epochs every window of a corpus comes as often as any other of it, give or take one. */
static void test_turns(void **state) {
        enum { EPOCHS = 7 };
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM);
        struct windows *windows = NULL;
        struct mixture *mixture = NULL;

        samples_free(open_samples(f, &o));
        assert_int_equal(windows_open(f->map, &windows, NULL), 0);
        assert_int_equal(mixture_new(f->corpora, windows, (double[]) { 2, 1 }, &mixture, NULL), 0);
        uint64_t n = windows_n(windows), *seen = calloc(n, sizeof(*seen)), turns[2] = {};
        for (uint64_t i = 0; i < EPOCHS * n; i++) {
                struct turn t = mixture_turn(mixture, i / n, i % n);
                assert_true(t.index < t.n && t.first + t.n <= n);
                assert_int_equal(windows_get(windows, t.first + t.index)->document >= f->corpora->first_document[1],
                                 t.part);
                assert_int_equal(t.epoch * t.n + t.index, turns[t.part]); /* one after the other, from the first on */
                seen[t.first + t.index]++;
                turns[t.part]++;
        }
        assert_int_equal(turns[0], EPOCHS * (uint64_t) llround((double) n * 2 / 3));
        for (uint64_t w = 0; w < n; w++) {
                bool second = windows_get(windows, w)->document >= f->corpora->first_document[1];
                struct turn t = mixture_turn(mixture, 0, second ? n - 1 : 0);
                assert_in_range(seen[w], turns[second] / t.n, turns[second] / t.n + 1);
        }
        free(seen);
        mixture_free(mixture);
        windows_close(windows);
}

static void test_weights_refused(void **state) {
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM);
        struct samples *samples = NULL;
        struct error error = {};

        o.weights = (double[]) { 1, 1e-9 };
        assert_int_equal(samples_build_map(f->map, f->corpora, &o, &error), 0);
        assert_true(samples_new(f->map, f->corpora, &vocab, &o, &samples, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        assert_non_null(
                strstr(error.text, "/b: its weight in data.train_weights, 1e-09 of 1.000000001, is not one of the "));

        char *prefixes[] = { f->prefixes[0], format_string("%s/one", f->folder) };
        struct corpora *corpora = NULL;
        write_corpus(prefixes[1], 1, 30);
        assert_int_equal(corpora_open(prefixes, 2, &corpora, NULL), 0);
        o.objective = OBJECTIVE_MLM_NSP;
        error = (struct error) {};
        assert_true(samples_build_map(f->map, corpora, &o, &error) < 0);
        assert_non_null(strstr(error.text, "/one: one document only"));
        o.weights = NULL;
        assert_int_equal(samples_build_map(f->map, corpora, &o, &error), 0);
        corpora_close(corpora);
        free(prefixes[1]);
}

/* Special tokens anywhere in the file; what continues a word; a vocabulary of nothing else. */
static void test_vocabulary(void **state) {
        static const char words[] = "a\n[MASK]\n##b\n[SEP]\n[CLS]\n[UNK]\n[PAD]\n##c\nd\n";
        struct fixture *f = *state;
        cleanup_free char *path = format_string("%s/vocab.txt", f->folder);
        struct samples_vocab v = {};
        struct error error = {};

        assert_int_equal(file_write_atomic(path, words, strlen(words), 0600, &error), 0);
        cleanup_vocab struct vocab *file = NULL;
        assert_int_equal(vocab_load(path, &file, &error), 0);
        assert_int_equal(samples_vocab_init(&v, file, path, &error), 0);
        assert_true(v.size == 9 && v.mask == 1 && v.sep == 3 && v.cls == 4 && v.n_special == 5);
        assert_memory_equal(v.special, ((int32_t[]) { 1, 3, 4, 5, 6 }), 5 * sizeof(int32_t));
        assert_int_equal(v.continues[0], 1 << 2 | 1 << 7);
        assert_int_equal(v.continues[1], 0);
        samples_vocab_free(&v);

        static const char nothing[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
        assert_int_equal(file_write_atomic(path, nothing, strlen(nothing), 0600, &error), 0);
        cleanup_vocab struct vocab *empty = NULL;
        assert_int_equal(vocab_load(path, &empty, &error), 0);
        assert_true(samples_vocab_init(&v, empty, path, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        assert_non_null(strstr(error.text, "nothing but special tokens"));
}

/* ---- masking of a text alone ---- */

enum { TEXT = 512, ROUNDS = 20000 };

static void make_text(int32_t ids[TEXT]) {
        for (int32_t i = 0; i < TEXT; i++)
                ids[i] = 5 + (i * 7 + i / 9) % (VOCAB - 5);
        ids[0] = vocab.cls;
        ids[TEXT / 2] = ids[TEXT - 1] = vocab.sep;
}

static struct masking masking_of(const struct samples_vocab *v, enum mask_unit unit, double fraction) {
        return (struct masking) { .vocab = v,
                                  .unit = unit,
                                  .fraction = fraction,
                                  .max_predictions = TEXT,
                                  .seed = 5,
                                  .pick_site = 1,
                                  .order_site = 2,
                                  .length_site = 3 };
}

static void check_share(double hits, double n, double expected) {
        double deviation = sqrt(n * expected * (1 - expected));
        if (!is_close(hits, n * expected, 5 * deviation))
                fail_msg("%g of %g, expected a share of %g", hits, n, expected);
}

/* A budget of three words: 3; 2 and 1, or 1 and 2 (a 3 that no longer fits becomes 2); 1, 1 and 1. */
static void test_ngrams(void **state) {
        struct masking m = masking_of(&vocab, MASK_UNIT_NGRAM, 3.0 / TEXT);
        int32_t ids[TEXT], positions[TEXT], labels[TEXT];
        double runs[4] = {}, where[2] = {};

        for (uint64_t key = 0; key < ROUNDS; key++) {
                make_text(ids);
                assert_int_equal(masking_apply(&m, key, ids, TEXT, positions, labels), 3);
                uint32_t n = 1 + (positions[1] != positions[0] + 1) + (positions[2] != positions[1] + 1);
                runs[n]++;
                for (int i = 0; i < 3; i++) {
                        where[positions[i] > TEXT / 2]++;
                        assert_true(positions[i] > 0 && positions[i] != TEXT / 2 && positions[i] != TEXT - 1);
                }
        }
        /* Runs that touch by chance, 2 (or 4) places of 509, move a little from more to fewer. */
        double p[4] = { 0, 2.0 / 11, 3.0 / 11 + 6.0 / 11 * 5 / 11, 36.0 / 121 };
        double three = 2 * 2.0 / 509 + 2.0 / 509, two = 2.0 / 509;
        check_share(runs[3], ROUNDS, p[3] * (1 - three));
        check_share(runs[2], ROUNDS, p[2] * (1 - two) + p[3] * three);
        check_share(where[0], 3.0 * ROUNDS, 255.0 / 509);
}

static void test_whole_words(void **state) {
        struct samples_vocab v = vocab;
        int32_t ids[TEXT], original[TEXT], positions[TEXT], labels[TEXT];
        double masked = 0, mask_token = 0, kept = 0, first = 0;

        v.continues = calloc(1, (VOCAB + 7) / 8);
        assert_non_null(v.continues);
        for (uint32_t id = 5; id < VOCAB; id++)
                if (id % 3 == 0)
                        v.continues[id / 8] |= (uint8_t) (1 << id % 8);
        make_text(original);
        for (enum mask_unit unit = MASK_UNIT_WHOLE_WORD; unit <= MASK_UNIT_NGRAM; unit++) {
                struct masking m = masking_of(&v, unit, 0.15);
                for (uint64_t key = 0; key < 500; key++) {
                        bool chosen[TEXT] = {};
                        make_text(ids);
                        uint32_t n = masking_apply(&m, key, ids, TEXT, positions, labels);
                        assert_in_range(n, 75, 77); /* 15 % of 512, words of one to three pieces */
                        for (uint32_t i = 0; i < n; i++) {
                                assert_true(i == 0 || positions[i] > positions[i - 1]);
                                assert_int_equal(labels[i], original[positions[i]]);
                                chosen[positions[i]] = true;
                                mask_token += ids[positions[i]] == vocab.mask;
                                kept += ids[positions[i]] == labels[i];
                        }
                        for (int i = 2; i < TEXT - 1; i++)
                                if (original[i] % 3 == 0 && original[i - 1] > 4 && original[i] > 4)
                                        assert_int_equal(chosen[i], chosen[i - 1]);
                        masked += n;
                        first += chosen[1];
                }
        }
        check_share(mask_token, masked, 0.8);
        check_share(kept, masked, 0.1 + 0.1 / (VOCAB - 5));
        assert_true(first > 0.1 * 1000 && first < 0.2 * 1000);
        free(v.continues);
}

static void test_no_pairs(void **state) {
        struct fixture *f = *state;
        char *prefixes[] = { f->prefixes[0], format_string("%s/unsplit", f->folder) };
        struct corpora *corpora = NULL;
        struct error error = {};

        write_corpus(prefixes[1], 9, 1);
        assert_int_equal(corpora_open(prefixes, 2, &corpora, &error), 0);
        for (enum objective objective = 0; objective < OBJECTIVE_MAX; objective++) {
                struct samples_options o = options(objective);
                error = (struct error) {};
                int r = samples_build_map(f->map, corpora, &o, &error);
                assert_int_equal(r < 0, objective != OBJECTIVE_MLM);
                if (r < 0) {
                        assert_int_equal(error.exit, BERTD_EXIT_DATA);
                        assert_non_null(strstr(error.text, "/unsplit: no document has two sentences, which mlm+"));
                }
        }
        corpora_close(corpora);
        free(prefixes[1]);
}

static void test_one_document(void **state) {
        struct fixture *f = *state;
        char *prefix = format_string("%s/one", f->folder);
        struct samples_options o = options(OBJECTIVE_MLM_NSP);
        struct corpora *corpora = NULL;
        struct error error = {};

        write_corpus(prefix, 1, 30);
        assert_int_equal(corpora_open(&prefix, 1, &corpora, &error), 0);
        assert_true(samples_build_map(f->map, corpora, &o, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        o.objective = OBJECTIVE_MLM;
        assert_int_equal(samples_build_map(f->map, corpora, &o, &error), 0);
        corpora_close(corpora);
        free(prefix);
}

/* An id that a vocabulary lacks leads nowhere, and is told. */
static void test_spoilt(void **state) {
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM);
        struct samples_vocab small = vocab;
        struct samples *samples = NULL;
        struct storage storage;
        struct error error = {};

        samples = open_samples(f, &o);
        for (uint64_t k = 0; k < samples_n(samples); k++)
                (void) make(samples, k, &storage);
        assert_int_equal(samples_check(samples, &error), 0);
        samples_free(samples);
        small.size = 85; /* a few ids of the corpora are beyond */
        assert_int_equal(samples_new(f->map, f->corpora, &small, &o, &samples, &error), 0);
        for (uint64_t k = 0; k < samples_n(samples); k++) {
                struct sample sample = make(samples, k, &storage);
                for (uint32_t i = 0; i < sample.length; i++)
                        assert_in_range(sample.ids[i], 0, 84);
        }
        assert_true(samples_check(samples, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        assert_non_null(strstr(error.text, f->prefixes[0]));
        samples_free(samples);
}

/* As ranks get it that do not see the file: the same windows; a byte that changed on the way is refused. */
static void test_taken_map(void **state) {
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM);
        struct windows *file = NULL, *taken = NULL;
        struct error error = {};
        char hash[33], other[33];
        size_t size;

        samples_free(open_samples(f, &o));
        assert_int_equal(windows_open(f->map, &file, NULL), 0);
        const void *data = windows_data(file, &size);
        for (int spoil = 0; spoil < 2; spoil++) {
                char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                memcpy(copy, data, size);
                copy[size - 1] ^= (char) spoil;
                int r = windows_take(copy, size, "sent", &taken, &error);
                assert_int_equal(r < 0, spoil);
        }
        windows_hash(file, hash);
        windows_hash(taken, other);
        assert_string_equal(hash, other);
        assert_int_equal(windows_n(file), windows_n(taken));
        assert_non_null(strstr(error.text, "sent: window map does not match its hash"));
        windows_close(file);
        windows_close(taken);
}

static void test_broken_map(void **state) {
        struct fixture *f = *state;
        struct samples_options o = options(OBJECTIVE_MLM_NSP);
        struct samples *samples = open_samples(f, &o);
        struct error error = {};
        uint64_t n = samples_n(samples);

        samples_free(samples);
        assert_int_equal(truncate(f->map, 100), 0);
        assert_true(samples_new(f->map, f->corpora, &vocab, &o, &samples, &error) < 0);
        samples = open_samples(f, &o); /* is built again */
        assert_int_equal(samples_n(samples), n);
        samples_free(samples);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_permutation),
                cmocka_unit_test_setup_teardown(test_shape, setup, teardown),
                cmocka_unit_test_setup_teardown(test_masking, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pure, setup, teardown),
                cmocka_unit_test_setup_teardown(test_labels, setup, teardown),
                cmocka_unit_test_setup_teardown(test_one_document, setup, teardown),
                cmocka_unit_test_setup_teardown(test_sentence_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_short_sentences, setup, teardown),
                cmocka_unit_test_setup_teardown(test_vocabulary, setup, teardown),
                cmocka_unit_test_setup_teardown(test_static, setup, teardown),
                cmocka_unit_test_setup_teardown(test_weights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
                cmocka_unit_test_setup_teardown(test_weights_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_ngrams, setup, teardown),
                cmocka_unit_test_setup_teardown(test_whole_words, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_pairs, setup, teardown),
                cmocka_unit_test_setup_teardown(test_spoilt, setup, teardown),
                cmocka_unit_test_setup_teardown(test_taken_map, setup, teardown),
                cmocka_unit_test_setup_teardown(test_broken_map, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
