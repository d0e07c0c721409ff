/*
 * See shim.h: the program, the job's progress datagrams, stopping and the end. Invariants: the job starts only after bertd's first
 * GO and at most once; its output and datagrams are read as long as it lives, whatever bertd, the disk or the job do; every
 * wait has an end.
 */
#include "daemon/shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#include "bertd/exit.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"

#define PATIENCE_USEC (60 * USEC_PER_SEC) /* for the first hello */
#define UNREADY_USEC (2 * USEC_PER_SEC)   /* a job that never was ready has nothing to save */
#define LOOK_USEC USEC_PER_SEC            /* between looks at a checkpoint being written */
#define STALLED_USEC (10 * USEC_PER_SEC)  /* a checkpoint file that did not change for so long is not being written */
#define GRACE_FACTOR 4                    /* of the grace time, at most, while a checkpoint is being written */
#define GRACE_MAX_USEC (7 * 24 * 3600 * USEC_PER_SEC)
#define KILL_LIMIT_USEC (10 * USEC_PER_SEC)
#define DRAIN_LIMIT_USEC (2 * USEC_PER_SEC)
#define SOCKET_PATH_MAX 100 /* sun_path has 108; the trainer's libraries may want a NUL and more */
#define RECEIVE_BUFFER (1 << 20)
#define DATAGRAMS_A_TURN 256
#define READS_A_TURN 16
#define READ_BYTES (64u << 10)
#define WRITING_FILES_MAX 1024

/* ---- progress ---- */

static void queue_checkpoint(struct progress *p, uint64_t step, uint64_t size, const char *path) {
        if (!p->checkpoints)
                p->checkpoints = calloc(SHIM_CHECKPOINTS_MAX, sizeof(*p->checkpoints));
        if (!p->checkpoints)
                return;
        if (p->n_checkpoints == SHIM_CHECKPOINTS_MAX) {
                p->n_checkpoints--;
                memmove(p->checkpoints, p->checkpoints + 1, p->n_checkpoints * sizeof(*p->checkpoints));
        }
        struct checkpoint_note *note = &p->checkpoints[p->n_checkpoints++];
        note->step = step;
        note->size = size;
        (void) snprintf(note->path, sizeof(note->path), "%s", path);
}

/* A path ".../step-000012000.ckpt" of a regular file. It is text to show: nothing is opened. */
static bool note_checkpoint(struct progress *p, const char *path) {
        const char *base = strrchr(path, '/');
        char digits[24], clean[PATH_MAX];
        struct stat st;
        uint64_t step;
        int end = 0;

        if (path[0] != '/' || strlen(path) >= PATH_MAX || sscanf(base, "/step-%20[0-9].ckpt%n", digits, &end) != 1)
                return false;
        if (end == 0 || base[end] != '\0')
                return false;
        if (strcmp(shim_clean_text(clean, sizeof(clean), path, strlen(path)), path) != 0)
                return false;
        const char *digit = digits + strspn(digits, "0");
        if (parse_u64(*digit ? digit : "0", 0, INT64_MAX, &step) < 0 || lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
                return false;
        queue_checkpoint(p, step, (uint64_t) st.st_size, path);
        p->step = MAX(p->step, step); /* steps are reported ten times a second: the last one may not have been */
        return true;
}

static void note_number(const char *text, double *to) {
        char *end;
        double v = strtod(text, &end);
        if (end != text && *end == '\0')
                *to = isfinite(v) ? v : NAN;
}

static bool is_key(const char *line, size_t length, const char *key) {
        return length == strlen(key) && strncmp(line, key, length) == 0;
}

/* One KEY=value. Returns true where a checkpoint came. */
static bool note_line(struct progress *p, const char *line) {
        const char *equals = strchr(line, '='), *value = equals ? equals + 1 : NULL;
        size_t n = equals ? (size_t) (equals - line) : 0;
        uint64_t number;

        if (is_key(line, n, "READY"))
                p->ready = p->ready || strcmp(value, "1") == 0;
        else if (is_key(line, n, "STATUS"))
                (void) shim_clean_text(p->status, sizeof(p->status), value, strlen(value));
        else if (is_key(line, n, BERTD_NOTIFY_STEP) && parse_u64(value, 0, INT64_MAX, &number) == 0)
                p->step = number;
        else if (is_key(line, n, BERTD_NOTIFY_STEPS) && parse_u64(value, 0, INT64_MAX, &number) == 0)
                p->steps = number;
        else if (is_key(line, n, BERTD_NOTIFY_LOSS))
                note_number(value, &p->loss);
        else if (is_key(line, n, BERTD_NOTIFY_RATE))
                note_number(value, &p->rate);
        else if (is_key(line, n, BERTD_NOTIFY_CHECKPOINT))
                return note_checkpoint(p, value);
        return false;
}

static bool note_datagram(struct progress *p, char *text) {
        bool checkpoint = false;
        char *rest = NULL;

        /* Ranks but the first may report themselves; the job's numbers are rank 0's. */
        const char *rank = strstr(text, BERTD_NOTIFY_RANK "=");
        if (rank && strtol(rank + strlen(BERTD_NOTIFY_RANK "="), NULL, 10) > 0)
                return false;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
                checkpoint = note_line(p, line) || checkpoint;
        return checkpoint;
}

/* The size of one datagram of the job's own user, 0: one of somebody else's, −1: none is waiting. */
static ssize_t receive_datagram(int fd, char *buffer, size_t size) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred))];
        } control;
        struct iovec iov = { .iov_base = buffer, .iov_len = size - 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        struct ucred sender = { .uid = (uid_t) -1 };

        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -1;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
                        memcpy(&sender, CMSG_DATA(c), sizeof(sender));
        buffer[n] = '\0';
        return sender.uid == geteuid() && !(m.msg_flags & MSG_TRUNC) ? n : 0;
}

static void read_datagrams(struct shim *shim, unsigned limit) {
        char buffer[BERTD_NOTIFY_MAX + 1];
        bool news = false, checkpoint = false;

        for (unsigned i = 0; shim->notify_fd >= 0 && i < limit; i++) {
                ssize_t n = receive_datagram(shim->notify_fd, buffer, sizeof(buffer));
                if (n < 0)
                        break;
                if (n == 0)
                        continue;
                news = true;
                checkpoint = note_datagram(&shim->progress, buffer) || checkpoint;
        }
        if (news)
                shim_bus_changed(shim, checkpoint);
}

static int on_datagram(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        read_datagrams(userdata, DATAGRAMS_A_TURN);
        return 0;
}

/* The socket's path must be short: the attempt's folder, else a folder of its own. */
static int choose_notify_path(struct shim *shim, struct error *error) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        const char *const parents[] = { runtime && *runtime ? runtime : "/tmp", "/tmp" };

        shim->notify_path = format_string("%s/notify", shim->dir);
        if (shim->notify_path && strlen(shim->notify_path) < SOCKET_PATH_MAX)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(parents); i++) {
                free(shim->notify_path);
                free(shim->notify_dir);
                shim->notify_path = NULL;
                shim->notify_dir = format_string("%s/bertd-XXXXXX", parents[i]);
                if (!shim->notify_dir)
                        break;
                if (strlen(shim->notify_dir) + strlen("/notify") >= SOCKET_PATH_MAX || !mkdtemp(shim->notify_dir)) {
                        shim->notify_dir[0] = '\0';
                        continue;
                }
                shim->notify_path = format_string("%s/notify", shim->notify_dir);
                return shim->notify_path ? 0 : error_errno(error, ENOMEM, "%s", shim->dir);
        }
        return error_set(error, EIO, "no place for the job's NOTIFY_SOCKET");
}

static int open_notify(struct shim *shim, struct error *error) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const int on = 1, bytes = RECEIVE_BUFFER;

        int r = choose_notify_path(shim, error);
        if (r < 0)
                return r;
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", shim->notify_path);
        (void) unlink(shim->notify_path);
        cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
                return error_errno(error, errno, "%s", shim->notify_path);
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        r = sd_event_add_io(shim->event, &shim->notify_source, fd, EPOLLIN, on_datagram, shim);
        if (r < 0)
                return error_errno(error, -r, "%s", shim->notify_path);
        shim->notify_fd = steal_fd(&fd);
        return 0;
}

static void close_notify(struct shim *shim) {
        shim->notify_source = sd_event_source_disable_unref(shim->notify_source);
        if (shim->notify_fd >= 0) {
                (void) close(shim->notify_fd);
                (void) unlink(shim->notify_path);
                if (shim->notify_dir)
                        (void) rmdir(shim->notify_dir);
        }
        shim->notify_fd = -1;
        free(shim->notify_path);
        free(shim->notify_dir);
        shim->notify_path = shim->notify_dir = NULL;
}

/* ---- output ---- */

/* True where the pipe may hold more. */
static bool read_output(struct shim *shim, unsigned reads) {
        char buffer[READ_BYTES];

        for (unsigned i = 0; i < reads; i++) {
                ssize_t n = read(shim->child.output_fd, buffer, sizeof(buffer));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n <= 0)
                        return false;
                shim_log_write(&shim->log, buffer, (size_t) n);
        }
        return true;
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        if (!read_output(userdata, READS_A_TURN))
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

/* What is left in the pipe after the tree is dead; a writer that escaped may not hold us up. */
static void drain_output(struct shim *shim) {
        const uint64_t deadline = clock_boottime_usec() + DRAIN_LIMIT_USEC;
        int left = 0;

        shim->output_source = sd_event_source_disable_unref(shim->output_source);
        while (shim->child.output_fd >= 0 && clock_boottime_usec() < deadline) {
                bool more = read_output(shim, READS_A_TURN);
                if (!more || ioctl(shim->child.output_fd, FIONREAD, &left) < 0 || left == 0)
                        break;
        }
}

/* ---- the kernel's OOM killer ---- */

/* memory.events of the own cgroup: the unified hierarchy, alone or beside the old ones. */
static uint64_t read_oom_kills(void) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        cleanup_fclose FILE *own = fopen("/proc/self/cgroup", "re");
        char line[PATH_MAX] = "", key[64];
        uint64_t n;

        while (own && fgets(line, sizeof(line), own) && strncmp(line, "0::", 3) != 0)
                ;
        if (strncmp(line, "0::", 3) != 0)
                return 0;
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                cleanup_free char *path = format_string("%s%s/memory.events", roots[i], line + 3);
                cleanup_fclose FILE *events = path ? fopen(path, "re") : NULL;
                while (events && fscanf(events, "%63s %" SCNu64, key, &n) == 2)
                        if (strcmp(key, "oom_kill") == 0)
                                return n;
        }
        return 0;
}

static void read_boot_id(char *buffer, size_t size) {
        cleanup_fclose FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

        if (!f || !fgets(buffer, (int) size, f))
                buffer[0] = '\0';
        buffer[strcspn(buffer, "\n")] = '\0';
}

/* ---- the end ---- */

static void judge(struct shim *shim, int status, struct shim_verdict *ret) {
        if (shim->child.pid > 0 && child_exec_error(&shim->child, &shim->attempt, ret)) {
                shim_log_note(&shim->log, "%s", ret->reason);
                return;
        }
        size_t size = 0;
        cleanup_free char *tail = shim_log_tail(&shim->log, &size);
        uint64_t oom_kills = read_oom_kills();
        struct shim_evidence evidence = {
                .wait_status = status,
                .tail = tail,
                .tail_size = tail ? size : 0,
                .oom_kills = oom_kills > shim->oom_kills ? oom_kills - shim->oom_kills : 0,
                .stop_asked = shim->stop_asked,
        };
        shim_classify(&evidence, ret);
}

static void write_record(struct shim *shim, const struct shim_verdict *verdict) {
        struct error error = {};
        struct shim_record record = {
                .job = shim->attempt.job,
                .attempt = shim->attempt.number,
                .nonce = shim->attempt.nonce,
                .verdict = *verdict,
                .stopped_by = shim->stop_asked ? "request" : "none",
                .step = shim->progress.step,
                .started_usec = shim->started_usec,
                .ended_usec = clock_realtime_usec(),
                .boot_id = shim->boot_id,
        };

        if (exit_file_commit(shim->dir_fd, shim->exit_fd, &record, &error) < 0) {
                (void) error_prefix(&error, "%s", shim->dir);
                (void) error_report(&error);
        }
}

static void end(struct shim *shim, const struct shim_verdict *verdict) {
        write_record(shim, verdict);
        shim->state = SHIM_ENDED;
        if (shim->closed)
                (void) sd_event_exit(shim->event, 0);
        else
                shim_bus_ended(shim);
}

/* An attempt that ends without a main child. */
static void end_unstarted(struct shim *shim, enum exit_class exit_class, const char *reason) {
        struct shim_verdict verdict = { .exit_class = exit_class, .exit_code = -1, .first_rank = -1 };

        (void) shim_clean_text(verdict.reason, sizeof(verdict.reason), reason, strlen(reason));
        end(shim, &verdict);
}

/* The main child was reaped with this status: nothing of the attempt may outlive it. */
static void child_ended(struct shim *shim, int status) {
        struct shim_verdict verdict;
        int ignored;

        unsigned left = child_kill_tree(&shim->child, shim->attempt.nonce, KILL_LIMIT_USEC, &ignored);
        if (left > 0)
                shim_log_note(&shim->log, "%u processes of this attempt do not die", left);
        drain_output(shim);
        read_datagrams(shim, DATAGRAMS_A_TURN);
        judge(shim, status, &verdict);
        end(shim, &verdict);
}

static int on_child(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct shim *shim = userdata;
        int status, main_status = -1;

        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                if (pid == shim->child.pid)
                        main_status = status;
        if (main_status != -1 && shim->state == SHIM_RUNNING)
                child_ended(shim, main_status);
        return 0;
}

static void kill_all(struct shim *shim) {
        int status = -1;

        shim->grace = sd_event_source_disable_unref(shim->grace);
        (void) child_kill_tree(&shim->child, shim->attempt.nonce, KILL_LIMIT_USEC, &status);
        if (status != -1 && shim->state == SHIM_RUNNING)
                child_ended(shim, status);
}

/* ---- stopping ---- */

/* Changes whenever a checkpoint that has no final name yet grows; 0: none is there. */
static uint64_t writing_mark(const struct shim *shim) {
        const char *run_dir = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);
        cleanup_free char *path = run_dir ? format_string("%s/checkpoints", run_dir) : NULL;
        cleanup_closedir DIR *dir = path ? opendir(path) : NULL;
        uint64_t mark = 0;

        for (unsigned i = 0; dir && i < WRITING_FILES_MAX; i++) {
                const struct dirent *entry = readdir(dir);
                struct stat st;
                if (!entry)
                        break;
                size_t n = strlen(entry->d_name);
                if ((n > 5 && strcmp(entry->d_name + n - 5, ".ckpt") == 0) ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                        continue;
                mark += (uint64_t) st.st_size * 31 + (uint64_t) st.st_mtim.tv_sec * 1000003 +
                        (uint64_t) st.st_mtim.tv_nsec + 1;
        }
        return mark;
}

static int on_grace(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;
        uint64_t now = clock_boottime_usec(), mark = writing_mark(shim);

        if (mark != shim->written_mark && mark != 0)
                shim->written_usec = now;
        shim->written_mark = mark;
        bool writing = mark != 0 && now - shim->written_usec < STALLED_USEC && now < shim->stop_limit_usec;
        if (now >= shim->stop_until_usec && !writing) {
                kill_all(shim);
                return 0;
        }
        if (writing)
                (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t) (STALLED_USEC + KILL_LIMIT_USEC));
        uint64_t next = now + LOOK_USEC;
        if (now < shim->stop_until_usec && shim->stop_until_usec < next)
                next = shim->stop_until_usec;
        (void) sd_event_source_set_time(source, next);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static int arm_grace(struct shim *shim, uint64_t grace_usec) {
        uint64_t now = clock_boottime_usec();

        shim->stop_until_usec = now + grace_usec;
        shim->stop_limit_usec = now + GRACE_FACTOR * grace_usec;
        shim->written_mark = writing_mark(shim);
        shim->written_usec = 0; /* left-overs of an older attempt do not count until they change */
        shim->grace = sd_event_source_disable_unref(shim->grace);
        (void) sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, grace_usec + KILL_LIMIT_USEC + STALLED_USEC);
        return sd_event_add_time(shim->event, &shim->grace, CLOCK_BOOTTIME, now + MIN(grace_usec, LOOK_USEC), 1,
                                 on_grace, shim);
}

static void ask_to_stop(struct shim *shim) {
        pid_t pid = shim->child.pid;

        if (!shim->attempt.stop_by_term && shim->progress.ready)
                (void) kill(pid, SIGUSR1);
        else if (kill(-pid, SIGTERM) < 0)
                (void) kill(pid, SIGTERM); /* it has not come to its setsid yet */
}

void shim_stop(struct shim *shim, uint64_t grace_usec) {
        if (shim->state == SHIM_ENDED)
                return;
        shim->stop_asked = true;
        if (shim->state == SHIM_WAITING) {
                end_unstarted(shim, EXIT_CLASS_STOPPED, "stopped before it was started");
                return;
        }
        grace_usec = MIN(grace_usec, GRACE_MAX_USEC);
        if (!shim->attempt.stop_by_term && !shim->progress.ready)
                grace_usec = MIN(grace_usec, UNREADY_USEC);
        if (grace_usec == 0) {
                kill_all(shim);
                return;
        }
        ask_to_stop(shim);
        if (arm_grace(shim, grace_usec) < 0)
                kill_all(shim); /* without a timer the job might never end */
}

void shim_checkpoint(struct shim *shim) {
        bool understands = shim->attempt.kind != JOB_COMMAND && shim->progress.ready;

        if (shim->state == SHIM_RUNNING && understands)
                (void) kill(shim->child.pid, SIGUSR2);
}

void shim_closed(struct shim *shim) {
        shim->closed = true;
        if (shim->state == SHIM_WAITING) {
                (void) unlinkat(shim->dir_fd, "exit.json.tmp", 0);
                shim->state = SHIM_ENDED;
                (void) sd_event_exit(shim->event, 0);
        } else if (shim->state == SHIM_RUNNING) {
                shim->stop_asked = true;
                kill_all(shim);
        }
}

/* systemd's stop, or a user's kill. */
static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct shim *shim = userdata;
        shim_stop(shim, shim->attempt.grace_usec);
        return 0;
}

/* ---- the start ---- */

void shim_go(struct shim *shim) {
        struct error error = {};

        shim->patience = sd_event_source_disable_unref(shim->patience);
        shim->started_usec = clock_realtime_usec();
        int r = open_notify(shim, &error);
        if (r >= 0)
                r = child_spawn(&shim->child, &shim->attempt, shim->notify_path, &error);
        if (r < 0) {
                end_unstarted(shim, EXIT_CLASS_LAUNCH, error.text);
                return;
        }
        shim->state = SHIM_RUNNING;
        r = sd_event_add_io(shim->event, &shim->output_source, shim->child.output_fd, EPOLLIN, on_output, shim);
        if (r < 0) {
                kill_all(shim); /* output that nobody reads would block it one day */
                return;
        }
        (void) sd_notify(0, "READY=1");
        shim_bus_changed(shim, true);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        end_unstarted(userdata, EXIT_CLASS_LAUNCH, "bertd did not answer within 60 s");
        return 0;
}

static int watch_signals(struct shim *shim) {
        sigset_t set;
        int r;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        (void) signal(SIGPIPE, SIG_IGN);
        (void) signal(SIGHUP, SIG_IGN);
        (void) signal(SIGXFSZ, SIG_IGN); /* a file size limit of the user's: the write fails, and is counted */
        r = sd_event_add_signal(shim->event, &shim->child_source, SIGCHLD, on_child, shim);
        if (r >= 0)
                r = sd_event_source_set_priority(shim->child_source, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_add_signal(shim->event, &shim->term_source, SIGTERM, on_terminate, shim);
        if (r >= 0)
                r = sd_event_add_signal(shim->event, &shim->int_source, SIGINT, on_terminate, shim);
        return r;
}

/* The attempt's lock, held for life. An attempt that is closed or already has a shim: 1, and nothing is to be done. */
static int take_lock(struct shim *shim, struct error *error) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        shim->dir_fd = open(shim->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (shim->dir_fd < 0)
                return error_errno(error, errno, "%s", shim->dir);
        shim->lock_fd = openat(shim->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (shim->lock_fd < 0)
                return error_errno(error, errno, "%s/lock", shim->dir);
        if (fcntl(shim->lock_fd, F_OFD_SETLK, &lock) < 0)
                return errno == EAGAIN || errno == EACCES ? 1 : error_errno(error, errno, "%s/lock", shim->dir);
        return faccessat(shim->dir_fd, "tombstone", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
               faccessat(shim->dir_fd, "exit.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int load(struct shim *shim, uint64_t job, uint64_t number, struct error *error) {
        cleanup_free char *path = format_string("%s/attempt.json", shim->dir);
        if (!path)
                return error_errno(error, ENOMEM, "%s", shim->dir);
        int r = attempt_load(path, &shim->attempt, error);
        if (r < 0)
                return r;
        if (shim->attempt.job != job || shim->attempt.number != number)
                return error_input(error, BERTD_EXIT_DATA, "%s: belongs to job %" PRIu64 " attempt %u", path,
                                   shim->attempt.job, shim->attempt.number);
        shim->exit_fd = exit_file_open(shim->dir_fd, error);
        if (shim->exit_fd < 0)
                return error_prefix(error, "%s", shim->dir);
        return shim_log_open(&shim->log, shim->attempt.log, shim->attempt.log_max_bytes, error);
}

static int run(struct shim *shim, const char *socket, struct error *error) {
        int r = sd_event_new(&shim->event);

        if (r >= 0)
                r = watch_signals(shim);
        if (r >= 0)
                r = sd_event_add_time_relative(shim->event, &shim->patience, CLOCK_BOOTTIME, PATIENCE_USEC, 0,
                                               on_patience, shim);
        if (r >= 0)
                r = shim_bus_start(shim, socket);
        if (r >= 0)
                r = sd_event_loop(shim->event);
        return r < 0 ? error_errno(error, -r, "event loop") : 0;
}

static void release(struct shim *shim) {
        shim_bus_close(shim);
        close_notify(shim);
        sd_event_source **const sources[] = { &shim->output_source, &shim->child_source, &shim->term_source,
                                              &shim->int_source,    &shim->patience,     &shim->grace };
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                *sources[i] = sd_event_source_disable_unref(*sources[i]);
        child_close(&shim->child);
        shim_log_close(&shim->log);
        attempt_free(&shim->attempt);
        free(shim->progress.checkpoints);
        free(shim->dir);
        cleanup_close_p(&shim->exit_fd);
        cleanup_close_p(&shim->dir_fd);
        cleanup_close_p(&shim->lock_fd);
        (void) sd_event_unref(shim->event);
}

static int supervise(const char *dir, const char *socket, uint64_t job, uint64_t number, struct error *error) {
        struct shim shim = {
                .child = { .output_fd = -1, .report_fd = -1 },
                .log.fd = -1,
                .notify_fd = -1,
                .dir_fd = -1,
                .lock_fd = -1,
                .exit_fd = -1,
                .progress = { .loss = NAN, .rate = NAN },
        };
        int r = -ENOMEM;

        shim.dir = strdup(dir);
        if (!shim.dir)
                (void) error_errno(error, ENOMEM, "%s", dir);
        else
                r = take_lock(&shim, error);
        if (r == 0) {
                read_boot_id(shim.boot_id, sizeof(shim.boot_id));
                shim.oom_kills = read_oom_kills();
                if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                        r = error_errno(error, errno, "PR_SET_CHILD_SUBREAPER");
                if (r == 0)
                        r = load(&shim, job, number, error);
                if (r == 0)
                        r = run(&shim, socket, error);
        }
        release(&shim);
        return MIN(r, 0);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "job", required_argument, NULL, 'j' },    { "attempt", required_argument, NULL, 'k' },
                { "socket", required_argument, NULL, 's' }, { "dir", required_argument, NULL, 'd' },
                { "version", no_argument, NULL, 'v' },      {},
        };
        const char *socket = NULL, *dir = NULL;
        uint64_t job = 0, number = 0;
        bool good = true;

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
                if (c == 'v')
                        return printf("bertd-shim %s\n", BERTD_VERSION) < 0;
                good = good && (c == 's'   ? (socket = optarg) != NULL
                                : c == 'd' ? (dir = optarg) != NULL
                                : c == 'j' ? parse_u64(optarg, 1, INT64_MAX, &job) == 0
                                           : c == 'k' && parse_u64(optarg, 1, UINT32_MAX, &number) == 0);
        }
        if (!good || !socket || !dir || job == 0 || number == 0 || optind != argc) {
                (void) fprintf(stderr,
                               "usage: bertd-shim --job N --attempt K --socket PATH --dir FOLDER (bertd starts it)\n");
                return BERTD_EXIT_USAGE;
        }
        struct error error = {};
        return supervise(dir, socket, job, number, &error) < 0 ? error_report(&error) : 0;
}
