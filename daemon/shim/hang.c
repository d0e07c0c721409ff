/*
 * See shim.h. Detects a hung job and ends it: first a separate process collects evidence, then all processes get
 * SIGKILL; a process that hangs in the kernel is not waited for. Datagrams are read before each check; while the
 * socket's file is missing the job is not checked. A growing checkpoint file is a sign of life, and so is WATCHDOG=1
 * while the job reports that it is busy between two steps (BERTD_NOTIFY_BUSY).
 */
#include "daemon/shim/shim.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "daemon/shim/stacks.h"

/* The step of the checkpoint that the attempt resumes from, which may have any name, or is
 * ".../step-000012000.ckpt"; 0: none. */
static uint64_t resumed_step(const struct attempt_spec *attempt) {
        const char *path = attempt_getenv(attempt, BERTD_ENV_RESUME);
        uint64_t step;

        for (size_t i = 0; i < attempt->known.n; i++)
                if (path && attempt->known.rows[i].path && strcmp(attempt->known.rows[i].path, path) == 0)
                        return attempt->known.rows[i].step;
        return path && shim_step_of_name(path, &step) ? step : 0;
}

/* If exactly one rank is stopped (SIGSTOP), it is the cause. False: the collector has not reported it yet. */
static bool name_stopped_rank(struct shim *shim, struct exit_verdict *v) {
        struct evidence_ranks ranks;

        if (shim->hang.ranks_fd < 0 || read(shim->hang.ranks_fd, &ranks, sizeof(ranks)) != sizeof(ranks))
                return false;
        bool here = ranks.stopped == 1;
        const struct evidence_ranks *others = &shim->gang.ranks;
        if (ranks.stopped + others->stopped != 1 || ranks.ranks + others->ranks <= 1)
                return false;
        v->first_rank = here ? ranks.rank : others->rank;
        (void) snprintf(v->host, sizeof(v->host), "%s", here ? shim->host : shim->gang.stopped_host);
        return true;
}

static void describe(struct shim *shim) {
        struct shim_hang *h = &shim->hang;
        const struct shim_watch *w = &h->watch;
        struct exit_verdict *v = &h->verdict;
        double limit = (double) shim_watch_limit(w) / (double) USEC_PER_SEC;
        double quiet = (double) w->quiet_usec / (double) USEC_PER_SEC;
        char stopped[64 + EXIT_RECORD_HOST_MAX] = "", text[EXIT_RECORD_REASON_MAX];

        *v = (struct exit_verdict) {
                .exit_class = EXIT_CLASS_HANG, .exit_code = -1, .signal = SIGKILL, .first_rank = -1
        };
        if (name_stopped_rank(shim, v))
                (void) snprintf(stopped, sizeof(stopped), "; rank %d on %s is stopped (SIGSTOP)", v->first_rank,
                                v->host);
        int n = w->stepping ? snprintf(text, sizeof(text), "no step for %.0f s (limit %.0f s) at step %" PRIu64 "%s",
                                       quiet, limit, w->step, stopped)
                            : snprintf(text, sizeof(text), "no first step for %.0f s (limit %.0f s)%s", quiet, limit,
                                       stopped);
        if (h->folder[0])
                n += snprintf(text + n, sizeof(text) - (size_t) n, "; stacks in %.300s/%s", shim->dir, h->folder);
        (void) shim_clean_text(v->reason, sizeof(v->reason), text, MIN((size_t) n, sizeof(text) - 1));
}

const struct exit_verdict *shim_hang_verdict(struct shim *shim) {
        struct shim_hang *h = &shim->hang;

        if (!h->described) {
                h->described = true;
                describe(shim);
                shim_log_note(&shim->log, "%s", h->verdict.reason);
        }
        return &h->verdict;
}

static void end_hung(struct shim *shim) {
        shim->hang.timer = sd_event_source_disable_unref(shim->hang.timer);
        shim->hang.collector = 0;
        (void) shim_hang_verdict(shim);
        shim_kill_all(shim);
}

static int on_evidence_late(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        if (shim->hang.collector > 0)
                (void) kill(shim->hang.collector, SIGKILL);
        end_hung(shim);
        return 0;
}

static void begin_end(struct shim *shim) {
        struct shim_hang *h = &shim->hang;
        struct procs procs = {};

        shim_declared_ask_stacks(shim);
        (void) tree_read(&procs);
        h->collector = evidence_start(shim->dir_fd, &procs, h->folder, &h->ranks_fd);
        h->found = true;
        procs_free(&procs);
        shim_gang_ask_stacks(shim);
        h->timer = sd_event_source_disable_unref(h->timer);
        if (h->collector < 0 ||
            sd_event_add_time_relative(shim->event, &h->timer, CLOCK_BOOTTIME, EVIDENCE_LIMIT_SEC * USEC_PER_SEC, 0,
                                       on_evidence_late, shim) < 0)
                shim_hang_collected(shim);
}

/* The timer runs as long as other hosts are waited for. */
void shim_hang_collected(struct shim *shim) {
        shim->hang.collector = 0;
        if (shim->gang.stacks_due == 0 || !shim->hang.timer)
                end_hung(shim);
}

void shim_hang_gathered(struct shim *shim) {
        if (shim->hang.found && shim->hang.collector <= 0 && !shim->hang.described)
                end_hung(shim);
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;
        struct shim_hang *h = &shim->hang;

        bool ends = shim->child.reaped && shim->attempt.ends_with == ENDS_WITH_FIRST;
        if (shim->state != SHIM_RUNNING || shim->stop_asked || ends)
                return 0;
        shim_progress_read(shim);
        if (!shim_progress_reaches(shim))
                shim_hang_alive(shim); /* its steps cannot be received */
        bool over = shim_watch_look(&h->watch, clock_boottime_usec());
        if (2 * h->watch.quiet_usec >= shim_watch_limit(&h->watch)) {
                uint64_t mark = shim_writing_mark(shim);
                if (mark != 0 && h->mark != 0 && mark != h->mark) {
                        shim_watch_alive(&h->watch, clock_boottime_usec());
                        over = false;
                }
                h->mark = mark;
        }
        if (over) {
                begin_end(shim);
                return 0;
        }
        (void) sd_event_source_set_time_relative(source, shim_watch_period(&h->watch));
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

/* Re-arms the timer: the limit before the first step may be longer. */
static void look_again(struct shim *shim) {
        (void) sd_event_source_set_time_relative(shim->hang.timer, shim_watch_period(&shim->hang.watch));
}

void shim_hang_step(struct shim *shim, uint64_t step) {
        struct shim_watch *w = &shim->hang.watch;
        bool stepping = w->stepping;

        shim_watch_step(w, step, clock_boottime_usec());
        if (w->stepping && !stepping && shim->hang.timer && !shim->hang.found)
                look_again(shim);
}

void shim_hang_alive(struct shim *shim) { shim_watch_alive(&shim->hang.watch, clock_boottime_usec()); }

int shim_hang_start(struct shim *shim) {
        const struct attempt_spec *a = &shim->attempt;
        struct shim_hang *h = &shim->hang;

        shim_watch_begin(&h->watch, a->hang_sec, a->start_sec, a->kind != JOB_COMMAND, resumed_step(a),
                         clock_boottime_usec());
        return sd_event_add_time_relative(shim->event, &h->timer, CLOCK_BOOTTIME, shim_watch_period(&h->watch), 0,
                                          on_look, shim);
}
