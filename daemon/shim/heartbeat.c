/*
 * See shim.h. RUN_DIR/heartbeat shows that the run lives, and where: `submit --continue` on another host looks at its
 * age. Written every 10 s by a separate process, as the run folder's file system may hang; at most one at a time. After
 * a death it stays: the next attempt follows, or it becomes stale.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/copies.h"
#include "common/file.h"
#include "daemon/shim/shim.h"

#define EVERY_USEC (10 * USEC_PER_SEC)
#define FIRST_USEC USEC_PER_SEC /* the job may make its run folder */
#define REMOVE_LIMIT_USEC (USEC_PER_SEC / 2)
#define REMOVE_PAUSE_NSEC 5000000

/* NULL: of a run that no other host can continue, see carry.c. */
static const char *run_dir_of(const struct shim *shim) {
        if (!shim->attempt.name)
                return NULL;
        const char *path = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);
        return path && path[0] == '/' ? path : NULL;
}

/* Nobody sees half of it; it need not be durable. */
static int write_file(const char *path, const char *text) {
        cleanup_free char *temporary = format_string("%s.tmp", path);
        cleanup_close int fd =
                temporary ? open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666) : -1;

        return fd >= 0 && write_all(fd, text, strlen(text)) >= 0 ? rename(temporary, path) : -1;
}

/* The process: `text` NULL removes the file. */
static __attribute__((noreturn)) void writer(const struct shim *shim, const char *path, const char *text) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_others(-1);
        (void) umask(shim->attempt.umask);
        _exit((text ? write_file(path, text) : unlink(path)) < 0);
}

static char *describe(const struct shim *shim) {
        json_t *json = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I}", "host", shim->host, "boot_id", shim->boot_id, "job",
                                 (json_int_t) shim->attempt.job, "attempt", (json_int_t) shim->attempt.number, "pid",
                                 (json_int_t) getpid(), "usec", (json_int_t) clock_realtime_usec());
        char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

        json_decref(json);
        return text;
}

static pid_t start(const struct shim *shim, bool removes) {
        cleanup_free char *path = format_string("%s/" COPIES_HEARTBEAT, run_dir_of(shim));
        cleanup_free char *text = removes ? NULL : describe(shim);

        if (!path || (!text && !removes))
                return 0;
        pid_t pid = fork();
        if (pid == 0)
                writer(shim, path, text);
        return MAX(pid, 0);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        if (shim->state != SHIM_RUNNING)
                return 0;
        if (shim->heartbeat.writer == 0)
                shim->heartbeat.writer = start(shim, false);
        (void) sd_event_source_set_time_relative(source, EVERY_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int shim_heartbeat_start(struct shim *shim) {
        return run_dir_of(shim) ? sd_event_add_time_relative(shim->event, &shim->heartbeat.timer, CLOCK_BOOTTIME,
                                                             FIRST_USEC, USEC_PER_SEC, on_time, shim)
                                : 0;
}

void shim_heartbeat_reaped(struct shim *shim, pid_t pid) {
        if (pid == shim->heartbeat.writer)
                shim->heartbeat.writer = 0;
}

static bool is_over(const struct exit_verdict *v) {
        return v->exit_class == EXIT_CLASS_FINISHED || v->exit_class == EXIT_CLASS_STOPPED;
}

/* Waits for a moment only: a file that is not removed becomes stale. */
void shim_heartbeat_end(struct shim *shim, const struct exit_verdict *verdict) {
        const struct timespec pause = { .tv_nsec = REMOVE_PAUSE_NSEC };
        const uint64_t deadline = clock_boottime_usec() + REMOVE_LIMIT_USEC;
        bool was_started = shim->heartbeat.timer != NULL;

        shim_heartbeat_close(shim);
        if (!was_started || !(is_over(verdict) || shim->stop_asked))
                return;
        pid_t pid = start(shim, true);
        while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0 && clock_boottime_usec() < deadline)
                (void) nanosleep(&pause, NULL);
}

void shim_heartbeat_close(struct shim *shim) {
        shim->heartbeat.timer = sd_event_source_disable_unref(shim->heartbeat.timer);
}
