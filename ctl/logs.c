/*
 * bertctl logs: opens a job's log files itself, with the user's own rights; bertd only says where they are. An attempt's log is
 * `log`, its rotated older half `log.1` (common with daemon/shim_logs.h). Following survives rotation (another file has the name),
 * later attempts (the daemon counts them) and restarts of bertd (bounded patience). The bytes are passed on as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/logs_attempt.h"

#define POLL_INTERVAL_USEC 200000
#define ASK_INTERVAL_USEC USEC_PER_SEC /* between looks at the job's state */
#define BLOCK 65536
#define ALL_LINES UINT64_MAX

struct follower {
        struct ctl *ctl;
        struct client *client;
        uint64_t id, attempt;
        uint64_t only;       /* --attempt: follow no other; 0 = any */
        char *base;          /* ".../attempt-", from the job's log path */
        char *path;          /* the attempt's log */
        int fd;              /* of path, −1 = not there yet */
        uint64_t lost_since; /* when bertd was last heard of, 0 = it answers */
};

static void follower_clear(struct follower *f) {
        free(f->base);
        free(f->path);
        if (f->fd >= 0)
                (void) close(f->fd);
}

/* Splits ".../attempt-3/log" into ".../attempt-" and 3. */
static int split_log_path(const char *log, char **ret_base, uint64_t *ret_attempt) {
        static const char mark[] = "/attempt-";
        const char *found = NULL;

        for (const char *p = strstr(log, mark); p; p = strstr(p + 1, mark))
                found = p;
        if (!found)
                return -EINVAL;
        char *end;
        const char *digits = found + sizeof(mark) - 1;
        *ret_attempt = strtoull(digits, &end, 10);
        if (end == digits || strcmp(end, "/log") != 0)
                return -EINVAL;
        *ret_base = strndup(log, (size_t) (digits - log));
        return *ret_base ? 0 : -ENOMEM;
}

static int open_log(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

/* Of many attempts those in between are not kept. */
static bool is_dropped(uint64_t attempt, uint64_t newest) {
        return attempt > BERTD_ATTEMPTS_HEAD && attempt + BERTD_ATTEMPTS_TAIL <= newest;
}

static int dropped_error(struct error *error, uint64_t id, uint64_t attempt) {
        return error_input(error, BERTCTL_EXIT_FAILED,
                           "job %" PRIu64 ": the log of attempt %" PRIu64
                           " was dropped: of a job's attempts the first %d "
                           "and the last %d are kept",
                           id, attempt, BERTD_ATTEMPTS_HEAD, BERTD_ATTEMPTS_TAIL);
}

static int open_error(struct error *error, int r, const char *path) {
        if (r == -EACCES)
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "%s: permission denied: a log is for the job's owner and root", path);
        return error_input(error, BERTCTL_EXIT_FAILED, "%s: %s", path, strerror(-r));
}

/* Passes on what there is from the fd's position to the end. */
static int copy_rest(int fd, struct error *error) {
        char buffer[BLOCK];

        for (;;) {
                ssize_t n = read(fd, buffer, sizeof(buffer));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_input(error, BERTCTL_EXIT_FAILED, "reading the log: %s", strerror(errno));
                if (n == 0)
                        break;
                if (fwrite(buffer, 1, (size_t) n, stdout) != (size_t) n)
                        return error_input(error, BERTCTL_EXIT_FAILED, "standard output: %s", strerror(errno));
        }
        if (fflush(stdout) == EOF)
                return error_input(error, BERTCTL_EXIT_FAILED, "standard output: %s", strerror(errno));
        return 0;
}

/* Moves the fd to where its last *lines lines begin, and takes what it has from *lines. */
static int seek_tail(int fd, uint64_t *lines) {
        char buffer[BLOCK];
        off_t end = lseek(fd, 0, SEEK_END), at = end;

        if (end < 0)
                return -errno;
        while (at > 0 && *lines > 0) {
                off_t start = at > BLOCK ? at - BLOCK : 0;
                ssize_t n = pread(fd, buffer, (size_t) (at - start), start);
                if (n != at - start)
                        return n < 0 ? -errno : -EIO;
                for (ssize_t i = n - 1; i >= 0; i--) {
                        /* The newline that ends the file ends its last line: it begins none. */
                        if (buffer[i] != '\n' || start + i + 1 == end)
                                continue;
                        if (--*lines == 0)
                                return lseek(fd, start + i + 1, SEEK_SET) < 0 ? -errno : 0;
                }
                at = start;
        }
        if (*lines > 0 && end > 0)
                --*lines;
        return lseek(fd, *lines > 0 || at == 0 ? 0 : end, SEEK_SET) < 0 ? -errno : 0;
}

static bool same_file(int a, int b) {
        struct stat x, y;
        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Prints both halves of the log that `fd` (its newer half) belongs to, at most `lines` lines, and leaves fd at its end. */
static int print_log(int fd, const char *path, uint64_t lines, struct error *error) {
        cleanup_free char *older_path = format_string("%s.1", path);
        cleanup_close int older = older_path ? open_log(older_path) : -1;
        int r = 0;

        /* Rotated in between: what we hold is the older half itself. */
        if (older >= 0 && same_file(older, fd)) {
                (void) close(older);
                older = -1;
        }
        if (lines != ALL_LINES) {
                r = lines == 0 ? (lseek(fd, 0, SEEK_END) < 0 ? -errno : 0) : seek_tail(fd, &lines);
                if (r == 0 && older >= 0)
                        r = lines == 0 ? (lseek(older, 0, SEEK_END) < 0 ? -errno : 0) : seek_tail(older, &lines);
                if (r < 0)
                        return open_error(error, r, path);
        }
        if (older >= 0)
                r = copy_rest(older, error);
        return r < 0 ? r : copy_rest(fd, error);
}

static void nap(void) {
        (void) fflush(stdout);
        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = POLL_INTERVAL_USEC * 1000 }, NULL);
}

static int choose_attempt(struct follower *f, uint64_t attempt) {
        char *path = format_string("%s%" PRIu64 "/log", f->base, attempt);

        if (!path)
                return error_input(&f->ctl->error, BERTCTL_EXIT_FAILED, "out of memory");
        free(f->path);
        f->path = path;
        f->attempt = attempt;
        if (f->fd >= 0)
                (void) close(f->fd);
        f->fd = open_log(path);
        if (f->fd < 0 && f->fd != -ENOENT)
                return open_error(&f->ctl->error, f->fd, path);
        return 0;
}

/* Passes on what the attempt has written since; moves to the new file where the log was rotated. */
static int drain(struct follower *f) {
        for (int files = 0; files < 8; files++) {
                if (f->fd < 0)
                        f->fd = open_log(f->path);
                if (f->fd == -ENOENT)
                        return 0;
                if (f->fd < 0)
                        return open_error(&f->ctl->error, f->fd, f->path);
                int next = open_log(f->path);
                /* Opened first, drained then: what is written before a rotation is in the file that we hold. */
                int r = copy_rest(f->fd, &f->ctl->error);
                if (next < 0 || same_file(next, f->fd) || r < 0) {
                        if (next >= 0)
                                (void) close(next);
                        return r;
                }
                (void) close(f->fd);
                f->fd = next;
        }
        return 0;
}

/* The job as bertd knows it. Returns 1, 0 where bertd is away for the moment, or −errno. */
static int ask(struct follower *f, struct job_info *ret_job) {
        struct error error = {};

        *ret_job = (struct job_info) {};
        int r = client_bus(f->client) ? 0 : client_reconnect(f->client, 0, &error);
        if (r == 0)
                r = client_get_job(f->client, f->id, ret_job, &error);
        if (r == 0) {
                f->lost_since = 0;
                return 1;
        }
        uint64_t now = clock_monotonic_usec();
        if (f->lost_since == 0)
                f->lost_since = now;
        if (error.exit != BERTCTL_EXIT_NO_DAEMON || now - f->lost_since > CLIENT_PATIENCE_USEC) {
                f->ctl->error = error;
                return r;
        }
        client_disconnect(f->client);
        return 0;
}

/* Goes through the attempts up to the job's newest one. */
static int catch_up(struct follower *f, uint64_t newest) {
        int r = drain(f);

        while (r == 0 && f->only == 0 && f->attempt < newest) {
                r = choose_attempt(f, f->attempt + 1);
                if (r == 0) {
                        (void) printf("==> attempt %" PRIu64 " <==\n", f->attempt);
                        r = f->fd < 0 ? 0 : print_log(f->fd, f->path, ALL_LINES, &f->ctl->error);
                }
        }
        return r;
}

static int follow(struct follower *f) {
        uint64_t asked = 0;

        for (;;) {
                uint64_t now = clock_monotonic_usec();
                if (now - asked >= ASK_INTERVAL_USEC) {
                        cleanup_job_info struct job_info job = {};
                        int r = ask(f, &job);
                        if (r < 0)
                                return r;
                        asked = now;
                        if (r > 0) {
                                r = catch_up(f, job.attempts);
                                if (r < 0 || job_is_at_rest(&job) || (f->only > 0 && job.attempts > f->only))
                                        return r;
                        }
                }
                int r = drain(f);
                if (r < 0)
                        return r;
                nap();
        }
}

/* Waits, where `wait` says so, until the job has an attempt. */
static int first_log(struct follower *f, bool wait, struct job_info *ret_job) {
        for (;;) {
                int r = client_get_job(f->client, f->id, ret_job, &f->ctl->error);
                if (r < 0)
                        return r;
                if (text_of(ret_job->log)[0] && ret_job->attempts > 0)
                        return 0;
                if (!wait || job_is_at_rest(ret_job))
                        return error_input(&f->ctl->error, BERTCTL_EXIT_FAILED,
                                           "job %" PRIu64 " has written nothing yet: it is %s%s%s", f->id,
                                           text_of(ret_job->state), text_of(ret_job->reason)[0] ? ": " : "",
                                           text_of(ret_job->reason));
                job_info_clear(ret_job);
                nap();
        }
}

static int print_paths(const struct follower *f) {
        cleanup_free char *older = format_string("%s.1", f->path);
        json_t *object = json_object(), *files = json_array();

        if (older && access(older, F_OK) == 0)
                (void) json_array_append_new(files, json_text(older));
        (void) json_array_append_new(files, json_text(f->path));
        (void) json_object_set_new(object, "job", json_count(f->id));
        (void) json_object_set_new(object, "attempt", json_count(f->attempt));
        (void) json_object_set_new(object, "files", files);
        return json_print(stdout, object, &f->ctl->error);
}

static int show(struct follower *f, bool following, bool json, uint64_t lines) {
        cleanup_job_info struct job_info job = {};
        uint64_t newest;

        int r = first_log(f, following, &job);
        if (r < 0)
                return r;
        if (split_log_path(job.log, &f->base, &newest) < 0)
                return error_input(&f->ctl->error, BERTCTL_EXIT_FAILED, "job %" PRIu64 ": no attempt's log: %s", f->id,
                                   job.log);
        if (f->only > job.attempts)
                return error_input(&f->ctl->error, BERTCTL_EXIT_FAILED,
                                   "job %" PRIu64 " has had %" PRIu64 " attempts: there is no attempt %" PRIu64, f->id,
                                   job.attempts, f->only);
        bool any = f->only == 0 && !json;
        r = choose_attempt(f, any           ? logs_attempt(&f->ctl->term, &job, f->base, newest)
                              : f->only > 0 ? f->only
                                            : newest);
        if (r == 0 && f->fd == -ENOENT && is_dropped(f->attempt, job.attempts))
                return dropped_error(&f->ctl->error, f->id, f->attempt);
        if (r == 0 && json)
                return print_paths(f);
        if (r == 0 && f->fd < 0 && !following)
                return open_error(&f->ctl->error, f->fd, f->path);
        if (r == 0 && f->fd >= 0)
                r = print_log(f->fd, f->path, lines, &f->ctl->error);
        return r == 0 && following ? follow(f) : r;
}

int command_logs(struct ctl *ctl, int argc, char **argv) {
        bool following = false, json = false;
        uint64_t lines = ALL_LINES;
        struct follower f = { .ctl = ctl, .fd = -1 };
        const struct option_spec options[] = {
                { .name = "follow",
                  .letter = 'f',
                  .kind = OPTION_FLAG,
                  .value = &following,
                  .help = "go on until the job has ended" },
                { .name = "lines",
                  .letter = 'n',
                  .kind = OPTION_U64,
                  .value = &lines,
                  .min = 0,
                  .max = 1000000000,
                  .argument = "N",
                  .help = "begin with the last N lines" },
                { .name = "attempt",
                  .kind = OPTION_U64,
                  .value = &f.only,
                  .min = 1,
                  .max = UINT32_MAX,
                  .argument = "K",
                  .help = "of attempt K (default: the current one)" },
                { .name = "json",
                  .kind = OPTION_FLAG,
                  .value = &json,
                  .help = "write the log files' paths as JSON instead" },
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        r = client_connect(ctl->socket, &client, &ctl->error);
        f.client = client;
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &f.id, &ctl->error);
        if (r == 0)
                r = show(&f, following, json, lines);
        follower_clear(&f);
        return command_exit(ctl, r);
}
