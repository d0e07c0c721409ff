/*
 * What a training step of each published model would launch: every grid, block and shared memory within a GPU's limits,
 * at 128 and at 512 tokens, in bf16. The module's source is compiled for the host (emulation/); kernels are not run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "tests/ops/model_helpers.h"
#include "trainer/ops/cuda/cuda.h"
#include "trainer/model/optimizer.h"

enum { TOKENS = 4096 }; /* a micro-batch's */

extern const struct cuda_module bert_trainer_cuda;
void emulated_begin_dry(void);
void emulated_count_products(uint64_t *n, uint64_t *odd, uint64_t *flat);
void emulated_end_dry(uint64_t *n, unsigned *threads, size_t *shared, uint64_t *grid);

static const char *const configs[] = { "bert-base-uncased",  "bert-base-cased",   "bert-base-chinese",
                                       "bert-large-uncased", "albert-base-v1",    "albert-large-v1",
                                       "albert-xlarge-v1",   "albert-xxlarge-v1", "bert-tiny",
                                       "albert-tiny" };

static void check_step(const char *name, const struct model_config *config, const struct ops *ops, uint32_t length) {
        struct test_batch *t = helper_batch(config->vocab_size, TOKENS / length, length, 0, false);
        struct model_pass pass = helper_pass(&t->batch, true);
        uint64_t launches, grid, products, odd, flat;
        unsigned threads;
        size_t shared;

        emulated_begin_dry();
        struct model *model = helper_model(config, ops, &t->batch);
        model_forward_backward(model, &t->batch, &pass, NULL);
        optimizer_update(model, &helper_lamb, 1e-4, 1, 1);
        model_free(model);
        emulated_end_dry(&launches, &threads, &shared, &grid);
        emulated_count_products(&products, &odd, &flat);
        assert_int_equal(odd, 0); /* whatever the vocabulary: rows of 16 bytes are what tensor cores are fed with */
        (void) printf("%-20s %4u tokens: %5llu launches, at most %llu blocks, %u threads, %zu bytes shared\n", name,
                      length, (unsigned long long) launches, (unsigned long long) grid, threads, shared);
        assert_true(launches > 10 * config_n_layers(config));
        free(t);
}

static void test_every_config(void **state) {
        const struct ops *ops;
        char text[CUDA_TEXT_MAX];

        assert_int_equal(bert_trainer_cuda.open(CUDA_BF16, 0, &ops, text, sizeof(text)), 0);
        for (size_t i = 0; i < ELEMENTSOF(configs); i++) {
                cleanup_free char *path =
                        format_string("%s/examples/configs/%s.json", getenv("SOURCE_DIR"), configs[i]);
                struct model_config config;
                struct error error = {};
                if (config_load(path, &config, &error) < 0)
                        fail_msg("%s", error.text);
                for (uint32_t length = 128; length <= MIN(config.max_position_embeddings, 512u); length *= 4)
                        check_step(configs[i], &config, ops, length);
        }
        bert_trainer_cuda.close();
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_config) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
