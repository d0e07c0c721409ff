/*
 * See shim.h. RUN_DIR/bertd.json (common/run_file.h): what another bertd needs to continue the job, written when the
 * program starts, after each checkpoint, and at the end. Owns shim->carry. Invariants: a separate process writes, so
 * that a hanging file system does not block the shim; at most one writes.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bertd/limits.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/copies.h"
#include "common/file.h"

#define LIMIT_USEC (120 * USEC_PER_SEC)
#define LAST_LIMIT_MSEC 2000                      /* once the job has ended */
#define ROWS_MAX (BERTD_PAST_CHECKPOINTS_MAX / 2) /* good ones, and demoted ones: the newest */

static const char *run_dir_of(const struct shim *shim) { return attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR); }

/* ---- the text ---- */

void shim_carry_step(struct shim *shim, uint64_t step) {
        struct shim_carry *c = &shim->carry;

        c->last_usec = clock_boottime_usec();
        if (c->first_usec == 0) {
                c->first_step = step;
                c->first_usec = c->last_usec;
        }
}

/* With what this attempt adds; as rules/goodput.c counts. */
static struct run_counters counters_now(const struct shim *shim) {
        const struct shim_carry *c = &shim->carry;
        struct run_counters sum = shim->attempt.counters;
        uint64_t step = shim->progress.step, steps = step > shim->began_step ? step - shim->began_step : 0;
        uint64_t timed = step > c->first_step ? step - c->first_step : 0, now = clock_realtime_usec();

        sum.run_steps += steps;
        if (timed > 0)
                sum.run_usec += (uint64_t) ((double) (c->last_usec - c->first_usec) / (double) timed * (double) steps);
        if (shim->started_usec > 0 && now > shim->started_usec)
                sum.active_usec += now - shim->started_usec;
        return sum;
}

/* A program may save under one name again and again: the newest row counts. */
static bool is_overwritten(const struct known *known, size_t i) {
        for (size_t j = i + 1; known->rows[i].path && j < known->n; j++)
                if (known->rows[j].path && strcmp(known->rows[i].path, known->rows[j].path) == 0)
                        return true;
        return false;
}

static bool is_among(const struct known *known, uint64_t step) {
        for (size_t i = 0; i < known->n; i++)
                if (known->rows[i].step == step)
                        return true;
        return false;
}

static size_t add_good(const struct known *known, struct run_checkpoint *rows) {
        size_t n = 0;

        for (size_t i = known->n; i-- > 0 && n < ROWS_MAX;) {
                const struct known_checkpoint *k = &known->rows[i];
                if (k->step <= known->until && !is_overwritten(known, i))
                        rows[n++] = (struct run_checkpoint) { .step = k->step,
                                                              .state = k->unconfirmed ? RUN_UNCONFIRMED : RUN_GOOD,
                                                              .path = k->path };
        }
        return n;
}

/* A step that was demoted and has been written again since is good. */
static size_t add_aside(const struct known *known, struct run_checkpoint *rows) {
        size_t n = 0;

        for (size_t i = 0; i < known->n_aside && n < ROWS_MAX; i++)
                if (!is_among(known, known->aside[i]))
                        rows[n++] = (struct run_checkpoint) { .step = known->aside[i], .state = RUN_DEMOTED };
        return n;
}

static char *make_text(const struct shim *shim) {
        struct run_checkpoint rows[2 * ROWS_MAX];
        const struct known *known = &shim->attempt.known;
        struct run_file file = { .name = shim->attempt.name,
                                 .host = (char *) shim->host,
                                 .job = shim->attempt.job,
                                 .attempt = shim->attempt.number,
                                 .counters = counters_now(shim),
                                 .checkpoints = rows,
                                 .updated = clock_realtime_usec() };

        file.n = add_good(known, rows);
        file.n += add_aside(known, rows + file.n);
        return run_file_write(&file, run_dir_of(shim));
}

/* ---- the writer ---- */

static int replace(const char *run_dir, const char *text) {
        cleanup_close int folder = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
                return -errno;
        if (unlinkat(folder, COPIES_MARKER, 0) < 0 && errno != ENOENT)
                return -errno;
        cleanup_close int fd =
                openat(folder, RUN_FILE ".tmp", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0 || write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0 ||
            renameat(folder, RUN_FILE ".tmp", folder, RUN_FILE) < 0)
                return -errno;
        return fsync(folder) < 0 ? -errno : 0;
}

/* It keeps none of the shim's descriptors, see list.c. */
static __attribute__((noreturn)) void writer(const char *run_dir, const char *text) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) close_range(STDERR_FILENO + 1, ~0u, 0);
        _exit(replace(run_dir, text) < 0);
}

static int start(struct shim *shim) {
        cleanup_free char *text = make_text(shim);

        if (!text)
                return -ENOMEM;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                writer(run_dir_of(shim), text);
        shim->carry.fd = pidfd_open(pid, 0);
        shim->carry.again = false;
        return shim->carry.fd < 0 ? -errno : 0;
}

void shim_carry_close(struct shim *shim) {
        struct shim_carry *c = &shim->carry;

        c->source = sd_event_source_disable_unref(c->source);
        c->timer = sd_event_source_disable_unref(c->timer);
        if (c->fd >= 0)
                (void) pidfd_send_signal(c->fd, SIGKILL, NULL, 0);
        cleanup_close_p(&c->fd);
        c->fd = -1;
}

static void written(struct shim *shim) {
        bool again = shim->carry.again;

        shim_carry_close(shim);
        if (again && shim->state == SHIM_RUNNING)
                shim_carry_changed(shim);
}

static int on_written(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        written(userdata);
        return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        written(userdata);
        return 0;
}

void shim_carry_changed(struct shim *shim) {
        struct shim_carry *c = &shim->carry;

        c->again = true;
        if (!shim->attempt.name || c->fd >= 0)
                return;
        int r = start(shim);
        if (r >= 0)
                r = sd_event_add_io(shim->event, &c->source, c->fd, EPOLLIN, on_written, shim);
        if (r >= 0)
                r = sd_event_add_time_relative(shim->event, &c->timer, CLOCK_BOOTTIME, LIMIT_USEC, 0, on_late, shim);
        if (r < 0)
                shim_carry_close(shim);
}

void shim_carry_end(struct shim *shim) {
        shim_carry_close(shim);
        if (!shim->attempt.name || shim->started_usec == 0 || start(shim) < 0)
                return;
        struct pollfd p = { .fd = shim->carry.fd, .events = POLLIN };
        while (poll(&p, 1, LAST_LIMIT_MSEC) < 0 && errno == EINTR)
                ;
        shim_carry_close(shim);
}
