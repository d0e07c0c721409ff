/*
 * See shim.h. Copies of the job's checkpoints (attempt.json: copy_to). Owns shim->copies. Invariants: one copy at a
 * time, of the newest checkpoint that there is when it begins; a failure is logged once until its cause changes, and
 * tried again, ever more rarely.
 */
#include <stdlib.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/shim/shim.h"

#define LIMIT_USEC (3600 * USEC_PER_SEC) /* of one copy */
#define LAST_USEC (60 * USEC_PER_SEC)    /* after the job's end, for the last one */
#define AGAIN_FIRST_USEC (10 * USEC_PER_SEC)
#define AGAIN_LAST_USEC (600 * USEC_PER_SEC)

static const char *name_of(const char *path) {
        const char *slash = strrchr(path, '/');
        return slash ? slash + 1 : path;
}

static void arm(struct shim *shim, uint64_t usec, sd_event_time_handler_t handler) {
        struct shim_copies *c = &shim->copies;

        c->timer = sd_event_source_disable_unref(c->timer);
        (void) sd_event_add_time_relative(shim->event, &c->timer, CLOCK_BOOTTIME, usec, USEC_PER_SEC / 10, handler,
                                          shim);
}

static void stop_copy(struct shim_copies *c) {
        c->source = sd_event_source_disable_unref(c->source);
        c->timer = sd_event_source_disable_unref(c->timer);
        copy_close(&c->copy);
}

static void begin(struct shim *shim);

static int on_again(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        shim->copies.timer = sd_event_source_disable_unref(shim->copies.timer);
        begin(shim);
        return 0;
}

/* ---- results ---- */

/* The attempt's end waited for it. */
static void ended(struct shim *shim) {
        shim->copies.ending = false;
        shim_bus_ended(shim);
}

static void succeeded(struct shim *shim) {
        struct shim_copies *c = &shim->copies;

        if (c->problem[0]) {
                shim_log_note(&shim->log, "%s is copied to %s again", name_of(c->now), shim->attempt.copy_to);
                c->problem[0] = '\0';
                shim_bus_changed(shim, false);
        }
        c->again_usec = 0;
        free(c->last);
        c->last = steal_pointer(&c->now);
        if (c->want)
                begin(shim);
        else if (c->ending)
                ended(shim);
}

static void failed(struct shim *shim, const char *why) {
        struct shim_copies *c = &shim->copies;
        char problem[COPY_REASON_MAX];

        (void) snprintf(problem, sizeof(problem), "%s", why);
        if (strcmp(problem, c->problem) != 0) {
                shim_log_note(&shim->log, "%s is not copied to %s: %s", name_of(c->now), shim->attempt.copy_to,
                              problem);
                memcpy(c->problem, problem, sizeof(c->problem));
                shim_bus_changed(shim, false);
        }
        if (!c->want)
                c->want = steal_pointer(&c->now);
        free(steal_pointer(&c->now));
        c->again_usec = c->again_usec == 0 ? AGAIN_FIRST_USEC : MIN(2 * c->again_usec, AGAIN_LAST_USEC);
        if (c->ending)
                ended(shim);
        else
                arm(shim, c->again_usec, on_again);
}

static int on_result(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct shim *shim = userdata;

        int r = copy_read(&shim->copies.copy);
        if (r == 0)
                return 0;
        stop_copy(&shim->copies);
        if (r > 0)
                succeeded(shim);
        else
                failed(shim, shim->copies.copy.reason);
        return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        stop_copy(&shim->copies);
        failed(shim, shim->copies.ending ? "not done within 60 s of the job's end" : "not done within 1 h");
        return 0;
}

/* ---- beginning ---- */

static void begin(struct shim *shim) {
        struct shim_copies *c = &shim->copies;
        const char *run_dir = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);
        struct copy_work work = { .to = shim->attempt.copy_to,
                                  .path = c->want,
                                  .run_dir = run_dir ? run_dir : "",
                                  .host = shim->host,
                                  .keep = shim->attempt.copy_keep,
                                  .umask = shim->attempt.umask,
                                  .environment = shim->attempt.environment };

        c->now = steal_pointer(&c->want);
        int r = copy_start(&c->copy, &work);
        if (r >= 0)
                r = sd_event_add_io(shim->event, &c->source, c->copy.fd, EPOLLIN, on_result, shim);
        if (r >= 0) {
                arm(shim, c->ending ? LAST_USEC : LIMIT_USEC, on_late);
                return;
        }
        stop_copy(c);
        failed(shim, strerror(-r));
}

/* While a failure is waited out, only what is copied then changes. */
void shim_copies_add(struct shim *shim, const char *path) {
        struct shim_copies *c = &shim->copies;
        char *copy = shim->attempt.copy_to ? strdup(path) : NULL;

        if (!copy)
                return;
        free(c->want);
        c->want = copy;
        if (c->copy.fd < 0 && !c->timer)
                begin(shim);
}

void shim_copies_start(struct shim *shim) {
        const char *resume = attempt_getenv(&shim->attempt, BERTD_ENV_RESUME);

        if (resume && resume[0] && shim->attempt.kind != JOB_COMMAND)
                shim_copies_add(shim, resume);
}

/* ---- the end ---- */

/* A copier that ran was killed with the job. What was copied before is looked at again: bertd.json has changed. */
bool shim_copies_end(struct shim *shim, const struct exit_verdict *verdict) {
        struct shim_copies *c = &shim->copies;
        bool orderly = verdict->exit_class == EXIT_CLASS_FINISHED || verdict->exit_class == EXIT_CLASS_STOPPED;

        stop_copy(c);
        if (!c->want)
                c->want = steal_pointer(&c->now);
        free(steal_pointer(&c->now));
        if (!c->want)
                c->want = steal_pointer(&c->last);
        if (!c->want || !orderly || shim->killed || shim->closed)
                return false;
        c->ending = true;
        begin(shim);
        return true;
}

void shim_copies_close(struct shim *shim) {
        struct shim_copies *c = &shim->copies;

        stop_copy(c);
        free(steal_pointer(&c->want));
        free(steal_pointer(&c->now));
        free(steal_pointer(&c->last));
}
