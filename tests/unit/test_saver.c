/* The saver writes the state as it was at saver_begin, whatever training makes of it after saver_settle: of the CPU's
 * memory, or EMULATED of a device's (tests/gpu). */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "tests/ops/model_helpers.h"
#include "tests/unit/folder.h"
#ifdef EMULATED
#include "tests/gpu/module.h"
void emulated_set_free(size_t bytes);
void emulated_break(void);
#endif
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/saver.h"

static const struct ops *ops;

struct fixture {
        char *folder;
        struct model *model;
        struct saver *saver;
};

static int setup(void **state) {
        struct model_config config = helper_config(30522, 256, 2, 4, 1024, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 1, 8, 0, false);
        struct fixture *f = calloc(1, sizeof(*f));

        f->folder = make_folder();
        f->model = helper_model(&config, ops, &t->batch);
        free(t);
        *state = f;
        if (saver_new(f->model, &f->saver, NULL) < 0)
                return -1;
        saver_take_spare(f->saver);
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;
        saver_free(f->saver);
        model_free(f->model);
        remove_folder(f->folder);
        free(f);
        return 0;
}

static void fill(struct model *model, float value) {
        void *runs[] = { model_state(model)->parameters, model_state(model)->moment1, model_state(model)->moment2 };
        cleanup_free float *values = malloc(model_state(model)->run_bytes);

        assert_non_null(values);
        for (unsigned kind = 0; kind < ELEMENTSOF(runs); kind++) {
                for (size_t i = 0; i < model_state(model)->n_elements; i++)
                        values[i] = value + (float) kind;
                state_upload(model_state(model), runs[kind], values);
        }
}

static struct saver_result wait_for(struct saver *saver) {
        struct saver_result result;
        saver_wait(saver, &result);
        assert_true(result.done);
        return result;
}

static void assert_holds(const char *path, float value) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct error error = {};

        assert_int_equal(checkpoint_open(path, &c, &error), 0);
        for (uint32_t i = 0; i < checkpoint_n_tensors(c); i++) {
                const struct checkpoint_tensor *t = checkpoint_tensor(c, i);
                float kind = strcmp(t->kind, "param") == 0 ? 0 : strcmp(t->kind, "moment1") == 0 ? 1 : 2;
                cleanup_free float *data = malloc(t->size);
                assert_int_equal(checkpoint_read_tensor(c, i, data, &error), 0);
                for (size_t e = 0; e < t->size / sizeof(float); e++)
                        assert_true(data[e] == value + kind);
        }
}

/* Training goes on at once, and changes everything as soon as it may. */
static void test_state_of_the_beginning(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct saver_result previous;

        checkpoint_meta_set(&meta, "step", "1");
        for (int step = 1; step <= 3; step++) {
                cleanup_free char *path = format_string("%s/step-%d.ckpt", f->folder, step);
                fill(f->model, (float) step);
                saver_begin(f->saver, path, (uint64_t) step, &meta, &previous);
                saver_settle(f->saver);
                fill(f->model, -1);
                assert_int_equal(wait_for(f->saver).r, 0);
                assert_holds(path, (float) step);
        }
        saver_settle(f->saver); /* with nothing under way: at once */
}

static void test_not_finite_is_refused(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct saver_result previous;
        cleanup_free char *path = format_string("%s/step-9.ckpt", f->folder);

        fill(f->model, 1);
        const double infinity = 1.0 / 0.0;
        ops->store(ops->master, model_state(f->model)->moment2, 12345, &infinity, 1);
        saver_begin(f->saver, path, 9, &meta, &previous);
        struct saver_result result = wait_for(f->saver);
        assert_true(result.r < 0);
        assert_int_equal(result.error.exit, BERTD_EXIT_NAN);
        assert_int_equal(access(path, F_OK), -1);
}

#ifndef EMULATED
/* The last element of each tensor and kind counts, in both precisions of a CPU. */
static void test_every_element_is_looked_at(void **state) {
        const struct ops *const tables[] = { ops_cpu(), ops_fp64() };
        const double bad[] = { NAN, INFINITY, -INFINITY }, zero = 0;
        struct fixture *f = *state;
        struct model_config config = helper_config(50, 12, 1, 3, 20, 0.1);
        struct test_batch *t = helper_batch(config.vocab_size, 1, 8, 0, false);
        cleanup_free char *path = format_string("%s/step-9.ckpt", f->folder);

        for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
                struct model *model = helper_model(&config, tables[i], &t->batch);
                void *runs[] = { model_state(model)->parameters, model_state(model)->moment1,
                                 model_state(model)->moment2 };
                cleanup_checkpoint_meta struct checkpoint_meta meta = {};
                struct saver_result previous, result;
                struct saver *saver = NULL;
                model_init(model, 1);
                assert_int_equal(saver_new(model, &saver, NULL), 0);
                for (uint32_t k = 0; k < 3 * model_n_tensors(model); k++) {
                        const struct model_tensor *tensor = model_tensor(model, k / 3);
                        size_t last = tensor->offset + tensor->n_elements - 1;
                        tables[i]->store(tables[i]->master, runs[k % 3], last, &bad[k / 3 % 3], 1);
                        saver_begin(saver, path, 9, &meta, &previous);
                        result = wait_for(saver);
                        assert_int_equal(result.error.exit, BERTD_EXIT_NAN);
                        assert_non_null(strstr(result.error.text, tensor->name));
                        tables[i]->store(tables[i]->master, runs[k % 3], last, &zero, 1);
                }
                saver_begin(saver, path, 9, &meta, &previous);
                assert_int_equal(wait_for(saver).r, 0);
                saver_free(saver);
                model_free(model);
        }
        free(t);
}
#endif

#ifdef EMULATED
static void test_broken_device_is_not_written(void **state) {
        struct fixture *f = *state;
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct saver_result previous;
        cleanup_free char *path = format_string("%s/step-9.ckpt", f->folder);

        fill(f->model, 1);
        emulated_break();
        saver_begin(f->saver, path, 9, &meta, &previous);
        saver_settle(f->saver);
        assert_int_equal(wait_for(f->saver).r, -EIO);
        assert_int_equal(access(path, F_OK), -1);
}

static int run_on_device(const struct CMUnitTest *tests, size_t n, size_t free_bytes) {
        const struct cuda_module *module = module_load();
        char text[CUDA_TEXT_MAX];

        emulated_set_free(free_bytes);
        if (module->open(CUDA_BF16, 0, &ops, text, sizeof(text)) < 0)
                return 1;
        int bad = _cmocka_run_group_tests("saver", tests, n, NULL, NULL);
        module->close();
        return bad;
}
#endif

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_state_of_the_beginning, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_finite_is_refused, setup, teardown),
#ifdef EMULATED
                cmocka_unit_test_setup_teardown(test_broken_device_is_not_written, setup, teardown),
#else
                cmocka_unit_test_setup_teardown(test_every_element_is_looked_at, setup, teardown),
#endif
        };
#ifdef EMULATED /* with memory to spare, and without */
        return run_on_device(tests, ELEMENTSOF(tests), (size_t) 4 << 30) +
               run_on_device(tests, ELEMENTSOF(tests), (size_t) 1 << 30); /* none to spare */
#else
        ops = ops_cpu();
        return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
