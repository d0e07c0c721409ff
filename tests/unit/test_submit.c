/* The gate for submissions: each message is read from a real sd-bus message, each refusal names its key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bertd/job.h"
#include "common/cleanup.h"
#include "common/limits.h"
#include "common/utf8.h"
#include "daemon/bus/submit.h"

static sd_bus *bus;
static int other_end;

/* A message needs a connection, but nothing is ever sent on this one. */
static int setup(void **state) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -1;
        other_end = fds[1];
        return sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fds[0], fds[0]) < 0 || sd_bus_start(bus) < 0 ? -1 : 0;
}

static int teardown(void **state) {
        bus = sd_bus_close_unref(bus);
        return close(other_end);
}

static bool unlimited; /* the host's launcher cannot hold a job to memory and cpus */

static sd_bus_message *begin(void) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, NULL, "/x", "x.y", "Submit") >= 0);
        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        return m;
}

/* Seals, reads and checks; the error's text, "" when all is well. Takes the message. */
static const char *verdict(sd_bus_message *m, bool *ret_too_large) {
        static struct error error;
        cleanup_submission struct submission s = {};
        const struct submit_host host = { .slots = 8, .gpus = 1, .limits = !unlimited };
        bool too_large = false;

        error = (struct error) {};
        assert_true(sd_bus_message_close_container(m) >= 0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        submission_defaults(&s);
        if (submission_read(&s, m, &error) >= 0)
                (void) submission_check(&s, &host, &too_large, &error);
        (void) sd_bus_message_unref(m);
        if (ret_too_large)
                *ret_too_large = too_large;
        return error.text;
}

static sd_bus_message *good(void) {
        sd_bus_message *m = begin();

        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "name", "s", "n", "kind", "s", "command", "cwd", "s",
                                          "/tmp", "command", "as", 1, "true") >= 0);
        return m;
}

static void test_good(void **state) {
        sd_bus_message *m = good();

        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "ranks", "u", 4, "threads", "u", 2, "environment",
                                          "as", 1, "A=b", "rlimits", "a(utt)", 1, 7, (uint64_t) 1, (uint64_t) 2) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "memory", "t", (uint64_t) 1 << 30, "cpus", "d",
                                          2.5, "hang_sec", "i", 0, "start_sec", "i", 60, "on_nan", "s", "rollback",
                                          "ends_with", "s", "last") >= 0);
        assert_string_equal(verdict(m, NULL), "");
}

static void refused(const char *key, const char *type, uint64_t value, const char *expected) {
        sd_bus_message *m = good();

        assert_true(sd_bus_message_append(m, "{sv}", key, type, value) >= 0);
        const char *text = verdict(m, NULL);
        if (!strstr(text, expected))
                fail_msg("\"%s\" does not say \"%s\"", text, expected);
}

static void refused_double(const char *key, double value, const char *expected) {
        sd_bus_message *m = good();

        assert_true(sd_bus_message_append(m, "{sv}", key, "d", value) >= 0);
        const char *text = verdict(m, NULL);
        if (!strstr(text, expected))
                fail_msg("\"%s\" does not say \"%s\"", text, expected);
}

static void refused_string(const char *key, const char *value, const char *expected) {
        sd_bus_message *m = good();

        assert_true(sd_bus_message_append(m, "{sv}", key, "s", value) >= 0);
        const char *text = verdict(m, NULL);
        if (!strstr(text, expected))
                fail_msg("\"%s\" does not say \"%s\"", text, expected);
}

/* As docs/bertd-job.5 has them. */
static void test_defaults(void **state) {
        struct submission s;

        submission_defaults(&s);
        assert_true(s.ranks == 1 && s.threads == 1 && s.gpus == 0 && s.priority == 0);
        assert_true(s.max_without_progress == 5 && s.backoff_min_sec == 5 && s.backoff_max_sec == 600);
        assert_true(s.grace_sec == 120 && s.keep == 3 && s.keep_every == 0 && s.umask == 022);
        assert_true(s.hang_sec == -1 && s.start_sec == -1 && s.memory == 0 && s.cpus == 0);
        assert_true(s.log_max_size == 64 << 20 && s.log_keep == 2);
}

static void test_limits_of_the_caller(void **state) {
        struct submission s = { .n_rlimits = 2,
                                .rlimits = { { RLIMIT_NOFILE, 1 << 20, UINT64_MAX }, { RLIMIT_CORE, 0, 0 } } };
        struct rlimit own[RLIM_NLIMITS];

        for (int i = 0; i < RLIM_NLIMITS; i++)
                own[i] = (struct rlimit) { 10, 512 };
        submission_clamp_limits(&s, own);
        assert_int_equal(s.n_rlimits, RLIM_NLIMITS);
        assert_int_equal(s.rlimits[RLIMIT_NOFILE].hard, 512); /* no more than the caller has */
        assert_int_equal(s.rlimits[RLIMIT_NOFILE].soft, 512);
        assert_int_equal(s.rlimits[RLIMIT_CORE].hard, 0);    /* less is its own wish */
        assert_int_equal(s.rlimits[RLIMIT_RTPRIO].soft, 10); /* what it did not say is its own, not the daemon's */
        assert_int_equal(s.rlimits[RLIMIT_RTPRIO].hard, 512);
}

static void test_refusals(void **state) {
        refused("ranks", "u", 0, "ranks: is 0, expected 1 to 4096");
        refused("ranks", "u", 1000000000, "ranks: is 1000000000");
        refused("threads", "u", 0, "threads: is 0");
        refused("gpus", "u", 2, "gpus: 2, this host has 1");
        refused("umask", "u", 01000, "umask");
        refused("priority", "i", 5000, "priority: is 5000, expected -1000 to 1000");
        refused("ranks", "i", 1, "ranks: has type i, expected u");
        refused("rank", "u", 1, "unknown key \"rank\"");
        refused("backoff_min_sec", "u", 700, "backoff_min_sec: is 700, above backoff_max_sec 600");
        refused("keep_every", "t", UINT64_MAX, "keep_every");
        refused("memory", "t", 4096, "memory: is 4096 bytes, expected 0 (no limit) or 1048576 and more");
        refused("memory", "t", UINT64_MAX, "memory: is -1, expected 0 to");
        refused("hang_sec", "i", (uint64_t) -2, "hang_sec: is -2, expected -1 to 31536000");
        refused("start_sec", "i", 40000000, "start_sec: is 40000000");
        refused("log_max_size", "t", 1000, "log_max_size: is 1000, expected 65536 to 1099511627776");
        refused("log_keep", "u", 0, "log_keep: is 0, expected 1 to 16");
        refused("log_keep", "u", 17, "log_keep: is 17");
        refused_double("cpus", -1, "cpus: is -1, expected 0 to 65536");
        refused_double("cpus", NAN, "cpus: is nan");
        refused_double("cpus", 0.001, "cpus: is 0.001, expected 0 (no limit) or 0.01 and more");
        refused("nice", "i", 20, "nice: is 20, expected -20 to 19");
        refused("nice", "i", -21, "nice: is -21, expected -20 to 19");
        for (const char *const *l = (const char *const[]) { "x", "3-1", "1,1", "0,", "-1", "8192", "1-", "0 1", NULL };
             *l; l++)
                refused_string("cpu_list", *l, "expected CPUs, e.g. 0-3,8");
        for (const char *const *l = (const char *const[]) { "x", "batch:1", "rr", "rr:100", "rr:x", "io-idle:0",
                                                            "io-best-effort:8", "rr:0001", NULL };
             *l; l++)
                refused_string("scheduling", *l, "expected e.g. batch,io-best-effort:7");
        refused_string("on_nan", "ignore", "on_nan: \"ignore\", expected stop or rollback");
        refused_string("ends_with", "never", "ends_with: \"never\", expected first or last");
        refused_string("name", "again", "name: given twice");
        refused_string("run_dir", "relative/path", "run_dir: \"relative/path\" is not an absolute path");
        refused_string("on_exit", "a\nb", "on_exit: 'a b' contains a newline");
}

/* Of every number that a job may ask for, just beyond both of its bounds. */
static void test_bounds_of_numbers(void **state) {
        char expected[64];

        for (size_t i = 0; i < JOB_N_FIELDS; i++) {
                const struct job_field *field = &job_fields[i];
                if (field->asked == NO_OFFSET || field->names || field->type > FIELD_I32)
                        continue;
                (void) snprintf(expected, sizeof(expected), "%s: is ", field->name);
                if (field->min > 0 || field->type == FIELD_I32)
                        refused(field->name, job_field_signature(field), (uint64_t) field->min - 1, expected);
                refused(field->name, job_field_signature(field), (uint64_t) field->max + 1, expected);
        }
}

static void test_too_large_says_numbers(void **state) {
        sd_bus_message *m = good();
        bool too_large;

        assert_true(sd_bus_message_append(m, "{sv}{sv}", "ranks", "u", 5, "threads", "u", 2) >= 0);
        assert_non_null(strstr(verdict(m, &too_large), "5 × 2 = 10 slots, this host has 8"));
        assert_true(too_large);
}

static void test_missing(void **state) {
        static const struct {
                const char *name, *kind, *cwd, *expected;
        } rows[] = {
                { NULL, "command", "/", "name: missing" },
                { "n", NULL, "/", "kind: missing" },
                { "n", "", "/", "kind: \"\", expected pretrain, finetune or command" },
                { "n", "command", NULL, "cwd: missing" },
                { "n", "command", "/", "command: missing" },
                { "n", "pretrain", "/", "spec: missing" },
                { "n", "dance", "/", "kind: \"dance\", expected pretrain, finetune or command" },
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                sd_bus_message *m = begin();
                if (rows[i].name)
                        assert_true(sd_bus_message_append(m, "{sv}", "name", "s", rows[i].name) >= 0);
                if (rows[i].kind)
                        assert_true(sd_bus_message_append(m, "{sv}", "kind", "s", rows[i].kind) >= 0);
                if (rows[i].cwd)
                        assert_true(sd_bus_message_append(m, "{sv}", "cwd", "s", rows[i].cwd) >= 0);
                assert_non_null(strstr(verdict(m, NULL), rows[i].expected));
        }
        sd_bus_message *m = begin();
        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}", "name", "s", "n", "kind", "s", "pretrain", "cwd",
                                          "s", "/", "spec", "s", "kind: pretrain", "ends_with", "s", "last") >= 0);
        assert_string_equal(verdict(m, NULL), "ends_with: not for a job of kind pretrain");
}

/* A path of so many bytes. */
static const char *long_path(size_t size) {
        static char path[BERTD_PATH_MAX + 2];

        memset(path, 'x', size);
        path[0] = '/';
        path[size] = '\0';
        return path;
}

/* The verdict on a job with one more word or variable of so many bytes. */
static const char *with_word(const char *key, size_t size) {
        cleanup_free char *word = malloc(size + 1);
        sd_bus_message *m = begin();

        memset(word, 'x', size);
        word[1] = '=';
        word[size] = '\0';
        bool command = strcmp(key, "command") == 0;
        assert_true(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}", "name", "s", "n", "kind", "s", "command", "cwd",
                                          "s", long_path(BERTD_PATH_MAX), "command", "as", 2, "true",
                                          command ? word : "", "environment", "as", 1, command ? "A=1" : word) >= 0);
        return verdict(m, NULL);
}

static void test_bounds_of_strings(void **state) {
        cleanup_free char *big = malloc(BERTD_SPEC_MAX + 2);

        memset(big, 'x', BERTD_SPEC_MAX + 1);
        big[BERTD_SPEC_MAX + 1] = '\0';
        refused_string("spec", big, "spec: 262145 bytes, at most 262144 are allowed; shorten it");
        refused_string("on_nan", "xxxxxxxxxxxxxxxxx", "xxxxxxxxxxxxxxxxx\", expected stop or rollback");
        refused_string("cpu_list", long_path(BERTD_CPU_LIST_MAX + 1), "cpu_list: has ");
        refused_string("run_dir", long_path(4096), "run_dir: 4096 bytes, at most 4095 are allowed; use a shorter path");
        refused_string("on_exit", long_path(4096), "on_exit: 4096 bytes, at most 4095 are allowed; use a shorter path");
        sd_bus_message *m = good();
        assert_true(sd_bus_message_append(m, "{sv}", "run_dir", "s", long_path(4095)) >= 0);
        assert_string_equal(verdict(m, NULL), "");
        m = good();
        assert_true(sd_bus_message_append(m, "{sv}", "environment", "as", 1, "NOVALUE") >= 0);
        assert_non_null(strstr(verdict(m, NULL), "\"NOVALUE\" is not NAME=VALUE"));
        m = good();
        assert_true(sd_bus_message_append(m, "{sv}", "rlimits", "a(utt)", 1, 99, (uint64_t) 1, (uint64_t) 2) >= 0);
        assert_non_null(strstr(verdict(m, NULL), "no resource 99"));
}

/* "true" counts 8, as each short word, and the rest its bytes with the NUL. */
static void test_bounds_of_words(void **state) {
        assert_string_equal(with_word("command", (64 << 10) - 8 - 1), "");
        assert_string_equal(
                with_word("command", (64 << 10) - 8),
                "command: 65537 bytes, at most 65536 are allowed; write it into a script and submit the script");
        assert_string_equal(with_word("environment", (1 << 20) - 1), "");
        assert_string_equal(with_word("environment", 1 << 20),
                            "environment and spec: 1048577 bytes, at most 1048576 are allowed; unset large variables, "
                            "e.g. submit with env -u NAME");
        char *words[] = { (char *) "", (char *) "1234567", (char *) "12345678", NULL };
        assert_int_equal(limits_words_size(words), 8 + 8 + 9);
        assert_int_equal(limits_words_size(NULL), 0);
}

/* A limit that nothing would hold a job to is not taken. */
static void test_limits_that_cannot_be_held(void **state) {
        unlimited = true;
        refused("memory", "t", UINT64_C(1) << 30, "memory: this bertd cannot enforce it");
        refused_double("cpus", 2.5, "cpus: this bertd cannot enforce it");
        assert_string_equal(verdict(good(), NULL), "");
        unlimited = false;
}

static bool sd_bus_takes(const char *text) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, NULL, "/x", "x.y", "Submit") >= 0);
        int r = sd_bus_message_append(m, "s", text);
        (void) sd_bus_message_unref(m);
        return r >= 0;
}

/* What we take for text is what sd-bus sends, and nothing else: by every character of the first plane, the edges of the
 * others, and what only looks like one. */
static void test_text_is_what_sd_bus_takes(void **state) {
        for (uint32_t c = 1, low; c < 0x200000; c++) {
                low = c & 0xffff;
                if (c > 0xffff && low > 4 && low < 0xfffa)
                        c |= 0xfffa;
                const char bytes4[] = { (char) (0xf0 | c >> 18), (char) (0x80 | (c >> 12 & 0x3f)),
                                        (char) (0x80 | (c >> 6 & 0x3f)), (char) (0x80 | (c & 0x3f)), 0 };
                const char bytes3[] = { (char) (0xe0 | (c >> 12 & 0xf)), bytes4[2], bytes4[3], 0 };
                const char bytes2[] = { (char) (0xc0 | (c >> 6 & 0x1f)), bytes4[3], 0 };
                const char bytes1[] = { (char) (c & 0xff), 0 };
                const char *texts[] = { bytes4, bytes3, bytes2, bytes1, bytes4 + 1 };
                for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                        if (text_is_utf8(texts[i]) != sd_bus_takes(texts[i]))
                                fail_msg("U+%04X, in %zu bytes", c, strlen(texts[i]));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limits_that_cannot_be_held),
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_limits_of_the_caller),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_bounds_of_numbers),
                cmocka_unit_test(test_too_large_says_numbers),
                cmocka_unit_test(test_missing),
                cmocka_unit_test(test_bounds_of_strings),
                cmocka_unit_test(test_bounds_of_words),
                cmocka_unit_test(test_text_is_what_sd_bus_takes),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
