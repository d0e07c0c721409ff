/* The end of an attempt: the evidence for its verdict, and its record. */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/leash.h"
#include "common/space.h"
#include "common/own_cgroup.h"
#include "daemon/shim/allocation.h"
#include "daemon/shim/torchrun.h"

static void add_words(char text[EXIT_RECORD_REASON_MAX], const char *words) {
        size_t n = strlen(text);

        if (n > 0 && !strstr(text, words))
                (void) snprintf(text + n, EXIT_RECORD_REASON_MAX - n, "; %s", words);
}

/* Programs report ENOSPC also if the file system has no free inode. */
static void name_inodes(const struct shim *shim, struct exit_verdict *verdict) {
        const char *folders[] = { attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR), shim->attempt.cwd };

        for (size_t i = 0; i < ELEMENTSOF(folders); i++) {
                cleanup_free char *inside = folders[i] ? format_string("%s/.", folders[i]) : NULL;
                if (!inside || !space_no_inodes(inside))
                        continue;
                add_words(verdict->reason, BERTD_NO_INODES);
                add_words(verdict->private, BERTD_NO_INODES);
        }
}

static void judge_death(struct shim *shim, int status, struct exit_verdict *ret) {
        if (shim_lease_verdict(shim, ret))
                return;
        if (shim->hang.found) {
                *ret = *shim_hang_verdict(shim);
                return;
        }
        if (shim->child.pid > 0 && child_exec_error(&shim->child, &shim->attempt, ret)) {
                shim_log_note(&shim->log, "%s", ret->private[0] ? ret->private : ret->reason);
                return;
        }
        if (shim_gang_verdict(shim, NULL, ret))
                return;
        size_t size = 0;
        cleanup_free char *tail = shim_log_tail(&shim->log, &size);
        cleanup_free char *exception = torchrun_exception(shim->dir_fd);
        const char *hosts = shim->gang.is ? shim->gang.in_use : shim->attempt.hosts;
        uint64_t oom_kills = memory_oom_kills();
        struct shim_evidence evidence = {
                .wait_status = status,
                .tail = tail,
                .tail_size = tail ? size : 0,
                .oom_kills = oom_kills > shim->oom_kills ? oom_kills - shim->oom_kills : 0,
                .memory_limit = memory_limit(),
                .exception = exception,
                .host = shim->attempt.kind == JOB_COMMAND && !hosts ? "" : shim->host,
                .hosts = hosts, /* else bertd's mpirun stays on this host */
                .ranks = shim->gang.is ? shim->gang.ranks_of_host : shim->attempt.ranks,
                .oom_hosts = shim->gang.oom,
                .gang = shim->gang.is,
                .stop_asked = shim->stop_asked,
                .saved = shim->saved_in_stop,
                .reports = shim->progress.spoke || attempt_is_trainer(&shim->attempt),
        };
        if (shim->attempt.hosts && !shim->stop_asked && allocation_lost(evidence.tail, evidence.tail_size, ret))
                return;
        shim_classify(&evidence, ret);
        const struct exit_verdict judged = *ret;
        (void) shim_gang_verdict(shim, &judged, ret);
        if (ret->exit_class == EXIT_CLASS_DISK_FULL)
                name_inodes(shim, ret);
}

/* mpirun got 0 of ranks that ended by a stop, lest it kills one that still saves: see gang/rank.c. */
static void judge_stopped_gang(const struct shim *shim, struct exit_verdict *v) {
        size_t size = 0;
        cleanup_free char *tail = shim_log_tail(&shim->log, &size);

        if (v->exit_class != EXIT_CLASS_FINISHED || !tail ||
            !memmem(tail, size, RANK_WAS_STOPPED, strlen(RANK_WAS_STOPPED)))
                return;
        v->exit_class = EXIT_CLASS_STOPPED;
        (void) snprintf(v->reason, sizeof(v->reason), "%s",
                        shim->saved_in_stop ? "stopped after a checkpoint" : "stopped on request");
}

void shim_judge(struct shim *shim, struct exit_verdict *ret) {
        judge_death(shim, shim->child.status, ret);
        if (shim->gang.is && shim->attempt.kind == JOB_COMMAND && shim->stop_asked)
                judge_stopped_gang(shim, ret);
        if (shim->gang.drain[0] && ret->exit_class == EXIT_CLASS_STOPPED) {
                (void) snprintf(ret->reason, sizeof(ret->reason), "%s", shim->gang.drain);
                ret->private[0] = '\0';
        }
        shim_left_describe(shim, ret);
}

static void make_record(struct shim *shim, const struct exit_verdict *verdict) {
        struct exit_record record = {
                .job = shim->attempt.job,
                .attempt = shim->attempt.number,
                .nonce = shim->attempt.nonce,
                .verdict = *verdict,
                .requested = shim->stop_asked,
                .step = shim->progress.step,
                .samples_first = shim->progress.samples_first,
                .samples_last = shim->progress.samples_last,
                .started_usec = shim->started_usec,
                .ended_usec = clock_realtime_usec(),
                .boot_id = shim->boot_id,
                .found = shim->news.found,
                .n_found = shim->news.n_found,
                .gone = shim->news.gone,
                .n_gone = shim->news.n_gone,
        };

        if (shim->hang.folder[0])
                (void) snprintf(record.evidence, sizeof(record.evidence), "%s/%s", shim->dir, shim->hang.folder);
        shim->record = exit_record_write(&record);
}

/* The folder may have been removed or moved. */
static void write_record(struct shim *shim) {
        struct error error = {};
        cleanup_free char *path = format_string("%s/exit.json", shim->dir);

        int r = shim->record ? exit_record_commit(shim->dir_fd, shim->exit_fd, shim->record, &error)
                             : error_errno(&error, ENOMEM, "exit.json");
        if (r < 0) {
                (void) error_prefix(&error, "%s", shim->dir);
                (void) error_report(&error);
        }
        shim->recorded = r >= 0 && path && access(path, F_OK) == 0;
}

void shim_end(struct shim *shim, const struct exit_verdict *verdict) {
        make_record(shim, verdict);
        write_record(shim);
        shim->state = SHIM_ENDED;
        shim_heartbeat_end(shim, verdict);
        if (shim->closed)
                (void) sd_event_exit(shim->event, 0);
        else if (!shim_copies_end(shim, verdict))
                shim_bus_ended(shim);
}

void shim_end_unstarted(struct shim *shim, enum exit_class exit_class, const char *reason) {
        struct exit_verdict verdict = { .exit_class = exit_class, .exit_code = -1, .first_rank = -1 };

        (void) shim_clean_text(verdict.reason, sizeof(verdict.reason), reason, strlen(reason));
        shim_end(shim, &verdict);
}
