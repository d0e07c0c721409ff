/*
 * The job's main child: attempt.json, the start, its output pipe.
 *
 *   attempt_load()           attempt.json -> struct attempt_spec
 *   child_spawn()            fork and exec; the parent never waits for the exec
 *   child_exec_error()       after the child's death: did the exec fail?
 */
#ifndef DAEMON_SHIM_CHILD_H
#define DAEMON_SHIM_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "bertd/job.h"
#include "common/attempt_file.h"
#include "common/error.h"
#include "daemon/shim/verdict.h"

/* Reads DIR/attempt.json. Its environment then has BERTD_NONCE, and no variable of a service manager. */
int attempt_load(const char *path, struct attempt_spec *ret, struct error *error);

/* Whether it runs bert-trainer, as a training job or as a command. */
bool attempt_is_trainer(const struct attempt_spec *attempt);

/* The value of a variable in the attempt's environment, or NULL. */
const char *attempt_getenv(const struct attempt_spec *attempt, const char *name);

/* Adds a variable unless it is set; it may be missing if out of memory. */
void attempt_default_env(struct attempt_spec *attempt, const char *name, const char *value);

/* Replaces an existing variable; unchanged if out of memory. */
void attempt_setenv(struct attempt_spec *attempt, const char *name, const char *value);

struct main_child {
        pid_t pid;     /* 0: not started */
        bool reaped;   /* the pid may have been reused */
        int status;    /* of waitpid, once reaped */
        int output_fd; /* read end of its stdout and stderr, non-blocking; −1 */
        int report_fd; /* read end of the report of a failed exec; −1 */
};

/* Starts the main child. `notify_path` becomes its NOTIFY_SOCKET; it inherits `extra_fd` (−1: none). Takes nothing;
 * child_close releases the descriptors. */
int child_spawn(struct main_child *child, const struct attempt_spec *attempt, const char *notify_path, int extra_fd,
                struct error *error);
void child_close(struct main_child *child);

/* True if the exec (or a step before it) failed: fills reason, class and exit code of the verdict. */
bool child_exec_error(const struct main_child *child, const struct attempt_spec *attempt, struct exit_verdict *ret);

#endif
