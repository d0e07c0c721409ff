/*
 * bertctl logs: the output of one attempt, which this program opens itself with its user's own rights. Following
 * survives rotation and what others do to the files (log_files.h), later attempts (the daemon counts them) and restarts
 * of bertd (bounded patience); it ends when nobody reads any more. Without -n the bytes are passed on as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/log_files.h"
#include "ctl/logs_attempt.h"

#define POLL_INTERVAL_MSEC 200
#define ASK_INTERVAL_USEC USEC_PER_SEC /* between looks at the job's state */
#define AWAY_USEC (3 * USEC_PER_SEC)   /* a running job's log is made again within 1 s */

struct follower {
        struct ctl *ctl;
        struct client *client;
        uint64_t id, attempt;
        uint64_t only; /* --attempt: follow no other; 0 = any */
        char *base;    /* ".../attempt-", from the job's log path */
        char *path;    /* the attempt's log */
        struct log_reader reader;
        uint64_t lost_since; /* when bertd was last heard of, 0 = it answers */
};

static void follower_clear(struct follower *f) {
        free(f->base);
        free(f->path);
        log_reader_close(&f->reader);
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

/* Of many attempts those in between are not kept. */
static bool is_dropped(uint64_t attempt, uint64_t newest) {
        return attempt > BERTD_ATTEMPTS_HEAD && attempt + BERTD_ATTEMPTS_TAIL <= newest;
}

static int dropped_error(struct error *error, uint64_t id, uint64_t attempt) {
        return error_input(error, BERTCTL_EXIT_FAILED,
                           "job %" PRIu64 ": the log of attempt %" PRIu64 " was dropped; only the first %d "
                           "and the last %d attempts are kept",
                           id, attempt, BERTD_ATTEMPTS_HEAD, BERTD_ATTEMPTS_TAIL);
}

static int open_error(struct error *error, int r, const char *path) {
        struct stat st;

        if (r == -EACCES && stat(path, &st) == 0 && st.st_uid == geteuid())
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "%s: permission denied: its mode is %04o; run: chmod u+r", path,
                                   (unsigned) st.st_mode & 07777);
        if (r == -EACCES)
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "%s: permission denied: only the job's owner and root can read its log", path);
        return error_input(error, BERTCTL_EXIT_FAILED, "%s: %s", path,
                           r == -EINVAL ? "not a regular file" : strerror(-r));
}

static int choose_attempt(struct follower *f, uint64_t attempt) {
        char *path = format_string("%s%" PRIu64 "/log", f->base, attempt);

        if (!path)
                return error_input(&f->ctl->error, BERTCTL_EXIT_FAILED, "out of memory");
        free(f->path);
        f->path = path;
        f->attempt = attempt;
        log_reader_close(&f->reader);
        return 0;
}

/* Prints the attempt's output, at most `lines` lines, and what is missing of it. Returns 0, 1 if it has written
 * nothing, or −errno. */
static int print_log(struct follower *f, uint64_t lines, bool following) {
        cleanup_log_files struct log_files files = {};

        int r = log_files_open(f->path, &files);
        if (r == -ENOENT)
                return 1;
        if (r < 0)
                return open_error(&f->ctl->error, r, f->path);
        r = log_files_print(&files, lines, following, &f->ctl->error);
        if (r == 0 && files.missing < 0 && !following)
                return open_error(&f->ctl->error, files.missing, f->path);
        if (r == 0)
                log_reader_begin(&f->reader, &files);
        return r;
}

/* Passes on what the attempt has written since. */
static int drain(struct follower *f) {
        return f->reader.fd >= 0 ? log_reader_follow(&f->reader, f->path, &f->ctl->error)
                                 : MIN(print_log(f, LOG_ALL_LINES, true), 0);
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
        if (error.exit != BERTCTL_EXIT_NO_DAEMON || client_is_silent(f->client) ||
            now - f->lost_since > CLIENT_PATIENCE_USEC) {
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
                const char *end = log_reader_ends_in_line(&f->reader) ? "\n" : "";
                r = choose_attempt(f, f->attempt + 1);
                if (r == 0) {
                        (void) printf("%s==> attempt %" PRIu64 " <==\n", end, f->attempt);
                        r = drain(f);
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
                term_pause(POLL_INTERVAL_MSEC);
        }
}

/* With `wait`, waits until the job has an attempt. */
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
                term_pause(POLL_INTERVAL_MSEC);
        }
}

static void append_file(json_t *files, const char *path, const char *suffix) {
        cleanup_free char *name = format_string("%s%s", path, suffix);

        if (name && (suffix[0] == '\0' || access(name, F_OK) == 0))
                (void) json_array_append_new(files, json_text(name));
}

/* In the order of what they hold. */
static int print_paths(const struct follower *f) {
        json_t *object = json_object(), *files = json_array();
        char suffix[16];

        append_file(files, f->path, ".first");
        for (int i = BERTD_LOG_KEEP_MAX - 1; i > 0; i--) {
                (void) snprintf(suffix, sizeof(suffix), ".%d", i);
                append_file(files, f->path, suffix);
        }
        append_file(files, f->path, "");
        (void) json_object_set_new(object, "job", json_count(f->id));
        (void) json_object_set_new(object, "attempt", json_count(f->attempt));
        (void) json_object_set_new(object, "files", files);
        return json_print(stdout, object, &f->ctl->error);
}

/* Somebody took the log of an attempt that runs: its shim makes it again. */
static void await_log(const char *path) {
        const uint64_t deadline = clock_monotonic_usec() + AWAY_USEC;
        struct stat st;

        while (clock_monotonic_usec() < deadline && (lstat(path, &st) < 0 || !S_ISREG(st.st_mode)))
                term_pause(POLL_INTERVAL_MSEC);
}

static bool runs(const struct job_info *job) {
        int state = job_state_from_name(job->state);
        return state == JOB_STARTING || state == JOB_RUNNING || state == JOB_STOPPING;
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
                                   "job %" PRIu64 " has had %" PRIu64 " attempts; attempt %" PRIu64 " does not exist",
                                   f->id, job.attempts, f->only);
        bool any = f->only == 0 && !json;
        if (runs(&job) && (any || f->only == newest))
                await_log(job.log);
        r = choose_attempt(f, any           ? logs_attempt(&f->ctl->term, &job, f->base, newest)
                              : f->only > 0 ? f->only
                                            : newest);
        if (r < 0)
                return r;
        if (access(f->path, F_OK) < 0 && is_dropped(f->attempt, job.attempts))
                return dropped_error(&f->ctl->error, f->id, f->attempt);
        if (json)
                return print_paths(f);
        r = print_log(f, lines, following);
        if (r > 0 && !following)
                return open_error(&f->ctl->error, -ENOENT, f->path);
        return r >= 0 && following ? follow(f) : r;
}

int command_logs(struct ctl *ctl, int argc, char **argv) {
        bool following = false, json = false;
        uint64_t lines = LOG_ALL_LINES;
        struct follower f = { .ctl = ctl, .reader.fd = -1 };
        const struct option_spec options[] = {
                { .name = "follow",
                  .letter = 'f',
                  .kind = OPTION_FLAG,
                  .value = &following,
                  .help = "continue until the job has ended or is paused" },
                { .name = "lines",
                  .letter = 'n',
                  .kind = OPTION_U64,
                  .value = &lines,
                  .min = 0,
                  .max = 1000000000,
                  .argument = "N",
                  .help = "print only the last N lines" },
                { .name = "attempt",
                  .kind = OPTION_U64,
                  .value = &f.only,
                  .min = 1,
                  .max = UINT32_MAX,
                  .argument = "K",
                  .help = "print attempt K (default: the current one)" },
                { .name = "json",
                  .kind = OPTION_FLAG,
                  .value = &json,
                  .help = "print the paths of the log files as JSON instead" },
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
