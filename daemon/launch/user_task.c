/*
 * See user_task.h. Role: everything that bertd does with a user's files beyond names and sizes happens in a child that is that user.
 * Owns: one struct a child, freed when it has been reaped or the manager ends. Invariant: no child outlives its limit while bertd lives.
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
#define TASK_SLACK_USEC (30 * USEC_PER_SEC) /* systemd's time to tell that one has ended */

struct child {
        struct node *node;
        struct child *next; /* of the manager's */
        uint64_t job;
        uid_t uid;
        const char *what; /* static: "rm", "on-exit" */
        pid_t pid;
        void (*began)(struct node *node, uint64_t job, bool started); /* called once, then NULL */
        bool ran;
        void (*done)(void *userdata, bool ran); /* called when it has ended, or NULL */
        void *userdata;
        struct source *source;
        struct timer timer;
        struct systemd_task *task; /* under systemd, in place of pid and source */
};

/* NULL: no memory. */
static struct child *child_new(struct node *node) {
        struct child *child = calloc(1, sizeof(*child));

        if (child) {
                *child = (struct child) { .node = node, .next = node->children };
                node->children = child;
        }
        return child;
}

static void child_free(struct child *child) {
        for (struct child **at = &child->node->children; *at; at = &(*at)->next)
                if (*at == child) {
                        *at = child->next;
                        break;
                }
        if (child->node->exits_wait)
                node_plan_soon(child->node);
        (void) source_free(child->source);
        timer_disarm(&child->timer);
        systemd_task_free(child->task);
        free(child);
}

static void tell_began(struct child *child, bool started) {
        void (*began)(struct node * node, uint64_t job, bool started) = child->began;

        child->began = NULL;
        child->ran = child->ran || started;
        if (began)
                began(child->node, child->job, started);
}

static void task_began(void *userdata) { tell_began(userdata, true); }

static void ended(void *userdata) {
        struct child *child = userdata;
        void (*done)(void *userdata, bool ran) = child->done;
        void *of = child->userdata;

        tell_began(child, false);
        bool ran = child->ran;
        child_free(child);
        if (done)
                done(of, ran);
}

static void on_child(void *userdata, const siginfo_t *si) {
        const struct child *child = userdata;

        if (si->si_code != CLD_EXITED || si->si_status != 0)
                log_error("job %" PRIu64 ": %s ended with %s %d", child->job, child->what,
                          si->si_code == CLD_EXITED ? "exit code" : "signal", si->si_status);
        ended(userdata);
}

static void on_limit(void *userdata) {
        const struct child *child = userdata;

        (void) kill(-child->pid, SIGKILL);
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

/* Takes `child` and what it holds; false: it was not begun. Under systemd in a unit of its own: bertd.service's sandbox is not for users' programs. */
static bool spawn(struct node *node, const struct job *job, const char *name, char *const *argv,
                  char *const *environment, const char *cwd, uint64_t limit_usec, struct child *child) {
        child->job = job->id;
        child->uid = job->uid;
        child->what = name;
        if (node->options.launcher == LAUNCHER_SYSTEMD) {
                child->task =
                        systemd_task_run(node, job, name, argv, environment, cwd, limit_usec, task_began, ended, child);
                if (!child->task) {
                        child_free(child);
                        return false;
                }
                /* Of a task whose end systemd does not tell: its connection may be lost meanwhile. */
                loop_after(node->loop, &child->timer, limit_usec + TASK_SLACK_USEC, ended, child);
                return true;
        }
        child->pid = fork();
        if (child->pid == 0)
                run(job, argv, environment, cwd);
        if (child->pid > 0 && loop_watch_child(node->loop, child->pid, on_child, child, &child->source) >= 0) {
                loop_after(node->loop, &child->timer, limit_usec, on_limit, child);
                tell_began(child, true);
                return true;
        }
        log_error("job %" PRIu64 ": %s cannot be run", job->id, argv[0]);
        if (child->pid > 0 && kill(child->pid, SIGKILL) == 0)
                (void) waitpid(child->pid, NULL, 0);
        child_free(child);
        return false;
}

void children_free(struct node *node) {
        while (node->children)
                child_free(node->children);
}

int child_remove_paths(struct node *node, const struct job *job, const char *name, const struct strv *paths,
                       void (*done)(void *userdata, bool ran), void *userdata) {
        static const char *const rm[] = { "/bin/rm", "-rf", "--one-file-system", "--" };
        const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
        cleanup_strv struct strv argv = {};
        struct child *child = child_new(node);

        for (size_t i = 0; i < ELEMENTSOF(rm); i++)
                strv_add(&argv, rm[i]);
        for (size_t i = 0; i < paths->n; i++)
                strv_add(&argv, paths->words[i]);
        if (!child || argv.failed) {
                if (child)
                        child_free(child);
                return -ENOMEM;
        }
        child->done = done;
        child->userdata = userdata;
        return spawn(node, job, name, argv.words, (char *const *) environment, "/", REMOVE_LIMIT_USEC, child) ? 0
                                                                                                              : -EAGAIN;
}

void child_count_exits(const struct node *node, uid_t uid, unsigned *all, unsigned *of_uid) {
        for (const struct child *c = node->children; c; c = c->next) {
                bool exits = c->what && strcmp(c->what, WHAT_ON_EXIT) == 0;
                *all += exits;
                *of_uid += exits && c->uid == uid;
        }
}

bool child_on_exit(struct node *node, const struct job *job, const struct strv *environment,
                   void (*began)(struct node *node, uint64_t job, bool started)) {
        const char *const argv[] = { "/bin/sh", "-c", "exec \"$0\"", job->on_exit, NULL };
        struct child *child = child_new(node);

        if (!child) {
                log_error("job %" PRIu64 ": on_exit cannot be run: out of memory", job->id);
                return false;
        }
        child->began = began;
        return spawn(node, job, WHAT_ON_EXIT, (char *const *) argv, environment->words, job->cwd, ON_EXIT_LIMIT_USEC,
                     child);
}
