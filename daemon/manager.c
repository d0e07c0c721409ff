/*
 * See manager.h. Role: owns the loop and everything on it; the one place where a job changes state and where the queue is planned.
 * Invariants: slots_used and gpus_used are the sum over jobs that hold resources; nothing starts while a commit is outstanding
 * or the daemon drains; timers run on CLOCK_BOOTTIME, and there is none while nothing is due.
 */
#include "daemon/manager.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/paths.h"
#include "daemon/bus/accounts.h"
#include "daemon/attempt/attempt.h"
#include "daemon/bus/server.h"
#include "daemon/launch/user_task.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/attempt/ledger.h"
#include "daemon/base/log.h"
#include "daemon/plan/on_exit.h"
#include "daemon/base/process.h"
#include "daemon/base/reserve.h"
#include "daemon/plan/settle.h"
#include "daemon/plan/trash.h"

#define WAKES_A_TURN 64 /* back-offs that end in one commit: after an absence all may be due */
#define HOLD_TRIES 50
#define HOLD_PAUSE_USEC 20000

/* ---- state folder ---- */

/* A record lock of this process: it names its holder, and dies with it. */
static int lock_state(const char *state_dir, int *ret, struct error *error) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        cleanup_free char *path = format_string("%s/bertd.lock", state_dir);
        if (!path)
                return error_errno(error, ENOMEM, "%s", state_dir);
        cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_errno(error, errno, "%s", path);
        if (fcntl(fd, F_SETLK, &lock) < 0) {
                if (errno != EAGAIN && errno != EACCES)
                        return error_errno(error, errno, "%s", path);
                lock.l_pid = 0;
                (void) fcntl(fd, F_GETLK, &lock);
                return error_set(error, EBUSY, "%s: in use by another bertd (pid %d)", state_dir, (int) lock.l_pid);
        }
        *ret = steal_fd(&fd);
        return 0;
}

/* The lock's file may be removed while bertd runs, the folder itself not without what is in it. */
static int hold_folder(const char *state_dir, int *ret, struct error *error) {
        cleanup_close int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_errno(error, errno, "%s", state_dir);
        /* A child of a bertd that was killed holds it, too, until it has become another program. */
        for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
                if (errno != EWOULDBLOCK)
                        return error_errno(error, errno, "%s", state_dir);
                if (i == HOLD_TRIES)
                        return error_set(error, EBUSY, "%s: in use by another bertd, whose bertd.lock was removed",
                                         state_dir);
                (void) usleep(HOLD_PAUSE_USEC);
        }
        *ret = steal_fd(&fd);
        return 0;
}

static int open_jobs_folder(const char *state_dir, int *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/jobs", state_dir);
        if (!path)
                return error_errno(error, ENOMEM, "%s", state_dir);
        if (mkdir(path, 0711) < 0 && errno != EEXIST)
                return error_errno(error, errno, "%s", path);
        cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* Whatever umask made it, users must be able to reach their own folder below, and no other may write. */
        if (fd < 0 || fchmod(fd, 0711) < 0)
                return error_errno(error, errno, "%s", path);
        *ret = steal_fd(&fd);
        return 0;
}

int manager_find_jobs(struct manager *m, struct error *error) {
        cleanup_free char *path = format_string("%s/jobs", m->options.state_dir);
        struct stat ours, there;
        int fd;

        if (!path)
                return error_errno(error, ENOMEM, "%s", m->options.state_dir);
        if (fstat(m->jobs_fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino)
                return 0;
        int r = open_jobs_folder(m->options.state_dir, &fd, error);
        if (r < 0)
                return r;
        log_error("%s was removed or replaced while bertd runs: jobs that start now have their folders in the new one",
                  path);
        (void) close(m->jobs_fd);
        m->jobs_fd = fd;
        return 0;
}

/* True where a folder of a job is there: its rows must be in state.db. */
static bool holds_jobs(const char *state_dir) {
        cleanup_free char *path = format_string("%s/jobs", state_dir);
        cleanup_closedir DIR *jobs = path ? opendir(path) : NULL;
        bool found = !jobs;

        for (const struct dirent *entry; !found && (entry = readdir(jobs));)
                found = isdigit((unsigned char) entry->d_name[0]);
        return found;
}

static void log_line(const char *text) { log_error("%s", text); }

/* What bertd makes its own it also closes to others. */
static bool is_foreign(const char *dir) {
        static const char *const ours[] = { BERTD_STATE_DB, "bertd.lock", "bertd.log", "jobs" };
        cleanup_closedir DIR *folder = opendir(dir);
        bool empty = true;

        for (struct dirent *entry; folder && (entry = readdir(folder));) {
                empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                                  strcmp(entry->d_name, "lost+found") == 0);
                for (size_t i = 0; i < ELEMENTSOF(ours); i++)
                        if (strcmp(entry->d_name, ours[i]) == 0)
                                return false;
        }
        return folder && !empty;
}

static int open_state(struct manager *m, struct error *error) {
        const char *dir = m->options.state_dir;
        mode_t mode = geteuid() == 0 ? 0711 : 0700;
        struct stat st;

        int r = mkdir_parents(dir, 0755, error);
        if (r < 0)
                return r;
        if (is_foreign(dir))
                return error_set(error, ENOTEMPTY,
                                 "%s: holds other files and no state of bertd's: expected a folder of its own", dir);
        if (stat(dir, &st) < 0)
                return error_errno(error, errno, "%s", dir);
        if (st.st_uid != geteuid())
                return error_set(error, EPERM, "%s: belongs to uid %u, not to us", dir, (unsigned) st.st_uid);
        if (chmod(dir, mode) < 0)
                return error_errno(error, errno, "%s", dir);
        cleanup_free char *db = format_string("%s/%s", dir, BERTD_STATE_DB);
        if (!db)
                return error_errno(error, ENOMEM, "%s", dir);
        r = lock_state(dir, &m->lock_fd, error);
        if (r >= 0)
                r = hold_folder(dir, &m->dir_fd, error);
        if (r >= 0)
                r = open_jobs_folder(dir, &m->jobs_fd, error);
        mode_t old = umask(077);
        if (r >= 0)
                r = store_open(db, !holds_jobs(dir), log_line, &m->store, error);
        (void) umask(old);
        if (r >= 0)
                m->reserve_fd = reserve_open(dir);
        return r;
}

/* Beside us in the build folder, else where installed. */
static char *find_program(const char *beside, const char *installed) {
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n > 0) {
                self[n] = '\0';
                char *slash = strrchr(self, '/');
                *slash = '\0';
                cleanup_free char *path = format_string("%s/%s", self, beside);
                cleanup_free char *real = path ? realpath(path, NULL) : NULL;
                if (real && access(real, X_OK) == 0)
                        return steal_pointer(&real);
        }
        return strdup(installed);
}

int manager_new(const struct manager_options *options, struct manager **ret, struct error *error) {
        struct manager *m = calloc(1, sizeof(*m));
        if (!m)
                return error_errno(error, ENOMEM, "manager");

        *m = (struct manager) {
                .options = *options,
                .dir_fd = -1,
                .jobs_fd = -1,
                .lock_fd = -1,
                .reserve_fd = -1,
                .serial = clock_realtime_usec(),
        };
        m->launchers[LAUNCHER_FORK] = &launcher_fork;
        m->launchers[LAUNCHER_SYSTEMD] = geteuid() == 0 ? &launcher_systemd : NULL;
        process_boot_id(m->boot_id, sizeof(m->boot_id));
        m->trainer = find_program("../trainer/bert-trainer", BERTD_BINDIR "/bert-trainer");
        m->shim = find_program("bertd-shim", BERTD_LIBEXECDIR "/bertd-shim");
        descriptors_read(&m->files);
        int r = m->trainer && m->shim ? 0 : error_errno(error, ENOMEM, "manager");
        if (r >= 0)
                r = process_check(error);
        if (r >= 0)
                r = open_state(m, error);
        if (r >= 0) {
                r = sd_event_default(&m->loop);
                if (r >= 0)
                        r = settle_new(m, &m->settle);
                if (r < 0)
                        (void) error_errno(error, -r, "event loop");
        }
        if (r < 0) {
                manager_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void manager_free(struct manager *m) {
        if (!m)
                return;
        settle_free(m->settle);
        m->settle = NULL;
        for (size_t i = 0; m->store && i < store_count(m->store); i++)
                wait_fail(store_at(m->store, i), BERTD_ERROR_STOPPING, "the daemon has ended");
        children_free(m);
        trash_free(m->trash);
        bus_server_free(m->server);
        accounts_free(m->accounts);
        for (size_t i = 0; m->store && i < store_count(m->store); i++)
                attempt_run_free(store_at(m->store, i)->run);
        if (m->systemd)
                (void) sd_bus_flush_close_unref(m->systemd);
        (void) sd_event_source_disable_unref(m->plan_source);
        (void) sd_event_source_disable_unref(m->wake_source);
        (void) sd_event_source_disable_unref(m->exit_retry);
        gpu_watch_free(m->gpu_watch);
        store_free(m->store);
        (void) sd_event_unref(m->loop);
        if (m->jobs_fd >= 0)
                (void) close(m->jobs_fd);
        if (m->lock_fd >= 0)
                (void) close(m->lock_fd);
        if (m->dir_fd >= 0)
                (void) close(m->dir_fd);
        if (m->reserve_fd >= 0)
                (void) close(m->reserve_fd);
        free(m->trainer);
        free(m->shim);
        free(m);
}

/* ---- transitions ---- */

static void set_times(struct job *job, enum job_event event) {
        uint64_t now = clock_realtime_usec();

        if (event == EVENT_HELLO && job->started == 0)
                job->started = now;
        if (event == EVENT_RESUME)
                job->ended = 0;
        else if (state_has_ended(job->state))
                job->ended = now;
        if (job->state != JOB_BACKOFF)
                job->not_before = 0;
}

/* Of the system's service: a status of its own, by which systemd tells an end on request from others and does not restart it. */
static int end_on_request(struct manager *m) {
        return sd_event_exit(m->loop, m->options.launcher == LAUNCHER_SYSTEMD ? BERTD_EXIT_STOPPED : BERTD_EXIT_OK);
}

void manager_commit(struct manager *m) { settle_soon(m->settle); }

void manager_check_drained(struct manager *m) {
        for (size_t i = 0; m->draining && i < store_count(m->store); i++)
                if (state_holds_resources(store_at(m->store, i)->state))
                        return;
        if (!m->draining)
                return;
        log_info("all jobs have stopped");
        (void) end_on_request(m);
}

enum verdict manager_move(struct manager *m, struct job *job, enum job_event event, const char *reason) {
        return manager_move_privately(m, job, event, reason, NULL);
}

enum verdict manager_move_privately(struct manager *m, struct job *job, enum job_event event, const char *reason,
                                    const char *private) {
        struct transition t = state_after(job->state, event);
        enum job_state from = job->state;

        if (t.verdict == STATE_IMPOSSIBLE)
                log_error("job %" PRIu64 ": %s cannot happen in state %s", job->id, job_event_name(event),
                          job_state_name(job->state));
        if (t.verdict != STATE_MOVE)
                return t.verdict;
        goodput_note_time(job, clock_realtime_usec());
        job->state = t.next;
        job_set_reason(job, reason, private);
        set_times(job, event);
        job->holds_checkpoints = state_has_ended(job->state) && ledger_is_below_job(job);
        store_note_move(m->store, job, from, job_event_name(event));
        manager_commit(m);
        log_transition(job->id, job_state_name(from), job_state_name(job->state), job->reason);
        if (state_has_ended(job->state)) {
                on_exit_owe(job);
                manager_plan_soon(m); /* where the job leaves memory */
        }
        return STATE_MOVE;
}

/* ---- the queue ---- */

static void tell_gpu_watch(struct manager *m) {
        uint64_t holders[GPUS_MAX] = {};

        for (size_t i = 0; m->gpu_watch && i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                uint64_t mask =
                        state_holds_resources(job->state) ? gpus_mask(&m->options.gpus, job->attempt.gpus, NULL) : 0;
                for (uint32_t g = 0; mask >> g; g++)
                        if (mask & UINT64_C(1) << g)
                                holders[g] = job->id;
        }
        for (uint32_t g = 0; m->gpu_watch && g < m->options.gpus.n; g++)
                gpu_watch_holder(m->gpu_watch, g, holders[g]);
}

void manager_account(struct manager *m) {
        m->attempts = 0;
        m->slots_used = 0;
        m->gpus_used = 0;
        m->gpus_lost = 0;
        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                uint32_t missing;
                if (!state_holds_resources(job->state))
                        continue;
                m->attempts++;
                m->slots_used += job_slots(job);
                m->gpus_used |= gpus_mask(&m->options.gpus, job->attempt.gpus, &missing);
                m->gpus_lost += missing;
        }
        tell_gpu_watch(m);
}

struct queue_free manager_free_resources(const struct manager *m) {
        uint64_t taken = m->gpus_used | gpu_watch_blocked(m->gpu_watch, GPU_FREE);
        uint32_t used = (uint32_t) __builtin_popcountll(taken), n = m->options.gpus.n;

        return (struct queue_free) { .slots = m->options.slots > m->slots_used ? m->options.slots - m->slots_used : 0,
                                     .slots_total = m->options.slots,
                                     .gpus = n > used ? n - used : 0,
                                     .gpus_total = n,
                                     .starts = m->files.attempts > m->attempts ? m->files.attempts - m->attempts : 0,
                                     .files = m->files.limit };
}

static struct queue_entry entry_of(const struct job *job) {
        return (struct queue_entry) {
                .id = job->id, .priority = job->priority, .slots = job_slots(job), .gpus = job->gpus
        };
}

static size_t collect_queued(const struct store *store, struct queue_entry *entries) {
        size_t n = 0;

        for (size_t i = 0; i < store_count(store); i++) {
                const struct job *job = store_at(store, i);
                if (job->state != JOB_QUEUED)
                        continue;
                if (entries)
                        entries[n] = entry_of(job);
                n++;
        }
        return n;
}

/* Before GPUs are given the driver is asked who uses them. Until it has answered, those that would get them keep their slots. */
static void hold_gpus(struct manager *m, struct queue_entry *entries, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (entries[i].wait == WAIT_NONE && entries[i].gpus > 0 && !gpu_watch_fresh(m->gpu_watch))
                        entries[i].wait = WAIT_GPUS;
}

static void plan(struct manager *m) {
        size_t n = collect_queued(m->store, NULL);
        cleanup_free struct queue_entry *entries = n ? calloc(n, sizeof(*entries)) : NULL;

        m->heads = (struct queue_heads) {};
        if (!entries)
                return;
        (void) collect_queued(m->store, entries);
        (void) queue_plan(entries, n, manager_free_resources(m), &m->heads);
        hold_gpus(m, entries, n);
        for (size_t i = 0; i < n; i++)
                store_find(m->store, entries[i].id)->wait = entries[i];
        /* While state.db cannot be written nothing starts. */
        bool may_start = !store_pending(m->store) && !m->draining;
        for (size_t i = 0; i < n && may_start; i++) {
                if (entries[i].wait != WAIT_NONE)
                        continue;
                struct job *job = store_find(m->store, entries[i].id);
                uint64_t taken = m->gpus_used | gpu_watch_blocked(m->gpu_watch, GPU_FREE);
                attempt_start(m, job, gpus_take(&m->options.gpus, taken, job->gpus));
        }
}

static int on_plan(sd_event_source *source, void *userdata) {
        struct manager *m = userdata;

        on_exit_next_all(m);
        store_release(m->store);
        plan(m);
        return 0;
}

void manager_plan_soon(struct manager *m) { (void) sd_event_source_set_enabled(m->plan_source, SD_EVENT_ONESHOT); }

void manager_enqueue(struct manager *m, struct job *job) {
        job->wait = entry_of(job);
        if (!queue_is_behind(&m->heads, &job->wait))
                manager_plan_soon(m);
}

static void on_gpus(void *userdata) { manager_plan_soon(userdata); }

/* ---- back-off ---- */

static int on_wake(sd_event_source *source, uint64_t usec, void *userdata) {
        struct manager *m = userdata;
        uint64_t now = clock_boottime_usec();
        unsigned woken = 0;

        /* The rest comes in the next turn, after a commit and others' calls. */
        for (size_t i = 0; i < store_count(m->store) && woken < WAKES_A_TURN; i++) {
                struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF && job->wake_boottime <= now)
                        woken += manager_move(m, job, EVENT_WAKE, NULL) == STATE_MOVE;
        }
        manager_arm_wake(m);
        manager_plan_soon(m);
        return 0;
}

void manager_arm_wake(struct manager *m) {
        uint64_t earliest = UINT64_MAX;

        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF)
                        earliest = MIN(earliest, job->wake_boottime);
        }
        m->wake_source = sd_event_source_disable_unref(m->wake_source);
        if (earliest == UINT64_MAX)
                return;
        int r = sd_event_add_time(m->loop, &m->wake_source, CLOCK_BOOTTIME, earliest, 10000, on_wake, m);
        if (r < 0)
                log_error("timer: %s", strerror(-r));
}

/* ---- start and shutdown ---- */

/* A wall clock that jumped while we were away cannot make a back-off longer than it was when it began. */
static void restore_backoff(struct job *job) {
        uint64_t now = clock_realtime_usec(), most = MAX(job->backoff_max_sec, POLICY_STARTS_SEC) * USEC_PER_SEC;
        uint64_t left = job->not_before > now ? job->not_before - now : 0;

        if (job->not_before > job->since_usec)
                most = MIN(most, job->not_before - job->since_usec);
        job->wake_boottime = clock_boottime_usec() + MIN(left, most);
}

/* Names for the bits of a row of schema 2. Today's list is the best guess at the one they were bits of; made once, and kept. */
static void name_gpus(struct manager *m, struct job *job) {
        struct attempt *a = &job->attempt;
        cleanup_free char *names = a->gpu_mask != 0 ? gpus_visible(&m->options.gpus, a->gpu_mask) : NULL;

        if (!names)
                return;
        job_set_text(&a->gpus, names);
        a->gpu_mask = 0;
        store_mark(m->store, job);
        manager_commit(m);
}

static void reconcile(struct manager *m) {
        for (size_t i = 0; i < store_count(m->store); i++) {
                struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF)
                        restore_backoff(job);
                on_exit_adopt(m, job);
                if (!state_holds_resources(job->state))
                        continue;
                job->attempt.open = true;
                name_gpus(m, job);
                attempt_adopt(m, job);
        }
        manager_account(m);
        manager_arm_wake(m);
        manager_plan_soon(m);
}

static void on_account(void *userdata, uid_t uid) {
        struct manager *m = userdata;

        bus_server_resume(m->server, uid);
}

int manager_start(struct manager *m, struct error *error) {
        int r = sd_event_add_defer(m->loop, &m->plan_source, on_plan, m);
        if (r >= 0)
                r = sd_event_source_set_enabled(m->plan_source, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(m->plan_source, SD_EVENT_PRIORITY_NORMAL + 10);
        if (r >= 0)
                r = gpu_watch_new(m->loop, &m->options.gpus, on_gpus, m, &m->gpu_watch);
        if (r >= 0)
                r = trash_new(m, &m->trash);
        if (r < 0)
                return error_errno(error, -r, "event loop");
        r = accounts_new(m->loop, on_account, m, &m->accounts);
        if (r < 0)
                return error_errno(error, -r, "accounts");
        r = bus_server_new(m, m->options.socket, &m->server, error);
        if (r < 0)
                return r;
        if (m->files.clients < BERTD_CLIENTS_MAX)
                log_info("%" PRIu64 " open files are allowed: %u connections (not %d) and %u jobs at a time; raise the "
                         "hard limit (ulimit -Hn, LimitNOFILE=)",
                         m->files.limit, m->files.clients, BERTD_CLIENTS_MAX, m->files.attempts);
        store_keep_ended(m->store, m->options.keep_ended);
        reconcile(m);
        manager_commit(m); /* where more jobs have ended than are kept */
        return 0;
}

void manager_shutdown(struct manager *m, bool jobs) {
        if (!jobs) {
                (void) end_on_request(m);
                return;
        }
        m->draining = true;
        for (size_t i = 0; i < store_count(m->store); i++) {
                struct job *job = store_at(m->store, i);
                if (!state_holds_resources(job->state))
                        continue;
                if (job->wish == WISH_NONE)
                        job->wish = WISH_SHUTDOWN;
                if (manager_move(m, job, EVENT_SHUTDOWN, "the daemon is shutting down") == STATE_MOVE)
                        job->stop_due = true;
        }
        manager_check_drained(m);
}
