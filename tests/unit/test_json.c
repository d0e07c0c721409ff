/* A job as the daemon sends it (a{sv}) into struct job_info (ctl/dict.c, ctl/jobinfo.c) and out as JSON (ctl/json.c).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "ctl/dict.h"
#include "ctl/jobinfo.h"
#include "ctl/json.h"
#include "ctl/status_view.h"

/* A sealed message to read from; sd-bus makes messages only for a connection that has begun. */
struct fixture {
        sd_bus *bus;
        int peer;
};

static int set_up(void **state) {
        static struct fixture f;
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_true(sd_bus_new(&f.bus) >= 0);
        assert_true(sd_bus_set_fd(f.bus, pair[0], pair[0]) >= 0);
        assert_true(sd_bus_start(f.bus) >= 0);
        f.peer = pair[1];
        *state = &f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;
        (void) close(f->peer);
        f->bus = sd_bus_close_unref(f->bus);
        return 0;
}

static sd_bus_message *new_message(struct fixture *f) {
        sd_bus_message *m = NULL;
        assert_true(sd_bus_message_new_method_call(f->bus, &m, NULL, "/a", "a.b", "C") >= 0);
        return m;
}

static void seal(sd_bus_message *m) {
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, 1) >= 0);
}

static const char *text_at(const json_t *object, const char *key) {
        return json_string_value(json_object_get(object, key));
}

static void test_read_job(void **state) {
        sd_bus_message *m = new_message(*state);
        cleanup_job_info struct job_info job = {};

        /* Other widths than agreed, an unknown key, a known one of a type that does not fit, one given twice. */
        assert_true(sd_bus_message_append(m, "a{sv}", 13, "id", "t", UINT64_C(42), "name", "s", "first", "name", "s",
                                          "second", "ranks", "u", 8u, "priority", "i", -5, "exit", "i", 75, "loss", "d",
                                          2.5, "rate", "u", 7u, "new_field", "a(su)", 1, "x", 1u, "reason", "u", 3u,
                                          "command", "as", 2, "echo", "a b", "step", "x", INT64_C(-1), "state", "s",
                                          "running") >= 0);
        seal(m);
        assert_int_equal(job_info_read(m, &job), 1);
        assert_int_equal(job.id, 42);
        assert_string_equal(job.name, "second");
        assert_int_equal(job.ranks, 8);
        assert_int_equal(job.priority, -5);
        assert_int_equal(job.exit, 75);
        assert_true(job.loss == 2.5 && job.rate == 7);
        assert_null(job.reason);
        assert_string_equal(job.command[1], "a b");
        assert_null(job.command[2]);
        assert_int_equal(job.step, 0);
        assert_false(job_is_at_rest(&job));
        (void) sd_bus_message_unref(m);
}

static void test_read_jobs(void **state) {
        sd_bus_message *m = new_message(*state);
        struct job_list list = {};
        struct job_info job;

        assert_true(sd_bus_message_append(m, "aa{sv}", 3, 1, "id", "t", UINT64_C(3), 0, 1, "id", "t", UINT64_C(1)) >=
                    0);
        seal(m);
        assert_int_equal(sd_bus_message_enter_container(m, 'a', "a{sv}"), 1);
        while (job_info_read(m, &job) > 0)
                assert_int_equal(job_list_add(&list, &job), 0);
        assert_int_equal(list.n, 3);
        assert_int_equal(list.jobs[0].id, 3);
        assert_int_equal(list.jobs[1].id, 0);
        assert_int_equal(list.jobs[1].exit, -1);
        assert_int_equal(list.jobs[2].id, 1);
        job_list_clear(&list);
        (void) sd_bus_message_unref(m);
}

/* Fields that this bertctl has no name for are shown as they came. */
static void test_other_fields(void **state) {
        sd_bus_message *m = new_message(*state);
        cleanup_job_info struct job_info job = {};
        cleanup_free char *drawn = NULL;
        size_t size;
        struct term term = { .width = 80 };

        assert_true(sd_bus_message_append(m, "a{sv}", 8, "id", "t", UINT64_C(42), "colour", "s", "blue", "wheels", "u",
                                          3u, "slope", "i", -2, "share", "d", 0.5, "tags", "as", 2, "a", "b",
                                          "something_with_a_name", "s", "x", "odd", "a(su)", 1, "x", 1u) >= 0);
        seal(m);
        assert_int_equal(job_info_read(m, &job), 1);
        (void) sd_bus_message_unref(m);
        cleanup_json json_t *object = json_job(&job);
        assert_string_equal(text_at(object, "colour"), "blue");
        assert_int_equal(json_integer_value(json_object_get(object, "wheels")), 3);
        assert_int_equal(json_integer_value(json_object_get(object, "slope")), -2);
        assert_true(json_real_value(json_object_get(object, "share")) == 0.5);
        assert_string_equal(json_string_value(json_array_get(json_object_get(object, "tags"), 1)), "b");
        assert_null(json_object_get(object, "odd"));
        FILE *out = open_memstream(&drawn, &size);
        assert_int_equal(status_draw_job(out, &term, &job, 0, NULL), 0);
        assert_int_equal(fclose(out), 0);
        assert_non_null(strstr(drawn, "\n  colour      blue\n"));
        assert_non_null(strstr(drawn, "\n  tags        a b\n"));
        assert_non_null(strstr(drawn, "              something_with_a_name: x\n"));
}

static void test_wrong_message(void **state) {
        sd_bus_message *m = new_message(*state);
        cleanup_job_info struct job_info job = {};

        assert_true(sd_bus_message_append(m, "s", "no dictionary") >= 0);
        seal(m);
        assert_true(job_info_read(m, &job) < 0);
        (void) sd_bus_message_unref(m);
}

static bool null_at(const json_t *object, const char *key) { return json_is_null(json_object_get(object, key)); }

static void test_unknown_is_null(void **state) {
        const struct job_info job = { .id = 1, .exit = -1, .loss = NAN, .rate = NAN };
        static const char *const nulls[] = {
                "step",    "steps", "loss", "rate",     "eta_sec", "checkpoint_step", "checkpoint_path",
                "started", "ended", "exit", "submitted"
        };
        static const char *const present[] = { "id",   "name",  "user", "state",   "reason",
                                               "kind", "ranks", "gpus", "attempts" };
        cleanup_json json_t *object = json_job(&job);

        for (size_t i = 0; i < ELEMENTSOF(nulls); i++)
                assert_true(null_at(object, nulls[i]));
        for (size_t i = 0; i < ELEMENTSOF(present); i++)
                assert_true(json_object_get(object, present[i]) && !null_at(object, present[i]));
}

static void test_known(void **state) {
        char running[] = "running", path[] = "/x/step-000000000.ckpt", name[] = "gr\u00f6\u00dfe \"q\"\n";
        const struct job_info job = { .id = UINT64_MAX,
                                      .name = name,
                                      .state = running,
                                      .exit = 0,
                                      .loss = 0.1,
                                      .rate = 12.5,
                                      .steps = 10,
                                      .eta_sec = 60,
                                      .checkpoint_path = path,
                                      .submitted = UINT64_C(1764000000) * 1000000 };
        cleanup_json json_t *object = json_job(&job);

        assert_true(json_integer_value(json_object_get(object, "id")) == INT64_MAX);
        assert_string_equal(text_at(object, "name"), name);
        assert_int_equal(json_integer_value(json_object_get(object, "step")), 0);
        assert_false(null_at(object, "step"));
        assert_int_equal(json_integer_value(json_object_get(object, "eta_sec")), 60);
        assert_false(null_at(object, "exit"));
        assert_false(null_at(object, "checkpoint_step"));
        assert_string_equal(text_at(object, "submitted"), "2025-11-24T16:00:00Z");
}

static void test_printed(void **state) {
        char running[] = "running";
        const struct job_info job = { .id = 7, .state = running, .exit = -1, .loss = 3.2, .rate = NAN };
        struct error error = {};
        cleanup_free char *out = NULL;
        size_t size;
        FILE *f = open_memstream(&out, &size);

        assert_int_equal(json_print(f, json_job(&job), &error), 0);
        (void) fclose(f);
        assert_non_null(strstr(out, "\n  \"id\": 7,\n"));
        assert_non_null(strstr(out, "\"loss\": 3.2,"));
        assert_int_equal(out[size - 1], '\n');
        assert_true(json_print(stdout, NULL, &error) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_read_job, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_read_jobs, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_other_fields, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_wrong_message, set_up, tear_down),
                cmocka_unit_test(test_unknown_is_null),
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_printed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
