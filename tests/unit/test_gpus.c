/* GPU hand-back: which of the host's GPUs may be given to a job, from what the driver lists. */
#include "daemon/gpu/gpus.h"
#include "daemon/gpu/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/gpu_use.h"
#include "tests/unit/folder.h"

#define MIB (UINT64_C(1) << 20)

static struct nvml_gpu gpu_with(uint64_t used_mib) {
        return (struct nvml_gpu) { .uuid = "GPU-a", .total = 80000 * MIB, .used = used_mib * MIB };
}

static void add_process(struct nvml_gpu *gpu, int pid, uint64_t job, bool hidden) {
        gpu->processes[gpu->n_processes++] =
                (struct nvml_process) { .pid = pid, .used = 1024 * MIB, .job = job, .hidden = hidden, .user = "bob" };
}

static void test_baseline(void **state) {
        struct gpu_health health = { .baseline = UINT64_MAX };
        struct nvml_gpu gpu = gpu_with(500);

        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_FREE);
        assert_int_equal(health.baseline, 500 * MIB);
        gpu = gpu_with(400);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.baseline, 400 * MIB);
        gpu = gpu_with(400 + 256);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_FREE);
        assert_int_equal(health.baseline, 400 * MIB);
        gpu = gpu_with(400 + 257);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_BUSY);
        assert_string_equal(health.note, "in use outside bertd: 0.6 GiB, owner unknown");
}

static void test_first_sight_is_no_baseline(void **state) {
        struct gpu_health health = { .baseline = UINT64_MAX };
        struct nvml_gpu gpu = gpu_with(40000);

        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_BUSY);
        gpu = gpu_with(450);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_FREE);
}

static void test_left_by_a_job(void **state) {
        struct gpu_health health = { .baseline = 400 * MIB, .released = true, .job = 7 };
        struct nvml_gpu gpu = gpu_with(5000);

        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_QUARANTINED);
        assert_string_equal(health.note, "quarantined: job 7 left 4.9 GiB");
        gpu = gpu_with(400);
        add_process(&gpu, 12, 0, true);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_QUARANTINED);
        gpu = gpu_with(400);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_FREE);
        assert_false(health.released);
        assert_string_equal(health.note, "");
}

static void test_whose_process(void **state) {
        struct gpu_health health = { .baseline = 400 * MIB, .released = true, .job = 7 };
        struct nvml_gpu gpu = gpu_with(1424);

        add_process(&gpu, 1234, 0, false);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_BUSY);
        assert_string_equal(health.note, "in use outside bertd: pid 1234 (user bob), 1.0 GiB");
        add_process(&gpu, 1235, 6, false);
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_QUARANTINED);
        assert_string_equal(health.note, "quarantined: job 6 left pid 1235 (user bob) and 1 more, 1.0 GiB");
        /* What a job left long ago is a job's all the same. */
        health.released = false;
        gpu_judge(&health, &gpu);
        assert_int_equal(health.state, GPU_QUARANTINED);
        gpu_judge(&health, NULL);
        assert_int_equal(health.state, GPU_UNKNOWN);
}

static void test_listed(void **state) {
        static struct nvml_answer answer = { .n = 2,
                                             .gpus = { { .uuid = "GPU-b1", .index = 1 }, { .uuid = "GPU-a0" } } };

        assert_ptr_equal(gpus_listed(&answer, "GPU-a0"), &answer.gpus[1]);
        assert_ptr_equal(gpus_listed(&answer, "GPU-b"), &answer.gpus[0]);
        assert_ptr_equal(gpus_listed(&answer, "1"), &answer.gpus[0]);
        assert_ptr_equal(gpus_listed(&answer, "0"), &answer.gpus[1]);
        assert_null(gpus_listed(&answer, "2"));
        assert_null(gpus_listed(&answer, "GPU-c"));
}

/* A number is never a MIG device, and a name that is not a GPU's never a beginning. */
static void test_listed_mig(void **state) {
        static struct nvml_answer answer = {
                .n = 4,
                .gpus = { { .uuid = "GPU-a0", .is_divided = true },
                          { .uuid = "MIG-a0", .older_name = "MIG-GPU-a0/7/0", .index = NVML_NO_INDEX },
                          { .uuid = "MIG-a01", .older_name = "MIG-GPU-a0/70/0", .index = NVML_NO_INDEX },
                          { .uuid = "GPU-b1", .index = 1 } }
        };
        static const char *const none[] = { "2", "4294967295", "MIG-a", "MIG-", "MIG-GPU-a0/7", "M", "G", "", "GPU" };

        assert_ptr_equal(gpus_listed(&answer, "MIG-a0"), &answer.gpus[1]);
        assert_ptr_equal(gpus_listed(&answer, "MIG-a01"), &answer.gpus[2]);
        assert_ptr_equal(gpus_listed(&answer, "MIG-GPU-a0/7/0"), &answer.gpus[1]);
        assert_ptr_equal(gpus_listed(&answer, "MIG-GPU-a0/70/0"), &answer.gpus[2]);
        assert_ptr_equal(gpus_listed(&answer, "0"), &answer.gpus[0]);
        assert_ptr_equal(gpus_listed(&answer, "1"), &answer.gpus[3]);
        assert_ptr_equal(gpus_listed(&answer, "GPU-a"), &answer.gpus[0]);
        for (size_t i = 0; i < ELEMENTSOF(none); i++)
                assert_null(gpus_listed(&answer, none[i]));
}

/* Without NVML the kernel's files say what there is; GPUs that are divided are left out. */
static void test_driver_folder(void **state) {
        char *root = make_folder();
        struct error error = {};
        struct gpus gpus;

        (void) setenv("BERTD_NVML", "/nonexistent/libnvidia-ml.so.1", 1);
        (void) setenv("BERTD_NVIDIA_PROC", root, 1);
        write_text(root, "gpus/0000:3b:00.0/information",
                   "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-b\nDevice Minor: \t 0\n");
        write_text(root, "gpus/0000:5e:00.0/information", "GPU UUID: \t GPU-a\n");
        write_text(root, "gpus/0000:af:00.0/information", "GPU UUID: \t GPU-c\nDevice Minor: \t 2\n");
        write_text(root, "gpus/0000:d8:00.0/information", "Model: \t Unknown\n");
        write_text(root, "capabilities/gpu0/mig/gi7/access", "");
        write_text(root, "capabilities/gpu2/mig/config", "");
        assert_int_equal(gpus_find(NULL, &gpus, &error), 0);
        assert_int_equal(gpus.n, 2);
        assert_string_equal(gpus.names[0], "GPU-a");
        assert_string_equal(gpus.names[1], "GPU-c");
        (void) unsetenv("BERTD_NVIDIA_PROC");
        remove_folder(root);
}

/* What bertd sends of a GPU's use, and bertctl reads. */
static void test_use_as_text(void **state) {
        static const char *const bad[] = { "",
                                           "1 2 3",
                                           "1 2 3 ",
                                           "1 2 101 GPU-a",
                                           "1 -2 3 GPU-a",
                                           "- 2 3 GPU-a",
                                           "- - 3 GPU-a",
                                           "1 2 -1 GPU-a",
                                           "x 2 3 GPU-a",
                                           "18446744073709551616 2 3 GPU-a" };
        struct gpu_use use = { .known = true, .used = 5, .total = UINT64_MAX, .load = 100, .name = "MIG-GPU-a/7/0" },
                       read;
        char text[GPU_USE_TEXT_MAX];

        assert_string_equal(gpu_use_write(&use, text), "5 18446744073709551615 100 MIG-GPU-a/7/0");
        assert_true(gpu_use_read(text, &read));
        assert_true(read.known && read.used == 5 && read.total == UINT64_MAX && read.load == 100);
        assert_string_equal(read.name, "MIG-GPU-a/7/0");
        use.load = -1;
        assert_string_equal(gpu_use_write(&use, text), "5 18446744073709551615 - MIG-GPU-a/7/0");
        assert_true(gpu_use_read(text, &read) && read.known && read.load == -1);
        use.known = false;
        assert_string_equal(gpu_use_write(&use, text), "- - - MIG-GPU-a/7/0");
        assert_true(gpu_use_read(text, &read) && !read.known && read.load == -1);
        assert_true(gpu_use_read("1 2 3 a name with spaces", &read));
        assert_string_equal(read.name, "a name with spaces");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (gpu_use_read(bad[i], &read))
                        fail_msg("\"%s\" was read", bad[i]);
}

static void test_take(void **state) {
        const struct gpus gpus = { .n = 4 };

        assert_int_equal(gpus_take(&gpus, 0, 2), 0x3);
        assert_int_equal(gpus_take(&gpus, 0x5, 2), 0xa);
        assert_int_equal(gpus_take(&gpus, 0x5, 3), 0);
}

/* What a job holds are names: another list moves no bit to a neighbour. */
static void test_mask_of_names(void **state) {
        const struct gpus all = { .n = 3, .names = { "GPU-a", "GPU-b", "GPU-c" } };
        const struct gpus fewer = { .n = 2, .names = { "GPU-b1", "GPU-c" } };
        const struct gpus numbers = { .n = 3, .names = { "1", "10", "MIG-b" } };
        char name[GPU_NAME_MAX];
        uint32_t missing;

        assert_int_equal(gpus_mask(&all, "GPU-c,GPU-b", &missing), 0x6);
        assert_int_equal(missing, 0);
        assert_int_equal(gpus_mask(&fewer, "GPU-a,GPU-b", &missing), 0x1); /* a shortened UUID */
        assert_int_equal(missing, 1);
        assert_int_equal(gpus_mask(&fewer, "GPU-c0ffee", NULL), 0x2);
        assert_int_equal(gpus_mask(&numbers, "10,MIG-b1", &missing), 0x2); /* but nothing else */
        assert_int_equal(missing, 1);
        assert_int_equal(gpus_mask(&all, NULL, &missing), 0);
        assert_int_equal(gpus_mask(&all, "", &missing), 0);
        assert_int_equal(missing, 0);
        const char *names = "GPU-a,GPU-b,GPU-x";
        assert_true(gpus_next_missing(&fewer, &names, name));
        assert_string_equal(name, "GPU-a");
        assert_true(gpus_next_missing(&fewer, &names, name));
        assert_string_equal(name, "GPU-x");
        assert_false(gpus_next_missing(&fewer, &names, name));
}

static void find_refused(const char *option, const char *expected) {
        struct error error = {};
        struct gpus gpus;

        assert_true(gpus_find(option, &gpus, &error) < 0);
        assert_non_null(strstr(error.text, expected));
}

static void test_option(void **state) {
        struct error error = {};
        struct gpus gpus;

        assert_int_equal(gpus_find("3", &gpus, &error), 0);
        assert_int_equal(gpus.n, 3);
        assert_string_equal(gpus.names[2], "2");
        assert_int_equal(gpus_find("GPU-b,GPU-a", &gpus, &error), 0);
        assert_int_equal(gpus.n, 2);
        assert_string_equal(gpus.names[0], "GPU-b");
        char *visible = gpus_visible(&gpus, 0x3);
        assert_string_equal(visible, "GPU-b,GPU-a");
        free(visible);
        find_refused("65", "--gpus: 65, expected 0 to 64");
        find_refused("GPU-a,GPU-b,GPU-a", "\"GPU-a\"");
        find_refused("GPU-0123456789012345678901234567890123456789012345678901234567890123456789", "too long");
}

/* Names nothing that can be opened: a host without a driver is as it was before one was looked for. */
static void test_no_library(void **state) {
        static struct nvml_answer answer;

        (void) setenv("BERTD_NVML", "/nonexistent/libnvidia-ml.so.1", 1);
        assert_int_equal(nvml_probe(NVML_ANSWER_USEC, &answer), 0);
        assert_int_equal(answer.status, NVML_ABSENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_baseline),      cmocka_unit_test(test_first_sight_is_no_baseline),
                cmocka_unit_test(test_left_by_a_job), cmocka_unit_test(test_whose_process),
                cmocka_unit_test(test_listed),        cmocka_unit_test(test_take),
                cmocka_unit_test(test_mask_of_names), cmocka_unit_test(test_no_library),
                cmocka_unit_test(test_option),        cmocka_unit_test(test_listed_mig),
                cmocka_unit_test(test_driver_folder), cmocka_unit_test(test_use_as_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
