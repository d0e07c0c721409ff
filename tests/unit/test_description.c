/*
 * checkpoint/description and task: every field of what a checkpoint records comes back as it was; an entry that is
 * missing, doubled or of another type is refused with exit 76, naming the key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "tests/unit/folder.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/task.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/model/heads.h"

static char *folder, *path;

static int setup(void **state) {
        folder = make_folder();
        path = format_string("%s/c.ckpt", folder);
        return 0;
}

static int teardown(void **state) {
        free(path);
        remove_folder(folder);
        return 0;
}

/* A checkpoint with this meta, opened. */
static struct checkpoint *written(const struct checkpoint_meta *meta) {
        float data[2] = { 1, 2 };
        struct checkpoint_tensor tensor = {
                .name = "x", .kind = "param", .dtype = "float32", .n_dims = 1, .shape = { 2 }, .size = 8, .data = data
        };
        struct checkpoint *c = NULL;

        assert_int_equal(checkpoint_write(path, meta, &tensor, 1, NULL, NULL), 0);
        assert_int_equal(checkpoint_open(path, &c, NULL), 0);
        return c;
}

static struct checkpoint *with(const char *key, const char *value) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};

        checkpoint_meta_set(&meta, key, "%s", value);
        return written(&meta);
}

static void assert_refused(int r, const struct error *error, const char *text) {
        assert_true(r < 0);
        assert_int_equal(error->exit, BERTD_EXIT_BAD_CHECKPOINT);
        assert_non_null(strstr(error->text, path));
        assert_non_null(strstr(error->text, text));
}

static void test_config(void **state) {
        static const char *const models[] = {
                "{\"vocab_size\": 99, \"hidden_size\": 16, \"num_hidden_layers\": 3, \"num_attention_heads\": 2, "
                "\"intermediate_size\": 32, \"max_position_embeddings\": 64, \"type_vocab_size\": 2, \"hidden_act\": "
                "\"gelu\", \"hidden_dropout_prob\": 0.1, \"attention_probs_dropout_prob\": 0.3, \"initializer_range\": "
                "0.02, \"layer_norm_eps\": 1e-12}",
                "{\"model_type\": \"albert\", \"embedding_size\": 8, \"num_hidden_groups\": 1, "
                "\"cross_layer_sharing\": \"ffn\", \"vocab_size\": 99, \"hidden_size\": 16, \"num_hidden_layers\": 3, "
                "\"num_attention_heads\": 2, \"intermediate_size\": 32, \"max_position_embeddings\": 64, "
                "\"type_vocab_size\": 2, \"hidden_act\": \"gelu_new\", \"hidden_dropout_prob\": 0, "
                "\"attention_probs_dropout_prob\": 0, \"initializer_range\": 0.02, \"layer_norm_eps\": 1e-12}"
        };

        for (size_t i = 0; i < ELEMENTSOF(models); i++) {
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                cleanup_checkpoint struct checkpoint *c = NULL;
                struct model_config config, again;
                struct error error = {};
                char hash[HEX_128_SIZE], other[HEX_128_SIZE];
                assert_int_equal(config_parse("m", models[i], strlen(models[i]), &config, &error), 0);
                assert_int_equal(description_set_config(&meta, &config, &error), 0);
                c = written(&meta);
                assert_int_equal(description_config(c, &again, &error), 0);
                config_hash(&config, hash);
                config_hash(&again, other);
                assert_string_equal(hash, other);
                assert_true(config.hidden_dropout_prob == again.hidden_dropout_prob &&
                            config.attention_probs_dropout_prob == again.attention_probs_dropout_prob &&
                            config.initializer_range == again.initializer_range);
                assert_string_equal(checkpoint_meta_get(checkpoint_meta(c), "config_hash"), hash);
        }
}

static void test_config_wrong(void **state) {
        static const char *const values[] = { "", "3", "{}", "{\"vocab_size\": \"x\"}" };
        struct model_config config;

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                cleanup_checkpoint struct checkpoint *c = with("config", values[i]);
                struct error error = {};
                int r = description_config(c, &config, &error);
                assert_true(r < 0);
                assert_int_equal(error.exit, BERTD_EXIT_BAD_CHECKPOINT);
        }
        cleanup_checkpoint struct checkpoint *none = with("other", "1");
        struct error error = {};
        assert_refused(description_config(none, &config, &error), &error, "meta key config is missing");
}

static void test_text(void **state) {
        static const char *const wrong[] = { "", "lowercase 1",
                                             "lowercase 2, strip_accents 1, chinese 1, quotes 1, nfkd 1",
                                             "lowercase 1, strip_accents 1, chinese 1, quotes 1, nfkd 1, more 1",
                                             "strip_accents 1, lowercase 1, chinese 1, quotes 1, nfkd 1" };
        struct text_options again;

        for (unsigned i = 0; i < 32; i++) {
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                cleanup_checkpoint struct checkpoint *c = NULL;
                const struct text_options options = { i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, i >> 4 & 1 };
                struct error error = {};
                description_set_text(&meta, "/some/vocab.txt", &options);
                c = written(&meta);
                assert_int_equal(description_text(c, &again, &error), 0);
                assert_memory_equal(&again, &options, sizeof(again));
                assert_string_equal(checkpoint_meta_get(checkpoint_meta(c), "vocab_path"), "/some/vocab.txt");
        }
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                cleanup_checkpoint struct checkpoint *c = with("text_options", wrong[i]);
                struct error error = {};
                assert_refused(description_text(c, &again, &error), &error, "meta key text_options");
        }
        cleanup_checkpoint struct checkpoint *none = with("other", "1");
        assert_int_equal(description_text(none, &again, NULL), 0);
        assert_true(again.lowercase && again.strip_accents && again.chinese && again.quotes && again.nfkd);
}

static void test_cuts(void **state) {
        static const struct {
                const char *key, *value;
        } wrong[] = { { "truncation", "" },
                      { "truncation", "middle 0 1" },
                      { "truncation", "head 0" },
                      { "truncation", "head x 1" },
                      { "truncation", "head 0 0" },
                      { "truncation", "head 0 1 1" },
                      { "truncation", "head 0 9999" },
                      { "sequence_length", "" },
                      { "sequence_length", "1" },
                      { "sequence_length", "12x" },
                      { "sequence_length", "128 128" } };
        struct texts_options again;

        for (unsigned i = 0; i < TRUNCATION_MAX; i++) {
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                cleanup_checkpoint struct checkpoint *c = NULL;
                const struct texts_options options = { .truncation = (enum truncation) i,
                                                       .head_tokens = 100 + i,
                                                       .max_segments = 1 + i };
                description_set_cuts(&meta, &options);
                checkpoint_meta_set(&meta, "sequence_length", "%u", 48 + i);
                c = written(&meta);
                assert_int_equal(description_cuts(c, 512, &again, NULL), 0);
                assert_int_equal(again.truncation, options.truncation);
                assert_int_equal(again.head_tokens, options.head_tokens);
                assert_int_equal(again.max_segments, options.max_segments);
                assert_int_equal(again.sequence_length, 48 + i);
        }
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                cleanup_checkpoint struct checkpoint *c = with(wrong[i].key, wrong[i].value);
                struct error error = {};
                assert_refused(description_cuts(c, 512, &again, &error), &error, wrong[i].key);
        }
        cleanup_checkpoint struct checkpoint *none = with("other", "1");
        assert_int_equal(description_cuts(none, 512, &again, NULL), 0);
        assert_true(again.sequence_length == 512 && again.max_segments == 1);
}

static void test_fresh(void **state) {
        unsigned again;

        for (unsigned heads = 0; heads <= ALL_HEADS; heads++) {
                if (heads & ~ALL_HEADS)
                        continue;
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                description_set_fresh(&meta, heads);
                cleanup_checkpoint struct checkpoint *c = written(&meta);
                assert_int_equal(description_fresh(c, &again, NULL), 0);
                assert_int_equal(again, heads);
        }
        cleanup_checkpoint struct checkpoint *wrong = with("fresh_heads", "pooler neck"), *none = with("other", "1");
        struct error error = {};
        assert_refused(description_fresh(wrong, &again, &error), &error, "names 'neck'");
        assert_int_equal(description_fresh(none, &again, NULL), 0);
        assert_int_equal(again, 0);
}

/* So many that their names take several rows, some of them of odd characters. */
static void make_labels(struct labels *labels, uint32_t n) {
        char name[64];

        for (uint32_t i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), i % 3 ? "class %u" : "\"%u\" ünïcödé\\\t", i);
                assert_int_equal(labels_add(labels, name, NULL), 0);
        }
}

static void test_labels(void **state) {
        static const uint32_t counts[] = { 1, 2, 40, 4096 };

        for (size_t i = 0; i < ELEMENTSOF(counts); i++) {
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                struct labels labels = {}, again = {};
                make_labels(&labels, counts[i]);
                assert_int_equal(description_set_labels(&meta, &labels, NULL), 0);
                cleanup_checkpoint struct checkpoint *c = written(&meta);
                assert_int_equal(description_labels(c, &again, NULL), 0);
                assert_int_equal(again.n, labels.n);
                for (uint32_t k = 0; k < labels.n; k++)
                        assert_string_equal(again.name[k], labels.name[k]);
                labels_free(&labels);
                labels_free(&again);
        }
        struct labels none = {};
        cleanup_checkpoint struct checkpoint *c = with("other", "1");
        assert_int_equal(description_labels(c, &none, NULL), 0);
        assert_int_equal(none.n, 0);
}

/* Each of the rows in turn is missing, or another. */
static void test_labels_wrong(void **state) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct labels labels = {};

        make_labels(&labels, 200);
        assert_int_equal(description_set_labels(&meta, &labels, NULL), 0);
        assert_true(meta.n > 4);
        for (uint32_t skip = 1; skip < meta.n; skip++)
                for (int change = 0; change < 2; change++) {
                        cleanup_checkpoint_meta struct checkpoint_meta wrong = {};
                        struct labels again = {};
                        struct error error = {};
                        for (uint32_t i = 0; i < meta.n; i++)
                                if (i != skip)
                                        checkpoint_meta_set(&wrong, meta.items[i].key, "%s", meta.items[i].value);
                        if (change)
                                checkpoint_meta_set(&wrong, meta.items[skip].key, "[\"x\"]");
                        cleanup_checkpoint struct checkpoint *c = written(&wrong);
                        assert_refused(description_labels(c, &again, &error), &error, "labels");
                        labels_free(&again);
                }
        labels_free(&labels);
}

static void test_task(void **state) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        char *train[] = { (char *) "a.tsv" }, *columns[] = { (char *) "title", (char *) "body" };
        const struct spec_data data = { .train = train,
                                        .n_train = 1,
                                        .text = columns,
                                        .n_text = 2,
                                        .label = (char *) "topic",
                                        .format = FORMAT_CSV,
                                        .encoding = ENCODING_LATIN1,
                                        .header = HEADER_FALSE,
                                        .delimiter = (char *) ";",
                                        .empty = EMPTY_SKIP };
        const struct spec_data plain = { .train = train, .n_train = 1, .label = (char *) "label" };
        const struct model_config config = { .classifier = { .n_labels = 9 } };
        struct labels labels = {};
        struct task task = {}, all[SPEC_TASKS_MAX] = {};
        uint32_t n;

        make_labels(&labels, 5);
        assert_int_equal(description_set_labels(&meta, &labels, NULL), 0);
        assert_int_equal(task_set_meta(&meta, 0, "one", 2, 4, &data, NULL), 0);
        assert_int_equal(task_set_meta(&meta, 1, "two", 3, 6, &plain, NULL), 0);
        cleanup_checkpoint struct checkpoint *c = written(&meta);
        assert_int_equal(task_find(c, "one", &config, &task, NULL), 0);
        assert_string_equal(task.name, "one");
        assert_string_equal(task.label, "topic");
        assert_int_equal(task.labels.n, 2);
        assert_string_equal(task.labels.name[1], labels.name[1]);
        assert_int_equal(task.columns.n, 2);
        assert_string_equal(task.columns.name[0], "title");
        assert_string_equal(task.columns.name[1], "body");
        assert_int_equal(task.format, FORMAT_CSV);
        assert_int_equal(task.kind, FORMAT_CSV);
        assert_int_equal(task.encoding, ENCODING_LATIN1);
        assert_int_equal(task.header, HEADER_FALSE);
        assert_int_equal(task.delimiter, ';');
        assert_int_equal(task.empty, EMPTY_SKIP);
        assert_int_equal(task.first, 4);
        assert_true(task.pair);
        task_free(&task);
        assert_int_equal(task_list(c, &config, all, &n, NULL), 0);
        assert_int_equal(n, 2);
        assert_string_equal(all[1].labels.name[2], labels.name[4]);
        assert_string_equal(all[1].columns.name[0], "text");
        assert_int_equal(all[1].kind, FORMAT_TSV);
        assert_int_equal(all[1].delimiter, 0);
        assert_false(all[1].pair);
        for (uint32_t i = 0; i < n; i++)
                task_free(&all[i]);
        labels_free(&labels);
}

static void refuse_tasks(const struct checkpoint_meta *labels, const char *zero, const char *one, const char *text) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        const struct model_config config = { .classifier = { .n_labels = 9 } };
        struct task task = {};
        struct error error = {};

        checkpoint_meta_copy(&meta, labels);
        if (zero)
                checkpoint_meta_set(&meta, "task.0", "%s", zero);
        if (one)
                checkpoint_meta_set(&meta, "task.1", "%s", one);
        cleanup_checkpoint struct checkpoint *c = written(&meta);
        assert_refused(task_find(c, NULL, &config, &task, &error), &error, text);
        task_free(&task);
}

static void test_task_wrong(void **state) {
        static const char good[] =
                "{\"name\": \"\", \"classes\": 5, \"first\": 0, \"text\": [\"text\"], \"label\": \"l\"}";
        static const char *const wrong[] = { "",
                                             "x",
                                             "[]",
                                             "{}",
                                             "{\"text\": []}",
                                             "{\"text\": \"text\"}",
                                             "{\"text\": [3]}",
                                             "{\"text\": [\"t\"], \"classes\": \"5\"}",
                                             "{\"text\": [\"t\"], \"classes\": -1}",
                                             "{\"text\": [\"t\"], \"classes\": 5, \"first\": 1.5}",
                                             "{\"text\": [\"t\"], \"label\": 3}",
                                             "{\"text\": [\"t\"], \"name\": 3}",
                                             "{\"text\": [\"t\"], \"encoding\": \"utf-7\"}",
                                             "{\"text\": [\"t\"], \"format\": 3}",
                                             "{\"text\": [\"t\"], \"kind\": \"xml\"}",
                                             "{\"text\": [\"t\"], \"header\": true}",
                                             "{\"text\": [\"t\"], \"pair\": \"yes\"}",
                                             "{\"text\": [\"t\"], \"empty\": \"keep\"}",
                                             "{\"text\": [\"t\"], \"delimiter\": \"ab\"}",
                                             "{\"text\": [\"t\", \"u\"], \"pair\": 1}",
                                             "{\"text\": [\"t\"], \"pair\": true}",
                                             "{\"text\": [\"t\"], \"text\": [\"u\"], \"classes\": 5}" };
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct labels labels = {};

        make_labels(&labels, 5);
        assert_int_equal(description_set_labels(&meta, &labels, NULL), 0);
        labels_free(&labels);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                refuse_tasks(&meta, wrong[i], NULL, "meta key task.0: not a task");
                refuse_tasks(&meta, good, wrong[i], "meta key task.1: not a task");
        }
        refuse_tasks(&meta, NULL, good, "meta key task.0 is missing");
        refuse_tasks(&meta, "{\"text\": [\"t\"], \"classes\": 5, \"first\": 8}", NULL, "task.0");
}

/* A key that is there twice: in a table without the index that ours has. */
static void test_doubled(void **state) {
        static const char sql[] =
                "CREATE TABLE m AS SELECT * FROM meta; DROP TABLE meta; "
                "CREATE TABLE meta (key TEXT, value TEXT NOT NULL); INSERT INTO meta SELECT * FROM m; "
                "DROP TABLE m; INSERT INTO meta VALUES ('fresh_heads', 'none')";
        cleanup_checkpoint struct checkpoint *again = NULL;
        struct error error = {};
        sqlite3 *db;

        checkpoint_close(with("fresh_heads", "pooler"));
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        assert_refused(checkpoint_open(path, &again, &error), &error, "table meta");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_config),       cmocka_unit_test(test_config_wrong),
                cmocka_unit_test(test_text),         cmocka_unit_test(test_cuts),
                cmocka_unit_test(test_fresh),        cmocka_unit_test(test_labels),
                cmocka_unit_test(test_labels_wrong), cmocka_unit_test(test_task),
                cmocka_unit_test(test_task_wrong),   cmocka_unit_test(test_doubled),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
