/*
 * See shim_child.h. The child is set up between fork and exec by system calls only. What goes wrong there travels through a
 * close-on-exec pipe that is read after the child's death, so that a hanging exec cannot hang the shim. Processes are killed
 * through pidfds, checked after they were opened: a pid that was used again is never hit.
 */
#include "daemon/shim_child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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
#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"

#define PIPE_BYTES (1 << 20)
#define CHILD_OOM_SCORE_ADJ "500" /* the kernel takes a rank before the shim, which lives to tell */
#define ENVIRON_MAX (2u << 20)
#define PASS_PAUSE_NSEC 20000000

/* ---- attempt.json ---- */

/* Texts of an array, with NULL at the end and room for `spare` more; NULL: no memory, or an entry is no text. */
static char **read_strings(const json_t *array, size_t spare) {
        size_t n = json_array_size(array);
        char **strings = calloc(n + spare + 1, sizeof(char *));

        for (size_t i = 0; strings && i < n; i++) {
                const char *text = json_string_value(json_array_get(array, i));
                strings[i] = text ? strdup(text) : NULL;
                if (!strings[i]) {
                        while (i-- > 0)
                                free(strings[i]);
                        free(strings);
                        return NULL;
                }
        }
        return strings;
}

static void free_strings(char **strings) {
        for (char **p = strings; p && *p; p++)
                free(*p);
        free(strings);
}

void attempt_free(struct attempt *attempt) {
        free(attempt->nonce);
        free(attempt->cwd);
        free(attempt->log);
        free_strings(attempt->argv);
        free_strings(attempt->environment);
        *attempt = (struct attempt) {};
}

const char *attempt_getenv(const struct attempt *attempt, const char *name) {
        size_t n = strlen(name);

        for (char **p = attempt->environment; p && *p; p++)
                if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
                        return *p + n + 1;
        return NULL;
}

static bool read_kind(const char *name, enum job_kind *ret) {
        static const char *const names[] = JOB_KIND_NAMES;

        for (unsigned i = 0; name && i < JOB_KIND_MAX; i++)
                if (strcmp(names[i], name) == 0) {
                        *ret = i;
                        return true;
                }
        return false;
}

static rlim_t read_limit(const json_t *value) {
        json_int_t v = json_integer_value(value);
        return v < 0 || v == INT64_MAX ? RLIM_INFINITY : (rlim_t) v;
}

static void read_rlimits(struct attempt *attempt, const json_t *array) {
        for (size_t i = 0; i < json_array_size(array) && attempt->n_rlimits < ATTEMPT_RLIMITS_MAX; i++) {
                const json_t *row = json_array_get(array, i);
                unsigned k = attempt->n_rlimits++;
                attempt->rlimits[k].resource = (int) json_integer_value(json_array_get(row, 0));
                attempt->rlimits[k].limit.rlim_cur = read_limit(json_array_get(row, 1));
                attempt->rlimits[k].limit.rlim_max = read_limit(json_array_get(row, 2));
        }
}

/* Drops NOTIFY_SOCKET (the shim's own goes in at the exec) and a nonce that a job inherited from the job that submitted it. */
static bool mark_environment(struct attempt *attempt) {
        static const char nonce[] = BERTD_ENV_NONCE "=", notify[] = "NOTIFY_SOCKET=";
        char **to = attempt->environment;

        for (char **from = attempt->environment; *from; from++) {
                if (strncmp(*from, notify, strlen(notify)) == 0 || strncmp(*from, nonce, strlen(nonce)) == 0)
                        free(*from);
                else
                        *to++ = *from;
        }
        to[0] = format_string("%s%s", nonce, attempt->nonce);
        if (!to[0])
                return false;
        to[1] = NULL; /* read_strings left room for one entry more */
        return true;
}

static bool read_attempt(const json_t *object, struct attempt *a) {
        const char *stop = json_string_value(json_object_get(object, "stop"));
        const char *nonce = json_string_value(json_object_get(object, "nonce"));
        const char *cwd = json_string_value(json_object_get(object, "cwd"));
        const char *log = json_string_value(json_object_get(object, "log"));

        if (json_integer_value(json_object_get(object, "version")) != 1 || !nonce || !*nonce || !cwd || !log)
                return false;
        if (!read_kind(json_string_value(json_object_get(object, "kind")), &a->kind))
                return false;
        a->job = (uint64_t) json_integer_value(json_object_get(object, "job"));
        a->number = (uint32_t) json_integer_value(json_object_get(object, "attempt"));
        a->umask = (mode_t) json_integer_value(json_object_get(object, "umask")) & 0777;
        a->grace_usec = (uint64_t) json_integer_value(json_object_get(object, "grace_usec"));
        a->log_max_bytes = (uint64_t) json_integer_value(json_object_get(object, "log_max_bytes"));
        a->stop_by_term = stop && strcmp(stop, "term") == 0;
        a->nonce = strdup(nonce);
        a->cwd = strdup(cwd);
        a->log = strdup(log);
        a->argv = read_strings(json_object_get(object, "argv"), 0);
        a->environment = read_strings(json_object_get(object, "environment"), 1);
        read_rlimits(a, json_object_get(object, "rlimits"));
        return a->nonce && a->cwd && a->log && a->argv && a->argv[0] && a->environment && mark_environment(a);
}

int attempt_load(const char *path, struct attempt *ret, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;
        json_error_t problem;

        int r = file_read(path, ATTEMPT_FILE_MAX, &text, &size, error);
        if (r < 0)
                return r;
        json_t *object = json_loadb(text, size, 0, &problem);
        if (!object)
                return error_input(error, BERTD_EXIT_DATA, "%s:%d: %s", path, problem.line, problem.text);
        *ret = (struct attempt) {};
        bool good = read_attempt(object, ret);
        json_decref(object);
        if (good)
                return 0;
        attempt_free(ret);
        return error_input(error, BERTD_EXIT_DATA, "%s: not an attempt of format version 1", path);
}

/* ---- the main child ---- */

enum step { STEP_SETUP, STEP_CWD, STEP_EXEC };
struct exec_report {
        int step;
        int code;
};

/* An unprivileged process may not raise a hard limit: then what it has stays. */
static void set_limits(const struct attempt *attempt) {
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

static void reset_signals(void) {
        sigset_t none;

        for (int i = 1; i < NSIG; i++)
                (void) signal(i, SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static void raise_oom_score(void) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
                (void) !write(fd, CHILD_OOM_SCORE_ADJ, strlen(CHILD_OOM_SCORE_ADJ));
                (void) close(fd);
        }
}

/* In the child. Returns only where a step failed, which it names; errno says why. */
static int become_job(const struct attempt *attempt, char **environment, int output_fd, pid_t parent) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || null_fd < 0)
                return STEP_SETUP;
        if (getppid() != parent)
                _exit(BERTD_EXIT_OSERR); /* the shim died before the line above */
        (void) setsid();
        reset_signals();
        raise_oom_score();
        if (dup2(null_fd, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0)
                return STEP_SETUP;
        set_limits(attempt);
        if (chdir(attempt->cwd) < 0)
                return STEP_CWD;
        (void) umask(attempt->umask);
        environ = environment; /* execvp searches the job's PATH, not the daemon's */
        (void) execvp(attempt->argv[0], attempt->argv);
        return STEP_EXEC;
}

/* The environment with one entry more; the strings are borrowed. Caller frees the array. */
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

int child_spawn(struct child *child, const struct attempt *attempt, const char *notify_path, struct error *error) {
        int output[2], report[2];
        pid_t parent = getpid();

        cleanup_free char *entry = format_string("NOTIFY_SOCKET=%s", notify_path);
        cleanup_free char **environment = entry ? with_entry(attempt->environment, entry) : NULL;
        if (!environment)
                return error_errno(error, ENOMEM, "%s", attempt->argv[0]);
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
                struct exec_report said = { .step = become_job(attempt, environment, output_write, parent),
                                            .code = errno };
                (void) !write(report_write, &said, sizeof(said));
                _exit(said.step == STEP_EXEC && said.code == ENOENT ? 127 : 126);
        }
        *child =
                (struct child) { .pid = pid, .output_fd = steal_fd(&output_read), .report_fd = steal_fd(&report_read) };
        return 0;
}

void child_close(struct child *child) {
        if (child->output_fd >= 0)
                (void) close(child->output_fd);
        if (child->report_fd >= 0)
                (void) close(child->report_fd);
        child->output_fd = child->report_fd = -1;
}

bool child_exec_error(const struct child *child, const struct attempt *attempt, struct shim_verdict *ret) {
        struct exec_report said;
        char text[SHIM_REASON_MAX];
        const char *name = attempt->argv[0];

        if (read(child->report_fd, &said, sizeof(said)) != (ssize_t) sizeof(said))
                return false;
        *ret = (struct shim_verdict) { .exit_class = EXIT_CLASS_USER_ERROR, .exit_code = 126, .first_rank = -1 };
        if (said.step == STEP_EXEC && said.code == ENOENT && !strchr(name, '/')) {
                ret->exit_code = 127;
                (void) snprintf(text, sizeof(text), "%.200s: command not found", name);
        } else if (said.step == STEP_EXEC) {
                ret->exit_code = said.code == ENOENT ? 127 : 126;
                (void) snprintf(text, sizeof(text), "%.400s: %s", name, strerror(said.code));
        } else if (said.step == STEP_CWD) {
                (void) snprintf(text, sizeof(text), "working directory %.400s: %s", attempt->cwd, strerror(said.code));
        } else {
                ret->exit_class = EXIT_CLASS_LAUNCH;
                (void) snprintf(text, sizeof(text), "could not start: %s", strerror(said.code));
        }
        (void) shim_clean_text(ret->reason, sizeof(ret->reason), text, strlen(text));
        return true;
}

/* ---- the tree ---- */

/* Reads a file of /proc/PID up to `max` bytes; −1: gone or not ours to read. Caller frees. */
static ssize_t read_proc(pid_t pid, const char *name, size_t max, char **ret) {
        char path[64];
        size_t size = 0, room = 0;
        cleanup_free char *data = NULL;

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        while (size < max) {
                if (size == room) {
                        char *more = realloc(data, (room = MAX(room * 2, (size_t) 4096)) + 1);
                        if (!more)
                                return -1;
                        data = more;
                }
                ssize_t n = read(fd, data + size, room - size);
                if (n < 0)
                        return -1;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        data[size] = '\0';
        *ret = steal_pointer(&data);
        return (ssize_t) size;
}

struct process {
        pid_t pid, parent;
        bool zombie, ours;
};

static bool read_stat(pid_t pid, struct process *ret) {
        cleanup_free char *text = NULL;
        char state;
        int parent;

        if (read_proc(pid, "stat", 4096, &text) <= 0)
                return false;
        const char *after_name = strrchr(text, ')'); /* the name may hold anything */
        if (!after_name || sscanf(after_name + 1, " %c %d", &state, &parent) != 2)
                return false;
        *ret = (struct process) { .pid = pid, .parent = parent, .zombie = state == 'Z' || state == 'X' };
        return true;
}

static bool carries_nonce(pid_t pid, const char *nonce) {
        char path[64], wanted[256];
        struct stat st;
        cleanup_free char *text = NULL;

        (void) snprintf(path, sizeof(path), "/proc/%d", (int) pid);
        if (stat(path, &st) < 0 || st.st_uid != geteuid())
                return false;
        int n = snprintf(wanted, sizeof(wanted), "%s=%s", BERTD_ENV_NONCE, nonce);
        ssize_t size = read_proc(pid, "environ", ENVIRON_MAX, &text);
        for (const char *p = text, *end = text + MAX(size, 0); p && p < end; p += strlen(p) + 1)
                if (strncmp(p, wanted, (size_t) n + 1) == 0)
                        return true;
        return false;
}

struct table {
        struct process *list;
        size_t n, room;
};

static bool add_process(struct table *table, const struct process *process) {
        if (table->n == table->room) {
                size_t room = MAX(table->room * 2, (size_t) 256);
                struct process *more = realloc(table->list, room * sizeof(*more));
                if (!more)
                        return false;
                table->list = more;
                table->room = room;
        }
        table->list[table->n++] = *process;
        return true;
}

static void list_processes(struct table *table) {
        cleanup_closedir DIR *dir = opendir("/proc");
        uint64_t pid;

        table->n = 0;
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                struct process process;
                if (parse_u64(entry->d_name, 1, INT32_MAX, &pid) == 0 && read_stat((pid_t) pid, &process) &&
                    !add_process(table, &process))
                        return;
        }
}

static int compare_pids(const void *a, const void *b) {
        pid_t x = ((const struct process *) a)->pid, y = ((const struct process *) b)->pid;
        return (x > y) - (x < y);
}

/* Marks descendants: a subreaper keeps every orphan below itself. Repeated until a pass marks none. */
static void mark_descendants(struct table *table) {
        pid_t self = getpid();

        if (table->n > 0)
                qsort(table->list, table->n, sizeof(*table->list), compare_pids);
        for (bool again = true; again;) {
                again = false;
                for (size_t i = 0; i < table->n; i++) {
                        struct process *p = &table->list[i], key = { .pid = p->parent };
                        if (p->ours)
                                continue;
                        const struct process *parent =
                                bsearch(&key, table->list, table->n, sizeof(*table->list), compare_pids);
                        if (p->parent == self || (parent && parent->ours))
                                p->ours = again = true;
                }
        }
}

static void kill_process(const struct process *process, const char *nonce, bool by_descent) {
        cleanup_close int fd = (int) syscall(SYS_pidfd_open, process->pid, 0);
        struct process now;

        if (fd < 0)
                return;
        bool same = by_descent ? read_stat(process->pid, &now) && now.parent == process->parent
                               : carries_nonce(process->pid, nonce);
        if (same)
                (void) syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

static unsigned kill_pass(struct table *table, const char *nonce) {
        pid_t self = getpid();
        unsigned alive = 0;

        list_processes(table);
        mark_descendants(table);
        for (size_t i = 0; i < table->n; i++) {
                struct process *p = &table->list[i];
                if (p->pid == self || p->zombie || (!p->ours && !carries_nonce(p->pid, nonce)))
                        continue;
                alive++;
                kill_process(p, nonce, p->ours);
        }
        return alive;
}

unsigned child_kill_tree(struct child *child, const char *nonce, uint64_t limit_usec, int *main_status) {
        const struct timespec pause = { .tv_nsec = PASS_PAUSE_NSEC };
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        struct table table = {};
        unsigned alive;
        int status;

        *main_status = -1;
        for (;;) {
                alive = kill_pass(&table, nonce);
                for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
                        if (pid == child->pid)
                                *main_status = status;
                if (alive == 0 || clock_boottime_usec() >= deadline)
                        break;
                (void) nanosleep(&pause, NULL);
        }
        free(table.list);
        return alive;
}
