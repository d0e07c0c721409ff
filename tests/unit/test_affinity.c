/* Which CPUs the ranks of a host get, by a table of hosts, and what is read of the kernel's files under a root of the
 * test's own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "tests/unit/folder.h"
#include "trainer/run/affinity.h"

enum { RANKS_MAX = 8 };

/* Lists: what each rank could use. Cores: CPU c and c + threads are siblings where threads > 0. */
static const struct row {
        const char *what;
        uint32_t threads;
        const char *could[RANKS_MAX], *share[RANKS_MAX];
} rows[] = {
        { "alone", 0, { "0-15" }, { "0-15" } },
        { "one CPU", 0, { "3" }, { "3" } },
        { "two at one node", 0, { "0-15", "0-15" }, { "0-7", "8-15" } },
        { "three: parts differ by one", 0, { "0-7", "0-7", "0-7" }, { "0-1", "2-4", "5-7" } },
        { "two nodes of two", 0, { "0-7", "0-7", "8-15", "8-15" }, { "0-3", "4-7", "8-11", "12-15" } },
        { "nodes in turn", 0, { "0-7", "8-15", "0-7", "8-15" }, { "0-3", "8-11", "4-7", "12-15" } },
        { "siblings stay together", 8, { "0-15", "0-15" }, { "0-3,8-11", "4-7,12-15" } },
        { "half of a core", 8, { "0-3,8", "0-3,8" }, { "0-1,8", "2-3" } },
        { "a sibling above alone", 8, { "8-11", "8-11" }, { "8-9", "10-11" } },
        { "fewer cores than ranks: by CPU", 2, { "0-3", "0-3", "0-3" }, { "0", "1", "2-3" } },
        { "fewer CPUs than ranks: shared", 0, { "4-5", "4-5", "4-5" }, { "4-5", "4-5", "4-5" } },
        { "a mask of one CPU for all", 0, { "7", "7" }, { "7", "7" } },
        { "bound apart by mpirun", 0, { "0-1", "2-3" }, { "0-1", "2-3" } },
        { "they overlap", 0, { "0-5", "4-9" }, { "0-4", "5-9" } },
        { "one in the other", 0, { "0-15", "0-7" }, { "0-3,8-15", "4-7" } },
        { "an overlap of one: shared", 0, { "0-4", "4-8" }, { "0-4", "4-8" } },
        { "three overlap", 0, { "0-3", "2-5", "4-7" }, { "0-2", "3-4", "5-7" } },
        { "high numbers", 4096, { "100-101,4196-4197", "100-101,4196-4197" }, { "100,4196", "101,4197" } },
        { "the last one", 0, { "8190-8191", "8190-8191" }, { "8190", "8191" } },
};

static void check_row(const struct row *row) {
        struct cpu_list lists[RANKS_MAX];
        const struct cpu_list *could[RANKS_MAX];
        struct affinity_cores cores;
        uint32_t n = 0;

        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++)
                cores.of[c] = (uint16_t) (row->threads && c / row->threads % 2 ? c - row->threads : c);
        for (; n < RANKS_MAX && row->could[n]; n++) {
                assert_int_equal(cpu_list_read(row->could[n], &lists[n]), 0);
                could[n] = &lists[n];
        }
        for (uint32_t rank = 0; rank < n; rank++) {
                struct cpu_list share, within;
                char text[128];
                affinity_share(could, n, rank, &cores, &share);
                if (strcmp(cpu_list_write(&share, text, sizeof(text)), row->share[rank]) != 0)
                        fail_msg("%s: rank %u: %s, expected %s", row->what, rank, text, row->share[rank]);
                within = share;
                cpu_list_and(&within, could[rank]);
                assert_true(cpu_list_equal(&within, &share));
        }
}

static void test_shares(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                check_row(&rows[i]);
}

/* As many as a host may have: all that they have in common is given, each CPU once. */
static void test_many_ranks(void **state) {
        struct cpu_list all, given = {};
        const struct cpu_list *could[AFFINITY_RANKS_MAX];
        struct affinity_cores cores;

        assert_int_equal(cpu_list_read("0-200", &all), 0);
        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++)
                cores.of[c] = (uint16_t) c;
        for (uint32_t i = 0; i < AFFINITY_RANKS_MAX; i++)
                could[i] = &all;
        for (uint32_t i = 0; i < AFFINITY_RANKS_MAX; i++) {
                struct cpu_list share, twice;
                affinity_share(could, AFFINITY_RANKS_MAX, i, &cores, &share);
                twice = given;
                cpu_list_and(&twice, &share);
                assert_int_equal(cpu_list_first(&twice), CPU_LIST_CPUS);
                assert_true(cpu_list_first(&share) < CPU_LIST_CPUS);
                cpu_list_or(&given, &share);
        }
        assert_true(cpu_list_equal(&given, &all));
}

static int setup(void **state) {
        *state = make_folder();
        return 0;
}

static int teardown(void **state) {
        remove_folder(*state);
        return 0;
}

static void test_kernels_files(void **state) {
        const char *root = *state;
        struct cpu_list near;
        char text[64];

        write_text(root, "bus/pci/devices/0000:3b:00.0/local_cpulist", "0-1,8-9\n");
        write_text(root, "bus/pci/devices/0000:af:00.0/local_cpulist", "\n");
        write_text(root, "bus/pci/devices/0000:b0:00.0/local_cpulist", "");
        write_text(root, "bus/pci/devices/0000:b1:00.0/local_cpulist", "0-99999\n");
        assert_int_equal(affinity_near(root, "0000:3b:00.0", &near), 0);
        assert_string_equal(cpu_list_write(&near, text, sizeof(text)), "0-1,8-9");
        assert_int_equal(affinity_near(root, "0000:af:00.0", &near), -EINVAL);
        assert_int_equal(affinity_near(root, "0000:b0:00.0", &near), -ENODATA);
        assert_int_equal(affinity_near(root, "0000:b1:00.0", &near), -EINVAL);
        assert_int_equal(affinity_near(root, "0000:5e:00.0", &near), -ENOENT);
        assert_int_equal(affinity_near(root, "", &near), -EINVAL);
        assert_int_equal(affinity_near(root, "../0000:3b:00.0", &near), -EINVAL);
}

static void test_cores(void **state) {
        const char *root = *state;
        struct affinity_cores cores;
        struct cpu_list cpus;

        write_text(root, "devices/system/cpu/cpu1/topology/thread_siblings_list", "1,5\n");
        write_text(root, "devices/system/cpu/cpu5/topology/thread_siblings_list", "1,5\n");
        write_text(root, "devices/system/cpu/cpu6/topology/thread_siblings_list", "2,3\n"); /* not its own */
        write_text(root, "devices/system/cpu/cpu7/topology/thread_siblings_list", "nonsense\n");
        assert_int_equal(cpu_list_read("0-1,5-7", &cpus), 0);
        affinity_read_cores(root, &cpus, &cores);
        for (uint32_t c = 0; c < 10; c++)
                assert_int_equal(cores.of[c], c == 5 ? 1 : c);
}

/* This process, on the first CPU that it may use and on one that it may not. */
static void test_set(void **state) {
        struct cpu_list given, one = {}, now;

        assert_int_equal(cpu_list_get(0, &given), 0);
        cpu_list_add(&one, cpu_list_first(&given));
        cpu_list_add(&one, CPU_LIST_CPUS - 1);
        assert_int_equal(affinity_set(&one), 0);
        assert_int_equal(cpu_list_get(0, &now), 0);
        cpu_list_and(&one, &given);
        assert_true(cpu_list_equal(&now, &one));
        one = (struct cpu_list) {};
        cpu_list_add(&one, CPU_LIST_CPUS - 2);
        assert_int_equal(affinity_set(&one), 0);
        assert_int_equal(cpu_list_get(0, &one), 0);
        assert_true(cpu_list_equal(&now, &one));
        assert_int_equal(affinity_set(&given), 0);
        assert_int_equal(cpu_list_get(0, &one), 0);
        assert_true(cpu_list_equal(&now, &one)); /* never outside of what it has */
        assert_int_equal(cpu_list_set(0, &given), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_shares),
                cmocka_unit_test(test_many_ranks),
                cmocka_unit_test_setup_teardown(test_kernels_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cores, setup, teardown),
                cmocka_unit_test(test_set),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
