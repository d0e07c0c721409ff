/* Packing: shares cover every sample once, micro-batches keep their bounds, sums do not depend on ranks or packing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/trainer-corpus.h"
#include "trainer/data/prefetch.h"
#include "trainer/data/samples.h"

enum { LENGTH = 32 };

struct fixture {
        char *folder, *prefix, *map;
        struct corpora *corpora;
        struct samples *samples;
        struct sample_source source;
};

static int setup(void **state) {
        static const struct samples_vocab vocab = {
                .size = 120, .cls = 2, .sep = 3, .mask = 4, .special = { 2, 3, 4 }, .n_special = 3
        };
        struct samples_options o = { .seed = 1,
                                     .sequence_length = LENGTH,
                                     .objective = OBJECTIVE_MLM_NSP,
                                     .masked_fraction = 0.15,
                                     .max_predictions = 5,
                                     .short_probability = 0.3 };
        struct fixture *f = calloc(1, sizeof(*f));

        f->folder = make_folder();
        f->prefix = format_string("%s/a", f->folder);
        f->map = format_string("%s/map", f->folder);
        write_corpus(f->prefix, 20, 11);
        *state = f;
        if (corpora_open(&f->prefix, 1, &f->corpora, NULL) < 0 || samples_build_map(f->map, f->corpora, &o, NULL) < 0 ||
            samples_new(f->map, f->corpora, &vocab, &o, &f->samples, NULL) < 0)
                return 1;
        f->source = samples_source(f->samples);
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;
        samples_free(f->samples);
        corpora_close(f->corpora);
        free(f->prefix);
        free(f->map);
        remove_folder(f->folder);
        free(f);
        return 0;
}

static void test_share(void **state) {
        for (uint64_t count = 0; count < 20; count++) {
                for (uint32_t ranks = 1; ranks < 24; ranks++) {
                        uint64_t next = 0;
                        for (uint32_t r = 0; r < ranks; r++) {
                                uint64_t begin, end;
                                batches_share(count, r, ranks, &begin, &end);
                                assert_int_equal(begin, next);
                                assert_true(end >= begin && end - begin <= count / ranks + 1);
                                next = end;
                        }
                        assert_int_equal(next, count);
                }
        }
}

static void check_micro(const struct batch *m, const struct batches_limits *limits, uint64_t *k) {
        assert_true(m->n_sequences > 0 && m->n_sequences <= limits->max_sequences);
        assert_true(m->n_tokens <= limits->max_tokens && m->n_masked <= limits->max_masked);
        assert_int_equal(m->cu_seqlens[0], 0);
        assert_int_equal(m->cu_seqlens[m->n_sequences], m->n_tokens);
        uint32_t longest = 0;
        for (uint32_t s = 0; s < m->n_sequences; s++) {
                uint32_t length = (uint32_t) (m->cu_seqlens[s + 1] - m->cu_seqlens[s]);
                longest = MAX(longest, length);
                assert_int_equal(m->sample_k[s], (*k)++);
                assert_int_equal(m->ids[m->cu_seqlens[s]], 2);
                for (uint32_t i = 0; i < length; i++)
                        assert_int_equal(m->positions[(uint32_t) m->cu_seqlens[s] + i], i);
        }
        assert_int_equal(longest, m->max_length);
        for (uint32_t i = 0; i < m->n_masked; i++) {
                assert_in_range(m->masked_rows[i], i > 0 ? m->masked_rows[i - 1] + 1 : 0, m->n_tokens - 1);
                assert_true(m->masked_labels[i] >= 10);
        }
}

static void test_packing(void **state) {
        static const struct batches_limits limits[] = {
                { 40, 32, 4, 5 }, { 40, 100, 3, 7 }, { 40, 2000, 100, 500 }, { 40, 2000, 3, 500 }
        };
        struct fixture *f = *state;
        uint64_t hash = 0, masked = 0;

        for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
                struct batches *b = NULL;
                uint64_t k = 13;
                assert_int_equal(batches_new(&f->source, &limits[i], &b, NULL), 0);
                batches_fill(b, 13, 53);
                for (uint32_t m = 0; m < batches_n(b); m++)
                        check_micro(batches_get(b, m), &limits[i], &k);
                assert_int_equal(k, 53);
                assert_true(i == 0 || (hash == batches_hash(b) && masked == batches_n_masked(b)));
                hash = batches_hash(b);
                masked = batches_n_masked(b);
                batches_free(b);
        }
}

static void test_shares_add_up(void **state) {
        struct batches_limits limits = { 40, 64, 8, 20 };
        struct fixture *f = *state;
        struct batches *b = NULL;
        uint64_t hash = 0, masked = 0;

        assert_int_equal(batches_new(&f->source, &limits, &b, NULL), 0);
        for (uint32_t r = 0; r < 3; r++) {
                uint64_t begin, end;
                batches_share(40, r, 3, &begin, &end);
                batches_fill(b, 80 + begin, 80 + end);
                hash += batches_hash(b);
                masked += batches_n_masked(b);
        }
        batches_fill(b, 80, 120);
        assert_int_equal(hash, batches_hash(b));
        assert_int_equal(masked, batches_n_masked(b));
        batches_fill(b, 80, 80); /* a rank without samples */
        assert_int_equal(batches_n(b), 0);
        batches_free(b);
}

static void test_prefetch(void **state) {
        struct batches_limits limits = { 10, 64, 8, 20 };
        struct fixture *f = *state;
        struct prefetch *prefetch = NULL;
        struct batches *plain = NULL;

        assert_int_equal(prefetch_new(&f->source, &limits, &prefetch, NULL), 0);
        assert_int_equal(batches_new(&f->source, &limits, &plain, NULL), 0);
        for (uint64_t s = 0; s < 30; s++) {
                uint64_t at = s == 20 ? 1000 : s * 10; /* once another range than foretold */
                struct batches *b = prefetch_take(prefetch, at, at + 10, s * 10 + 10, s * 10 + 20);
                batches_fill(plain, at, at + 10);
                assert_int_equal(batches_hash(b), batches_hash(plain));
        }
        batches_free(plain);
        prefetch_free(prefetch);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_share),
                cmocka_unit_test_setup_teardown(test_packing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_shares_add_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_prefetch, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
