/*
 * See child.h. Between fork and exec the child uses system calls only. It reports errors through a close-on-exec pipe
 * that is read after the child's death, so that a hanging exec cannot hang the shim.
 */
#include "daemon/shim/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "bertd/exit.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/cpu_list.h"
#include "common/clock.h"
#include "common/environment.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/names.h"
#include "common/parse.h"

#define PIPE_BYTES (1 << 20)
#define CHILD_OOM_SCORE_ADJ "500" /* the OOM killer prefers ranks, so that the shim can report it */

/* ---- its environment ---- */

const char *attempt_getenv(const struct attempt_spec *attempt, const char *name) {
        size_t n = strlen(name);

        for (char **p = attempt->environment; p && *p; p++)
                if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
                        return *p + n + 1;
        return NULL;
}

void attempt_setenv(struct attempt_spec *attempt, const char *name, const char *value) {
        size_t n = strlen(name);

        for (char **p = attempt->environment; p && *p; p++) {
                if (strncmp(*p, name, n) != 0 || (*p)[n] != '=')
                        continue;
                char *entry = format_string("%s=%s", name, value);
                if (entry) {
                        free(*p);
                        *p = entry;
                }
                return;
        }
}

/* The environment with one more entry; the strings are borrowed. Caller frees the array. */
static char **with_entry(char *const *environment, char *entry) {
        size_t n = 0;

        while (environment[n])
                n++;
        char **copy = calloc(n + 2, sizeof(char *));
        if (copy) {
                memcpy(copy, environment, n * sizeof(char *));
                copy[n] = entry;
        }
        return copy;
}

void attempt_default_env(struct attempt_spec *attempt, const char *name, const char *value) {
        char *entry = attempt_getenv(attempt, name) ? NULL : format_string("%s=%s", name, value);
        char **grown = entry ? with_entry(attempt->environment, entry) : NULL;

        if (!grown) {
                free(entry);
                return;
        }
        free(attempt->environment);
        attempt->environment = grown;
}

/* Drops a service manager's variables (the shim's NOTIFY_SOCKET is added at the exec) and the nonce of a job that
 * submitted this one. */
static bool mark_environment(struct attempt_spec *attempt) {
        static const char nonce[] = BERTD_ENV_NONCE "=";
        char **to = attempt->environment;

        for (char **from = attempt->environment; *from; from++) {
                if (variable_owner(*from) == VARIABLE_MANAGER || strncmp(*from, nonce, strlen(nonce)) == 0)
                        free(*from);
                else
                        *to++ = *from;
        }
        *to = NULL;
        attempt_default_env(attempt, BERTD_ENV_NONCE, attempt->nonce);
        return attempt_getenv(attempt, BERTD_ENV_NONCE) != NULL;
}

int attempt_load(const char *path, struct attempt_spec *ret, struct error *error) {
        int r = attempt_file_read(path, ret, error);

        if (r < 0 || mark_environment(ret))
                return r;
        attempt_file_free(ret);
        return error_errno(error, ENOMEM, "%s", path);
}

bool attempt_is_trainer(const struct attempt_spec *attempt) {
        for (char **word = attempt->argv; *word; word++) {
                const char *slash = strrchr(*word, '/');
                if (strcmp(slash ? slash + 1 : *word, "bert-trainer") == 0)
                        return true;
        }
        return attempt->kind != JOB_COMMAND;
}

/* ---- the main child ---- */

enum step { STEP_SETUP, STEP_RUN_DIR, STEP_CWD, STEP_EXEC };
struct exec_report {
        int step;
        int code;
        bool there;                                /* STEP_EXEC: the program exists and may be executed */
        char interpreter[EXECUTABLE_HEAD_MAX + 1]; /* of a script; "" = not a script */
};
static_assert(sizeof(struct exec_report) <= PIPE_BUF, "written at once");

/* An unprivileged process may not raise a hard limit: then keeps the current one. */
static void set_limits(const struct attempt_spec *attempt) {
        for (unsigned i = 0; i < attempt->n_rlimits; i++) {
                struct rlimit want = attempt->rlimits[i].limit, have;

                if (setrlimit(attempt->rlimits[i].resource, &want) == 0 ||
                    getrlimit(attempt->rlimits[i].resource, &have) < 0)
                        continue;
                want.rlim_max = MIN(want.rlim_max, have.rlim_max);
                want.rlim_cur = MIN(want.rlim_cur, want.rlim_max);
                (void) setrlimit(attempt->rlimits[i].resource, &want);
        }
}

static void raise_oom_score(void) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
                (void) !write(fd, CHILD_OOM_SCORE_ADJ, strlen(CHILD_OOM_SCORE_ADJ));
                (void) close(fd);
        }
}

/* The submitter's scheduling, if this user and host allow it; else a note goes to the job's log. After the limits,
 * because RLIMIT_NICE (from the kernel, not from the client) allows a higher priority. */
static void set_scheduling(const struct attempt_spec *attempt) {
        struct cpu_list cpus;
        char text[SCHEDULING_MAX];

        if (attempt->nice != 0 && setpriority(PRIO_PROCESS, 0, attempt->nice) < 0)
                (void) dprintf(STDERR_FILENO, "bertd: nice %d of the submitter: %s; the job runs with %d\n",
                               attempt->nice, strerror(errno), getpriority(PRIO_PROCESS, 0));
        int r = scheduling_set(&attempt->scheduling);
        if (r != 0)
                (void) dprintf(STDERR_FILENO, "bertd: scheduling %s of the submitter: %s\n",
                               scheduling_write(&attempt->scheduling, text), strerror(-r));
        if (!attempt->cpu_list)
                return;
        r = cpu_list_read(attempt->cpu_list, &cpus);
        if (r == 0)
                r = cpu_list_set(0, &cpus);
        if (r != 0)
                (void) dprintf(STDERR_FILENO, "bertd: CPUs %s of the submitter: %s; the job runs on any\n",
                               attempt->cpu_list, r == -EINVAL ? "not available" : strerror(-r));
}

/* A trainer creates its own. A missing folder is not created again: its file system may be mounted late. */
static int make_run_dir(const struct attempt_spec *attempt) {
        const char *run_dir = attempt_getenv(attempt, BERTD_ENV_RUN_DIR);
        struct error error = {};
        struct stat st;

        (void) umask(attempt->umask);
        if (attempt->kind != JOB_COMMAND || !run_dir)
                return 0;
        int r = stat(run_dir, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
        if (r == -ENOENT && !attempt->ran)
                r = mkdir_parents(run_dir, 0777, &error);
        errno = -r;
        return r;
}

/* Why an existing program is not executed: its interpreter, up to the first blank, is missing. */
static void look_at_program(const char *name, struct exec_report *said) {
        cleanup_free char *path = NULL;
        char line[EXECUTABLE_HEAD_MAX + 1];

        said->there = executable_find(name, &path) == 0 && executable_is(path);
        if (!said->there)
                return;
        executable_script_line(path, line);
        (void) snprintf(said->interpreter, sizeof(said->interpreter), "%.*s", (int) strcspn(line, " \t"), line);
}

/* In the child. Returns the failed step, with errno set; does not return on success. */
static int become_job(const struct attempt_spec *attempt, char **environment, int output_fd, int extra_fd,
                      pid_t parent) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || null_fd < 0)
                return STEP_SETUP;
        if (getppid() != parent)
                _exit(BERTD_EXIT_OSERR); /* the shim died before prctl */
        (void) setsid();
        inherited_drop_signals();
        raise_oom_score();
        if (dup2(null_fd, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0 ||
            (extra_fd >= 0 && fcntl(extra_fd, F_SETFD, 0) < 0))
                return STEP_SETUP;
        set_limits(attempt);
        set_scheduling(attempt);
        if (make_run_dir(attempt) < 0)
                return STEP_RUN_DIR;
        if (chdir(attempt->cwd) < 0)
                return STEP_CWD;
        environ = environment; /* execvp searches the job's PATH, not the daemon's */
        (void) execvp(attempt->argv[0], attempt->argv);
        return STEP_EXEC;
}

int child_spawn(struct main_child *child, const struct attempt_spec *attempt, const char *notify_path, int extra_fd,
                struct error *error) {
        int output[2], report[2];
        pid_t parent = getpid();

        cleanup_free char *entry = format_string("NOTIFY_SOCKET=%s", notify_path);
        cleanup_free char **environment = entry ? with_entry(attempt->environment, entry) : NULL;
        if (!environment)
                return error_errno(error, ENOMEM, "environment");
        if (pipe2(output, O_CLOEXEC) < 0)
                return error_errno(error, errno, "pipe");
        cleanup_close int output_read = output[0], output_write = output[1];
        if (pipe2(report, O_CLOEXEC | O_NONBLOCK) < 0)
                return error_errno(error, errno, "pipe");
        cleanup_close int report_read = report[0], report_write = report[1];
        (void) fcntl(output_read, F_SETFL, O_NONBLOCK);
        (void) fcntl(output_read, F_SETPIPE_SZ, PIPE_BYTES);

        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "fork");
        if (pid == 0) {
                struct exec_report said = { .step = become_job(attempt, environment, output_write, extra_fd, parent) };
                said.code = errno;
                if (said.step == STEP_EXEC && (said.code == ENOENT || said.code == EACCES || said.code == ENOTDIR))
                        look_at_program(attempt->argv[0], &said);
                (void) !write(report_write, &said, sizeof(said));
                _exit(said.step == STEP_EXEC && said.code == ENOENT ? 127 : 126);
        }
        *child = (struct main_child) { .pid = pid,
                                       .output_fd = steal_fd(&output_read),
                                       .report_fd = steal_fd(&report_read) };
        return 0;
}

void child_close(struct main_child *child) {
        if (child->output_fd >= 0)
                (void) close(child->output_fd);
        if (child->report_fd >= 0)
                (void) close(child->report_fd);
        child->output_fd = child->report_fd = -1;
}

/* The error message, worded as by a shell. */
static void describe_interpreter(const struct exec_report *said, const char *name, char text[EXIT_RECORD_REASON_MAX]) {
        size_t n = strlen(said->interpreter);
        bool cr = n > 0 && said->interpreter[n - 1] == '\r';

        if (n == 0)
                (void) snprintf(text, EXIT_RECORD_REASON_MAX, "%.400s: cannot execute: required file not found", name);
        else if (cr)
                (void) snprintf(
                        text, EXIT_RECORD_REASON_MAX,
                        "%.150s: %.*s^M: bad interpreter: %s; its lines end in CR LF: `sed -i 's/\\r$//' %.150s`", name,
                        (int) MIN(n - 1, (size_t) 120), said->interpreter, strerror(said->code), name);
        else
                (void) snprintf(text, EXIT_RECORD_REASON_MAX, "%.200s: %.120s: bad interpreter: %s", name,
                                said->interpreter, strerror(said->code));
}

/* Temporary shortages of the host. */
static bool is_of_host(const struct exec_report *said) {
        return said->step == STEP_SETUP || said->code == EAGAIN || said->code == ENOMEM || said->code == EMFILE ||
               said->code == ENFILE;
}

bool child_exec_error(const struct main_child *child, const struct attempt_spec *attempt, struct exit_verdict *ret) {
        struct exec_report said;
        char text[EXIT_RECORD_REASON_MAX], *to = ret->private;
        const char *name = attempt->argv[0];

        if (read(child->report_fd, &said, sizeof(said)) != (ssize_t) sizeof(said))
                return false;
        *ret = (struct exit_verdict) { .exit_class = EXIT_CLASS_USER_ERROR, .exit_code = 126, .first_rank = -1 };
        if (said.step == STEP_EXEC && said.there && (said.interpreter[0] || said.code == ENOENT)) {
                ret->exit_code = said.code == ENOENT ? 127 : 126;
                describe_interpreter(&said, name, text);
        } else if (said.step == STEP_EXEC && said.code == ENOENT && !strchr(name, '/')) {
                ret->exit_code = 127;
                (void) snprintf(text, sizeof(text), "%.200s: command not found", name);
        } else if (said.step == STEP_EXEC) {
                ret->exit_code = said.code == ENOENT ? 127 : 126;
                (void) snprintf(text, sizeof(text), "%.400s: %s", name, strerror(said.code));
        } else if (said.step == STEP_RUN_DIR) {
                to = ret->reason;
                (void) snprintf(text, sizeof(text), "run folder %.400s: %s", attempt_getenv(attempt, BERTD_ENV_RUN_DIR),
                                strerror(said.code));
        } else if (said.step == STEP_CWD) {
                to = ret->reason;
                (void) snprintf(text, sizeof(text), "working directory %.400s: %s", attempt->cwd, strerror(said.code));
        } else {
                ret->exit_class = EXIT_CLASS_LAUNCH;
                to = ret->reason;
                (void) snprintf(text, sizeof(text), "could not start: %s", strerror(said.code));
        }
        (void) snprintf(ret->reason, sizeof(ret->reason), "the program could not be started: %s", strerror(said.code));
        (void) shim_clean_text(to, EXIT_RECORD_REASON_MAX, text, strlen(text));
        if (is_of_host(&said)) {
                ret->exit_class = EXIT_CLASS_LAUNCH;
                ret->exit_code = -1; /* costs no budget */
        }
        return true;
}
