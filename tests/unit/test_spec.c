/* Job specs: what is read, and what each mistake is told. */
#include "tests/unit/spec_fixture.h"

#define KEYS "name, kind, priority, ..."

struct bad {
        const char *text, *message;
};

static const struct bad bad[] = {
        { "", "job.yaml: empty; expected a job spec" },
        { "# nothing\n", "job.yaml: empty; expected a job spec" },
        { "hello", "job.yaml:1: expected a mapping, not one value" },
        { "[a]", "job.yaml:1: expected a mapping, not a list" },
        { "kind: command\n  command: [a]\n", "job.yaml:2: mapping values are not allowed in this context" },
        { "kind: command\ncommand: [a\n", "job.yaml:3: did not find expected ',' or ']'" },
        { "kind: command\n\tcommand: [a]\n", "job.yaml:2: found a tab character that violates indentation" },
        { "kind: command\ncommand: [a\x01]\n", "job.yaml:2: control characters are not allowed" },
        { "kind: command\nname: \xff\n", "job.yaml:2: invalid leading UTF-8 octet" },
        { "kind: command\nname: \"a\\0b\"\n", "job.yaml:2: a NUL character" },
        { "kind: command\nname: \"a\\x1bb\"\ncommand: [a]", "job.yaml:2: name: contains a control character" },
        { "? [a]\n: b\n", "job.yaml:1: expected a key" },
        { "kind: command\n---\nkind: command\n", "job.yaml:2: a second YAML document; expected one" },
        { "name: &x a\ncommand: [*x]\n", "job.yaml:1: YAML anchors are not accepted here" },
        { "kind: command\ncommand: [*x]\n", "job.yaml:2: YAML aliases are not accepted here" },
        { "command: &a [x,x]\nname: [*a,*a,*a]\n", "job.yaml:1: YAML anchors are not accepted here" },
        { "data: &d {train: [x]}\n", "job.yaml:1: YAML anchors are not accepted here" },
        { "kind: command\nresources:\n  <<: {ranks: 2}\n", "job.yaml:3: YAML merge keys are not accepted here" },
        { COMMAND "priority: !!int 4\n", "job.yaml:3: YAML tags are not accepted here" },
        { "kind: command\ncommand: !env [a]\n", "job.yaml:2: YAML tags are not accepted here" },
        { "--- !job\nkind: command\n", "job.yaml:1: YAML tags are not accepted here" },
        { "*x : 1\n", "job.yaml:1: YAML aliases are not accepted here" },
        { "--- ~\n", "job.yaml: empty; expected a job spec" },
        { "{}\n", "job.yaml: kind: missing; expected pretrain, finetune or command" },
        { "command: [[[[[[[[[[a]]]]]]]]]]\n", "job.yaml:1: command[0]: expected one value, not a list" },
        { COMMAND "foo: 1\n", "job.yaml:3: unknown key 'foo'; expected " KEYS },
        { COMMAND "resources:\n  threads: 1\n  rank: 2\n",
          "job.yaml:5: unknown key 'rank' in resources: did you mean resources.ranks?; expected ranks, gpus, threads, "
          "memory, cpus, hosts, use, network, environment, unmanaged, host_timeout_sec" },
        { COMMAND "resources: {hosts: [h1, h2], use: 3}\n", "job.yaml:3: resources.use: 3, but resources.hosts has 2" },
        { COMMAND "resources: {hosts: [h1, 'h;2']}\n", "job.yaml:3: resources.hosts: 'h;2': not a host name..." },
        { COMMAND "resources: {hosts: [h1, H1]}\n", "job.yaml:3: resources.hosts: 'H1': given twice" },
        { COMMAND "resources: {hosts: []}\n", "job.yaml:3: resources.hosts: too few entries" },
        { COMMAND "resources:\n  hosts: 'gpu[1-65]'\n", "job.yaml:4: resources.hosts: 'gpu65': more than 64 hosts" },
        { COMMAND "resources: {hosts: {file: none}}\n", "job.yaml:3: resources.hosts: /..." },
        { COMMAND "resources: {hosts: {files: x}}\n",
          "job.yaml:3: resources.hosts: expected a list of names, or {file: FILE}" },
        { COMMAND "resources: {hosts: {file: x, use: 3}}\n",
          "job.yaml:3: resources.hosts: expected {file: FILE} alone" },
        { COMMAND "resources: {use: 1}\n",
          "job.yaml:3: resources.use: has no effect without resources.hosts; set that or leave this out" },
        { COMMAND "resources: {hosts: [h1], network: 10.0.0.0/33}\n",
          "job.yaml:3: resources.network: '10.0.0.0/33': expected an interface, e.g. eth1, or a network, e.g. ..." },
        { COMMAND "resources: {hosts: [h1], network: 10.0.0.0/4294967320}\n",
          "job.yaml:3: resources.network: '10.0.0.0/4294967320': expected an interface, e.g. eth1, or a network, e.g. "
          "..." },
        { COMMAND "resources: {hosts: [h1], environment: [A, B-C]}\n",
          "job.yaml:3: resources.environment: 'B-C' is not the name of a variable" },
        { COMMAND "resources: {hosts: [h1], environment: [SSH_AUTH_SOCK]}\n",
          "job.yaml:3: resources.environment: SSH_AUTH_SOCK belongs to one host; leave it out" },
        { COMMAND "resources: {hosts: [h1], host_timeout_sec: 7}\n",
          "job.yaml:3: resources.host_timeout_sec: 7 is not between 8 and 3600" },
        { COMMAND "restart: {host_cooldown_sec: [20, 10]}\n",
          "job.yaml:3: restart.host_cooldown_sec: the first, 20, is greater than the second, 10" },
        { COMMAND "checkpoint: {copy_to: /x}\n", "job.yaml:3: checkpoint.copy_to: not a key of kind command" },
        { PRETRAIN "checkpoint: {copy_to: 'h2:x'}\n",
          "job.yaml:5: checkpoint.copy_to: 'h2:x': expected DIR, or HOST:DIR with an absolute DIR" },
        { "name: a\nkind: command\nname: b\n", "job.yaml:3: name: given twice, first on line 1" },
        { COMMAND "resources:\n  ranks: 1\n  ranks: 2\n", "job.yaml:5: resources.ranks: given twice, first on line 4" },
        { COMMAND "resources: {ranks: 1}\nresources: {gpus: 1}\n",
          "job.yaml:4: resources: given twice, first on line 3" },
        { COMMAND "resources.ranks: 2\n", "job.yaml:3: unknown key 'resources.ranks'; expected " KEYS },
        { COMMAND "resources: 3\n", "job.yaml:3: resources: expected a mapping, not one value" },
        { COMMAND "resources: {ranks: [1]}\n", "job.yaml:3: resources.ranks: expected one value, not a list" },
        { COMMAND "name: {a: b}\n", "job.yaml:3: name: expected one value, not a mapping" },
        { "kind: command\ncommand: sleep 3\n", "job.yaml:2: command: expected a list, not one value" },
        { "kind: command\ncommand: []\n", "job.yaml:2: command: too few entries" },
        { "kind: command\n", "job.yaml: command: missing; expected a list" },
        { "kind: command\ncommand: [\"\"]\n", "job.yaml:2: command: empty" },
        { "name: x\n", "job.yaml: kind: missing; expected pretrain, finetune or command" },
        { "kind: trian\n", "job.yaml:1: kind: 'trian' is not pretrain, finetune or command" },
        { "kind: 0\n", "job.yaml:1: kind: '0' is not pretrain, finetune or command" },
        { COMMAND "name: ''\n", "job.yaml:3: name: empty" },
        { COMMAND "run_dir:\n", "job.yaml:3: run_dir: null; give a value or leave the key out" },
        { COMMAND "run_dir: ''\n", "job.yaml:3: run_dir: empty" },
        { COMMAND "name: null\n", "job.yaml:3: name: null; give a value or leave the key out" },
        { COMMAND "run_dir: ~\n", "job.yaml:3: run_dir: null; give a value or leave the key out" },
        { COMMAND "priority: 1001\n", "job.yaml:3: priority: 1001 is not between -1000 and 1000" },
        { COMMAND "resources: {ranks: 0}\n", "job.yaml:3: resources.ranks: 0 is not between 1 and 4096" },
        { COMMAND "resources: {ranks: -1}\n", "job.yaml:3: resources.ranks: -1 is not between 1 and 4096" },
        { COMMAND "resources: {ranks: 1000000000}\n",
          "job.yaml:3: resources.ranks: 1000000000 is not between 1 and 4096" },
        { COMMAND "resources: {ranks: 99999999999999999999999}\n",
          "job.yaml:3: resources.ranks: 99999999999999999999999 is not between 1 and 4096" },
        { COMMAND "resources: {ranks: two}\n", "job.yaml:3: resources.ranks: 'two' is not a whole number" },
        { COMMAND "resources: {ranks: 5x}\n", "job.yaml:3: resources.ranks: '5x' is not a whole number" },
        { COMMAND "resources: {ranks: 1e3}\n", "job.yaml:3: resources.ranks: '1e3' is not a whole number" },
        { COMMAND "resources: {ranks: 2.0}\n", "job.yaml:3: resources.ranks: '2.0' is not a whole number" },
        { COMMAND "resources:\n  ranks:\n", "job.yaml:4: resources.ranks: null; give a value or leave the key out" },
        { COMMAND "resources: {ranks: \"\"}\n", "job.yaml:3: resources.ranks: '' is not a whole number" },
        { COMMAND "resources: {ranks: 0o17}\n", "job.yaml:3: resources.ranks: '0o17' is not a whole number" },
        { COMMAND "resources: {ranks: 0x10}\n", "job.yaml:3: resources.ranks: '0x10' is not a whole number" },
        { COMMAND "resources: {ranks: 1_000}\n", "job.yaml:3: resources.ranks: '1_000' is not a whole number" },
        { COMMAND "resources: {ranks: +4}\n", "job.yaml:3: resources.ranks: '+4' is not a whole number" },
        { COMMAND "resources: {ranks: ' 4'}\n", "job.yaml:3: resources.ranks: ' 4' is not a whole number" },
        { COMMAND "resources: {memory: 10GB}\n",
          "job.yaml:3: resources.memory: '10GB' is not a whole number of bytes, or one with K, M, G or T" },
        { COMMAND "resources: {memory: 16Q}\n",
          "job.yaml:3: resources.memory: '16Q' is not a whole number of bytes, or one with K, M, G or T" },
        { COMMAND "resources: {memory: -1}\n",
          "job.yaml:3: resources.memory: '-1' is not a whole number of bytes, or one with K, M, G or T" },
        { COMMAND "resources: {memory: G}\n",
          "job.yaml:3: resources.memory: 'G' is not a whole number of bytes, or one with K, M, G or T" },
        { COMMAND "resources: {memory: 5}\n", "job.yaml:3: resources.memory: 5 is not between 1M and 4096T" },
        { COMMAND "resources: {memory: 99999999999999T}\n",
          "job.yaml:3: resources.memory: 99999999999999T is not between 1M and 4096T" },
        { COMMAND "resources: {cpus: 0}\n", "job.yaml:3: resources.cpus: 0 is not between 0.01 and 65536" },
        { COMMAND "resources: {cpus: many}\n", "job.yaml:3: resources.cpus: 'many' is not a number" },
        { COMMAND "restart: {hang_sec: -1}\n", "job.yaml:3: restart.hang_sec: -1 is not between 0 and 31536000" },
        { COMMAND "restart: {start_sec: soon}\n", "job.yaml:3: restart.start_sec: 'soon' is not a whole number" },
        { COMMAND "ends_with: never\n", "job.yaml:3: ends_with: 'never' is not first or last" },
        { COMMAND "restart: {on_nan: ignore}\n", "job.yaml:3: restart.on_nan: 'ignore' is not stop or rollback" },
        { COMMAND "log: {max_size: 1K}\n", "job.yaml:3: log.max_size: 1K is not between 64K and 1T" },
        { COMMAND "log: {max_size: lots}\n",
          "job.yaml:3: log.max_size: 'lots' is not a whole number of bytes, or one with K, M, G or T" },
        { COMMAND "log: {keep: 0}\n", "job.yaml:3: log.keep: 0 is not between 1 and 16" },
        { COMMAND "log: {size: 1M}\n", "job.yaml:3: unknown key 'size' in log; expected max_size, keep" },
        { COMMAND "log: 64M\n", "job.yaml:3: log: expected a mapping, not one value" },
        { COMMAND "restart: {grace_sec: 0}\n", "job.yaml:3: restart.grace_sec: 0 is not between 1 and 86400" },
        { COMMAND "restart: {backoff_sec: [5]}\n", "job.yaml:3: restart.backoff_sec: too few entries" },
        { COMMAND "restart: {backoff_sec: [1, 2, 3]}\n", "job.yaml:3: restart.backoff_sec: more than 2 entries" },
        { COMMAND "restart: {backoff_sec: [9, 2]}\n",
          "job.yaml:3: restart.backoff_sec: the first, 9, is greater than the second, 2" },
        { COMMAND "restart: {backoff_sec: [a, 2]}\n", "job.yaml:3: restart.backoff_sec: 'a' is not a whole number" },
        { COMMAND "checkpoint: {keep: 0}\n", "job.yaml:3: checkpoint.keep: 0 is not between 1 and 1000000" },
        { COMMAND "train: {steps: 3}\n", "job.yaml:3: train.steps: not a key of kind command" },
        { COMMAND "data: {train: [a]}\n", "job.yaml:3: data.train: not a key of kind command" },
        { PRETRAIN "command: [a]\n", "job.yaml:5: command: not a key of kind pretrain" },
        { "kind: pretrain\nmodel: {vocab: v}\ndata: {train: [x]}\ntrain: {steps: 1}\n",
          "job.yaml: model.config: missing; expected a file" },
        { "kind: pretrain\nmodel: {config: c}\ndata: {train: [x]}\ntrain: {steps: 1}\n",
          "job.yaml: model.vocab: missing; expected a file" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ntrain: {steps: 1}\n",
          "job.yaml: data.train: missing; expected a list" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\n",
          "job.yaml: train.steps: missing; expected a whole number" },
        { "kind: finetune\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\n",
          "job.yaml: train.steps: missing; expected a whole number, or train.epochs" },
        { "kind: finetune\nmodel: {vocab: v}\ndata: {train: [x]}\ntrain: {epochs: 2}\n",
          "job.yaml: model.config: missing; expected a file" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], objective: classify}\ntrain: {steps: 1}\n",
          "job.yaml:3: data.objective: classify requires kind: finetune" },
        { TUNE "data: {train: [x.csv], delimiter: '\"'}\n",
          "job.yaml:4: data.delimiter: '\"': expected tab or a character such as ; or |" },
        { TUNE "data: {train: [x.csv], delimiter: ', '}\n",
          "job.yaml:4: data.delimiter: ', ': expected tab or a character such as ; or |" },
        { TUNE "data: {train: [x.csv], format: tsv, delimiter: ;}\n",
          "job.yaml:4: data.delimiter: ';': only applies to data.format: csv" },
        { TUNE "data: {train: [x.csv], empty: drop}\n", "job.yaml:4: data.empty: 'drop' is not refuse or skip" },
        { TUNE "data: {train: [x.csv], text: [a, b], truncation: segments}\n",
          "job.yaml:4: data.truncation: segments: not for a pair of texts (data.text); use head or tail, or data.join: "
          "true" },
        { TUNE "data: {train: [x.csv], text: [a, b, c], join: false}\n",
          "job.yaml:4: data.join: false: a pair has two columns, but data.text has 3" },
        { TUNE "data: {train: [x.csv], join: false}\n",
          "job.yaml:4: data.join: false: a pair has two columns, but data.text has 1" },
        { TUNE "data: {train: [x.csv], labels: numbers}\n",
          "job.yaml:4: data.labels: 'numbers' is not number; expected that or a list" },
        { TUNE "data: {train: [x.csv], labels: number, per_class: 5}\n",
          "job.yaml:4: data.per_class: 5: has no effect with data.labels: number; use data.fraction or leave this "
          "out" },
        { TUNE "stages:\n- tasks:\n  - {task: a, train: [x.csv], labels: number}\n  - {task: b, train: [y.csv]}\n",
          "job.yaml:6: stages[0].tasks[0].labels: number: not for one of several tasks" },
        { TUNE "data: {train: [x.csv]}\nstages:\n- data: {labels: number}\n- {}\n",
          "job.yaml: stages[1].data.labels: stages 0 and 1 are two tasks, of which one has data.labels: number; run "
          "them separately" },
        { TUNE "data: {train: [x.csv], labels: number}\nstages:\n- data: {objective: mlm}\n- {}\n- data: {task: b}\n",
          "job.yaml: stages[2].data.labels: stages 1 and 2 are two tasks, of which one has data.labels: number; run "
          "them separately" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], label: y}\ntrain: {steps: 1}\n",
          "job.yaml:3: data.label: not a key of kind pretrain" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [1]}\ntrain: {steps: "
          "1}\n",
          "job.yaml:3: data.train_weights: 1 given, but data.train has 2" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [1, 2, 3]}\ntrain: "
          "{steps: 1}\n",
          "job.yaml:3: data.train_weights: 3 given, but data.train has 2" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [1, 0]}\ntrain: {steps: "
          "1}\n",
          "job.yaml:3: data.train_weights: 0 is not between 1e-09 and 1e+09; leave a corpus without weight out "
          "of data.train" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [-1, 2]}\ntrain: {steps: "
          "1}\n",
          "job.yaml:3: data.train_weights: -1 is not between 1e-09 and 1e+09; leave a corpus without weight out "
          "of data.train" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [1, half]}\ntrain: "
          "{steps: 1}\n",
          "job.yaml:3: data.train_weights: 'half' is not a number" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: [1, nan]}\ntrain: "
          "{steps: 1}\n",
          "job.yaml:3: data.train_weights: 'nan' is not a number" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x, y], train_weights: 0.5}\ntrain: {steps: "
          "1}\n",
          "job.yaml:3: data.train_weights: expected a list, not one value" },
        { PRETRAIN "optimizer: {warmup_steps: 11}\n",
          "job.yaml:5: optimizer.warmup_steps: 11 is more than train.steps, 10; give fewer, or more steps" },
        { PRETRAIN "optimizer: {warmup_ratio: 1e-1,\n warmup_steps: 5}\n",
          "job.yaml:6: optimizer.warmup_steps: conflicts with optimizer.warmup_ratio; set only one" },
        { PRETRAIN "optimizer: {power: 2}\n", "job.yaml:5: optimizer.power: 2: has no effect without "
                                              "optimizer.schedule: poly; set that or leave this out" },
        { "kind: finetune\nmodel: {init: m}\ndata: {train: [x.csv], validation: [y.csv], split: 5e-2}\n"
          "train: {epochs: 9}\n",
          "job.yaml:3: data.split: 5e-2: conflicts with data.validation; set only one" },
        { PRETRAIN "checkpoint: {keep_every: 1000}\n",
          "job.yaml:5: checkpoint.keep_every: 1000, but checkpoint.every_steps is 0, so none is written at such steps; "
          "give every_steps, or leave it out" },
        { PRETRAIN "checkpoint: {keep_every: 1000, every_steps: 300}\n",
          "job.yaml:5: checkpoint.keep_every: 1000 is not a multiple of checkpoint.every_steps, 300; give 1200" },
        { PRETRAIN "optimizer: {learning_rate: fast}\n",
          "job.yaml:5: optimizer.learning_rate: 'fast' is not a number" },
        { PRETRAIN "optimizer: {learning_rate: nan}\n", "job.yaml:5: optimizer.learning_rate: 'nan' is not a number" },
        { PRETRAIN "optimizer: {learning_rate: 1e999}\n",
          "job.yaml:5: optimizer.learning_rate: '1e999' is not a number" },
        { PRETRAIN "optimizer: {learning_rate: -1}\n",
          "job.yaml:5: optimizer.learning_rate: -1 is not between 0 and 1000" },
        { PRETRAIN "optimizer: {name: lion}\n",
          "job.yaml:5: optimizer.name: 'lion' is not adamw, bertadam, lamb or lamb_google" },
        { PRETRAIN "optimizer: {decay_from: zero}\n",
          "job.yaml:5: optimizer.decay_from: 'zero' is not start or warmup" },
        { PRETRAIN "optimizer: {clip_by: layer}\n", "job.yaml:5: optimizer.clip_by: 'layer' is not global or tensor" },
        { PRETRAIN "optimizer: {beta1: 1}\n", "job.yaml:5: optimizer.beta1: 1 is not between 0 and 0.999999999" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], max_predictions: 200}\ntrain: {steps: 1}\n",
          "job.yaml:3: data.max_predictions: 200 is greater than data.sequence_length, 128" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], objective: clm}\ntrain: {steps: 1}\n",
          "job.yaml:3: data.objective: 'clm' is not mlm+nsp, mlm+sop, mlm or classify: did you mean mlm?" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], mask_unit: byte}\ntrain: {steps: 1}\n",
          "job.yaml:3: data.mask_unit: 'byte' is not token, whole_word or ngram" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\n"
          "train: {steps: 1, recompute_activations: 1}\n",
          "job.yaml:4: train.recompute_activations: '1' is not false or true" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\ntrain: {steps: 1, precision: bf8}\n",
          "job.yaml:4: train.precision: 'bf8' is not auto, fp32, fp64, tf32, bf16 or fp16" },
        { "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\ntrain: {steps: 1, seed: "
          "9223372036854775808}\n",
          "job.yaml:4: train.seed: 9223372036854775808 is not between 0 and 9223372036854775807" },
};

/* "...": and so on. */
static void assert_says(const char *text, const char *expected) {
        size_t n = strlen(expected), whole = n > 3 && strcmp(expected + n - 3, "...") == 0 ? n - 3 : n + 1;

        if (strncmp(text, expected, whole) != 0)
                fail_msg("\"%s\" is not \"%s\"", text, expected);
}

static void test_bad(void **state) {
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct error error = {};
                struct spec *spec = NULL;

                write_spec("job.yaml", bad[i].text, strlen(bad[i].text));
                assert_int_equal(spec_load("job.yaml", &spec, &error), -EINVAL);
                assert_says(error.text, bad[i].message);
                assert_int_equal(error.exit, BERTD_EXIT_CONFIG);
                assert_null(spec);
                assert_int_equal(spec_load("job.yaml", &spec, NULL), -EINVAL); /* no error object */
        }
}

static void expect_message(const char *path, const char *message, int exit_code) {
        struct error error = {};
        struct spec *spec = NULL;

        assert_true(spec_load(path, &spec, &error) < 0);
        assert_string_equal(error.text, message);
        assert_int_equal(error.exit, exit_code);
}

static void test_files(void **state) {
        char *big = malloc(300000), name[BERTD_NAME_MAX + 64];

        expect_message("none.yaml", "none.yaml: No such file or directory", BERTD_EXIT_INPUT);
        expect_message(".", ".: Is a directory", BERTD_EXIT_INPUT);
        memset(big, ' ', 300000);
        write_spec("big.yaml", big, 300000);
        expect_message("big.yaml", "big.yaml: more than the 262144 bytes allowed", BERTD_EXIT_CONFIG);
        memset(big, '[', 250000);
        write_spec("deep.yaml", big, 250000);
        expect_message("deep.yaml", "deep.yaml:1: expected a mapping, not a list", BERTD_EXIT_CONFIG);
        free(big);
        memset(name, 'n', sizeof(name));
        char text[512];
        (void) snprintf(text, sizeof(text), COMMAND "name: %.130s\n", name);
        write_spec("name.yaml", text, strlen(text));
        expect_message("name.yaml", "name.yaml:3: name: 130 bytes, at most 128 are allowed; give a shorter one",
                       BERTD_EXIT_CONFIG);
}

static void test_stages(void **state) {
        cleanup_spec struct spec *s = load(STAGED "- name: long\n"
                                                  "  moments: keep\n"
                                                  "  bias_correction: restart\n"
                                                  "  data: {train: [z, x], sequence_length: 512}\n"
                                                  "  optimizer: {learning_rate: 4.0e-3, warmup_ratio: 0.128}\n"
                                                  "  train: {steps: 15, global_batch: 32, micro_batch: 4}\n");
        const struct spec *a = spec_at(s, 0), *b = spec_at(s, 1);

        assert_int_equal(spec_n_stages(s), 2);
        assert_string_equal(a->stage.name, "short");
        assert_string_equal(b->stage.name, "long");
        assert_true(a->train.steps == 70 && b->train.steps == 15 && s->train.steps == 70);
        assert_true(a->train.global_batch == 64 && b->train.global_batch == 32 && b->train.micro_batch == 4);
        assert_true(a->data.sequence_length == 128 && b->data.sequence_length == 512);
        assert_true(a->data.max_predictions == 20 && b->data.max_predictions == 77);
        assert_true(a->data.mask_unit == MASK_UNIT_NGRAM && b->data.mask_unit == MASK_UNIT_NGRAM);
        assert_true(a->optimizer.learning_rate == 6e-3 && b->optimizer.learning_rate == 4e-3);
        assert_true(a->optimizer.name == OPTIMIZER_LAMB && b->optimizer.name == OPTIMIZER_LAMB);
        assert_true(a->train.seed == 7 && b->train.seed == 7);
        assert_true(b->stage.moments == MOMENTS_KEEP && b->stage.bias_correction == BIAS_CORRECTION_RESTART);
        assert_true(a->data.n_train == 1 && b->data.n_train == 2 && b->data.n_validation == 1);
        assert_string_equal(strrchr(b->data.train[0], '/'), "/z");
        assert_string_equal(a->name, b->name);
        cleanup_spec struct spec *one = load(PRETRAIN);
        assert_true(spec_n_stages(one) == 1 && spec_at(one, 0) == one);
}

static const struct bad bad_stages[] = {
        { STAGED "- train: {steps: 0}\n", "job.yaml:10: stages[1].train.steps: 0 is not between 1 and 1000000000000" },
        { PRETRAIN "optimizer: {beta1: 2}\nstages: [{}, {train: {steps: 3}}]\n",
          "job.yaml:5: optimizer.beta1: 2 is not between 0 and 0.999999999" },
        { PRETRAIN "priority: x\nstages: [{}]\n", "job.yaml:5: priority: 'x' is not a whole number" },
        { PRETRAIN "stages:\n- {}\n- name: a\n  name: b\n",
          "job.yaml:8: stages[1].name: given twice, first on line 7" },
        { PRETRAIN "stages: []\n", "job.yaml:5: stages: too few entries" },
        { PRETRAIN "stages: {}\n", "job.yaml:5: stages: expected a list, not a mapping" },
        { PRETRAIN "stages: [a]\n", "job.yaml:5: stages[0]: expected a mapping, not one value" },
        { PRETRAIN "stages: [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}]\n",
          "job.yaml:5: stages: more than 16 entries" },
        { STAGED "- data: {}\n", "job.yaml: stages[1].train.steps: missing; expected a whole number" },
        { STAGED "- train: {steps: 5}\n  data: {mask_unit: no}\n",
          "job.yaml:11: stages[1].data.mask_unit: 'no' is not token, whole_word or ngram" },
        { STAGED "- train: {steps: 5}\n  moments: drop\n",
          "job.yaml:11: stages[1].moments: 'drop' is not keep or reset" },
        { STAGED "- train: {steps: 5}\n  moment: keep\n",
          "job.yaml:11: unknown key 'moment' in stages: did you mean stages.moments?; expected name, "
          "moments, bias_correction, data, optimizer, train, tasks" },
        { STAGED "- train: {steps: 5}\n  model: {config: c}\n",
          "job.yaml:11: unknown key 'model' in stages: did you mean model outside of stages?; expected name, moments, "
          "bias_correction, data, optimizer, train, tasks" },
        { STAGED "- train: {steps: 5, step: 4}\n",
          "job.yaml:10: unknown key 'step' in train: did you mean train.steps?; expected global_batch, micro_batch, "
          "steps, epochs, precision, "
          "recompute_activations, fast_gelu, seed, evaluate_every, evaluate_samples, log_every" },
        { STAGED "  moments: keep\n",
          "job.yaml:10: stages[0].moments: not for the first stage, which has no moments yet" },
        { STAGED "- train: {steps: 5}\n  data: {sequence_length: 16, max_predictions: 17}\n",
          "job.yaml:11: stages[1].data.max_predictions: 17 is greater than data.sequence_length, 16" },
        { STAGED "- train: {steps: 5, seed: 8}\n", "job.yaml:10: stages[1].train.seed: 8, but the first stage has 7" },
        { STAGED "- train: {steps: 5, precision: fp64}\n",
          "job.yaml:10: stages[1].train.precision: fp64, but the first stage has auto" },
        { STAGED "- train: {steps: 5}\n  data: {train: []}\n", "job.yaml:11: stages[1].data.train: too few entries" },
        { STAGED "- train: {steps: 5}\n  tasks:\n  - {task: a}\n  - {task: b, label: [c]}\n",
          "job.yaml:13: stages[1].tasks[1].label: expected one value, not a list" },
        { STAGED "- train: {steps: 5}\n  optimizer: {warmup_steps: 6}\n",
          "job.yaml:11: stages[1].optimizer.warmup_steps: 6 is more than train.steps, 5; give fewer, or more steps" },
        { STAGED "- train: {steps: 5}\n  optimizer: {warmup_ratio: 0.5, warmup_steps: 5}\n",
          "job.yaml:11: stages[1].optimizer.warmup_steps: conflicts with optimizer.warmup_ratio; set only one" },
        { PRETRAIN "optimizer: {power: 2}\nstages: [{}, {train: {steps: 3}}]\n",
          "job.yaml:5: optimizer.power: 2: has no effect without optimizer.schedule: poly; set that or leave this "
          "out" },
        { COMMAND "stages: [{name: a}]\n", "job.yaml:3: stages[0].name: not a key of kind command" },
        { COMMAND "stages: [{}]\n", "job.yaml:3: stages: not a key of kind command" },
};

static void test_bad_stages(void **state) {
        for (size_t i = 0; i < sizeof(bad_stages) / sizeof(bad_stages[0]); i++) {
                struct error error = {};
                struct spec *spec = NULL;

                write_spec("job.yaml", bad_stages[i].text, strlen(bad_stages[i].text));
                assert_int_equal(spec_load("job.yaml", &spec, &error), -EINVAL);
                assert_string_equal(error.text, bad_stages[i].message);
        }
}

static void test_hosts(void **state) {
        static const char file[] = "# ours\nh1 slots=2\ngpu[01-02]\n",
                          text[] = PRETRAIN "resources: {ranks: 2, hosts: {file: hosts}, use: 2, unmanaged: yes,\n"
                                            " environment: [A, MY_*], network: eth1}\n"
                                            "restart: {shrink: true}\ncheckpoint: {copy_to: copies}\n";
        cleanup_spec struct spec *s = NULL, *again = NULL;
        cleanup_free char *out = NULL;
        char path[PATH_MAX + 16];
        struct error error = {};

        write_spec("hosts", file, strlen(file));
        write_spec("job.yaml", text, strlen(text));
        assert_int_equal(spec_load("job.yaml", &s, &error), 0);
        assert_true(s->resources.n_hosts == 3 && s->resources.use == 2 && s->resources.unmanaged && s->restart.shrink);
        assert_string_equal(s->resources.hosts[2], "gpu02");
        assert_string_equal(s->resources.environment[1], "MY_*");
        (void) snprintf(path, sizeof(path), "%s/copies", folder);
        assert_string_equal(s->checkpoint.copy_to, path);
        /* The list is kept, the file no longer read. */
        assert_int_equal(unlink("hosts"), 0);
        assert_int_equal(spec_format(s, &out, &error), 0);
        write_spec("again.yaml", out, strlen(out));
        assert_int_equal(spec_load("again.yaml", &again, &error), 0);
        assert_true(again->resources.n_hosts == 3 && again->resources.n_environment == 2);
        assert_string_equal(again->resources.hosts[1], "gpu01");
        write_spec("hosts", "h1 slots=1\n", strlen("h1 slots=1\n"));
        expect_message("job.yaml",
                       "job.yaml:5: resources.hosts: h1 has slots=1, but resources.ranks is 2, for each host",
                       BERTD_EXIT_CONFIG);
}

/* Those that are published recipes say what they mean. */
static void test_examples(void **state) {
        static const struct {
                const char *name;
                uint32_t n_stages;
                enum optimizer_name optimizer;
                enum objective objective;
        } examples[] = {
                { "bert-base", 2, OPTIMIZER_BERTADAM, OBJECTIVE_MLM_NSP },
                { "bert-large-lamb", 2, OPTIMIZER_LAMB, OBJECTIVE_MLM_NSP },
                { "albert-base", 1, OPTIMIZER_LAMB_GOOGLE, OBJECTIVE_MLM_SOP },
                { "linux-doc-tiny", 1, OPTIMIZER_ADAMW, OBJECTIVE_MLM_NSP },
                { "classify-three-steps", 3, OPTIMIZER_BERTADAM, OBJECTIVE_MLM },
                { "sentence-pairs", 1, OPTIMIZER_ADAMW, OBJECTIVE_CLASSIFY },
        };

        for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
                cleanup_free char *path = format_string("%s/examples/%s.yaml", getenv("SOURCE_DIR"), examples[i].name);
                struct error error = {};
                cleanup_spec struct spec *s = NULL;
                if (spec_load(path, &s, &error) < 0)
                        fail_msg("%s", error.text);
                assert_string_equal(s->name, examples[i].name);
                assert_int_equal(spec_n_stages(s), examples[i].n_stages);
                assert_true(s->optimizer.name == examples[i].optimizer && s->data.objective == examples[i].objective);
        }
}

static void test_defaults(void **state) {
        cleanup_spec struct spec *s = load(PRETRAIN);
        char path[PATH_MAX + 16];

        assert_string_equal(s->name, "job");
        assert_true(s->kind == JOB_PRETRAIN && s->priority == 0 && !s->run_dir && !s->on_exit && s->n_command == 0);
        assert_true(s->resources.ranks == 1 && s->resources.gpus == 0 && s->resources.threads == 1);
        assert_true(s->restart.max_without_progress == 5 && s->restart.grace_sec == 120);
        assert_true(s->restart.backoff_sec[0] == 5 && s->restart.backoff_sec[1] == 600);
        assert_true(s->checkpoint.every_steps == 0 && s->checkpoint.every_sec == 600);
        assert_true(s->checkpoint.keep == 3 && s->checkpoint.keep_every == 0);
        assert_true(s->log.max_size == 64 << 20 && s->log.keep == 2);
        assert_true(s->data.sequence_length == 128 && s->data.objective == OBJECTIVE_MLM_NSP &&
                    s->data.n_validation == 0);
        assert_true(s->data.max_predictions == 20); /* ceil(0.15 * 128) */
        cleanup_spec struct spec *m =
                load("kind: pretrain\nmodel: {config: c.json, vocab: v.txt}\ndata: {train: [corpus], "
                     "masked_fraction: 0.4}\ntrain: {steps: 10}\n");
        assert_int_equal(m->data.max_predictions, 52);
        assert_true(s->data.masking == MASKING_DYNAMIC && s->data.dupe_factor == 10 &&
                    s->data.mask_unit == MASK_UNIT_TOKEN);
        assert_true(s->data.masked_fraction == 0.15 && s->data.short_sequence_probability == 0.1);
        assert_true(s->optimizer.name == OPTIMIZER_ADAMW && s->optimizer.learning_rate == 1e-4);
        assert_true(s->optimizer.warmup_ratio == 0 && s->optimizer.warmup_steps == 0);
        assert_true(s->optimizer.schedule == SCHEDULE_LINEAR && s->optimizer.beta1 == 0.9 &&
                    s->optimizer.beta2 == 0.999);
        assert_true(s->optimizer.epsilon == 1e-6 && s->optimizer.weight_decay == 0.01 && s->optimizer.clip_norm == 1);
        assert_true(s->train.global_batch == 32 && s->train.micro_batch == 32 && s->train.steps == 10);
        assert_true(s->device == DEVICE_AUTO && s->train.precision == PRECISION_AUTO && s->train.seed == 42 &&
                    s->train.evaluate_every == 0);
        assert_true(s->train.evaluate_samples == 512 && s->train.log_every == 1 && !s->train.recompute_activations);
        assert_true(s->optimizer.clip_by == CLIP_BY_GLOBAL && s->optimizer.decay_from == DECAY_FROM_START);
        assert_true(s->optimizer.step_count == STEP_COUNT_FULL && s->optimizer.power == 0.5);
        assert_string_equal(spec_get(s, "optimizer.schedule", path, sizeof(path)), "linear");
        assert_string_equal(spec_get(s, "data.masked_fraction", path, sizeof(path)), "0.15");
        (void) snprintf(path, sizeof(path), "%s/c.json", folder);
        assert_string_equal(s->model.config, path);
        (void) snprintf(path, sizeof(path), "%s/corpus", folder);
        assert_string_equal(s->data.train[0], path);
}

static void test_zero_is_not_absent(void **state) {
        cleanup_spec struct spec *s = load(COMMAND "checkpoint: {every_sec: 0}\nrestart: {max_without_progress: 0}\n");

        assert_true(s->checkpoint.every_sec == 0 && s->restart.max_without_progress == 0);
        assert_true(s->n_command == 2 && strcmp(s->command[1], "3") == 0 && !s->command[2]);
}

static void test_limits(void **state) {
        cleanup_spec struct spec *s = load(COMMAND "resources: {memory: 16G, cpus: 2.5}\n"
                                                   "restart: {hang_sec: 0, start_sec: 60, on_nan: rollback}\n");
        assert_true(s->resources.memory == UINT64_C(16) << 30 && s->resources.cpus == 2.5);
        assert_true(s->restart.hang_sec == 0 && s->restart.start_sec == 60 && s->restart.on_nan == ON_NAN_ROLLBACK);
        cleanup_spec struct spec *log = load(COMMAND "log: {max_size: 1G, keep: 3}\n");
        assert_true(log->log.max_size == 1 << 30 && log->log.keep == 3);
        cleanup_spec struct spec *none = load(COMMAND);
        assert_true(none->resources.memory == 0 && none->resources.cpus <= 0);
        assert_true(none->restart.hang_sec == -1 && none->restart.start_sec == -1);
        assert_int_equal(none->restart.on_nan, ON_NAN_STOP);
}

/* As YAML 1.1 has them, and as other tools write files. */
static void test_notations(void **state) {
        static const struct {
                const char *text;
                bool shuffle;
        } truths[] = { { "yes", true }, { "On", true },   { "TRUE", true },  { "\"true\"", true },
                       { "no", false }, { "off", false }, { "False", false } };
        static const char tune[] = TUNE "data: {train: [x.csv], labels: [yes, no, ~, \"\"], shuffle: %s, header: %s}\n";
        static const char *const files[] = { "\xef\xbb\xbf" COMMAND,
                                             "---\n" COMMAND "...\n",
                                             "%YAML 1.1\n---\n" COMMAND,
                                             "kind: command\r\ncommand: [sleep, 3]\r\n",
                                             "kind: command\ncommand: [sleep, 3]",
                                             "kind: \"command\"\ncommand:\n- 'sleep'\n- |-\n  3\n",
                                             "{\"kind\": \"command\", \"command\": [\"sleep\", \"3\"]}" };

        for (size_t i = 0; i < sizeof(truths) / sizeof(truths[0]); i++) {
                char text[256];
                (void) snprintf(text, sizeof(text), tune, truths[i].text, truths[i].text);
                cleanup_spec struct spec *s = load(text);
                assert_int_equal(s->data.shuffle, truths[i].shuffle);
                assert_int_equal(s->data.header, truths[i].shuffle ? HEADER_TRUE : HEADER_FALSE);
                assert_true(s->data.n_labels == 4 && strcmp(s->data.labels[0], "yes") == 0);
                assert_true(strcmp(s->data.labels[2], "~") == 0 && strcmp(s->data.labels[3], "") == 0);
        }
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
                cleanup_spec struct spec *s = load(files[i]);
                assert_true(s->n_command == 2 && strcmp(s->command[1], "3") == 0);
        }
        cleanup_spec struct spec *n = load(PRETRAIN "optimizer: {learning_rate: .5, epsilon: 1e-4, beta1: 9E-1}\n"
                                                    "resources: {ranks: '4', threads: 010, memory: 10G}\n");
        assert_true(n->optimizer.learning_rate == 0.5 && n->optimizer.epsilon == 1e-4 && n->optimizer.beta1 == 0.9);
        assert_true(n->resources.ranks == 4 && n->resources.threads == 10);
        assert_true(n->resources.memory == UINT64_C(10) << 30);
}

/* A scalar of 250,000 bytes is a value like any other, and is cut in a message. */
static void test_long_scalar(void **state) {
        cleanup_free char *long_text = malloc(250001), *text = NULL;

        memset(long_text, 'x', 250000);
        long_text[250000] = '\0';
        text = format_string("kind: command\ncommand: [a, %s]\n", long_text);
        cleanup_spec struct spec *s = load(text);
        assert_int_equal(strlen(s->command[1]), 250000);
        free(text);
        text = format_string(COMMAND "resources: {ranks: %s}\n", long_text);
        write_spec("long.yaml", text, strlen(text));
        expect_message("long.yaml",
                       "long.yaml:3: resources.ranks: "
                       "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' is not a whole number",
                       BERTD_EXIT_CONFIG);
}

static void test_end(void **state) {
        cleanup_spec struct spec *last = load(COMMAND "ends_with: last\n"), *none = load(COMMAND);
        assert_true(last->ends_with == ENDS_WITH_LAST && none->ends_with == ENDS_WITH_FIRST);
}

static void test_small_batch(void **state) {
        cleanup_spec struct spec *s = load("kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x]}\n"
                                           "train: {steps: 1, global_batch: 8}\n");
        assert_true(s->train.micro_batch == 8); /* the default does not exceed the batch */
}

static void test_paths(void **state) {
        char path[PATH_MAX + 32];

        assert_int_equal(mkdir("sub", 0700), 0);
        write_spec("sub/hook.sh", "#!/bin/sh\n", 10);
        assert_int_equal(chmod("sub/hook.sh", 0700), 0);
        write_spec("sub/my.job.yml", COMMAND "run_dir: ./out/../run\non_exit: hook.sh\n", strlen(COMMAND) + 39);
        struct error error = {};
        cleanup_spec struct spec *s = NULL;
        assert_int_equal(spec_load("sub/my.job.yml", &s, &error), 0);
        assert_string_equal(s->name, "my.job");
        (void) snprintf(path, sizeof(path), "%s/sub/out/../run", folder);
        assert_string_equal(s->run_dir, path);
        (void) snprintf(path, sizeof(path), "%s/sub/hook.sh", folder);
        assert_string_equal(s->on_exit, path);
        cleanup_spec struct spec *t = load(COMMAND "on_exit: mailer\n");
        assert_string_equal(t->on_exit, "mailer");                           /* found by PATH */
        cleanup_spec struct spec *gone = load(COMMAND "on_exit: /x/gone\n"); /* no attempt fails for it */
        assert_string_equal(gone->on_exit, "/x/gone");
        assert_int_equal(setenv("HOME", "/home/alice", 1), 0);
        cleanup_spec struct spec *h = load(COMMAND "run_dir: ~/runs/a\n");
        assert_string_equal(h->run_dir, "/home/alice/runs/a");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bad),         cmocka_unit_test(test_files),
                cmocka_unit_test(test_stages),      cmocka_unit_test(test_bad_stages),
                cmocka_unit_test(test_hosts),       cmocka_unit_test(test_examples),
                cmocka_unit_test(test_defaults),    cmocka_unit_test(test_zero_is_not_absent),
                cmocka_unit_test(test_small_batch), cmocka_unit_test(test_paths),
                cmocka_unit_test(test_limits),      cmocka_unit_test(test_end),
                cmocka_unit_test(test_notations),   cmocka_unit_test(test_long_scalar),
        };
        char *top = make_folder();

        if (chdir(top) < 0 || !getcwd(folder, sizeof(folder)))
                return 1;
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        remove_folder(top);
        return r;
}
