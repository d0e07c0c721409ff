/* A spec of a text, in the folder of the test. */
#ifndef TESTS_UNIT_SPEC_FIXTURE_H
#define TESTS_UNIT_SPEC_FIXTURE_H

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "tests/unit/folder.h"

#define TUNE "kind: finetune\nmodel: {config: c, vocab: v}\ntrain: {epochs: 2}\n"
#define PRETRAIN "kind: pretrain\nmodel: {config: c.json, vocab: v.txt}\ndata: {train: [corpus]}\ntrain: {steps: 10}\n"
#define COMMAND "kind: command\ncommand: [sleep, 3]\n"
#define STAGED                                                                                                       \
        "kind: pretrain\nmodel: {config: c, vocab: v}\ndata: {train: [x], validation: [y], mask_unit: ngram}\n"      \
        "optimizer: {name: lamb, learning_rate: 6.0e-3, warmup_ratio: 0.2843}\ntrain: {global_batch: 64, seed: 7}\n" \
        "stages:\n"                                                                                                  \
        "- name: short\n"                                                                                            \
        "  data: {sequence_length: 128}\n"                                                                           \
        "  train: {steps: 70}\n"

static char folder[PATH_MAX];

static void write_spec(const char *name, const char *text, size_t size) {
        struct error error = {};
        assert_int_equal(file_write_atomic(name, text, size, 0600, &error), 0);
}

static struct spec *load(const char *text) {
        struct error error = {};
        struct spec *spec = NULL;

        write_spec("job.yaml", text, strlen(text));
        if (spec_load("job.yaml", &spec, &error) < 0)
                fail_msg("%s", error.text);
        return spec;
}

#endif
