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
#include "common/error.h"
#include "common/scheduling.h"
#include "daemon/shim/list.h"
#include "daemon/shim/verdict.h"

#define ATTEMPT_FILE_MAX (4u << 20) /* bytes of attempt.json */
#define ATTEMPT_RLIMITS_MAX 32

struct attempt_spec {
        uint64_t job;
        uint32_t number;
        char *nonce;
        enum job_kind kind;
        char **argv;        /* NULL-terminated, at least one */
        char **environment; /* NULL-terminated, with BERTD_NONCE and without NOTIFY_SOCKET */
        char *cwd, *log;
        mode_t umask;
        int nice;       /* 0: unchanged */
        char *cpu_list; /* NULL: unchanged */
        struct scheduling scheduling;
        struct {
                int resource;
                struct rlimit limit;
        } rlimits[ATTEMPT_RLIMITS_MAX];
        unsigned n_rlimits;
        uint64_t grace_usec, log_max_bytes;
        unsigned log_keep;       /* 0: not set by an older bertd */
        int hang_sec, start_sec; /* −1: automatic, 0: no limit */
        bool stop_by_term;       /* "stop": "term"; else SIGUSR1 to the main child */
        enum ends_with ends_with;
        bool ran;   /* an earlier attempt has executed it: missing files may return */
        bool lists; /* the shim lists the checkpoints; `known` has those in bertd's ledger */
        struct known known;
};

/* Reads DIR/attempt.json, format version 1. Unknown keys are ignored: a newer daemon may write more. */
int attempt_load(const char *path, struct attempt_spec *ret, struct error *error);
void attempt_free(struct attempt_spec *attempt);

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

/* Starts the main child. `notify_path` becomes its NOTIFY_SOCKET. Takes nothing; child_close releases the descriptors.
 */
int child_spawn(struct main_child *child, const struct attempt_spec *attempt, const char *notify_path,
                struct error *error);
void child_close(struct main_child *child);

/* True if the exec (or a step before it) failed: fills reason, class and exit code of the verdict. */
bool child_exec_error(const struct main_child *child, const struct attempt_spec *attempt, struct exit_verdict *ret);

#endif
