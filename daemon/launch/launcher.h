/*
 * Starts shims outside bertd (contract C4): an interface with two implementations. A launcher does not know attempts:
 * it reports results by callbacks.
 */
#ifndef DAEMON_LAUNCH_LAUNCHER_H
#define DAEMON_LAUNCH_LAUNCHER_H

#include "daemon/base/strv.h"
#include "daemon/node/node.h"

#define LAUNCHER_SLICE "bertd.slice" /* of all units, directly below systemd's root */

/* Each may be called during `start`, and may forget the launch. */
struct launch_events {
        void (*launched)(void *userdata, pid_t shim);      /* pid of the shim; 0: unknown */
        void (*failed)(void *userdata, const char *text);  /* no shim was started */
        void (*refused)(void *userdata, const char *text); /* not possible: the host is shutting down */
};

struct launch_request {
        struct node *node;
        const struct job *job;
        const char *shim;               /* path of bertd-shim */
        const struct strv *argv;        /* its arguments with argv[0] */
        const struct strv *environment; /* the job's */
        const struct job_inputs *inputs;
        int log; /* for the shim's output before it has a log; < 0: none */
        const struct launch_events *events;
        void *userdata;
};

struct launch; /* a start in progress */

struct launcher {
        const char *name;
        bool private_shm; /* attempts have a private /dev/shm */
        bool needs_log;   /* the shim's output before it has a log is not kept elsewhere */
        /* Never blocks on a peer. Success only means that the start is in progress: the shim's hello is what counts.
         * −errno: no process was started. Afterwards only node and job of the request are used. */
        int (*start)(const struct launch_request *request, struct launch **ret, struct error *error);
        void (*forget)(struct launch *launch);            /* NULL is fine; does not affect the shim */
        void (*kill)(struct node *node, struct job *job); /* kills all processes, asynchronously; may be NULL */
};

extern const struct launcher launcher_fork, launcher_systemd;

/* From the argument of --launcher: auto, systemd or fork. */
int launcher_choose(const char *name, enum launcher_kind *ret, struct error *error);

/* Runs argv as the job's user in a separate unit, outside bertd's sandbox, for a limited time. `began` is called when
 * systemd has accepted it, `done` once, when it has ended or could not be started; until then the caller owns the task,
 * which systemd_task_free releases. NULL: could not be started. */
struct systemd_task;
struct systemd_task *systemd_task_run(struct node *node, const struct job *job, const char *name, char *const *argv,
                                      char *const *environment, const char *cwd, uint64_t limit_usec,
                                      void (*began)(void *userdata), void (*done)(void *userdata), void *userdata);
void systemd_task_free(struct systemd_task *task);

/* Name of the transient unit of the job's attempt; the caller frees. */
char *launcher_unit_name(const struct node *node, const struct job *job);

#endif
