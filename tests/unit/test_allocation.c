/* Words of Open MPI and Slurm by which a host of an allocation is lost, and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "daemon/shim/allocation.h"

static void test_lost(void **state) {
        static const struct {
                const char *text, *host; /* NULL: none */
        } cases[] = {
                { "ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[15678,0],0] on node n1\n"
                  "  Remote daemon: [[15678,0],2] on node n2\n\nThis is usually due to",
                  "n2" },
                { "PRTE has lost communication with a remote daemon.\n\n  HNP daemon   : [p@0,0] on node a\n  Remote "
                  "daemon: [p@0,1] on node gpu-02.example.org\n",
                  "gpu-02.example.org" },
                { "step 7\nsrun: error: Node failure on n3\n", "n3" },
                { "srun: error: n2: task 1: Segmentation fault\n", NULL },
                { "ORTE has lost communication with a remote daemon.\n  Remote daemon: [[1,0],2] on node ", NULL },
                { "ORTE has lost communication with a remote daemon.\n  Remote daemon: on node \x1b[31m", NULL },
                { "", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct exit_verdict v;
                bool lost = allocation_lost(cases[i].text, strlen(cases[i].text), &v);
                assert_int_equal(lost, cases[i].host != NULL);
                if (!lost)
                        continue;
                assert_string_equal(v.host, cases[i].host);
                assert_true(v.exit_class == EXIT_CLASS_HOST_LOST && v.exit_code == -1 && strstr(v.reason, "lost"));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_lost) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
