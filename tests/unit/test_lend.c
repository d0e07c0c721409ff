/* Leases and draining: what is granted at once, what is refused and why, what never happens to a lease. */
#include "tests/unit/act_fixture.h"

#include "daemon/bus/submit.h"
#include "daemon/rules/ledger.h"

#define LEASH "/usr/libexec/bertd/bertd-leash"
#define CHANNEL "0123456789abcdef0123456789abcdef"

static int setup_lender(void **state) {
        (void) setup(state);
        struct fixture *f = *state;

        f->node->options.launcher = LAUNCHER_SYSTEMD;
        f->node->launchers[LAUNCHER_SYSTEMD] = &launcher;
        return 0;
}

static void make_request(struct submission *s, const char *of, uint32_t ranks) {
        submission_defaults(s);
        s->lease_of = strdup(of);
        s->lease_name = strdup("bert-base");
        s->channel = strdup(CHANNEL);
        s->cwd = strdup("/");
        s->ranks = ranks;
        s->threads = 1;
        s->gpus = 0;
}

/* Up to the commit. */
static int ask(struct fixture *f, struct act *a, const char *of, uint32_t ranks) {
        struct submission s;
        struct error error = {};

        make_request(&s, of, ranks);
        *a = of_user(f, geteuid());
        assert_int_equal(submission_make_lease(&s, LEASH, &error), 0);
        int r = act_may_lend(a);
        if (r >= 0)
                r = act_check_submission(a, &s);
        if (r >= 0)
                r = act_lend(a, &s, getegid(), "me");
        submission_free(&s);
        return r;
}

static uint64_t lend(struct fixture *f, const char *of, uint32_t ranks) {
        struct act a;

        if (ask(f, &a, of, ranks) != 0)
                fail_msg("%s", f->refusal.text);
        uint64_t id = a.job->id;
        assert_true(settle_now(f->node->settle));
        act_submitted(&a);
        commit(f, &a);
        return id;
}

static void test_granted_at_once(void **state) {
        struct fixture *f = *state;
        uint64_t id = lend(f, "h1:42", 2);
        const struct job *job = job_of(f, id);

        assert_int_equal(starts, 1);
        assert_int_equal(job->state, JOB_STARTING);
        assert_int_equal(f->node->slots_used, 2);
        assert_string_equal(job->name, "leased to h1:42");
        assert_string_equal(job->lease_name, "bert-base");
        assert_true(job_is_lease(job));
}

static void test_busy_names_the_holder(void **state) {
        struct fixture *f = *state;
        struct act a;

        (void) lend(f, "h1:42", 3);
        assert_refused(f, ask(f, &a, "h3:7", 2), BERTD_ERROR_BUSY,
                       "1 of 4 slots are free, 2 are needed: job 1 of me, a lease of h1:42");
        (void) submit(f, 1);
        assert_refused(f, ask(f, &a, "h3:7", 1), BERTD_ERROR_BUSY,
                       "all 4 slots are busy: job 1 of me, a lease of h1:42 and 1 other");
        assert_int_equal(store_count(f->node->store), 2);
}

/* Both in one commit, before either runs. */
static void test_two_at_once_get_no_slot_twice(void **state) {
        struct fixture *f = *state;
        struct act a, b;

        assert_int_equal(ask(f, &a, "h1:42", 3), 0);
        assert_refused(f, ask(f, &b, "h3:7", 3), BERTD_ERROR_BUSY, "1 of 4 slots are free");
        assert_int_equal(ask(f, &b, "h3:7", 1), 0);
        assert_true(settle_now(f->node->settle));
        act_submitted(&a);
        act_submitted(&b);
        commit(f, &a);
        act_clear(&b);
        assert_int_equal(starts, 2);
        assert_int_equal(f->node->slots_used, SLOTS);
}

/* What waits in the queue is not overtaken, and not evicted either. */
static void test_what_a_job_waits_for_is_not_lent(void **state) {
        struct fixture *f = *state;
        struct act a;

        (void) submit(f, 2);
        (void) submit(f, 4);
        assert_refused(f, ask(f, &a, "h1:42", 1), BERTD_ERROR_BUSY, "job 2 of me waits");
}

static void test_more_than_the_host_has(void **state) {
        struct fixture *f = *state;
        struct act a;

        assert_refused(f, ask(f, &a, "h1:42", SLOTS + 1), BERTD_ERROR_TOO_LARGE, "this host has 4");
}

static void test_fork_lends_nothing(void **state) {
        struct fixture *f = *state;
        struct act a;

        f->node->options.launcher = LAUNCHER_FORK;
        assert_refused(f, ask(f, &a, "h1:42", 1), BERTD_ERROR_LENDS_NOTHING, "run bertd as root under systemd");
}

static void test_it_is_never_tried_again(void **state) {
        struct fixture *f = *state;
        uint64_t id = lend(f, "h1:42", 1);
        struct job *job = NULL;
        struct error error = {};

        say_hello(f, job_of(f, id));
        fails(f, job_of(f, id));
        assert_int_equal(f->node->slots_used, 0);
        assert_int_equal(store_load(f->node->store, id, &job, &error), 0);
        assert_int_equal(job->state, JOB_FAILED);
        job_free(job);
        turned_go(f->node->loop, DAY);
        assert_int_equal(starts, 1);
}

/* What its user reports for it keeps no row, and takes no other job's: ended leases are counted once. */
static void test_its_checkpoints_do_not_count(void **state) {
        struct fixture *f = *state;
        uint64_t id = lend(f, "h1:42", 1);
        struct job *job = NULL;
        struct error error = {};

        say_hello(f, job_of(f, id));
        cleanup_free char *path = format_string("/home/me/jobs/%lu/a.ckpt", (unsigned long) id);
        struct checkpoint row = { .step = 1, .state = CHECKPOINT_GOOD, .attempt = 1, .path = path, .dirty = true };
        assert_true(job_checkpoint_add(job_of(f, id), &row) >= 0);
        assert_true(ledger_is_below_job(job_of(f, id)));
        fails(f, job_of(f, id));
        assert_int_equal(store_load(f->node->store, id, &job, &error), 0);
        assert_false(job->holds_checkpoints);
        job_free(job);
        assert_int_equal(store_held(f->node->store), 0);
}

static void test_it_can_only_be_cancelled(void **state) {
        struct fixture *f = *state;
        uint64_t id = lend(f, "h1:42", 1);

        say_hello(f, job_of(f, id));
        struct act a = about(f, geteuid(), id);
        assert_refused(f, act_pause(&a), BERTD_ERROR_WRONG_STATE, "is a lease of h1:42: cannot pause it");
        assert_refused(f, act_checkpoint(&a), BERTD_ERROR_WRONG_STATE, "is a lease of h1:42");
        assert_refused(f, act_resume(&a, &(struct resume_options) {}), BERTD_ERROR_WRONG_STATE, "cannot resume it");
        assert_int_equal(act_cancel(&a, false), 0);
        commit(f, &a);
        assert_int_equal(f->stops, 1);
        fails(f, job_of(f, id));
        assert_int_equal(f->node->slots_used, 0);
}

static void test_requests_that_are_wrong(void **state) {
        static const struct {
                const char *of, *channel, *words;
        } wrong[] = { { "h1", CHANNEL, "lease_of" },      { "h1:", CHANNEL, "lease_of" },
                      { "h1:0", CHANNEL, "lease_of" },    { "-oProxyCommand=x:1", CHANNEL, "lease_of" },
                      { "h1:4\n", CHANNEL, "lease_of" },  { "h1:4", "0123", "channel" },
                      { "h1:4", CHANNEL "0", "channel" }, { ":4", CHANNEL, "lease_of" },
                      { "h1 x:4", CHANNEL, "lease_of" },  { "h1:4", "../../../../../../../../../../etc", "channel" } };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                struct submission s;
                struct error error = {};
                make_request(&s, wrong[i].of, 1);
                free(s.channel);
                s.channel = strdup(wrong[i].channel);
                assert_true(submission_make_lease(&s, LEASH, &error) < 0);
                assert_non_null(strstr(error.text, wrong[i].words));
                submission_free(&s);
        }
}

/* Its program is bertd's choice. */
static void test_a_command_of_its_own_is_refused(void **state) {
        char *command[] = { strdup("/bin/sh"), NULL }, **given = calloc(2, sizeof(char *));
        struct submission s;
        struct error error = {};

        given[0] = command[0];
        make_request(&s, "h1:42", 1);
        s.command = given;
        assert_true(submission_make_lease(&s, LEASH, &error) < 0);
        assert_non_null(strstr(error.text, "no command"));
        submission_free(&s);
}

static void test_a_long_name_of_a_host_is_cut(void **state) {
        struct submission s;
        struct error error = {};
        char of[BERTD_HOST_MAX + 4];

        memset(of, 'h', BERTD_HOST_MAX);
        (void) snprintf(of + BERTD_HOST_MAX, 4, ":42");
        make_request(&s, of, 1);
        assert_int_equal(submission_make_lease(&s, LEASH, &error), 0);
        assert_int_equal(strlen(s.name), BERTD_NAME_MAX);
        assert_string_equal(s.name + BERTD_NAME_MAX - 3, ":42");
        submission_free(&s);
}

/* ---- draining ---- */

static void drain(struct fixture *f, const char *reason, bool move) {
        struct act a = of_user(f, geteuid());

        assert_int_equal(act_drain(&a, reason, move), 0);
        assert_true(settle_now(f->node->settle));
        act_drained(&a, reason, move);
        commit(f, &a);
}

static void test_drained(void **state) {
        struct fixture *f = *state;
        struct act a;

        drain(f, "new fan", false);
        assert_refused(f, ask(f, &a, "h1:42", 1), BERTD_ERROR_DRAINED, "drained: new fan");
        (void) submit(f, 1);
        turned_go(f->node->loop, DAY);
        assert_int_equal(starts, 0);
        struct act b = of_user(f, geteuid());
        assert_int_equal(act_undrain(&b), 0);
        assert_true(settle_now(f->node->settle));
        act_undrained(&b);
        commit(f, &b);
        assert_int_equal(starts, 1);
}

static void test_drained_after_a_restart(void **state) {
        struct fixture *f = *state;

        drain(f, "new  fan: 14:00", true);
        uint64_t since = f->node->drain.since;
        f->node->drain = (struct node_drain) {};
        act_load_drain(f->node);
        assert_string_equal(f->node->drain.reason, "new  fan: 14:00");
        assert_true(f->node->drain.move);
        assert_true(f->node->drain.since <= since && since - f->node->drain.since < USEC_PER_SEC);
}

static void test_leases_are_asked_to_move(void **state) {
        struct fixture *f = *state;
        uint64_t id = lend(f, "h1:42", 1);

        drain(f, "new fan", true);
        assert_int_equal(f->moves, 0); /* its shim is not there yet */
        say_hello(f, job_of(f, id));
        assert_int_equal(f->moves, 1);
        drain(f, "new fan", true);
        assert_int_equal(f->moves, 2);
        drain(f, "new fan", false);
        assert_int_equal(f->moves, 2);
        fails(f, job_of(f, id));
}

static void test_reasons_that_are_wrong(void **state) {
        struct fixture *f = *state;
        struct act a = of_user(f, geteuid());
        char longer[BERTD_DRAIN_REASON_MAX + 2];

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        assert_refused(f, act_drain(&a, longer, false), BERTD_ERROR_INVALID_SPEC, "at most 256 bytes");
        assert_refused(f, act_drain(&a, "a\033[2J", false), BERTD_ERROR_INVALID_SPEC, "one line");
        assert_refused(f, act_drain(&a, "a\nb", false), BERTD_ERROR_INVALID_SPEC, "one line");
}

#define LEND_TEST(function) cmocka_unit_test_setup_teardown(function, setup_lender, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                LEND_TEST(test_granted_at_once),
                LEND_TEST(test_busy_names_the_holder),
                LEND_TEST(test_two_at_once_get_no_slot_twice),
                LEND_TEST(test_what_a_job_waits_for_is_not_lent),
                LEND_TEST(test_more_than_the_host_has),
                LEND_TEST(test_fork_lends_nothing),
                LEND_TEST(test_it_is_never_tried_again),
                LEND_TEST(test_its_checkpoints_do_not_count),
                LEND_TEST(test_it_can_only_be_cancelled),
                cmocka_unit_test(test_requests_that_are_wrong),
                cmocka_unit_test(test_a_command_of_its_own_is_refused),
                cmocka_unit_test(test_a_long_name_of_a_host_is_cut),
                LEND_TEST(test_drained),
                LEND_TEST(test_drained_after_a_restart),
                LEND_TEST(test_leases_are_asked_to_move),
                LEND_TEST(test_reasons_that_are_wrong),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
