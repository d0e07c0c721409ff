/*
 * See shim.h. A command's checkpoints between the program's report and bertd's ledger: a queue, confirmed one at a time
 * (confirm.h). Owns shim->reported. Invariants: a path is in the queue once; confirming runs at most a fifth of the
 * time, however often a program reports; each has a limit, after which the checkpoint is unconfirmed.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

#define LIMIT_USEC (120 * USEC_PER_SEC)
#define LAST_LIMIT_USEC (10 * USEC_PER_SEC) /* of all, once the program has ended */
#define KILLED_LIMIT_USEC (1 * USEC_PER_SEC)
#define LAST_POLL_MSEC 100
#define PAUSE_FACTOR 4 /* times as long as the last one took, */
#define PAUSE_MIN_USEC (USEC_PER_SEC / 10)
#define REFUSALS_LOGGED 20
#define PATH_SHOWN 256 /* bytes */

void shim_reported_refuse(struct shim *shim, const char *path, const char *why) {
        char clean[PATH_SHOWN];

        if (shim->reported.refused++ < REFUSALS_LOGGED)
                shim_log_note(&shim->log, "checkpoint %s: %s; not recorded",
                              shim_clean_text(clean, sizeof(clean), path, strlen(path)), why);
}

static void drop_first(struct shim_reported *r) {
        if (r->n > 0)
                memmove(r->queue, r->queue + 1, --r->n * sizeof(*r->queue));
}

/* Reports the first checkpoint of the queue, with what is known of it. */
static void settle_first(struct shim *shim) {
        struct shim_reported *r = &shim->reported;
        struct checkpoint_note *note = &r->queue[0];
        struct confirm_result result = {}; /* stays so if the file system hangs */

        (void) confirm_result(&r->confirm, &result);
        /* Before a copy is forked, which has the descriptor for a moment: a source whose descriptor lives on elsewhere
         * stays in epoll. */
        r->source = sd_event_source_disable_unref(r->source);
        confirm_close(&r->confirm);
        note->size = result.size;
        note->unconfirmed = !result.durable;
        if (result.refusal == CONFIRM_GOOD)
                shim_checkpoint_done(shim, note);
        else
                shim_reported_refuse(shim, note->path, confirm_refusal_text(result.refusal));
        drop_first(r);
}

static void begin_first(struct shim *shim);

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        shim->reported.timer = sd_event_source_disable_unref(shim->reported.timer);
        if (shim->state == SHIM_RUNNING)
                begin_first(shim);
        return 0;
}

static void arm(struct shim *shim, uint64_t usec, sd_event_time_handler_t handler) {
        struct shim_reported *r = &shim->reported;

        r->timer = sd_event_source_disable_unref(r->timer);
        (void) sd_event_add_time_relative(shim->event, &r->timer, CLOCK_BOOTTIME, usec, 0, handler, shim);
}

static void finish_first(struct shim *shim) {
        uint64_t took = clock_boottime_usec() - shim->reported.begun_usec;

        settle_first(shim);
        arm(shim, MAX(PAUSE_FACTOR * took, (uint64_t) PAUSE_MIN_USEC), on_pause_over);
}

static int on_result(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct shim *shim = userdata;

        if (confirm_read(&shim->reported.confirm) != 0)
                finish_first(shim);
        return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        finish_first(userdata);
        return 0;
}

static int start_first(struct shim *shim) {
        struct shim_reported *r = &shim->reported;
        const char *run_dir = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);

        r->begun_usec = clock_boottime_usec();
        return confirm_start(&r->confirm, r->queue[0].path, run_dir, shim->attempt.cwd);
}

static void begin_first(struct shim *shim) {
        struct shim_reported *r = &shim->reported;

        if (r->n == 0 || r->confirm.fd >= 0 || r->timer)
                return;
        int code = start_first(shim);
        if (code >= 0)
                code = sd_event_add_io(shim->event, &r->source, r->confirm.fd, EPOLLIN, on_result, shim);
        if (code >= 0)
                arm(shim, LIMIT_USEC, on_late);
        else
                finish_first(shim);
}

void shim_reported_add(struct shim *shim, uint64_t step, const char *path, double stall, double write) {
        struct shim_reported *r = &shim->reported;
        size_t first = r->confirm.fd >= 0; /* in progress: it keeps its place */

        if (!r->queue)
                r->queue = calloc(SHIM_CHECKPOINTS_MAX, sizeof(*r->queue));
        if (!r->queue)
                return;
        size_t i = first;
        while (i < r->n && strcmp(r->queue[i].path, path) != 0)
                i++;
        if (i == r->n && r->n == SHIM_CHECKPOINTS_MAX)
                i = first; /* the oldest that is not in progress */
        if (i < r->n)
                memmove(r->queue + i, r->queue + i + 1, (--r->n - i) * sizeof(*r->queue));
        struct checkpoint_note *note = &r->queue[r->n++];
        *note = (struct checkpoint_note) { .step = step, .at = shim->progress.step, .stall = stall, .write = write };
        (void) snprintf(note->path, sizeof(note->path), "%s", path);
        begin_first(shim);
}

/* A running confirmer was killed with the job: it is started again. */
void shim_reported_end(struct shim *shim) {
        struct shim_reported *r = &shim->reported;
        const uint64_t deadline = clock_boottime_usec() + (shim->killed ? KILLED_LIMIT_USEC : LAST_LIMIT_USEC);

        r->source = sd_event_source_disable_unref(r->source);
        confirm_close(&r->confirm);
        while (r->n > 0) {
                if (r->confirm.fd < 0 && clock_boottime_usec() < deadline)
                        (void) start_first(shim);
                while (r->confirm.fd >= 0 && clock_boottime_usec() < deadline && confirm_read(&r->confirm) == 0) {
                        struct pollfd p = { .fd = r->confirm.fd, .events = POLLIN };
                        (void) poll(&p, 1, LAST_POLL_MSEC);
                }
                settle_first(shim);
        }
        shim_reported_close(shim);
}

void shim_reported_close(struct shim *shim) {
        struct shim_reported *r = &shim->reported;

        r->source = sd_event_source_disable_unref(r->source);
        confirm_close(&r->confirm);
        r->timer = sd_event_source_disable_unref(r->timer);
        free(r->queue);
        r->queue = NULL;
        r->n = 0;
}
