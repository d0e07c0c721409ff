/*
 * See user_task.h. Role: bertd accesses a user's files, beyond names and sizes, only in a child that runs as that user.
 * Owns: one struct per task, freed when it was reaped or the manager ends. Invariant: no task outlives its limit
 * while bertd lives.
 */
#include "daemon/launch/user_task.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/inherited.h"
#include "daemon/launch/become.h"
#include "daemon/launch/launcher.h"
#include "daemon/base/log.h"

#define REMOVE_LIMIT_USEC (600 * USEC_PER_SEC)
#define ON_EXIT_LIMIT_USEC (60 * USEC_PER_SEC)
#define WHAT_ON_EXIT "on-exit"
#define TASK_SLACK_USEC (30 * USEC_PER_SEC) /* time for systemd to report the end */

struct user_task {
        struct node *node;
        struct user_task *next; /* of the manager's */
        uint64_t job;
        uid_t uid;
        const char *what; /* static: "rm", "on-exit" */
        pid_t pid;
        void (*began)(struct node *node, uint64_t job, bool started); /* called once, then NULL */
        bool ran;
        void (*done)(void *userdata, bool ran); /* called when it has exited, or NULL */
        void *userdata;
        struct source *source;
        struct timer timer;
        struct systemd_task *systemd; /* under systemd, instead of pid and source */
};

/* NULL: no memory. */
static struct user_task *user_task_new(struct node *node) {
        struct user_task *task = calloc(1, sizeof(*task));

        if (task) {
                *task = (struct user_task) { .node = node, .next = node->user_tasks };
                node->user_tasks = task;
        }
        return task;
}

static void user_task_free(struct user_task *task) {
        for (struct user_task **at = &task->node->user_tasks; *at; at = &(*at)->next)
                if (*at == task) {
                        *at = task->next;
                        break;
                }
        if (task->node->exits_wait)
                node_plan_soon(task->node);
        (void) source_free(task->source);
        timer_disarm(&task->timer);
        systemd_task_free(task->systemd);
        free(task);
}

static void tell_began(struct user_task *task, bool started) {
        void (*began)(struct node * node, uint64_t job, bool started) = task->began;

        task->began = NULL;
        task->ran = task->ran || started;
        if (began)
                began(task->node, task->job, started);
}

static void task_began(void *userdata) { tell_began(userdata, true); }

static void ended(void *userdata) {
        struct user_task *task = userdata;
        void (*done)(void *userdata, bool ran) = task->done;
        void *of = task->userdata;

        tell_began(task, false);
        bool ran = task->ran;
        user_task_free(task);
        if (done)
                done(of, ran);
}

static void on_child(void *userdata, const siginfo_t *si) {
        const struct user_task *task = userdata;

        if (si->si_code != CLD_EXITED || si->si_status != 0)
                log_error("job %" PRIu64 ": %s ended with %s %d", task->job, task->what,
                          si->si_code == CLD_EXITED ? "exit code" : "signal", si->si_status);
        ended(userdata);
}

static void on_limit(void *userdata) {
        const struct user_task *task = userdata;

        (void) kill(-task->pid, SIGKILL);
}

static __attribute__((noreturn)) void run(const struct job *job, char *const *argv, char *const *environment,
                                          const char *cwd) {
        const char *what;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        inherited_drop_signals();
        (void) setsid();
        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
                _exit(127);
        close_others(-1);
        if (launcher_become(job, NULL, &what) < 0)
                _exit(127);
        if (chdir(cwd) < 0 && chdir("/") < 0)
                _exit(127);
        (void) execve(argv[0], argv, environment);
        _exit(127);
}

/* Takes `task` and its contents; false: not started. Under systemd in a separate unit: bertd.service's sandbox is not
 * for users' programs. */
static bool spawn(struct node *node, const struct job *job, const char *name, char *const *argv,
                  char *const *environment, const char *cwd, uint64_t limit_usec, struct user_task *task) {
        task->job = job->id;
        task->uid = job->uid;
        task->what = name;
        if (node->options.launcher == LAUNCHER_SYSTEMD) {
                task->systemd =
                        systemd_task_run(node, job, name, argv, environment, cwd, limit_usec, task_began, ended, task);
                if (!task->systemd) {
                        user_task_free(task);
                        return false;
                }
                /* In case systemd does not report the end, e.g. after a lost connection. */
                loop_after(node->loop, &task->timer, limit_usec + TASK_SLACK_USEC, ended, task);
                return true;
        }
        task->pid = fork();
        if (task->pid == 0)
                run(job, argv, environment, cwd);
        if (task->pid > 0 && loop_watch_child(node->loop, task->pid, on_child, task, &task->source) >= 0) {
                loop_after(node->loop, &task->timer, limit_usec, on_limit, task);
                tell_began(task, true);
                return true;
        }
        log_error("job %" PRIu64 ": %s cannot be run", job->id, argv[0]);
        if (task->pid > 0 && kill(task->pid, SIGKILL) == 0)
                (void) waitpid(task->pid, NULL, 0);
        user_task_free(task);
        return false;
}

void user_tasks_free(struct node *node) {
        while (node->user_tasks)
                user_task_free(node->user_tasks);
}

int user_task_remove_paths(struct node *node, const struct job *job, const char *name, const struct strv *paths,
                           void (*done)(void *userdata, bool ran), void *userdata) {
        static const char *const rm[] = { "/bin/rm", "-rf", "--one-file-system", "--" };
        const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
        cleanup_strv struct strv argv = {};
        struct user_task *task = user_task_new(node);

        for (size_t i = 0; i < ELEMENTSOF(rm); i++)
                strv_add(&argv, rm[i]);
        for (size_t i = 0; i < paths->n; i++)
                strv_add(&argv, paths->words[i]);
        if (!task || argv.failed) {
                if (task)
                        user_task_free(task);
                return -ENOMEM;
        }
        task->done = done;
        task->userdata = userdata;
        return spawn(node, job, name, argv.words, (char *const *) environment, "/", REMOVE_LIMIT_USEC, task) ? 0
                                                                                                             : -EAGAIN;
}

void user_task_count_exits(const struct node *node, uid_t uid, unsigned *all, unsigned *of_uid) {
        for (const struct user_task *c = node->user_tasks; c; c = c->next) {
                bool exits = c->what && strcmp(c->what, WHAT_ON_EXIT) == 0;
                *all += exits;
                *of_uid += exits && c->uid == uid;
        }
}

bool user_task_on_exit(struct node *node, const struct job *job, const struct strv *environment,
                       void (*began)(struct node *node, uint64_t job, bool started)) {
        const char *const argv[] = { "/bin/sh", "-c", "exec \"$0\"", job->on_exit, NULL };
        struct user_task *task = user_task_new(node);

        if (!task) {
                log_error("job %" PRIu64 ": on_exit cannot be run: out of memory", job->id);
                return false;
        }
        task->began = began;
        return spawn(node, job, WHAT_ON_EXIT, (char *const *) argv, environment->words, job->cwd, ON_EXIT_LIMIT_USEC,
                     task);
}
