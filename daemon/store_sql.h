/* The SQL of state.db: schema and statements. Only store.c includes it (and the tests, to see that every statement prepares). */
#ifndef DAEMON_STORE_SQL_H
#define DAEMON_STORE_SQL_H

enum {
        STATEMENT_JOB_INSERT,
        STATEMENT_JOB_UPDATE,
        STATEMENT_INPUT,
        STATEMENT_ATTEMPT,
        STATEMENT_CHECKPOINT,
        STATEMENT_EVENT,
        STATEMENT_LOAD,
        STATEMENT_EVENTS,
        STATEMENT_REMOVE,
        STATEMENT_MAX
};

/* In the order in which store.c reads them. */
#define STORE_JOB_COLUMNS                                                                                           \
        "id, uid, gid, kind, state, wish, launcher, priority, ranks, threads, gpus, max_without_progress, "         \
        "backoff_min_sec, "                                                                                         \
        "backoff_max_sec, grace_sec, keep, keep_every, umask, name, user, cwd, run_dir, on_exit, command, reason, " \
        "submitted, "                                                                                               \
        "started, ended, not_before, step, steps, loss, rate, exit_code, exit_class, resume_from, resume_abandon, " \
        "history_from"
#define STORE_ATTEMPT_COLUMNS                                                                                      \
        "job, number, open, nonce, boot_id, pid, pid_start, gpu_mask, started, ended, resumed, first_step, step, " \
        "checkpoint_step, "                                                                                        \
        "exit_code, signal, exit_class, reason"

extern const char store_schema[];
extern const char *const store_statements[STATEMENT_MAX];

#endif
