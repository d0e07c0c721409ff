/*
 * See shim.h: the program, the job's output, its processes and bertd's commands. Invariants: the job starts only after
 * bertd's first GO and at most once; its output and datagrams are read as long as it lives, whatever bertd, the disk or
 * the job do; every wait has a limit.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/parse.h"
#include "common/own_cgroup.h"
#include "daemon/shim/tree.h"

#define PATIENCE_USEC (60 * USEC_PER_SEC) /* for the answer to the first hello */
#define DRAIN_LIMIT_USEC (2 * USEC_PER_SEC)
#define LOG_LOOK_USEC USEC_PER_SEC /* between checks of a silent job's log */
#define READS_A_TURN 16
#define READ_BYTES (64u << 10)

/* ---- output ---- */

/* True if the pipe may hold more. */
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

static int on_log_look(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        if (shim->state == SHIM_ENDED)
                return 0;
        shim_log_look(&shim->log);
        (void) sd_event_source_set_time_relative(source, LOG_LOOK_USEC);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

/* Reads the rest of the pipe after the tree is dead, without waiting for an escaped writer. */
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

/* ---- the end ---- */

/* The main child was reaped: kills every remaining process of the attempt. */
static void child_ended(struct shim *shim) {
        struct exit_verdict verdict;
        int ignored;

        unsigned left = tree_kill(0, KILL_LIMIT_USEC, &ignored);
        if (left > 0)
                shim_log_note(&shim->log, "%u processes of this attempt could not be killed", left);
        drain_output(shim);
        shim_progress_read(shim);
        shim_gang_read(shim);
        shim_reported_end(shim);
        shim_checkpoints_end(shim);
        shim_carry_end(shim);
        shim_judge(shim, &verdict); /* before an inode is freed */
        shim_program_end(shim);
        shim_end(shim, &verdict);
}

pid_t shim_first(const struct shim *shim) { return shim->child.reaped ? 0 : shim->child.pid; }

static void note_reaped(struct shim *shim, int status) {
        shim->child.reaped = true;
        shim->child.status = shim->left.first = status;
}

/* Processes left behind by a command's first process may still have something to save; not those of a gang: mpirun has
 * ended all ranks, or has been killed. */
static bool is_over(const struct shim *shim) {
        return shim->child.reaped && (shim->attempt.kind != JOB_COMMAND || shim_is_lease(shim) || shim->gang.is ||
                                      shim->killed || shim->hang.found || !tree_lives(shim_first(shim)));
}

void shim_look(struct shim *shim) {
        if (shim->state != SHIM_RUNNING)
                return;
        if (is_over(shim))
                child_ended(shim);
        else if (shim->stop_until_usec != 0 && !shim->killed)
                shim_ask_next(shim);
        else if (shim->child.reaped)
                shim_left_look(shim);
}

/* With ends_with last, a failure of a later process counts as much as one of the first. */
static void note_orphan(struct shim *shim, int status) {
        bool counts = shim->child.reaped && shim->child.status == 0 && shim->attempt.ends_with == ENDS_WITH_LAST &&
                      !shim->stop_asked && !shim->killed;

        if (counts)
                shim->child.status = status;
}

static int on_child(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct shim *shim = userdata;
        bool collected = false, helper;
        int status;

        for (pid_t pid; (pid = tree_reap(&status, &helper)) > 0;) {
                if (pid == shim_first(shim))
                        note_reaped(shim, status);
                else if (!helper)
                        note_orphan(shim, status);
                collected = collected || pid == shim->hang.collector;
                shim_heartbeat_reaped(shim, pid);
        }
        shim_look(shim);
        if (collected && shim->state == SHIM_RUNNING)
                shim_hang_collected(shim);
        return 0;
}

void shim_kill_all(struct shim *shim) {
        int status = -1;

        shim->killed = true;
        shim->grace = sd_event_source_disable_unref(shim->grace);
        (void) tree_kill(shim_first(shim), KILL_LIMIT_USEC, &status);
        if (status != -1)
                note_reaped(shim, status);
        if (shim->child.reaped && shim->state == SHIM_RUNNING)
                child_ended(shim);
}

/* ---- commands of bertd and the host ---- */

void shim_closed(struct shim *shim) {
        shim->closed = true;
        if (shim->state == SHIM_WAITING) {
                (void) unlinkat(shim->dir_fd, "exit.json.tmp", 0);
                shim->state = SHIM_ENDED;
                (void) sd_event_exit(shim->event, 0);
        } else if (shim->state == SHIM_RUNNING) {
                shim->stop_asked = true;
                shim_kill_all(shim);
        } else
                (void) sd_event_exit(shim->event, 0);
}

/* Stop by systemd, or a user's kill. A shim that only waits for bertd must not delay a shutdown of the host. */
static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct shim *shim = userdata;

        if (shim->state == SHIM_ENDED)
                return sd_event_exit(shim->event, 0);
        shim_stop(shim, shim->attempt.grace_usec);
        return 0;
}

/* ---- the start ---- */

void shim_go(struct shim *shim) {
        shim->patience = sd_event_source_disable_unref(shim->patience);
        if (!shim->go)
                (void) sd_notify(0, "READY=1");
        shim->go = true;
        if (shim->listed)
                shim_begin(shim);
        else
                shim_checkpoints_wait(shim);
}

void shim_begin(struct shim *shim) {
        struct error error = {};

        if (shim->no_start[0]) {
                shim_end_unstarted(shim, EXIT_CLASS_LAUNCH, shim->no_start);
                return;
        }
        shim->started_usec = clock_realtime_usec();
        if (!shim_is_lease(shim)) /* the head prepares its programs */
                shim_program_prepare(shim);
        int r = shim_progress_open(shim, &error), gang = shim_gang_open(shim);
        if (r >= 0 && gang < 0)
                r = error_errno(&error, -gang, "socket pair of bertd-gang");
        if (r >= 0)
                r = child_spawn(&shim->child, &shim->attempt, shim->notify_path, shim->gang.peer, &error);
        shim_gang_started(shim);
        if (r < 0) {
                shim_end_unstarted(shim, EXIT_CLASS_LAUNCH, error.text);
                return;
        }
        shim->state = SHIM_RUNNING;
        r = sd_event_add_io(shim->event, &shim->output_source, shim->child.output_fd, EPOLLIN, on_output, shim);
        if (r >= 0)
                r = sd_event_add_time_relative(shim->event, &shim->log_look, CLOCK_MONOTONIC, LOG_LOOK_USEC,
                                               LOG_LOOK_USEC / 4, on_log_look, shim);
        if (r >= 0)
                r = shim_hang_start(shim);
        if (r >= 0)
                r = shim_lease_start(shim);
        if (r >= 0)
                r = shim_heartbeat_start(shim);
        if (r < 0) {
                shim_kill_all(shim); /* unread output would block it eventually */
                return;
        }
        shim_carry_changed(shim);
        shim_copies_start(shim);
        shim_bus_changed(shim, true);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        shim_end_unstarted(userdata, EXIT_CLASS_LAUNCH, "bertd did not answer within 60 s");
        return 0;
}

/* The shim was stopped: reads waiting datagrams first; the job's silence meanwhile does not count. */
static int on_continued(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        shim_hang_alive(userdata);
        return 0;
}

static int watch_signals(struct shim *shim) {
        sigset_t set;
        int r;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGCONT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(shim->event, &shim->child_source, SIGCHLD, on_child, shim);
        if (r >= 0)
                r = sd_event_source_set_priority(shim->child_source, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_add_signal(shim->event, &shim->term_source, SIGTERM, on_terminate, shim);
        if (r >= 0)
                r = sd_event_add_signal(shim->event, &shim->int_source, SIGINT, on_terminate, shim);
        if (r >= 0)
                r = sd_event_add_signal(shim->event, &shim->continued, SIGCONT, on_continued, shim);
        return r;
}

/* Takes the attempt's lock for the shim's lifetime. 1: the attempt is closed or already has a shim; nothing to do. */
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
        shim->exit_fd = exit_record_open(shim->dir_fd, error);
        if (shim->exit_fd < 0)
                return error_prefix(error, "%s", shim->dir);
        return shim_log_open(&shim->log, shim->attempt.log, shim->attempt.log_max_bytes, shim->attempt.log_keep, error);
}

static int run(struct shim *shim, const char *socket, struct error *error) {
        int r = sd_event_new(&shim->event);

        if (r >= 0)
                r = watch_signals(shim);
        if (r >= 0)
                r = sd_event_add_time_relative(shim->event, &shim->patience, CLOCK_BOOTTIME, PATIENCE_USEC, 0,
                                               on_patience, shim);
        if (r >= 0)
                r = shim_lease_prepare(shim);
        if (r >= 0)
                r = shim_checkpoints_start(shim);
        if (r >= 0)
                r = shim_bus_start(shim, socket);
        if (r >= 0)
                r = sd_event_loop(shim->event);
        return r < 0 ? error_errno(error, -r, "event loop") : 0;
}

static void release(struct shim *shim) {
        shim_bus_close(shim);
        shim_progress_close(shim);
        shim_reported_close(shim);
        shim_checkpoints_close(shim);
        shim_carry_close(shim);
        shim_copies_close(shim);
        shim_heartbeat_close(shim);
        sd_event_source **const sources[] = { &shim->output_source, &shim->child_source, &shim->term_source,
                                              &shim->int_source,    &shim->patience,     &shim->grace,
                                              &shim->continued,     &shim->hang.timer,   &shim->left.timer,
                                              &shim->log_look,      &shim->lease.timer };
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                *sources[i] = sd_event_source_disable_unref(*sources[i]);
        shim_gang_close(shim);
        child_close(&shim->child);
        shim_log_close(&shim->log);
        term_free(&shim->term);
        attempt_file_free(&shim->attempt);
        free(shim->progress.checkpoints);
        free(shim->declared.stacks);
        free(shim->record);
        free(shim->dir);
        cleanup_close_p(&shim->exit_fd);
        cleanup_close_p(&shim->hang.ranks_fd);
        cleanup_close_p(&shim->dir_fd);
        cleanup_close_p(&shim->lock_fd);
        (void) sd_event_unref(shim->event);
}

static void read_host(char *buffer, size_t size) {
        struct utsname name;

        if (uname(&name) == 0)
                (void) snprintf(buffer, size, "%.*s", (int) strcspn(name.nodename, "."), name.nodename);
}

static int supervise(const char *dir, const char *socket, uint64_t job, uint64_t number, struct error *error) {
        struct shim shim = {
                .child = { .output_fd = -1, .report_fd = -1 },
                .log.fd = -1,
                .notify_fd = -1,
                .dir_fd = -1,
                .lock_fd = -1,
                .exit_fd = -1,
                .hang.ranks_fd = -1,
                .gang = { .fd = -1, .peer = -1 },
                .carry.fd = -1,
                .list = { .fd = -1, .pidfd = -1 },
                .copies.copy = { .fd = -1, .pidfd = -1 },
                .reported.confirm = { .fd = -1, .pidfd = -1 },
                .progress = { .loss = NAN, .rate = NAN },
        };
        sd_id128_t boot;
        int r = -ENOMEM;

        shim.dir = strdup(dir);
        if (!shim.dir)
                (void) error_errno(error, ENOMEM, "%s", dir);
        else
                r = take_lock(&shim, error);
        if (r == 0) {
                if (sd_id128_get_boot(&boot) >= 0)
                        (void) sd_id128_to_uuid_string(boot, shim.boot_id);
                read_host(shim.host, sizeof(shim.host));
                shim.oom_kills = memory_oom_kills();
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

/* The keeper of a shim that bertd forked (launch/fork.c): `bertd-shim --keep` and the shim's arguments. */
static __attribute__((noreturn)) void keep(void) {
        (void) signal(SIGTERM, SIG_IGN);
        (void) signal(SIGINT, SIG_IGN);
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
                ;
        _exit(BERTD_EXIT_OK); /* skips a sanitizer's leak check, which cannot run in this process */
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "job", required_argument, NULL, 'j' },
                { "attempt", required_argument, NULL, 'k' },
                { "socket", required_argument, NULL, 's' },
                { "dir", required_argument, NULL, 'd' },
                { "version", no_argument, NULL, 'v' },
                { "keep", no_argument, NULL, 'K' },
                {},
        };
        const char *socket = NULL, *dir = NULL;
        uint64_t job = 0, number = 0;
        bool good = true;

        inherited_begin_service();
        (void) signal(SIGQUIT, SIG_IGN);
        for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
                if (c == 'v')
                        return printf("bertd-shim %s\n", BERTD_VERSION) < 0;
                if (c == 'K')
                        keep();
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
