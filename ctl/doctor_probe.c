/*
 * See doctor.h. The proof: a job that counts, submitted from a new terminal. The terminal is closed (SIGHUP to its
 * session), then bertd is killed with SIGKILL and restarted the way it ran; each time the job must keep its pid and
 * continue counting. Owns: the terminal's child, the job (cancelled and removed whatever happens). Every wait has a
 * limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/proc_files.h"
#include "ctl/command.h"
#include "ctl/doctor.h"
#include "ctl/format.h"

#define SUBMIT_USEC (8 * USEC_PER_SEC)
#define RUNS_USEC (8 * USEC_PER_SEC)
#define ADVANCE_USEC (3 * USEC_PER_SEC)
#define BACK_USEC (6 * USEC_PER_SEC)
#define END_USEC (5 * USEC_PER_SEC)
#define PROCESS_TEXT_MAX (1 << 20)

/* Its own pid and a number that grows, in the job's run folder; it ends by itself should nobody end it. */
static const char counter[] =
        "i=0; while [ $i -lt 1200 ]; do i=$((i + 1)); echo \"$$ $i\" >\"$BERTD_RUN_DIR/probe.new\"; "
        "mv \"$BERTD_RUN_DIR/probe.new\" \"$BERTD_RUN_DIR/probe\"; sleep 0.1; done";

struct probe {
        struct doctor *doctor;
        uint64_t id; /* 0 = not submitted */
        char *run_dir;
        int terminal; /* the master's side */
        pid_t session;
};

struct count {
        uint64_t pid, step;
};

static void nap(void) { (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = 50000000 }, NULL); }

static bool read_count(const struct probe *probe, struct count *ret) {
        cleanup_free char *path = format_string("%s/probe", text_of(probe->run_dir)), *text = NULL;
        size_t size;

        return path && file_read(path, 256, &text, &size, NULL) == 0 &&
               sscanf(text, "%" SCNu64 " %" SCNu64, &ret->pid, &ret->step) == 2;
}

/* The same process has counted on since `from`. */
static bool counts_on(const struct probe *probe, const struct count *from, struct count *ret) {
        for (uint64_t end = clock_monotonic_usec() + ADVANCE_USEC; clock_monotonic_usec() < end; nap())
                if (read_count(probe, ret) && ret->pid == from->pid && ret->step > from->step + 1)
                        return true;
        return false;
}

/* ---- the job and its terminal ---- */

static char *link_of(uint64_t pid, const char *name) {
        char target[4096];

        proc_read_link((pid_t) pid, name, target, sizeof(target));
        return target[0] ? strdup(target) : NULL;
}

static __attribute__((noreturn)) void session(const char *program, const char *socket, int out) {
        static const char script[] = "\"$0\" --socket \"$1\" submit --name doctor-probe --priority 1000 --retries 1 "
                                     "--grace 1 -- /bin/sh -c \"$2\" && exec sleep 60";

        if (dup2(out, STDOUT_FILENO) < 0 || chdir("/") < 0)
                _exit(127);
        (void) execl("/bin/sh", "sh", "-c", script, program, socket, counter, (char *) NULL);
        _exit(127);
}

/* A whole line of at most `size` bytes within `usec`. */
static bool read_line(int fd, uint64_t usec, char *line, size_t size) {
        size_t n = 0;

        for (uint64_t end = clock_monotonic_usec() + usec; n + 1 < size && clock_monotonic_usec() < end;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                if (poll(&p, 1, 100) <= 0)
                        continue;
                ssize_t got = read(fd, line + n, 1);
                if (got <= 0)
                        return false;
                if (line[n] == '\n') {
                        line[n] = '\0';
                        return true;
                }
                n++;
        }
        return false;
}

static bool submit(struct probe *probe) {
        const char *socket = client_socket(probe->doctor->client);
        cleanup_free char *program = link_of((uint64_t) getpid(), "exe");
        char line[64];
        int fds[2];

        if (!program || pipe2(fds, O_CLOEXEC) < 0)
                return false;
        cleanup_close int reader = fds[0], writer = fds[1];
        (void) fflush(NULL);
        probe->session = forkpty(&probe->terminal, NULL, NULL, NULL);
        if (probe->session == 0)
                session(program, socket, writer);
        if (probe->session < 0)
                return false;
        (void) fcntl(probe->terminal, F_SETFD, FD_CLOEXEC);
        (void) close(writer);
        writer = -1;
        return read_line(reader, SUBMIT_USEC, line, sizeof(line)) && parse_u64(line, 1, BERTD_ID_MAX, &probe->id) == 0;
}

/* Runs and counts, or why it does not. */
static bool starts(struct probe *probe, struct count *ret, char *reason, size_t size) {
        for (uint64_t end = clock_monotonic_usec() + RUNS_USEC; clock_monotonic_usec() < end; nap()) {
                cleanup_job_info struct job_info job = {};
                struct error error = {};
                if (client_get_job(probe->doctor->client, probe->id, &job, &error) < 0) {
                        (void) snprintf(reason, size, "%.200s", error.text);
                        return false;
                }
                (void) snprintf(reason, size, "%.20s: %.200s", text_of(job.state), text_of(job.reason));
                if (!probe->run_dir && text_of(job.run_dir)[0])
                        probe->run_dir = strdup(job.run_dir);
                if (read_count(probe, ret))
                        return true;
        }
        return false;
}

static void close_terminal(struct probe *probe, struct count *count) {
        struct count now = {};
        int status = 0;
        pid_t ended = 0;

        (void) close(probe->terminal);
        probe->terminal = -1;
        for (uint64_t end = clock_monotonic_usec() + ADVANCE_USEC; ended == 0 && clock_monotonic_usec() < end; nap())
                ended = waitpid(probe->session, &status, WNOHANG);
        bool hung_up = ended == probe->session && WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP;
        if (ended == probe->session)
                probe->session = 0;
        if (!hung_up)
                doctor_say(probe->doctor, DOCTOR_WARN, "probe SIGHUP", NULL,
                           "the client's session survived SIGHUP: the probe proves nothing");
        else if (counts_on(probe, count, &now))
                doctor_say(probe->doctor, DOCTOR_OK, "probe SIGHUP", NULL,
                           "the terminal was closed and its session ended; the job kept pid %" PRIu64
                           " and continued from step %" PRIu64 " to %" PRIu64,
                           now.pid, count->step, now.step);
        else
                doctor_say(probe->doctor, DOCTOR_FAIL, "probe SIGHUP", NULL,
                           "the job (pid %" PRIu64 ", step %" PRIu64 ") died with the terminal it was submitted from",
                           count->pid, count->step);
        (void) read_count(probe, count);
}

/* ---- bertd's death ---- */

/* How a bertd was run that no service manager keeps. */
struct way {
        char *exe, *cwd;
        char *arguments, *environment; /* like /proc: a NUL after each */
        ssize_t arguments_size, environment_size;
        int err; /* where its messages go, or -1 */
};

static void way_clear(struct way *way) {
        free(way->exe);
        free(way->cwd);
        free(way->arguments);
        free(way->environment);
        if (way->err >= 0)
                (void) close(way->err);
}

static bool learn_way(uint64_t pid, struct way *ret) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%" PRIu64 "/fd/2", pid);
        *ret = (struct way) { .exe = link_of(pid, "exe"), .cwd = link_of(pid, "cwd") };
        ret->arguments_size = proc_read_file((pid_t) pid, "cmdline", PROCESS_TEXT_MAX, &ret->arguments);
        ret->environment_size = proc_read_file((pid_t) pid, "environ", PROCESS_TEXT_MAX, &ret->environment);
        ret->err = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return ret->exe && ret->cwd && ret->arguments_size > 0 && ret->environment;
}

static char **split(char *block, ssize_t size) {
        size_t n = 0;

        for (ssize_t i = 0; i < size; i++)
                if (!block[i])
                        n++;
        char **words = calloc(n + 1, sizeof(*words));
        for (size_t i = 0, at = 0; words && i < n; i++, at += strlen(block + at) + 1)
                words[i] = block + at;
        return words;
}

/* In a new session, and no child of this process. */
static bool start_again(const struct way *way) {
        cleanup_free char **arguments = split(way->arguments, way->arguments_size);
        cleanup_free char **environment = split(way->environment, way->environment_size);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        pid_t pid = arguments && environment && null >= 0 ? fork() : -1;
        if (pid == 0) {
                (void) setsid();
                if (fork() != 0)
                        _exit(0);
                if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(way->err >= 0 ? way->err : null, 2) < 0 ||
                    chdir(way->cwd) < 0)
                        _exit(127);
                (void) execve(way->exe, arguments, environment);
                _exit(127);
        }
        if (null >= 0)
                (void) close(null);
        return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static bool is_kept(uint64_t pid) {
        cleanup_free char *unit = NULL, *user_unit = NULL;

        if (sd_pid_get_user_unit((pid_t) pid, &user_unit) >= 0)
                return strstr(user_unit, ".service") != NULL;
        return sd_pid_get_unit((pid_t) pid, &unit) >= 0 && strcmp(unit, "bertd.service") == 0;
}

static bool is_back(struct probe *probe, uint64_t usec, uint64_t old_pid) {
        struct doctor *doctor = probe->doctor;
        uint64_t end = clock_monotonic_usec() + usec;

        do {
                struct error error = {};
                daemon_info_clear(&doctor->daemon);
                doctor->daemon = (struct daemon_info) {};
                if (client_reconnect(doctor->client, 0, &error) == 0 &&
                    client_get_daemon(doctor->client, &doctor->daemon, &error) == 0 && doctor->daemon.pid != old_pid)
                        return true;
                nap();
        } while (clock_monotonic_usec() < end);
        return false;
}

static bool job_is_undisturbed(struct probe *probe) {
        cleanup_job_info struct job_info job = {};
        struct error error = {};

        return client_get_job(probe->doctor->client, probe->id, &job, &error) == 0 && job.attempts == 1 &&
               job_state_from_name(job.state) == JOB_RUNNING;
}

static void judge_death(struct probe *probe, const struct count *before, uint64_t old_pid, uint64_t began,
                        const char *how) {
        struct doctor *doctor = probe->doctor;
        struct count now = {};
        double sec = (double) (clock_monotonic_usec() - began) / (double) USEC_PER_SEC;

        /* The job counts as running once its shim has connected again. */
        bool undisturbed = false;
        for (uint64_t end = clock_monotonic_usec() + ADVANCE_USEC; !undisturbed && clock_monotonic_usec() < end; nap())
                undisturbed = job_is_undisturbed(probe);
        if (counts_on(probe, before, &now) && undisturbed)
                doctor_say(doctor, DOCTOR_OK, "probe kill -9", NULL,
                           "bertd (pid %" PRIu64 ") was killed and %s (pid %" PRIu64 ") after %.1f s; the job kept pid "
                           "%" PRIu64 " and continued from step %" PRIu64 " to %" PRIu64,
                           old_pid, how, doctor->daemon.pid, sec, now.pid, before->step, now.step);
        else
                doctor_say(doctor, DOCTOR_FAIL, "probe kill -9", NULL,
                           "bertd was started again, but the job (pid %" PRIu64 ", step %" PRIu64 ") did not continue",
                           before->pid, before->step);
}

static void kill_daemon(struct probe *probe, const struct count *before) {
        cleanup(way_clear) struct way way = { .err = -1 };
        struct doctor *doctor = probe->doctor;
        uint64_t pid = doctor->daemon.pid, began = clock_monotonic_usec();
        bool kept = is_kept(pid);

        if (geteuid() != 0 && doctor->daemon_uid != geteuid()) {
                doctor_say(doctor, DOCTOR_OK, "probe kill -9", "sudo bertctl doctor --probe",
                           "not tried: you may not kill this bertd");
                return;
        }
        if (!learn_way(pid, &way) && !kept) {
                doctor_say(doctor, DOCTOR_WARN, "probe kill -9", NULL,
                           "not tried: unknown how bertd (pid %" PRIu64 ") was started", pid);
                return;
        }
        if (pid <= 1 || kill((pid_t) pid, SIGKILL) < 0) {
                doctor_say(doctor, DOCTOR_WARN, "probe kill -9", NULL, "bertd (pid %" PRIu64 ") cannot be killed: %s",
                           pid, strerror(errno));
                return;
        }
        bool back = kept && is_back(probe, BACK_USEC, pid);
        const char *how = back ? "was restarted by its manager" : "was started again";
        if (!back && way.exe && start_again(&way))
                back = is_back(probe, BACK_USEC, pid);
        if (back)
                judge_death(probe, before, pid, began, how);
        else
                doctor_say(doctor, DOCTOR_FAIL, "probe kill -9",
                           doctor->system ? "systemctl start bertd" : "bertd --detach",
                           "bertd was killed and did not start again; the job continues without it");
}

/* ---- all of it ---- */

static void clean_up(struct probe *probe) {
        struct client *client = probe->doctor->client;
        struct error error = {};

        if (probe->terminal >= 0)
                (void) close(probe->terminal);
        if (probe->session > 0 && kill(probe->session, SIGKILL) == 0)
                (void) waitpid(probe->session, NULL, 0);
        int r = -EAGAIN;
        if (probe->id > 0 && client_bus(client))
                (void) client_call(client, "Cancel", NULL, &error, "tb", probe->id, 1);
        for (uint64_t end = clock_monotonic_usec() + END_USEC;
             probe->id > 0 && client_bus(client) && r < 0 && clock_monotonic_usec() < end; nap()) {
                error = (struct error) {};
                r = client_call(client, "Remove", NULL, &error, "t", probe->id);
        }
        if (probe->id > 0 && r < 0) {
                cleanup_free char *cure =
                        format_string("bertctl cancel --now %" PRIu64 "; bertctl rm %" PRIu64, probe->id, probe->id);
                doctor_say(probe->doctor, DOCTOR_WARN, "probe", cure, "job %" PRIu64 " could not be removed: %s",
                           probe->id, error.text);
        }
        free(probe->run_dir);
}

void doctor_probe(struct doctor *doctor) {
        struct probe probe = { .doctor = doctor, .terminal = -1 };
        struct count count = {};
        char reason[256] = "";

        if (!doctor->client) {
                doctor_say(doctor, DOCTOR_FAIL, "probe", NULL, "no bertd answers");
                return;
        }
        if (!submit(&probe)) {
                doctor_say(doctor, DOCTOR_FAIL, "probe", NULL, "a job cannot be submitted");
        } else if (!starts(&probe, &count, reason, sizeof(reason))) {
                doctor_say(doctor, DOCTOR_FAIL, "probe", "bertctl status", "job %" PRIu64 " does not run: %s", probe.id,
                           reason);
        } else {
                close_terminal(&probe, &count);
                kill_daemon(&probe, &count);
        }
        clean_up(&probe);
}
