/*
 * See shim.h. The job's progress: its NOTIFY_SOCKET, a datagram socket, and the messages on it. Datagrams of another
 * uid are dropped; paths are kept as text only. The socket is drained as long as the job lives.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "bertd/limits.h"
#include "bertd/progress.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define SOCKET_PATH_MAX 100 /* sun_path has 108; leaves space for a NUL and for the trainer's libraries */
#define RECEIVE_BUFFER (1 << 20)
#define DATAGRAMS_A_TURN 256
#define CHECKPOINT_SEC_MAX 1e7
#define OWN_KEY "X_BERTD_" /* prefix of every key in bertd/progress.h */

/* ---- datagrams ---- */

void shim_checkpoint_done(struct shim *shim, const struct checkpoint_note *note) {
        struct progress *p = &shim->progress;

        if (!p->checkpoints)
                p->checkpoints = calloc(SHIM_CHECKPOINTS_MAX, sizeof(*p->checkpoints));
        if (!p->checkpoints)
                return;
        if (p->n_checkpoints == SHIM_CHECKPOINTS_MAX) {
                known_remove(&shim->attempt.known, p->checkpoints[0].step); /* the next look finds it */
                p->n_checkpoints--;
                memmove(p->checkpoints, p->checkpoints + 1, p->n_checkpoints * sizeof(*p->checkpoints));
        }
        p->checkpoints[p->n_checkpoints++] = *note;
        const char *run_dir = attempt_getenv(&shim->attempt, BERTD_ENV_RUN_DIR);
        cleanup_free char *usual = format_string("%s/checkpoints/" CHECKPOINT_NAME, run_dir ? run_dir : "", note->step);
        known_add(&shim->attempt.known, note->step, usual && strcmp(usual, note->path) == 0 ? NULL : note->path,
                  note->unconfirmed);
        shim->saved_in_stop = shim->stop_asked;
        shim_checkpoints_changed(shim);
        shim_carry_changed(shim);
        shim_bus_changed(shim, true);
}

/* The checkpoint in one datagram. */
struct told {
        char *path; /* NULL: none */
        uint64_t step;
        bool has_step;
        double stall, write;
};

static double seconds_or_nan(double v) { return v >= 0 && v <= CHECKPOINT_SEC_MAX ? v : NAN; }

bool shim_step_of_name(const char *path, uint64_t *ret) {
        const char *base = strrchr(path, '/');
        char digits[24];
        int end = 0;

        if (!base || sscanf(base, "/step-%20[0-9].ckpt%n", digits, &end) != 1 || end == 0 || base[end] != '\0')
                return false;
        const char *digit = digits + strspn(digits, "0");
        return parse_u64(*digit ? digit : "0", 0, BERTD_STEPS_MAX, ret) == 0;
}

/* NULL: a checkpoint may have this path; else why not. */
static const char *check_path(const struct shim *shim, const char *path) {
        char clean[PATH_MAX];

        if (path[0] != '/' || strlen(path) >= PATH_MAX)
                return "expected an absolute path";
        if (strcmp(shim_clean_text(clean, sizeof(clean), path, strlen(path)), path) != 0)
                return "not UTF-8, or contains control characters";
        return shim_may_report(shim, path) ? NULL : "not below the job's run folder or working directory";
}

/* A program's: any file or folder. Its step is the datagram's, else from its name, else the last reported step. */
static void note_program_checkpoint(struct shim *shim, const struct told *told) {
        uint64_t step = told->has_step ? told->step : 0;

        if (!told->has_step && !shim_step_of_name(told->path, &step))
                step = shim->progress.step;
        if (step == 0) {
                shim_reported_refuse(shim, told->path, "without a step (" BERTD_NOTIFY_CHECKPOINT_STEP ")");
                return;
        }
        shim->progress.step = MAX(shim->progress.step, step);
        shim_reported_add(shim, step, told->path, seconds_or_nan(told->stall), seconds_or_nan(told->write));
}

/* The trainer's: a durable regular file. The file is not opened. */
static void note_trainer_checkpoint(struct shim *shim, const struct told *told) {
        struct checkpoint_note note = { .stall = seconds_or_nan(told->stall), .write = seconds_or_nan(told->write) };
        struct stat st;

        if (!shim_step_of_name(told->path, &note.step) || lstat(told->path, &st) < 0 || !S_ISREG(st.st_mode))
                return;
        note.size = (uint64_t) st.st_size;
        (void) snprintf(note.path, sizeof(note.path), "%s", told->path);
        shim->progress.step = MAX(shim->progress.step, note.step); /* the last one may be missing */
        shim_checkpoint_done(shim, &note);
        shim_copies_add(shim, note.path);
}

static void note_checkpoint(struct shim *shim, const struct told *told) {
        for (char *end = told->path + strlen(told->path); end > told->path + 1 && end[-1] == '/';)
                *--end = '\0'; /* of a folder, as shells complete it */
        const char *why = check_path(shim, told->path);
        if (why)
                shim_reported_refuse(shim, told->path, why);
        else if (shim->attempt.kind == JOB_COMMAND)
                note_program_checkpoint(shim, told);
        else
                note_trainer_checkpoint(shim, told);
}

static void note_number(const char *text, double *to) {
        char *end;
        double v = strtod(text, &end);
        if (end != text && *end == '\0')
                *to = isfinite(v) ? v : NAN;
}

static void note_status(struct shim *shim, const char *text) {
        (void) shim_clean_text(shim->progress.status, sizeof(shim->progress.status), text, strlen(text));
        shim->gang.gave_status = false;
}

/* A program that reports steps has started, whether it has its own status or not. */
static void note_step(struct shim *shim, uint64_t step) {
        if (shim->gang.gave_status)
                note_status(shim, "");
        shim->progress.step = step;
        shim->progress.busy = false;
        shim_hang_step(shim, step);
        shim_carry_step(shim, step);
}

static bool is_key(const char *line, size_t length, const char *key) {
        return length == strlen(key) && strncmp(line, key, length) == 0;
}

/* "FIRST-LAST" */
static void note_samples(struct progress *p, const char *text) {
        char first[24], last[24];
        uint64_t from, to;
        int end = 0;

        if (sscanf(text, "%20[0-9]-%20[0-9]%n", first, last, &end) != 2 || text[end] != '\0' ||
            parse_u64(first, 0, INT64_MAX, &from) < 0 || parse_u64(last, from, INT64_MAX, &to) < 0)
                return;
        p->samples_first = from;
        p->samples_last = to;
}

static void note_slowest(struct progress *p, const char *text) {
        struct pace pace;

        if (!text[0] || pace_read(text, &pace)) {
                (void) snprintf(p->slowest, sizeof(p->slowest), "%s", text);
                p->paced = true;
        }
}

/* A value that is not a step does not fall back to another step: the checkpoint is refused. */
static void note_told_step(struct told *told, const char *value) {
        uint64_t step;

        told->has_step = true;
        told->step = parse_u64(value, 1, BERTD_STEPS_MAX, &step) == 0 ? step : 0;
}

/* One KEY=value. */
static void note_line(struct shim *shim, pid_t sender, char *line, struct told *told) {
        struct progress *p = &shim->progress;
        char *equals = strchr(line, '='), *value = equals ? equals + 1 : NULL;
        size_t n = equals ? (size_t) (equals - line) : 0;
        uint64_t number;

        if (is_key(line, n, "READY"))
                p->ready = p->ready || strcmp(value, "1") == 0;
        else if (is_key(line, n, "STATUS"))
                note_status(shim, value);
        else if (is_key(line, n, BERTD_NOTIFY_STEP) && parse_u64(value, 0, BERTD_STEPS_MAX, &number) == 0)
                note_step(shim, number);
        else if (is_key(line, n, BERTD_NOTIFY_STEPS) && parse_u64(value, 0, BERTD_STEPS_MAX, &number) == 0)
                p->steps = number;
        else if (is_key(line, n, BERTD_NOTIFY_LOSS))
                note_number(value, &p->loss);
        else if (is_key(line, n, BERTD_NOTIFY_RATE))
                note_number(value, &p->rate);
        else if (is_key(line, n, BERTD_NOTIFY_SLOWEST))
                note_slowest(p, value);
        else if (is_key(line, n, BERTD_NOTIFY_SAMPLES))
                note_samples(p, value);
        else if (is_key(line, n, BERTD_NOTIFY_STALL))
                note_number(value, &told->stall);
        else if (is_key(line, n, BERTD_NOTIFY_WRITE))
                note_number(value, &told->write);
        else if (is_key(line, n, BERTD_NOTIFY_CHECKPOINT))
                told->path = value;
        else if (is_key(line, n, BERTD_NOTIFY_CHECKPOINT_STEP))
                note_told_step(told, value);
        else if (is_key(line, n, BERTD_NOTIFY_SIGNALS))
                shim_declared_signals(shim, sender, value);
        else if (is_key(line, n, "MAINPID"))
                shim_declared_main(shim, value);
        else if (is_key(line, n, BERTD_NOTIFY_BUSY))
                p->busy = *value != '\0';
        else if (is_key(line, n, "WATCHDOG") && p->busy)
                shim_hang_alive(shim);
}

/* Of any rank. */
static void note_stacks(struct shim *shim, pid_t sender, const char *text) {
        const char *at = strstr(text, BERTD_NOTIFY_STACKS "=");
        char name[16];

        if (at && (at == text || at[-1] == '\n') && sscanf(at + strlen(BERTD_NOTIFY_STACKS "="), "%15[^\n]", name) == 1)
                shim_declared_stacks(shim, sender, name);
}

static void note_datagram(struct shim *shim, pid_t sender, char *text) {
        struct told told = { .stall = NAN, .write = NAN };
        struct progress *p = &shim->progress;
        char *rest = NULL;

        p->spoke = p->spoke || strncmp(text, OWN_KEY, strlen(OWN_KEY)) == 0 || strstr(text, "\n" OWN_KEY);
        note_stacks(shim, sender, text);
        /* Other ranks may report too, but the job's numbers are rank 0's. */
        const char *rank = strstr(text, BERTD_NOTIFY_RANK "=");
        if (rank && strtol(rank + strlen(BERTD_NOTIFY_RANK "="), NULL, 10) > 0)
                return;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
                note_line(shim, sender, line, &told);
        if (told.path)
                note_checkpoint(shim, &told);
}

/* ---- the socket ---- */

/* The size of one datagram of the job's user, 0: of another user, −1: none is waiting. `ret_from`: its address. */
static ssize_t receive_datagram(int fd, char *buffer, size_t size, pid_t *ret_sender, struct shim_address *ret_from) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred))];
        } control;
        struct iovec iov = { .iov_base = buffer, .iov_len = size - 1 };
        struct msghdr m = {
                .msg_name = &ret_from->address,
                .msg_namelen = sizeof(ret_from->address),
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        struct ucred sender = { .uid = (uid_t) -1 };

        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -1;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
                        memcpy(&sender, CMSG_DATA(c), sizeof(sender));
        buffer[n] = '\0';
        *ret_sender = sender.pid;
        ret_from->size = m.msg_namelen;
        return sender.uid == geteuid() && !(m.msg_flags & MSG_TRUNC) ? n : 0;
}

void shim_progress_read(struct shim *shim) {
        char buffer[BERTD_NOTIFY_MAX + 1];
        bool news = false;
        struct shim_address from;
        pid_t sender = 0;

        for (unsigned i = 0; shim->notify_fd >= 0 && i < DATAGRAMS_A_TURN; i++) {
                ssize_t n = receive_datagram(shim->notify_fd, buffer, sizeof(buffer), &sender, &from);
                if (n < 0)
                        break;
                if (n == 0)
                        continue;
                news = true;
                note_datagram(shim, sender, buffer);
                if (sender == shim_first(shim))
                        shim_lease_heard(shim, &from);
        }
        if (news)
                shim_bus_changed(shim, false);
}

static int on_datagram(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        shim_progress_read(userdata);
        return 0;
}

/* The socket's path must be short: in the attempt's folder, else in a temporary folder. */
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
        return error_set(error, EIO, "no folder for the job's NOTIFY_SOCKET");
}

static int listen_there(struct shim *shim, struct error *error) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const int on = 1, bytes = RECEIVE_BUFFER;

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", shim->notify_path);
        (void) unlink(shim->notify_path);
        cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
                return error_errno(error, errno, "%s", shim->notify_path);
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        int r = sd_event_add_io(shim->event, &shim->notify_source, fd, EPOLLIN, on_datagram, shim);
        if (r < 0)
                return error_errno(error, -r, "%s", shim->notify_path);
        shim->notify_fd = steal_fd(&fd);
        return 0;
}

int shim_progress_open(struct shim *shim, struct error *error) {
        int r = choose_notify_path(shim, error);
        return r < 0 ? r : listen_there(shim, error);
}

bool shim_progress_reaches(struct shim *shim) {
        struct stat st;

        if (!shim->notify_path || lstat(shim->notify_path, &st) == 0)
                return true;
        shim->notify_source = sd_event_source_disable_unref(shim->notify_source);
        cleanup_close_p(&shim->notify_fd);
        shim->notify_fd = -1;
        (void) mkdir(shim->notify_dir ? shim->notify_dir : shim->dir, 0700);
        if (listen_there(shim, NULL) >= 0)
                shim_log_note(&shim->log, "%s was removed; recreated", shim->notify_path);
        return false;
}

void shim_progress_close(struct shim *shim) {
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
