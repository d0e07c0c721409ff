/*
 * See folder.h. Owns nothing between calls.
 * Invariants: a folder is given to the job's user after its files are written; below STATE/jobs no link is followed and
 * no mount entered.
 */
#include "daemon/attempt/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/attempt_file.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/gang_file.h"
#include "common/space.h"
#include "daemon/rules/ledger.h"
#include "daemon/rules/states.h"
#include "common/exit_record.h"
#include "daemon/base/log.h"

#define OTHER_PATHS_MAX 64 /* checkpoints of attempt.json whose path is not the trainer's: a path may be long */

char *files_job_dir(const char *state_dir, uint64_t job) { return format_string("%s/jobs/%" PRIu64, state_dir, job); }

char *files_attempt_path(const char *state_dir, const struct job *job, const char *name) {
        return format_string("%s/jobs/%" PRIu64 "/attempt-%u%s%s", state_dir, job->id, job->attempt.number,
                             name[0] ? "/" : "", name);
}

char *files_run_dir(const char *state_dir, const struct job *job) {
        return job->run_dir ? strdup(job->run_dir) : files_job_dir(state_dir, job->id);
}

char *files_scratch(const struct job *job, bool private_shm) {
        return format_string("%s/bertd-%u-%" PRIu64 "-%u-%.8s", private_shm ? "/tmp" : "/dev/shm", (unsigned) job->uid,
                             job->id, job->attempt.number, job->attempt.nonce);
}

/* openat of one name. A user may mount a file system of his own on his folder: opening what is in it could hang bertd.
 */
static int open_inside(int folder, const char *name, int flags) {
        struct open_how how = { .flags = (uint64_t) (flags | O_NOFOLLOW | O_CLOEXEC),
                                .mode = flags & O_CREAT ? 0600 : 0,
                                .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH };

        return (int) syscall(SYS_openat2, folder, name, &how, sizeof(how));
}

bool files_is_folder(const char *path) {
        const char *slash = strrchr(path, '/');
        cleanup_free char *parent = slash ? strndup(path, (size_t) (slash - path) + 1) : NULL;
        cleanup_close int holder = parent ? open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        cleanup_close int fd = holder >= 0 ? open_inside(holder, slash + 1, O_PATH | O_DIRECTORY) : -1;

        return fd >= 0 || (holder >= 0 && errno == EXDEV);
}

/* A folder of the job's user (or still ours), never through a link. */
static int open_folder(int parent, const char *name, uid_t uid) {
        struct stat st;
        cleanup_close int fd = open_inside(parent, name, O_RDONLY | O_DIRECTORY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_uid != uid && st.st_uid != geteuid())
                return -EPERM;
        return steal_fd(&fd);
}

static int open_job_folder(int jobs_fd, const struct job *job) {
        char name[32];

        (void) snprintf(name, sizeof(name), "%" PRIu64, job->id);
        return open_folder(jobs_fd, name, job->uid);
}

static int open_attempt_folder(int jobs_fd, const struct job *job) {
        char name[32];
        cleanup_close int fd = open_job_folder(jobs_fd, job);

        if (fd < 0)
                return fd;
        (void) snprintf(name, sizeof(name), "attempt-%u", job->attempt.number);
        return open_folder(fd, name, job->uid);
}

static int give_to(int fd, const struct job *job) {
        return geteuid() == 0 && job->uid != 0 && fchown(fd, job->uid, job->gid) < 0 ? -errno : 0;
}

static int write_file(int folder, const char *name, const struct job *job, const char *data, size_t size) {
        cleanup_close int fd = open_inside(folder, name, O_WRONLY | O_CREAT | O_EXCL);
        if (fd < 0)
                return -errno;
        int r = give_to(fd, job);
        return r < 0 ? r : write_all(fd, data, size);
}

/* Good checkpoints, and the steps of demoted and abandoned ones. Only a path unlike the trainer's is written, and only
 * of the newest ones: it may be long. */
static bool add_known(const struct job *job, const char *run_dir, struct known *known) {
        unsigned left = OTHER_PATHS_MAX;

        known->until = job->resume_abandon ? job->resume_from : UINT64_MAX;
        known->aside = calloc(job->n_ledger + 1, sizeof(*known->aside));
        for (size_t i = job->n_ledger; known->aside && i-- > 0;) {
                const struct checkpoint *c = &job->ledger[i];
                if (c->state == CHECKPOINT_DEMOTED || c->state == CHECKPOINT_ABANDONED)
                        known->aside[known->n_aside++] = c->step;
                if (!checkpoint_is_usable(c))
                        continue;
                cleanup_free char *usual = ledger_path(run_dir, c->step);
                bool is_usual = usual && strcmp(usual, c->path) == 0 && c->state == CHECKPOINT_GOOD;
                if (known->n < KNOWN_CHECKPOINTS_MAX && (is_usual || (left > 0 && left--)))
                        known_add(known, c->step, is_usual ? NULL : c->path, c->state == CHECKPOINT_UNCONFIRMED);
        }
        return known->aside != NULL;
}

static void add_rlimits(const struct job_inputs *inputs, struct attempt_spec *a) {
        for (; a->n_rlimits < inputs->n_rlimits && a->n_rlimits < ELEMENTSOF(a->rlimits); a->n_rlimits++) {
                const struct job_rlimit *from = &inputs->rlimits[a->n_rlimits];
                a->rlimits[a->n_rlimits].resource = (int) from->resource;
                a->rlimits[a->n_rlimits].limit = (struct rlimit) { from->soft, from->hard };
        }
}

/* For RUN_DIR/bertd.json. */
static void add_counters(const struct job *job, struct attempt_spec *a) {
        a->name = job->name;
        a->counters = (struct run_counters) { .deaths = (uint32_t) MAX(job->deaths, 0),
                                              .free_deaths = (uint32_t) MAX(job->free_deaths, 0),
                                              .run_steps = job->run_steps,
                                              .run_usec = job->run_usec,
                                              .active_usec = job->active_usec,
                                              .lost = job_lost_text(job) };
}

static char *attempt_document(const struct job *job, const struct files_attempt *c) {
        struct attempt_spec a = { .job = job->id,
                                  .number = job->attempt.number,
                                  .nonce = (char *) job->attempt.nonce,
                                  .kind = job->kind,
                                  .argv = c->argv->words,
                                  .environment = c->environment->words,
                                  .cwd = (char *) job->cwd,
                                  .log = (char *) c->log,
                                  .socket = (char *) c->socket,
                                  .umask = job->umask,
                                  .nice = job->nice,
                                  .cpu_list = (char *) c->inputs->cpu_list,
                                  .grace_usec = job->grace_sec * USEC_PER_SEC,
                                  .log_max_bytes = job->log_max_size,
                                  .log_keep = job->log_keep,
                                  .hang_sec = (int) job->hang_sec,
                                  .start_sec = (int) job->start_sec,
                                  .lease_timeout_sec = job_is_lease(job) ? job->host_timeout_sec : 0,
                                  .stop_by_term = job->kind == JOB_COMMAND,
                                  .ends_with = job->ends_with,
                                  .copy_to = job->copy_to,
                                  .copy_keep = job->keep,
                                  .hosts = (char *) c->hosts,
                                  .ranks = job->ranks,
                                  .ran = c->ran };

        add_rlimits(c->inputs, &a);
        if (job->run_dir || job->copy_to)
                add_counters(job, &a);
        (void) scheduling_read(c->inputs->scheduling, &a.scheduling);
        char *text = add_known(job, c->run_dir, &a.known) ? attempt_file_write(&a) : NULL;
        known_free(&a.known);
        free(a.counters.lost);
        return text;
}

static int make_folder(int parent, const char *name, uid_t uid) {
        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        return open_folder(parent, name, uid);
}

static int write_attempt_files(int folder, const struct job *job, const struct files_attempt *contents) {
        cleanup_free char *text = attempt_document(job, contents);
        if (!text)
                return -ENOMEM;
        int r = write_file(folder, "attempt.json", job, text, strlen(text));
        if (r >= 0 && contents->gang)
                r = write_file(folder, GANG_FILE, job, contents->gang, strlen(contents->gang));
        return r < 0 ? r : write_file(folder, "lock", job, "", 0);
}

static int prepare_scratch(const struct job *job, const char *path) {
        if (mkdir(path, 0700) < 0)
                return errno == EEXIST ? 0 : -errno;
        cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : give_to(fd, job);
}

static int prepare(int jobs_fd, const struct job *job, const struct files_attempt *contents, struct error *error) {
        char name[32];

        (void) snprintf(name, sizeof(name), "%" PRIu64, job->id);
        cleanup_close int job_fd = make_folder(jobs_fd, name, job->uid);
        if (job_fd < 0)
                return error_errno(error, -job_fd, "the folder of job %s", name);
        (void) unlinkat(job_fd, "spec.yaml", 0);
        int r = write_file(job_fd, "spec.yaml", job, contents->spec, strlen(contents->spec));
        if (r < 0)
                return error_errno(error, -r, "spec.yaml of job %s", name);

        (void) snprintf(name, sizeof(name), "attempt-%u", job->attempt.number);
        if (mkdirat(job_fd, name, 0700) < 0)
                return error_errno(error, errno, "%s of job %" PRIu64, name, job->id);
        cleanup_close int folder = open_folder(job_fd, name, geteuid());
        r = folder < 0 ? folder : write_attempt_files(folder, job, contents);
        if (r >= 0)
                r = give_to(folder, job);
        if (r >= 0)
                r = give_to(job_fd, job);
        if (r >= 0 && contents->scratch)
                r = prepare_scratch(job, contents->scratch);
        return r < 0 ? error_errno(error, -r, "%s of job %" PRIu64, name, job->id) : 0;
}

int files_prepare(int jobs_fd, const struct job *job, const struct files_attempt *contents, struct error *error) {
        struct error own = {};

        int r = prepare(jobs_fd, job, contents, &own);
        if (r == -ENOSPC && space_no_inodes_at(jobs_fd))
                return error_set(error, ENOSPC, "the files of job %" PRIu64 ": %s", job->id, BERTD_NO_INODES);
        return r < 0 ? error_set(error, -r, "%s", own.text) : 0;
}

int files_open_shim_log(int jobs_fd, const struct job *job) {
        cleanup_close int folder = open_attempt_folder(jobs_fd, job);
        if (folder < 0)
                return folder;
        cleanup_close int fd = open_inside(folder, "shim.log", O_WRONLY | O_CREAT | O_EXCL);
        if (fd < 0)
                return -errno;
        int r = give_to(fd, job);
        return r < 0 ? r : steal_fd(&fd);
}

static int read_bounded(int folder, const char *name, uid_t uid, char *buffer, size_t max, size_t *ret_size) {
        struct stat st;
        size_t size = 0;
        cleanup_close int fd = open_inside(folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (st.st_uid != uid && st.st_uid != geteuid()))
                return -EPERM;
        if (st.st_size > (off_t) max)
                return -EFBIG;
        while (size < max) {
                ssize_t n = read(fd, buffer + size, max - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        *ret_size = size;
        return 0;
}

static int newest_first(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return (x < y) - (x > y);
}

/* Of a shim that looks for checkpoints. */
static void use_news(const struct exit_record *record, struct job *job, const char *run_dir) {
        const struct ledger_news news = { .found = record->found,
                                          .n_found = MIN(record->n_found, (size_t) BERTD_NEWS_MAX),
                                          .gone = record->gone,
                                          .n_gone = MIN(record->n_gone, (size_t) BERTD_NEWS_MAX) };

        if (record->found)
                qsort(record->found, record->n_found / 3, 3 * sizeof(*record->found), newest_first);
        (void) ledger_take(job, run_dir, &news);
}

static void use_record(const struct exit_record *record, struct job *job) {
        const struct exit_verdict *v = &record->verdict;
        struct attempt *a = &job->attempt;

        a->exit_code = v->exit_code;
        a->signal = v->signal;
        a->exit_class =
                record->has_class ? (int) v->exit_class : (int) policy_classify(a->exit_code, a->signal, v->oom);
        attempt_set_reason(a, v->reason, v->private);
        job_set_text(&a->more, v->more);
        job_set_text(&a->more_private, v->more_private);
        a->rank = v->first_rank;
        job_set_text(&a->host, v->host);
        job_set_text(&a->evidence, record->evidence);
        if (record->samples_last > 0) {
                a->samples_first = record->samples_first;
                a->samples_last = record->samples_last;
        }
        a->step = MAX(a->step, record->step);
}

int files_use_record(const char *text, size_t size, struct job *job, const char *run_dir, bool *ret_requested,
                     struct error *error) {
        struct exit_record record = { .job = job->id, .attempt = job->attempt.number, .nonce = job->attempt.nonce };

        int r = exit_record_read(text, size, &record, error);
        if (r < 0)
                return r;
        use_record(&record, job);
        use_news(&record, job, run_dir);
        *ret_requested = record.requested;
        exit_record_clear(&record);
        return 0;
}

int files_read_exit(int jobs_fd, struct job *job, const char *run_dir, bool *ret_requested, struct error *error) {
        size_t size = 0;
        cleanup_free char *buffer = malloc(EXIT_RECORD_MAX);
        cleanup_close int folder = open_attempt_folder(jobs_fd, job);

        int r = !buffer      ? -ENOMEM
                : folder < 0 ? folder
                             : read_bounded(folder, "exit.json", job->uid, buffer, EXIT_RECORD_MAX, &size);
        if (r < 0)
                return error_errno(error, -r, "exit.json");
        r = files_use_record(buffer, size, job, run_dir, ret_requested, error);
        return r < 0 ? error_prefix(error, "exit.json") : 0;
}

static int open_lock(int folder) { return open_inside(folder, "lock", O_RDWR | O_NONBLOCK | O_NOCTTY); }

/* 1: locked now, 0: held by another, −errno. */
static int try_lock(int fd) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
                return 1;
        return errno == EAGAIN || errno == EACCES ? 0 : -errno;
}

bool files_is_locked(int jobs_fd, const struct job *job) {
        cleanup_close int folder = open_attempt_folder(jobs_fd, job);
        cleanup_close int fd = folder < 0 ? -1 : open_lock(folder);

        return fd >= 0 && try_lock(fd) == 0;
}

int files_close_attempt(int jobs_fd, const struct job *job, struct error *error) {
        cleanup_close int folder = open_attempt_folder(jobs_fd, job);
        if (folder == -ENOENT)
                return 0;
        if (folder < 0)
                return error_errno(error, -folder, "attempt %u of job %" PRIu64, job->attempt.number, job->id);
        /* If another process holds the lock, the tombstone still prevents a later shim from running. */
        cleanup_close int lock = open_lock(folder);
        if (lock >= 0)
                (void) try_lock(lock);
        cleanup_close int fd = open_inside(folder, "tombstone", O_WRONLY | O_CREAT | O_NONBLOCK);
        if (fd < 0 || fsync(fd) < 0 || fsync(folder) < 0)
                return error_errno(error, errno, "the tombstone of attempt %u of job %" PRIu64, job->attempt.number,
                                   job->id);
        return 0;
}

/* ---- STATE/jobs ---- */

int files_open_jobs(const char *state_dir, int *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/jobs", state_dir);
        if (!path)
                return error_errno(error, ENOMEM, "%s", state_dir);
        if (mkdir(path, 0711) < 0 && errno != EEXIST)
                return error_errno(error, errno, "%s", path);
        cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* Independent of umask: users must be able to enter their folder below, and no other may write. */
        if (fd < 0 || fchmod(fd, 0711) < 0)
                return error_errno(error, errno, "%s", path);
        cleanup_close int probe = open_inside(fd, ".", O_RDONLY | O_DIRECTORY);
        if (probe < 0)
                return error_errno(error, errno,
                                   "%s: this kernel or container has no openat2(2), bertd needs Linux 5.9", path);
        *ret = steal_fd(&fd);
        return 0;
}

int files_find_jobs(struct node *m, struct error *error) {
        cleanup_free char *path = format_string("%s/jobs", m->options.state_dir);
        struct stat ours, there;
        int fd;

        if (!path)
                return error_errno(error, ENOMEM, "%s", m->options.state_dir);
        if (fstat(m->jobs_fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino)
                return 0;
        int r = files_open_jobs(m->options.state_dir, &fd, error);
        if (r < 0)
                return r;
        log_error("%s was removed or replaced while bertd runs; new jobs have their folders in the new one", path);
        (void) close(m->jobs_fd);
        m->jobs_fd = fd;
        return 0;
}
