/*
 * How a shim comes to life outside bertd (contract C4): a small seam with two implementations. A launcher knows no attempt: what becomes
 * of a start is told to who asked for it.
 */
#ifndef DAEMON_LAUNCHER_H
#define DAEMON_LAUNCHER_H

#include "daemon/base/strv.h"
#include "daemon/node/node.h"

#define LAUNCHER_SLICE "bertd.slice" /* of all units, directly below systemd's own place */

/* Each may be told in `start` already, and may forget the launch. */
struct launch_events {
        void (*launched)(void *userdata, pid_t shim);      /* the shim is this process; 0: not known */
        void (*failed)(void *userdata, const char *text);  /* there will be none */
        void (*refused)(void *userdata, const char *text); /* nor may there be: the host is shutting down */
};

struct launch_request {
        struct node *node;
        const struct job *job;
        const char *shim;               /* path of bertd-shim */
        const struct strv *argv;        /* its arguments with argv[0] */
        const struct strv *environment; /* the job's */
        const struct job_inputs *inputs;
        int log; /* where the shim writes before it has a log; < 0: nowhere */
        const struct launch_events *events;
        void *userdata;
};

struct launch; /* a start that is under way: what the launcher waits for */

struct launcher {
        const char *name;
        bool private_shm; /* attempts see a /dev/shm of their own */
        bool needs_log;   /* nobody else keeps what the shim writes before it has a log */
        /* Never blocks on a peer. Success says only that the work is under way: the shim's hello is what counts. −errno: no process was
         * begun. The request is not needed afterwards, but for node and job. */
        int (*start)(const struct launch_request *request, struct launch **ret, struct error *error);
        void (*forget)(struct launch *launch);            /* NULL is fine; never touches the shim */
        void (*kill)(struct node *node, struct job *job); /* all in it, asynchronously; may be NULL */
};

extern const struct launcher launcher_fork, launcher_systemd;

/* "auto" and the names of LAUNCHER_NAMES. −EINVAL with the list. */
int launcher_choose(const char *name, enum launcher_kind *ret, struct error *error);

/* Runs argv as the job's user in a unit of its own, outside bertd's sandbox, for at most so long. `began` is called when systemd
 * has taken it, `done` once, when it has ended or could not be begun; until then the caller keeps the task, which systemd_task_free forgets. NULL: it could not be begun. */
struct systemd_task;
struct systemd_task *systemd_task_run(struct node *node, const struct job *job, const char *name, char *const *argv,
                                      char *const *environment, const char *cwd, uint64_t limit_usec,
                                      void (*began)(void *userdata), void (*done)(void *userdata), void *userdata);
void systemd_task_free(struct systemd_task *task);

/* Name of the transient unit of the job's attempt; the caller frees. */
char *launcher_unit_name(const struct node *node, const struct job *job);

#endif
