/* The sample stream: a pure function of (seed, stage, k), within its bounds, with BERT's proportions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "tests/unit/trainer-corpus.h"
#include "trainer/permute.h"
#include "trainer/samples.h"

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
        write_corpus(f->prefixes[1], 7, 1); /* documents of one sentence */
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
};

static struct sample make(const struct samples *samples, uint64_t k, struct storage *s) {
        struct sample sample = {
                .ids = s->ids, .token_types = s->types, .masked_positions = s->positions, .masked_labels = s->labels
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
        assert_true(sop > 0.40 && sop < 0.52);
        struct samples *samples = open_samples(*state, &o);
        for (uint64_t k = 0; k < 50; k++)
                assert_int_equal(make(samples, k, &storage).sentence_label, -1);
        samples_free(samples);
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
                cmocka_unit_test_setup_teardown(test_broken_map, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
