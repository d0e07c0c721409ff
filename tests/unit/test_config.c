/* config.json: what is read, what defaults, what is refused and how it is named; hashes; the parameter counts of
 * RECIPES. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/model/count.h"
#include "trainer/model/config.h"

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

static void test_albert(void **state) {
        struct model_config c;
        struct error error;
        char none[33], one[33], all[33];

        assert_int_equal(load("{" SHAPE ", \"model_type\": \"albert\", \"embedding_size\": 5}", &c, &error), 0);
        assert_true(c.model_type == MODEL_ALBERT && c.embedding_size == 5 && c.embedding_mapping);
        assert_true(c.num_hidden_groups == 1 && c.inner_group_num == 1 && c.cross_layer_sharing == SHARING_ALL);
        assert_true(c.hidden_act == ACT_GELU_NEW && c.hidden_dropout_prob == 0 && c.attention_probs_dropout_prob == 0);
        config_hash(&c, all);
        assert_int_equal(load("{" SHAPE
                              ", \"model_type\": \"albert\", \"embedding_size\": 5, \"num_hidden_groups\": 2}",
                              &c, &error),
                         0);
        assert_int_equal(c.cross_layer_sharing, SHARING_NONE); /* a group for each layer */
        config_hash(&c, none);
        assert_string_not_equal(none, all);
        assert_int_equal(load("{" SHAPE ", \"model_type\": \"albert\", \"embedding_size\": 5, \"cross_layer_sharing\": "
                              "\"none\"}",
                              &c, &error),
                         0);
        assert_int_equal(c.num_hidden_groups, 2);
        config_hash(&c, one);
        assert_string_equal(none, one); /* the same model, written in two ways */
        assert_int_equal(load("{" SHAPE ", \"model_type\": \"albert\", \"embedding_size\": 12, \"embedding_mapping\": "
                              "false, \"cross_layer_sharing\": \"ffn\"}",
                              &c, &error),
                         0);
        assert_true(c.cross_layer_sharing == SHARING_FFN && !c.embedding_mapping);
        /* BERT does not have these keys. */
        assert_int_equal(load("{" SHAPE ", \"embedding_size\": 5, \"cross_layer_sharing\": \"all\"}", &c, &error), 0);
        assert_true(c.embedding_size == 12 && c.cross_layer_sharing == SHARING_NONE && c.num_hidden_groups == 2);
}

#define ALBERT "{" SHAPE ", \"model_type\": \"albert\", "

static void test_albert_refuses(void **state) {
        refuse(ALBERT "\"num_hidden_groups\": 3}", "num_hidden_groups is 3, more than num_hidden_layers, 2");
        refuse(ALBERT "\"num_hidden_groups\": 0}", "num_hidden_groups is 0, expected 1 to 256");
        refuse(ALBERT "\"cross_layer_sharing\": \"none\", \"num_hidden_groups\": 1}",
               "cross_layer_sharing is none, but num_hidden_groups is 1, expected 2 (one for each layer)");
        refuse(ALBERT "\"cross_layer_sharing\": \"attention\", \"num_hidden_groups\": 2}",
               "cross_layer_sharing is attention, but num_hidden_groups is 2, expected 1");
        refuse(ALBERT "\"cross_layer_sharing\": \"ffn\", \"num_hidden_groups\": 2}", "expected 1");
        refuse(ALBERT "\"cross_layer_sharing\": \"all\", \"num_hidden_groups\": 2}",
               "cross_layer_sharing is all, but num_hidden_groups is 2, one for each layer");
        refuse(ALBERT "\"cross_layer_sharing\": \"some\"}", "is 'some', expected none, attention, ffn or all");
        refuse(ALBERT "\"embedding_mapping\": false}", "embedding_mapping is false, but embedding_size is 128");
        refuse(ALBERT "\"embedding_mapping\": 1}", "embedding_mapping is not true or false");
        refuse(ALBERT "\"embedding_size\": 0}", "embedding_size is 0");
        refuse(ALBERT "\"inner_group_num\": \"1\"}", "inner_group_num is not a whole number");
}

/* RECIPES' table, from the example configs. */
static void test_published_counts(void **state) {
        static const struct {
                const char *name;
                uint64_t body, whole;
                int64_t saved;
        } published[] = {
                { "bert-base-uncased", 109482240, 110106428, 0 },
                { "bert-large-uncased", 335141888, 336226108, 0 },
                { "bert-base-cased", 108310272, 108932934, 0 },
                { "bert-base-chinese", 102267648, 102882442, 0 },
                { "albert-base-v1", 11683584, 11813810, 19101696 },
                { "albert-large-v1", 17683968, 17847474, 30000 * 1024 - (30000 * 128 + 128 * 1024) },
                { "albert-xlarge-v1", 58724864, 59021490, 30000 * 2048 - (30000 * 128 + 128 * 2048) },
                { "albert-xxlarge-v1", 222595584, 223158450, 30000 * 4096 - (30000 * 128 + 128 * 4096) },
        };

        for (size_t i = 0; i < ELEMENTSOF(published); i++) {
                cleanup_free char *file =
                        format_string("%s/examples/configs/%s.json", getenv("SOURCE_DIR"), published[i].name);
                struct model_config config;
                struct parameter_counts c;
                struct error error = {};
                if (config_load(file, &config, &error) < 0)
                        fail_msg("%s", error.text);
                assert_int_equal(parameter_counts(&config, &c, &error), 0);
                assert_int_equal(c.body, published[i].body);
                assert_int_equal(c.whole, published[i].whole);
                assert_int_equal(c.saved_by_factorizing, published[i].saved);
        }
}

/* ALBERT base by width of the embedding and by what is shared: encoder + pooler. At E = H the paper has no mapping. */
static void test_sharing_counts(void **state) {
        static const struct {
                uint32_t embedding_size;
                uint64_t body[SHARING_MAX]; /* none, attention, ffn, all */
        } rows[] = {
                { 64, { 87648000, 61645056, 35684352, 9681408 } },
                { 128, { 89650176, 63647232, 37686528, 11683584 } },
                { 256, { 93654528, 67651584, 41690880, 15687936 } },
                { 768, { 109081344, 83078400, 57117696, 31114752 } },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (enum cross_layer_sharing sharing = 0; sharing < SHARING_MAX; sharing++) {
                        cleanup_free char *text = format_string(
                                "{\"model_type\": \"albert\", \"vocab_size\": 30000, \"hidden_size\": 768, "
                                "\"num_hidden_layers\": 12, \"num_attention_heads\": 12, \"intermediate_size\": 3072, "
                                "\"embedding_size\": %u, \"cross_layer_sharing\": \"%s\", \"embedding_mapping\": %s}",
                                rows[i].embedding_size, config_sharing_name(sharing),
                                rows[i].embedding_size == 768 ? "false" : "true");
                        struct model_config config;
                        struct parameter_counts c;
                        struct error error;
                        assert_int_equal(load(text, &config, &error), 0);
                        assert_int_equal(parameter_counts(&config, &c, &error), 0);
                        assert_int_equal(c.body, rows[i].body[sharing]);
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reads),
                cmocka_unit_test(test_refuses),
                cmocka_unit_test(test_missing_file),
                cmocka_unit_test(test_hash),
                cmocka_unit_test(test_albert),
                cmocka_unit_test(test_albert_refuses),
                cmocka_unit_test(test_published_counts),
                cmocka_unit_test(test_sharing_counts),
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
