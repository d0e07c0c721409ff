/* config.json: what is read, what defaults, what is refused and how it is named; hashes; the parameter counts of RECIPES. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/config.h"
#include "trainer/params.h"

#define SHAPE                                                                                              \
        "\"vocab_size\": 100, \"hidden_size\": 12, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, " \
        "\"intermediate_size\": 24"

static char *path;

static int load(const char *text, struct model_config *config, struct error *error) {
        *error = (struct error) {};
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, error), 0);
        return config_load(path, config, error);
}

static void refuse(const char *text, const char *expected) {
        struct model_config config;
        struct error error;

        assert_true(load(text, &config, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_CONFIG);
        assert_non_null(strstr(error.text, path));
        if (!strstr(error.text, expected))
                fail_msg("'%s' does not hold '%s'", error.text, expected);
}

static void test_reads(void **state) {
        struct model_config c;
        struct error error;

        assert_int_equal(load("{" SHAPE ", \"model_type\": \"bert\", \"hidden_act\": \"relu\", "
                              "\"hidden_dropout_prob\": 0, \"type_vocab_size\": 3,"
                              " \"max_position_embeddings\": 64, \"layer_norm_eps\": 1e-5, \"torch_dtype\": "
                              "\"float32\", \"new\": [1, {}]}",
                              &c, &error),
                         0);
        assert_int_equal(c.vocab_size, 100);
        assert_int_equal(c.hidden_size, 12);
        assert_int_equal(c.num_hidden_layers, 2);
        assert_int_equal(c.num_attention_heads, 3);
        assert_int_equal(c.intermediate_size, 24);
        assert_int_equal(c.max_position_embeddings, 64);
        assert_int_equal(c.type_vocab_size, 3);
        assert_int_equal(c.hidden_act, ACT_RELU);
        assert_true(c.hidden_dropout_prob == 0 && c.layer_norm_eps == 1e-5);
        assert_int_equal(load("{" SHAPE "}", &c, &error), 0);
        assert_int_equal(c.max_position_embeddings, 512);
        assert_int_equal(c.type_vocab_size, 2);
        assert_int_equal(c.hidden_act, ACT_GELU);
        assert_true(c.hidden_dropout_prob == 0.1 && c.attention_probs_dropout_prob == 0.1 &&
                    c.initializer_range == 0.02);
        assert_true(c.layer_norm_eps == 1e-12);
}

static void test_refuses(void **state) {
        refuse("", "");
        refuse("[]", "not a JSON object");
        refuse("{\"vocab_size\": 100,\n\"hidden_size\" 12}", ":2:");
        refuse("{\"vocab_size\": 100}", "hidden_size is missing");
        refuse("{" SHAPE ", \"vocab_size\": 5}", "duplicate");
        refuse("{" SHAPE ", \"type_vocab_size\": \"2\"}", "type_vocab_size is not a whole number");
        refuse("{" SHAPE ", \"type_vocab_size\": 2.5}", "type_vocab_size is not a whole number");
        refuse("{" SHAPE ", \"type_vocab_size\": -1}", "type_vocab_size is -1");
        refuse("{" SHAPE ", \"max_position_embeddings\": 1000000000000}", "max_position_embeddings is 1000000000000");
        refuse("{" SHAPE ", \"hidden_dropout_prob\": 1.0}", "hidden_dropout_prob is 1");
        refuse("{" SHAPE ", \"hidden_dropout_prob\": null}", "hidden_dropout_prob is not a number");
        refuse("{" SHAPE ", \"hidden_act\": \"swish\"}", "hidden_act is 'swish'");
        refuse("{" SHAPE ", \"hidden_act\": 3}", "hidden_act is not a string");
        refuse("{" SHAPE ", \"model_type\": \"gpt2\"}", "model_type is 'gpt2'");
        refuse("{" SHAPE ", \"is_decoder\": true}", "is_decoder");
        refuse("{\"vocab_size\": 100, \"hidden_size\": 13, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "
               "\"intermediate_size\": 24}",
               "num_attention_heads is 3, which does not divide hidden_size 13");
}

static void test_missing_file(void **state) {
        struct model_config config;
        struct error error = {};

        assert_true(config_load("/nonexistent/config.json", &config, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_INPUT);
        assert_non_null(strstr(error.text, "/nonexistent/config.json"));
}

static void test_hash(void **state) {
        struct model_config a, b;
        struct error error;
        char x[33], y[33];

        assert_int_equal(load("{" SHAPE "}", &a, &error), 0);
        assert_int_equal(load("{\"note\": 1, \"hidden_act\": \"gelu\", " SHAPE "}", &b, &error), 0);
        config_hash(&a, x);
        config_hash(&b, y);
        assert_int_equal(strlen(x), 32);
        assert_string_equal(x, y);
        b.layer_norm_eps = 1e-11;
        config_hash(&b, y);
        assert_string_not_equal(x, y);
}

static void check_counts(uint32_t v, uint32_t h, uint32_t l, uint32_t a, uint32_t f, uint64_t body, uint64_t whole) {
        struct model_config config = { v, h, l, a, f, 512, 2, ACT_GELU, 0, 0, 0.02, 1e-12 };
        struct parameter_counts c;
        struct error error = {};

        assert_int_equal(parameter_counts(&config, &c, &error), 0);
        assert_int_equal(c.embeddings + c.encoder + c.pooler, body);
        assert_int_equal(c.embeddings + c.encoder + c.pooler + c.mlm_head + c.sentence_head, whole);
        assert_int_equal(c.layer * l, c.encoder);
}

static void test_counts(void **state) {
        check_counts(30522, 768, 12, 12, 3072, 109482240, 110106428);
        check_counts(30522, 1024, 24, 16, 4096, 335141888, 336226108);
        check_counts(28996, 768, 12, 12, 3072, 108310272, 108932934);
        check_counts(21128, 768, 12, 12, 3072, 102267648, 102882442);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads), cmocka_unit_test(test_refuses), cmocka_unit_test(test_missing_file),
                cmocka_unit_test(test_hash),  cmocka_unit_test(test_counts),
        };
        char folder[] = "/tmp/test-config-XXXXXX";
        if (!mkdtemp(folder))
                return 1;
        path = format_string("%s/config.json", folder);
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        (void) unlink(path);
        (void) rmdir(folder);
        free(path);
        return failed;
}
