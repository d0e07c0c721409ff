/* Each row of the table of a job's fields (daemon/rules/job_fields.h), in state.db and in what clients see. */
#include <float.h>
#include <math.h>

#include "daemon/rules/submission.h"
#include "tests/unit/methods_fixture.h"

/* ---- state.db ---- */

/* What a field is set to: as it is at first, its least, its greatest. */
enum round { INITIAL, LEAST, GREATEST, ROUND_MAX };

static int64_t number_of(const struct job_field *field, enum round round) {
        int64_t min, max;

        job_field_limits(field, &min, &max);
        if (field->asked != NO_OFFSET && !field->names) { /* what Submit takes */
                min = field->min;
                max = field->max;
        } else if (field->type == FIELD_I32) /* below that it means something: deaths are counted anew */
                min = field->initial;
        return round == LEAST ? min : round == GREATEST || field->initial > max ? max : field->initial;
}

static double double_of(const struct job_field *field, enum round round) {
        if (round == INITIAL)
                return field->unknown ? (double) NAN : 0;
        return round == LEAST ? 0 : field->unknown ? DBL_MAX : (double) field->max;
}

static const char *text_of_field(const struct job_field *field, enum round round) {
        static char text[64];

        if (!field->required && round == INITIAL)
                return NULL;
        (void) snprintf(text, sizeof(text), round == LEAST ? "x" : "/of the field %s", field->name);
        return text;
}

/* `at`: in a job, which owns what is put there, or in a submission. */
static void set_field(const struct job_field *field, void *at, enum round round) {
        const char *text = job_field_is_text(field) ? text_of_field(field, round) : NULL;

        if (field->type <= FIELD_BOOL)
                job_field_set_number(field, at, number_of(field, round));
        else if (field->type == FIELD_DOUBLE)
                *(double *) at = double_of(field, round);
        else if (job_field_is_text(field)) {
                free(*(char **) at);
                *(char **) at = text ? strdup(text) : NULL;
        }
}

static void check_field(const struct job_field *field, const struct job *job, enum round round) {
        const void *at = (const char *) job + field->stored;
        const char *text = job_field_is_text(field) ? *(const char *const *) at : NULL;
        double number = field->type == FIELD_DOUBLE ? *(const double *) at : 0;
        bool good = true;

        if (field->type <= FIELD_BOOL)
                good = job_field_number(field, at) == number_of(field, round);
        else if (field->type == FIELD_DOUBLE)
                good = number == double_of(field, round) || (isnan(number) && isnan(double_of(field, round)));
        else if (job_field_is_text(field))
                good = text ? text_of_field(field, round) && strcmp(text, text_of_field(field, round)) == 0
                            : !text_of_field(field, round);
        if (!good)
                fail_msg("%s: another value came back, round %d", field->name, round);
}

/* What bertd says itself when it inserts a job. */
static bool is_given(const struct job_field *field) {
        static const char *const names[] = { "uid", "gid", "user", "launcher", "submitted" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], field->name) == 0)
                        return true;
        return false;
}

static void round_trip(struct store *store, enum round round) {
        struct submission s = {};
        struct job *job = NULL, *back = NULL;
        struct error error = {};

        submission_defaults(&s);
        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (job_fields[i].asked != NO_OFFSET)
                        set_field(&job_fields[i], (char *) &s + job_fields[i].asked, round);
        if (store_insert(store, &s, 7, 8, "alice", LAUNCHER_SYSTEMD, &job, &error) < 0)
                fail_msg("%s", error.text);
        submission_free(&s);
        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (job_fields[i].changes)
                        set_field(&job_fields[i], (char *) job + job_fields[i].stored, round);
        if (round == GREATEST)
                job_lose(job, EXIT_CLASS_OOM, 5);
        store_mark(store, job);
        if (store_flush(store, &error) < 0 || store_load(store, job->id, &back, &error) < 0)
                fail_msg("%s", error.text);
        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (!is_given(&job_fields[i]))
                        check_field(&job_fields[i], back, round);
        assert_true(back->uid == 7 && back->gid == 8 && back->launcher == LAUNCHER_SYSTEMD && back->submitted > 0);
        assert_string_equal(back->user, "alice");
        assert_int_equal(back->lost_usec ? back->lost_usec[EXIT_CLASS_OOM] : 0, round == GREATEST ? 5 : 0);
        job_free(back);
}

static void test_every_field_comes_back(void **state) {
        struct fixture *f = *state;

        for (enum round round = 0; round < ROUND_MAX; round++)
                round_trip(f->node->store, round);
}

/* More than SQLite's integers hold is kept as the most that they do: a CHECK that fails would fail every commit. */
static void test_more_than_fits(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_QUEUED), *back = NULL;
        struct error error = {};

        job->steps = UINT64_MAX;
        store_mark(f->node->store, job);
        assert_int_equal(store_flush(f->node->store, &error), 0);
        assert_int_equal(store_load(f->node->store, job->id, &back, &error), 0);
        assert_int_equal(back->steps, INT64_MAX);
        job_free(back);
}

/* ---- GetJob ---- */

struct key {
        const char *key, *signature;
        enum job_field_shown shown;
        bool seen;
};

/* Each that is shown. */
static size_t keys_of_table(struct key *ret) {
        size_t n = 0;

        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (job_fields[i].shown != SHOWN_TO_NOBODY)
                        ret[n++] = (struct key) { job_field_key(&job_fields[i]), job_field_signature(&job_fields[i]),
                                                  job_fields[i].shown, false };
#define COMPUTED(name, type, who) ret[n++] = (struct key) { #name, type, who, false };
        JOB_COMPUTED(COMPUTED)
        return n;
}

static void see(struct key *keys, size_t n, const char *key, const char *signature) {
        size_t i = 0;

        while (i < n && strcmp(keys[i].key, key) != 0)
                i++;
        if (i == n || strcmp(keys[i].signature, signature) != 0 || keys[i].seen)
                fail_msg("%s %s: %s", key, signature, i == n ? "not in the table" : "another type, or twice");
        keys[i].seen = true;
}

static void check_keys(struct fixture *f, uint64_t id, bool owner) {
        struct key keys[128];
        size_t n = keys_of_table(keys);

        assert_string_equal(call_job(f, owner ? owner_uid() : stranger_uid(), "GetJob", "t", id), DONE);
        assert_true(sd_bus_message_enter_container(f->reply, 'a', "{sv}") > 0);
        for (const char *key, *signature; sd_bus_message_enter_container(f->reply, 'e', "sv") > 0;) {
                assert_true(sd_bus_message_read(f->reply, "s", &key) > 0);
                assert_true(sd_bus_message_peek_type(f->reply, NULL, &signature) > 0);
                see(keys, n, key, signature);
                assert_true(sd_bus_message_skip(f->reply, "v") > 0 && sd_bus_message_exit_container(f->reply) > 0);
        }
        for (size_t i = 0; i < n; i++)
                if (keys[i].seen != (owner || keys[i].shown == SHOWN_TO_ALL))
                        fail_msg("%s: %s", keys[i].key, keys[i].seen ? "seen" : "not seen");
}

static void test_what_is_shown(void **state) {
        struct fixture *f = *state;
        struct job *job = new_job(f, "command", JOB_RUNNING);
        struct attempt_run run = { .runs_on = 1 };

        job->run = &run; /* "first_exit", "runs_on" */
        check_keys(f, job->id, true);
        check_keys(f, job->id, false);
        job->run = NULL;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_every_field_comes_back, setup, teardown),
                cmocka_unit_test_setup_teardown(test_more_than_fits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_is_shown, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
