/* The normalised text of a spec reads back as the same spec. */
#include "tests/unit/spec_fixture.h"

/* The normalised text is a fixed point. */
static void check_round_trip(const char *text) {
        struct error error = {};
        cleanup_spec struct spec *one = load(text), *two = NULL;
        cleanup_free char *first = NULL, *second = NULL;

        if (spec_format(one, &first, &error) < 0)
                fail_msg("%s", error.text);
        write_spec("normal.yaml", first, strlen(first));
        if (spec_load("normal.yaml", &two, &error) < 0)
                fail_msg("%s\n%s", error.text, first);
        assert_int_equal(spec_format(two, &second, &error), 0);
        assert_string_equal(first, second);
        assert_string_equal(one->name, two->name);
        assert_int_equal(one->n_command, two->n_command);
        for (uint32_t i = 0; i < one->n_command; i++)
                assert_string_equal(one->command[i], two->command[i]);
        two->resources.ranks_given = one->resources.ranks_given; /* a normalised text gives every key */
        assert_memory_equal(&one->resources, &two->resources, sizeof(one->resources));
        assert_memory_equal(&one->checkpoint, &two->checkpoint, sizeof(one->checkpoint));
        assert_memory_equal(&one->optimizer, &two->optimizer, sizeof(one->optimizer));
        assert_memory_equal(&one->train, &two->train, sizeof(one->train));
}

/* The normalised text, which the caller frees, and the spec that it gives. */
static char *write_and_load(const struct spec *spec, struct spec **ret) {
        struct error error = {};
        char *normal = NULL;

        assert_int_equal(spec_format(spec, &normal, &error), 0);
        write_spec("normal.yaml", normal, strlen(normal));
        assert_int_equal(spec_load("normal.yaml", ret, &error), 0);
        return normal;
}

/* What only one stage has stays its own; what all have is written once. */
static void test_round_trip_of_stages(void **state) {
        static const char text[] =
                "kind: pretrain\nmodel: {config: c, vocab: v}\ntrain: {steps: 3}\n"
                "stages:\n- data: {train: [x, y], train_weights: [1, 0.25], validation: [y]}\n- data: {train: [x]}\n"
                "- {data: {train: [z], validation: [w]}, optimizer: {beta1: 0.5}}\n";
        cleanup_spec struct spec *one = load(text), *two = NULL;
        cleanup_free char *normal = write_and_load(one, &two);

        assert_int_equal(two->n_stages, 3);
        for (uint32_t i = 0; i < 3; i++) {
                const struct spec *a = one->stages[i], *b = two->stages[i];
                assert_int_equal(a->data.n_validation, i != 1);
                assert_int_equal(b->data.n_validation, a->data.n_validation);
                assert_string_equal(a->data.train[0], b->data.train[0]);
                assert_true(i == 0 ? a->data.weights[1] == 0.25 && b->data.weights[1] == 0.25
                                   : !a->data.weights && !b->data.weights);
                assert_true(a->optimizer.beta1 == b->optimizer.beta1);
        }
        assert_true(strstr(strstr(normal, "stages:"), "beta1") && !strstr(strstr(normal, "stages:"), "beta2"));
        check_round_trip(text);
}

/* What a stage or a task says to be empty is so, and is not the file's. */
static void test_empty_lists(void **state) {
        static const char text[] =
                "kind: finetune\nmodel: {init: m}\ntrain: {steps: 3}\n"
                "data: {train: [x.csv], validation: [v.csv], test: [t.csv], text: [a, b], labels: [c, d]}\n"
                "stages:\n- data: {validation: [], labels: []}\n- data: {test: [], text: []}\n"
                "- tasks:\n  - {task: t, validation: [], test: []}\n  - {task: u, validation: [], text: []}\n"
                "- {data: {objective: mlm, train: [x], train_weights: [1]}}\n"
                "- {data: {}, train: {}}\n";
        cleanup_spec struct spec *one = load(text), *two = NULL;
        free(write_and_load(one, &two));
        const struct spec *both[] = { one, two };

        for (size_t i = 0; i < 2; i++) {
                const struct spec_data *a = &both[i]->stages[0]->data, *b = &both[i]->stages[1]->data,
                                       *t = spec_task(both[i]->stages[2], 0), *u = spec_task(both[i]->stages[2], 1),
                                       *e = &both[i]->stages[4]->data;
                assert_true(a->n_validation == 0 && a->n_labels == 0 && a->n_test == 1 && a->n_text == 2);
                assert_true(b->n_validation == 1 && b->n_labels == 2 && b->n_test == 0 && b->n_text == 0);
                assert_true(t->n_validation == 0 && t->n_test == 0 && t->n_text == 2);
                assert_true(u->n_validation == 0 && u->n_test == 1 && u->n_text == 0);
                assert_true(e->n_validation == 1 && e->n_labels == 2 && e->n_test == 1 && e->n_text == 2);
        }
        check_round_trip(text);
        static const char numbers[] = "kind: finetune\nmodel: {init: m}\ntrain: {steps: 3}\n"
                                      "data: {train: [x.csv], labels: number}\n";
        cleanup_spec struct spec *n = load(numbers);
        assert_true(n->data.numbers && n->data.n_labels == 0);
        check_round_trip(numbers);
        static const char taken_back[] = "kind: finetune\nmodel: {init: m}\ntrain: {steps: 3}\n"
                                         "data: {train: [x.csv], labels: [number]}\n"
                                         "stages:\n- {data: {objective: mlm, labels: number}}\n- data: {}\n"
                                         "- {data: {objective: mlm, labels: []}}\n";
        cleanup_spec struct spec *three = load(taken_back), *again = NULL;
        free(write_and_load(three, &again));
        for (uint32_t s = 0; s < 3; s++) {
                assert_true(three->stages[s]->data.numbers == (s == 0) && again->stages[s]->data.numbers == (s == 0));
                assert_int_equal(again->stages[s]->data.n_labels, s == 1);
        }
        static const char weighed[] = "kind: pretrain\nmodel: {config: c, vocab: v}\ntrain: {steps: 3}\n"
                                      "data: {train: [x, y], train_weights: [1, 2]}\n"
                                      "stages:\n- {}\n- data: {train: [z], train_weights: []}\n";
        cleanup_spec struct spec *plain = load(weighed);
        assert_true(plain->stages[0]->data.weights && !plain->stages[1]->data.weights);
        check_round_trip(weighed);
}

/* Of two keys that say the same thing a stage's takes the place of the file's; what does nothing in a stage is not
 * inherited. */
static void test_keys_that_give_way(void **state) {
        static const char text[] =
                "kind: finetune\nmodel: {init: m}\ntrain: {steps: 30}\n"
                "data: {train: [x.csv], validation: [v.csv]}\noptimizer: {warmup_ratio: 0.5, schedule: poly, power: "
                "2}\n"
                "stages:\n- {data: {validation: []}, optimizer: {warmup_steps: 6, schedule: linear}}\n"
                "- data: {split: 0.25}\n- data: {validation: [w.csv]}\n- data: {split: 0}\n"
                "- {optimizer: {warmup_steps: 0}}\n";
        cleanup_spec struct spec *one = load(text), *two = NULL;
        free(write_and_load(one, &two));
        const struct spec *both[] = { one, two };

        for (size_t i = 0; i < 2; i++) {
                struct spec *const *s = both[i]->stages;
                assert_true(s[0]->optimizer.warmup_steps == 6 && s[0]->optimizer.warmup_ratio == 0);
                assert_true(s[0]->optimizer.power == 0.5);
                assert_true(s[1]->data.n_validation == 0 && s[1]->data.split == 0.25);
                assert_true(s[2]->data.n_validation == 1 && s[2]->data.split == 0 && s[2]->optimizer.power == 2);
                assert_true(s[3]->data.n_validation == 1 && s[4]->optimizer.warmup_ratio == 0.5);
        }
        check_round_trip(text);
        static const char other[] = "kind: finetune\nmodel: {init: m}\ntrain: {steps: 30}\n"
                                    "data: {train: [x.csv], split: 0.5}\noptimizer: {warmup_steps: 5}\n"
                                    "stages:\n- {}\n- {data: {validation: [v.csv]}, optimizer: {warmup_ratio: 0.1}}\n";
        cleanup_spec struct spec *turned = load(other);
        assert_true(turned->stages[0]->data.split == 0.5 && turned->stages[1]->data.split == 0);
        assert_true(turned->stages[1]->optimizer.warmup_steps == 0 && turned->stages[1]->optimizer.warmup_ratio == 0.1);
        check_round_trip(other);
}

/* What only some stages say is not another's, whatever it is. */
static void test_absent_in_a_stage(void **state) {
        static const char text[] =
                "kind: finetune\nmodel: {init: m}\ndata: {train: [x.csv]}\nstages:\n"
                "- {data: {sequence_length: 64, task: a}, train: {steps: 3}}\n- train: {epochs: 2}\n";
        cleanup_spec struct spec *one = load(text), *two = NULL;
        free(write_and_load(one, &two));
        const struct spec *both[] = { one, two };

        for (size_t i = 0; i < 2; i++) {
                const struct spec *a = both[i]->stages[0], *b = both[i]->stages[1];
                assert_true(a->data.sequence_length == 64 && a->train.steps == 3 && a->train.epochs <= 0);
                assert_true(b->data.sequence_length == 0 && b->train.steps == 0 && b->train.epochs == 2);
                assert_true(a->data.task && !b->data.task);
        }
        check_round_trip(text);
}

/* Each task has its own files and columns, and nothing of another's. */
static void test_round_trip_of_tasks(void **state) {
        static const char text[] = "kind: finetune\nmodel: {init: m}\ntrain: {epochs: 2}\nstages:\n"
                                   "- tasks:\n  - {task: a, train: [a.csv], validation: [w.csv], text: [t, u]}\n"
                                   "  - {task: b, train: [b.tsv], validation: [v.tsv], label: \"1\"}\n"
                                   "- data: {task: b, train: [b.tsv]}\n- data: {train: [c.tsv]}\n";
        cleanup_spec struct spec *one = load(text), *two = NULL;
        free(write_and_load(one, &two));
        const struct spec *both[] = { one, two };
        for (size_t i = 0; i < 2; i++) {
                const struct spec *s = both[i];
                assert_int_equal(spec_n_tasks(s->stages[0]), 2);
                assert_int_equal(spec_n_tasks(s->stages[1]), 1);
                const struct spec_data *a = spec_task(s->stages[0], 0), *b = spec_task(s->stages[0], 1);
                assert_string_equal(a->task, "a");
                assert_int_equal(a->n_text, 2);
                assert_string_equal(a->label, "label");
                assert_string_equal(b->task, "b");
                assert_true(b->n_text == 0 && b->n_validation == 1 && strstr(b->validation[0], "v.tsv"));
                assert_int_equal(s->stages[1]->data.n_validation, 0);
                assert_string_equal(b->label, "1");
                assert_string_equal(spec_task(s->stages[1], 0)->task, "b");
                assert_null(s->stages[2]->data.task);
        }
        check_round_trip(text);
}

static void test_round_trip(void **state) {
        check_round_trip(STAGED "- {name: b, moments: reset, train: {steps: 9}, data: {objective: mlm}}\n");
        check_round_trip(PRETRAIN);
        check_round_trip(
                PRETRAIN
                "name: stage one\npriority: -7\nrun_dir: r\ndevice: cuda\nresources: {ranks: 8, gpus: 8, threads: 4}\n"
                "optimizer: {learning_rate: 6.0e-3, warmup_ratio: 0.28430000000000001, epsilon: 1e-12, beta2: 0.98,"
                " weight_decay: 0.3333333333333333, schedule: poly, clip_by: tensor, name: lamb}\n"
                "checkpoint: {every_steps: 500, keep_every: 10000}\nrestart: {backoff_sec: [1, 2]}\n");
        check_round_trip(
                "kind: command\nname: \"null\"\ncommand: [sh, -c, \"echo hi; sleep 1\", \"\", \" x \", \"~\", \"null\","
                " \"a\\tb\\n\", \"# c\", \"- d\", \"k: v\", \"\\u0001\\u2028\\ufeff\xc3\xa9\", \"it's \\\"q\\\"\","
                " \"true\", \"0x10\", \"%d\", \"&a\", \"*a\", \"!t\", \"|\", \">\", \"{\", \"a, b\", \"\\r\\n\","
                " \"trailing \\n\\n\", \"\\n leading\", \"\\u0085\", \"\\U0001F600\","
                " \"long long long long long long long long long long long long long long long  long long long long "
                "long\"]\n");
        check_round_trip(COMMAND "resources:\nrestart:\n");
        check_round_trip(COMMAND "log: {max_size: 512K, keep: 16}\n");
        check_round_trip(COMMAND "resources: {memory: 1T, cpus: 0.5}\nrestart: {hang_sec: 9, on_nan: rollback}\n");
        check_round_trip(COMMAND "ends_with: last\n");
        check_round_trip(TUNE "data: {train: [x.csv], delimiter: \"\\t\", empty: skip}\n");
        check_round_trip(TUNE "data: {train: [x.csv], delimiter: \"|\"}\n");
}

static void test_format_refuses(void **state) {
        struct error error = {};
        cleanup_spec struct spec *s = load(COMMAND);
        char *text = NULL;

        free(s->command[1]);
        s->command[1] = strdup("\xff");
        assert_true(spec_format(s, &text, &error) < 0);
        assert_string_equal(error.text, "command: entry 2 is not UTF-8");
        assert_null(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_empty_lists),         cmocka_unit_test(test_keys_that_give_way),
                cmocka_unit_test(test_round_trip),          cmocka_unit_test(test_round_trip_of_stages),
                cmocka_unit_test(test_round_trip_of_tasks), cmocka_unit_test(test_absent_in_a_stage),
                cmocka_unit_test(test_format_refuses),
        };
        char *top = make_folder();

        if (chdir(top) < 0 || !getcwd(folder, sizeof(folder)))
                return 1;
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        remove_folder(top);
        return r;
}
