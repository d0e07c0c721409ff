/*
 * See shim.h. The job's checkpoints: the one to start from, which the lister (list.h) finds before the program is
 * started, and later changes, which are reported to bertd, because bertd opens no user's files. Owns shim->list and its
 * sources. Invariants: at most one lister runs; the next one starts only after the results of the last were reported.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

#define FIRST_LIMIT_USEC (600 * USEC_PER_SEC) /* a missing file system may return */
#define AGAIN_USEC (2 * USEC_PER_SEC)         /* after a checkpoint: lets retention finish */
#define LAST_LIMIT_USEC (2 * USEC_PER_SEC)    /* shorter than bertd's limit for a killed job */
#define LAST_POLL_MSEC 500

static const char *run_dir_of(const struct shim *shim) {
        const char *path = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);

        return path ? path : ""; /* nothing is below it */
}

static int start_list(struct shim *shim) {
        const struct attempt *a = &shim->attempt;

        return list_start(&shim->list, run_dir_of(shim), a->kind == JOB_COMMAND ? a->cwd : NULL, &a->known);
}

static void close_list(struct shim *shim) {
        shim->list_source = sd_event_source_disable_unref(shim->list_source);
        shim->list_timer = sd_event_source_disable_unref(shim->list_timer);
        list_close(&shim->list);
}

bool shim_may_report(const struct shim *shim, const char *path) {
        return path_is_below(path, run_dir_of(shim)) ||
               (shim->attempt.kind == JOB_COMMAND && path_is_below(path, shim->attempt.cwd));
}

/* ---- start ---- */

static bool refuse(struct shim *shim, int r, size_t expected) {
        const struct known_checkpoint *newest = known_newest(&shim->attempt.known);

        if (r < 0)
                (void) snprintf(shim->no_start, sizeof(shim->no_start), "%.300s/checkpoints cannot be listed: %s",
                                run_dir_of(shim), strerror(-r));
        else if (!newest)
                (void) snprintf(
                        shim->no_start, sizeof(shim->no_start),
                        "%.300s/checkpoints: all %zu checkpoints of the job are missing; restore them, or submit "
                        "the job again to start at step 0",
                        run_dir_of(shim), expected);
        return shim->no_start[0] != '\0';
}

static size_t count_usable(const struct known *known) {
        size_t n = 0;

        for (size_t i = 0; i < known->n; i++)
                n += known->rows[i].step <= known->until;
        return n;
}

/* A trainer whose checkpoints are all missing would restart from step 0 and overwrite them if they return; a command
 * may have removed its own. */
static void choose(struct shim *shim) {
        struct known *known = &shim->attempt.known;
        size_t expected = count_usable(known);

        int r = list_judge(&shim->list, known, &shim->news);
        if (shim->attempt.kind != JOB_COMMAND && expected > 0 && refuse(shim, r, expected)) {
                list_news_clear(&shim->news);
                return;
        }
        if (r < 0)
                return; /* keeps bertd's choice */
        const struct known_checkpoint *from = known_newest(known);
        cleanup_free char *usual =
                from ? format_string("%s/checkpoints/step-%09" PRIu64 ".ckpt", run_dir_of(shim), from->step) : NULL;
        attempt_setenv(&shim->attempt, BERTD_ENV_RESUME, !from ? "" : from->path ? from->path : usual);
        shim->began_step = from ? from->step : 0;
        shim->began = true;
}

static void first_ended(struct shim *shim) {
        close_list(shim);
        shim->listed = true;
        shim->progress.status[0] = '\0';
        if (shim->go)
                shim_begin(shim);
}

static int on_first_late(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        (void) snprintf(shim->no_start, sizeof(shim->no_start),
                        "%.300s/checkpoints was not listed within 10 min: does its file system answer?",
                        run_dir_of(shim));
        first_ended(shim);
        return 0;
}

/* ---- results of the lister ---- */

static int on_list(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct shim *shim = userdata;

        int r = list_read(&shim->list);
        if (r == 0)
                return 0;
        if (r < 0)
                shim->list.words[0] = (uint64_t) -r;
        if (shim->state == SHIM_WAITING) {
                choose(shim);
                first_ended(shim);
                return 0;
        }
        (void) list_judge(&shim->list, &shim->attempt.known, &shim->news);
        close_list(shim);
        if (shim->news.n_found > 0 || shim->news.n_gone > 0)
                shim_bus_changed(shim, false);
        return 0;
}

static int begin_list(struct shim *shim) {
        int r = start_list(shim);

        if (r >= 0)
                r = sd_event_add_io(shim->event, &shim->list_source, shim->list.fd, EPOLLIN, on_list, shim);
        if (r < 0)
                close_list(shim);
        return r;
}

int shim_checkpoints_start(struct shim *shim) {
        if (!shim->attempt.lists) {
                shim->listed = true;
                return 0;
        }
        int r = begin_list(shim);
        return r < 0 ? r
                     : sd_event_add_time_relative(shim->event, &shim->list_timer, CLOCK_BOOTTIME, FIRST_LIMIT_USEC, 0,
                                                  on_first_late, shim);
}

void shim_checkpoints_wait(struct shim *shim) {
        (void) snprintf(shim->progress.status, sizeof(shim->progress.status), "listing %.200s/checkpoints",
                        run_dir_of(shim));
        shim_bus_changed(shim, true);
}

/* ---- while the job runs ---- */

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        shim->list_timer = sd_event_source_disable_unref(shim->list_timer);
        if (shim->state != SHIM_RUNNING)
                return 0;
        if (shim->list.fd >= 0 || shim->began || shim->news.n_found > 0 || shim->news.n_gone > 0)
                shim_checkpoints_changed(shim);
        else
                (void) begin_list(shim);
        return 0;
}

void shim_checkpoints_changed(struct shim *shim) {
        if (shim->attempt.lists && !shim->list_timer)
                (void) sd_event_add_time_relative(shim->event, &shim->list_timer, CLOCK_BOOTTIME, AGAIN_USEC, 0,
                                                  on_again, shim);
}

/* ---- the end ---- */

/* A lister that still runs hangs: another would hang as well. */
void shim_checkpoints_end(struct shim *shim) {
        const uint64_t deadline = clock_boottime_usec() + LAST_LIMIT_USEC;
        bool hangs = shim->list.fd >= 0;
        int r = 0;

        close_list(shim);
        if (!shim->attempt.lists || hangs || start_list(shim) < 0)
                return;
        while (r == 0 && clock_boottime_usec() < deadline) {
                struct pollfd p = { .fd = shim->list.fd, .events = POLLIN };
                (void) poll(&p, 1, LAST_POLL_MSEC);
                r = list_read(&shim->list);
        }
        if (r > 0)
                (void) list_judge(&shim->list, &shim->attempt.known, &shim->news);
        close_list(shim);
}

void shim_checkpoints_close(struct shim *shim) {
        close_list(shim);
        list_news_clear(&shim->news);
}
