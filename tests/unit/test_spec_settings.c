/* Keys set by options: over a file, and as a job of a command alone; and what Submit is sent of a spec. */
#include "tests/unit/spec_fixture.h"

#include "bertd/limits.h"

/* A file, what is set in it, and the message; NULL: it is taken. */
static const struct {
        const char *text;
        struct spec_setting setting;
        const char *message;
} settings[] = {
        { PRETRAIN, { "set", NULL, "train.seed=9" }, NULL },
        { PRETRAIN, { "set", NULL, "optimizer.learning_rate=1e-4" }, NULL },
        { PRETRAIN, { "set", NULL, "train.recompute_activations=yes" }, NULL },
        { PRETRAIN "optimizer: {warmup_ratio: 0.1}\n", { "set", NULL, "optimizer.warmup_steps=4" }, NULL },
        { PRETRAIN, { "set", NULL, "train.sed=9" }, "'train.sed=9': unknown key: did you mean train.seed?" },
        { PRETRAIN, { "set", NULL, "seed=9" }, "'seed=9': unknown key: did you mean train.seed?" },
        { PRETRAIN,
          { "set", NULL, "zork=9" },
          "'zork=9': expected KEY=VALUE with a key of a spec, e.g. optimizer.learning_rate=2e-5" },
        { PRETRAIN, { "set", NULL, "data.train=x" }, "--set data.train: a list; change it in the file" },
        { PRETRAIN, { "array", NULL, "command=x" }, "--array command: a list; change it in the file" },
        { PRETRAIN,
          { "set", NULL, "restart.backoff_sec=1" },
          "--set restart.backoff_sec: a list; change it in the file" },
        { PRETRAIN, { "set", NULL, "train.seed=x" }, "--set train.seed: 'x' is not a whole number" },
        { PRETRAIN,
          { "array", NULL, "train.seed=-1" },
          "--array train.seed: -1 is not between 0 and 9223372036854775807" },
        { PRETRAIN, { "set", NULL, "train.seed=" }, "--set train.seed: null; give a value or leave the key out" },
        { PRETRAIN, { "set", NULL, "run_dir=~" }, "--set run_dir: null; give a value or leave the key out" },
        { PRETRAIN, { "set", NULL, "name=\xff" }, "--set name: not UTF-8" },
        { PRETRAIN, { "set", NULL, "ends_with=last" }, "--set ends_with: not a key of kind pretrain" },
        { PRETRAIN "stages:\n- train: {seed: 1}\n- optimizer: {beta1: 0.5}\n",
          { "set", NULL, "optimizer.beta1=0.25" },
          "job.yaml: stages[1] sets optimizer.beta1 itself; change it there" },
        { PRETRAIN "stages:\n- train: {steps: 1}\n- {}\n",
          { "set", NULL, "optimizer.beta1=2" },
          "--set optimizer.beta1: 2 is not between 0 and 0.999999999" },
};

static void test_settings(void **state) {
        for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
                cleanup_spec struct spec *spec = NULL;
                struct error error = {};

                int r = spec_parse("job.yaml", settings[i].text, strlen(settings[i].text), &settings[i].setting, 1,
                                   &spec, &error);
                assert_string_equal(error.text, settings[i].message ? settings[i].message : "");
                assert_true(r == 0 ? !settings[i].message : error.exit == BERTD_EXIT_CONFIG && !spec);
        }
}

static void test_what_is_set(void **state) {
        const struct spec_setting all[] = { { "set", NULL, "optimizer.warmup_steps=4" },
                                            { "set", NULL, "name=a=b" },
                                            { "set", NULL, "train.seed=7" },
                                            { "set", NULL, "train.seed=8" } };
        static const char text[] = PRETRAIN "optimizer: {warmup_ratio: 0.1}\n";
        cleanup_spec struct spec *s = NULL;

        assert_int_equal(spec_parse("job.yaml", text, strlen(text), all, 4, &s, NULL), 0);
        assert_true(s->optimizer.warmup_steps == 4 && s->optimizer.warmup_ratio == 0 && s->train.steps == 10);
        assert_true(s->train.seed == 8);
        assert_string_equal(s->name, "a=b");
}

static void test_command(void **state) {
        static char train[] = "/opt/x/train.sh", empty[] = "", null[] = "null", lr[] = "--lr", seven[] = "./7";
        char *const command[] = { train, empty, null, lr, NULL }, *const number[] = { seven, NULL };
        const struct spec_setting all[] = { { "ranks", "resources.ranks", "4096" },
                                            { "memory", "resources.memory", "1G" },
                                            { "run-dir", "run_dir", "out" },
                                            { "grace", "restart.grace_sec", "1" } },
                                  name = { "name", "name", "~" };
        cleanup_spec struct spec *s = NULL, *job = NULL, *named = NULL;
        char path[PATH_MAX + 8];

        assert_int_equal(spec_of_command(command, all, 4, &s, NULL), 0);
        assert_true(s->kind == JOB_COMMAND && s->n_command == 4 && !s->command[4]);
        for (int i = 0; i < 4; i++)
                assert_string_equal(s->command[i], command[i]);
        assert_string_equal(s->name, "train.sh");
        assert_true(s->resources.ranks == 4096 && s->resources.memory == 1 << 30 && s->restart.grace_sec == 1);
        assert_true(s->resources.threads == BERTD_THREADS_DEFAULT && s->checkpoint.every_sec == 600);
        (void) snprintf(path, sizeof(path), "%s/out", folder);
        assert_string_equal(s->run_dir, path);
        assert_int_equal(spec_of_command(number, NULL, 0, &job, NULL), 0);
        assert_string_equal(job->name, "job-7");
        assert_int_equal(spec_of_command(number, &name, 1, &named, NULL), 0);
        assert_string_equal(named->name, "~"); /* words of a shell are no YAML */
}

static const struct {
        struct spec_setting setting;
        const char *message;
} wrong_options[] = {
        { { "ranks", "resources.ranks", "5000" }, "--ranks: 5000 is not between 1 and 4096" },
        { { "ranks", "resources.ranks", "two" }, "--ranks: 'two' is not a whole number" },
        { { "ranks", "resources.ranks", "" }, "--ranks: '' is not a whole number" },
        { { "memory", "resources.memory", "5" }, "--memory: 5 is not between 1M and 4096T" },
        { { "cpus", "resources.cpus", "0" }, "--cpus: 0 is not between 0.01 and 65536" },
        { { "ends-with", "ends_with", "never" }, "--ends-with: 'never' is not first or last" },
        { { "name", "name", "a\nb" }, "--name: contains a control character" },
        { { "run-dir", "run_dir", "~alice/y" },
          "--run-dir: ~alice/y: only ~/ is expanded here; write the full path, or ./~alice/y for a file of that name" },
        { { "threads", "resources.threads", "1025" }, "--threads: 1025 is not between 1 and 1024" },
};

static void test_wrong_options(void **state) {
        static char program[] = "true";
        char *const command[] = { program, NULL };

        for (size_t i = 0; i < sizeof(wrong_options) / sizeof(wrong_options[0]); i++) {
                cleanup_spec struct spec *spec = NULL;
                struct error error = {};

                assert_true(spec_of_command(command, &wrong_options[i].setting, 1, &spec, &error) < 0);
                assert_string_equal(error.text, wrong_options[i].message);
        }
}

/* ---- Submit ---- */

static int add_sent(void *userdata, const char *key, char type, const void *value) {
        char *text = userdata, *end = text + strlen(text);
        size_t room = 1024 - strlen(text);

        if (type == 's')
                (void) snprintf(end, room, "%s=%s ", key, (const char *) value);
        else if (type == 'a')
                (void) snprintf(end, room, "%s=%s,... ", key, *(char *const *) value);
        else if (type == 'd')
                (void) snprintf(end, room, "%s=%g ", key, *(const double *) value);
        else if (type == 't')
                (void) snprintf(end, room, "%s=%llu ", key, (unsigned long long) *(const uint64_t *) value);
        else
                (void) snprintf(end, room, "%s=%d ", key, *(const int *) value);
        return 0;
}

static int stop_at_once(void *userdata, const char *key, char type, const void *value) { return -EPIPE; }

static void check_sent(const char *yaml, const char *expected) {
        cleanup_spec struct spec *s = load(yaml);
        char text[1024] = "";

        assert_int_equal(spec_each_sent(s, add_sent, text), 0);
        assert_string_equal(text, expected);
        assert_int_equal(spec_each_sent(s, stop_at_once, NULL), -EPIPE);
}

/* An older bertd refuses keys that it does not know: those are sent only if they say something. */
static void test_sent(void **state) {
        check_sent(COMMAND,
                   "name=job kind=command priority=0 command=sleep,... ranks=1 gpus=0 threads=1 max_without_progress=5 "
                   "backoff_min_sec=5 backoff_max_sec=600 grace_sec=120 on_nan=stop keep=3 keep_every=0 ");
        check_sent(COMMAND "ends_with: last\non_exit: /bin/true\nrun_dir: /r\nresources: {memory: 1M, cpus: 0.5}\n"
                           "restart: {hang_sec: 0, start_sec: 9}\nlog: {max_size: 1M, keep: 3}\n",
                   "name=job kind=command priority=0 run_dir=/r on_exit=/bin/true ends_with=last command=sleep,... "
                   "ranks=1 gpus=0 threads=1 memory=1048576 cpus=0.5 max_without_progress=5 backoff_min_sec=5 "
                   "backoff_max_sec=600 grace_sec=120 hang_sec=0 start_sec=9 on_nan=stop keep=3 keep_every=0 "
                   "log_max_size=1048576 log_keep=3 ");
        check_sent(PRETRAIN "log: {max_size: 64M, keep: 2}\n",
                   "name=job kind=pretrain priority=0 ranks=1 gpus=0 threads=1 max_without_progress=5 "
                   "backoff_min_sec=5 backoff_max_sec=600 grace_sec=120 on_nan=stop keep=3 keep_every=0 ");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_settings), cmocka_unit_test(test_what_is_set),
                cmocka_unit_test(test_command),  cmocka_unit_test(test_wrong_options),
                cmocka_unit_test(test_sent),
        };
        char *top = make_folder();

        if (chdir(top) < 0 || !getcwd(folder, sizeof(folder)))
                return 1;
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        remove_folder(top);
        return r;
}
