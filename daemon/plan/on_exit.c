/*
 * See on_exit.h. Role: when an on_exit is started; launch/user_task.c starts it. Owns the turns that were given but not
 * used yet (node->exit_turns), and the retry timer. Invariant: a program is started only after its row with that fact
 * is durable.
 */
#include "daemon/plan/on_exit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "daemon/attempt/environment.h"
#include "daemon/attempt/folder.h"
#include "daemon/launch/user_task.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/plan/settle.h"

#define RETRY_MIN_USEC (10 * USEC_PER_SEC)
#define RETRY_MAX_USEC (600 * USEC_PER_SEC)

/* ---- turns ---- */

static bool has_turn(const struct node *m, uid_t uid) {
        unsigned all = m->n_exit_turns, of_uid = 0;

        for (unsigned i = 0; i < m->n_exit_turns; i++)
                of_uid += m->exit_turns[i] == uid;
        child_count_exits(m, uid, &all, &of_uid);
        return of_uid < BERTD_ON_EXIT_OF_UID_MAX && all < BERTD_ON_EXIT_MAX;
}

static void give_turn(struct node *m, struct job *job) {
        m->exit_turns[m->n_exit_turns++] = job->uid;
        job->exit_phase = EXIT_TURN;
}

static void take_turn(struct node *m, struct job *job) {
        unsigned i = 0;

        while (m->exit_turns[i] != job->uid)
                i++;
        m->exit_turns[i] = m->exit_turns[--m->n_exit_turns];
        job->exit_phase = EXIT_WAITS;
}

static void set_owed(struct node *m, struct job *job, enum exit_owed owed) {
        job->exit_owed = owed;
        store_mark(m->store, job);
        node_commit_soon(m);
}

static enum exit_owed before(enum exit_owed owed) {
        return owed == EXIT_OWED_REPEATED ? EXIT_OWED_STARTED : EXIT_OWED_START;
}

/* ---- retries ---- */

static void on_retry(void *userdata) { node_plan_soon(userdata); }

static void retry_later(struct node *m, struct job *job) {
        job->exit_pause = MIN(MAX(job->exit_pause * 2, RETRY_MIN_USEC), RETRY_MAX_USEC);
        job->exit_after = loop_boottime() + job->exit_pause;
        m->exits_wait = true;
        node_plan_soon(m);
}

static void arm_retry(struct node *m, uint64_t usec) {
        timer_disarm(&m->exit_retry);
        if (usec != UINT64_MAX)
                loop_at(m->loop, &m->exit_retry, usec, on_retry, m);
}

/* ---- the start ---- */

static void began(struct node *m, uint64_t id, bool started) {
        struct job *job = store_find(m->store, id);

        if (!job || job->exit_phase != EXIT_BEGINS)
                return;
        job->exit_phase = EXIT_WAITS;
        if (started && job->exit_owed == EXIT_OWED_REPEATED)
                store_note(m->store, job, job->state, "on_exit", "started again: bertd exited while starting it");
        set_owed(m, job, started ? EXIT_OWED_NONE : before(job->exit_owed));
        if (started)
                settle_held(m->settle);
        else
                retry_later(m, job);
}

/* Its environment: how the job ended, and whether this start is a repetition. */
static int make_environment(struct node *node, const struct job *job, struct strv *ret, struct error *error) {
        struct job_inputs inputs = {};

        int r = store_load_inputs(node->store, job->id, &inputs, error);
        if (r < 0)
                return r;
        cleanup_free char *block = inputs.environment, *run_dir = files_run_dir(node->options.state_dir, job);
        struct environment_input input = { .job = job,
                                           .run_dir = run_dir ? run_dir : "/",
                                           .resume = "",
                                           .submitted = block,
                                           .submitted_size = inputs.environment_size };
        r = attempt_environment(&input, ret, error);
        strv_format(ret, "BERTD_NAME=%s", job->name);
        strv_format(ret, "BERTD_STATE=%s", job_state_name(job->state));
        strv_format(ret, "BERTD_REASON=%s", job_private(job) ? job_private(job) : "");
        strv_format(ret, "BERTD_EXIT_CLASS=%s", exit_class_name(job->exit_class));
        strv_format(ret, "BERTD_EXIT=%d", job->exit_code);
        strv_format(ret, "BERTD_STEP=%" PRIu64, job->step);
        strv_format(ret, "BERTD_STEPS=%" PRIu64, job->steps);
        if (job->exit_owed == EXIT_OWED_REPEATED)
                strv_add(ret, BERTD_ENV_REPEATED "=1");
        return r < 0 ? r : ret->failed ? error_errno(error, ENOMEM, "environment") : 0;
}

static bool run(struct node *m, struct job *job) {
        cleanup_strv struct strv environment = {};
        struct error error = {};

        if (make_environment(m, job, &environment, &error) >= 0)
                return child_on_exit(m, job, &environment, began);
        log_error("job %" PRIu64 ": on_exit cannot be run: %s", job->id, error.text);
        return false;
}

static void begin(struct node *m, struct job *job) {
        take_turn(m, job);
        /* The loop has ended: nothing would watch it. The next bertd starts it. */
        if (loop_is_over(m->loop)) {
                set_owed(m, job, before(job->exit_owed));
                return;
        }
        job->exit_phase = EXIT_BEGINS;
        if (!run(m, job))
                began(m, job->id, false);
}

void on_exit_next(struct node *m, struct job *job) {
        if (job->exit_owed == EXIT_OWED_NONE || job->exit_phase == EXIT_BEGINS || job->dirty)
                return;
        if (job->exit_phase == EXIT_TURN) {
                begin(m, job);
        } else if (!loop_is_over(m->loop)) {
                if (job->exit_after > loop_boottime() || !has_turn(m, job->uid)) {
                        m->exits_wait = true;
                        return;
                }
                give_turn(m, job);
                set_owed(m, job, job->exit_owed == EXIT_OWED_START ? EXIT_OWED_STARTED : EXIT_OWED_REPEATED);
        }
}

void on_exit_next_all(struct node *m) {
        bool wait = m->exits_wait;
        uint64_t earliest = UINT64_MAX, now = loop_boottime();

        m->exits_wait = false;
        for (size_t i = 0; wait && i < store_count(m->store); i++) {
                struct job *job = store_at(m->store, i);
                on_exit_next(m, job);
                if (job->exit_owed != EXIT_OWED_NONE && job->exit_after > now)
                        earliest = MIN(earliest, job->exit_after);
        }
        if (wait)
                arm_retry(m, earliest);
}

void on_exit_adopt(struct node *m, struct job *job) {
        if (job->exit_owed == EXIT_OWED_REPEATED) {
                log_error("job %" PRIu64 ": on_exit may have run twice; not started again", job->id);
                store_note(m->store, job, job->state, "on_exit", "not started again: it may have run twice");
                set_owed(m, job, EXIT_OWED_NONE);
        } else if (job->exit_owed != EXIT_OWED_NONE) {
                m->exits_wait = true;
                node_plan_soon(m);
        }
}
