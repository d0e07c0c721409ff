/* The statements of state.db, whose tables are in schema.h. Only the store's files include it (and the tests, to see
 * that every statement prepares). */
#ifndef DAEMON_STORE_SQL_H
#define DAEMON_STORE_SQL_H

#include "bertd/limits.h"

enum {
        STATEMENT_JOB_INSERT,
        STATEMENT_JOB_UPDATE,
        STATEMENT_INPUT,
        STATEMENT_ATTEMPT,
        STATEMENT_CHECKPOINT,
        STATEMENT_EVENT,
        STATEMENT_LOAD_INPUT,
        STATEMENT_LOAD_COMMAND,
        STATEMENT_LOAD_JOB,
        STATEMENT_FIND_NAME,
        STATEMENT_LOAD_PAGE,
        STATEMENT_LOAD_NEWEST_ATTEMPT,
        STATEMENT_LOAD_CHECKPOINTS,
        STATEMENT_LOAD_NEWEST_CHECKPOINT,
        STATEMENT_PRUNE_CHECKPOINTS,
        STATEMENT_EVENTS,
        STATEMENT_REMOVE,
        STATEMENT_STARTS,
        STATEMENT_HAS_RUN,
        STATEMENT_COUNT_EVENT,
        STATEMENT_DOOMED_EVENT,
        STATEMENT_DROP_EVENT,
        STATEMENT_COUNT_DROPPED,
        STATEMENT_DROP_NOTE,
        STATEMENT_DROP_ATTEMPTS,
        STATEMENT_OLDEST_ENDED,
        STATEMENT_TRASH,
        STATEMENT_TRASH_NEXT,
        STATEMENT_TRASH_DONE,
        STATEMENT_TRASH_LESS,
        STATEMENT_LOAD_OPEN,
        STATEMENT_LOAD_OWED,
        STATEMENT_LOAD_ATTEMPTS,
        STATEMENT_COUNT_ENDED,
        STATEMENT_COUNT_TRASH,
        STATEMENT_OLDEST_LEASES,
        STATEMENT_SETTING,
        STATEMENT_LOAD_SETTING,
        STATEMENT_MAX
};

/* In the order read by read.c. */
#define STORE_ATTEMPT_COLUMNS                                                                                      \
        "job, number, open, nonce, boot_id, pid, pid_start, gpu_mask, started, ended, resumed, first_step, step, " \
        "checkpoint_step, "                                                                                        \
        "exit_code, signal, exit_class, reason, samples_first, samples_last, rank, host, evidence, gpus, private"
#define STORE_CHECKPOINT_COLUMNS "job, step, size, created, state, attempt, restored, path"

#define STORE_ENDED "'done', 'failed', 'cancelled'"
#define STORE_HEAD_ATTEMPTS BERTD_TEXT(BERTD_ATTEMPTS_HEAD)
#define STORE_TAIL_ATTEMPTS BERTD_TEXT(BERTD_ATTEMPTS_TAIL)
#define STORE_HEAD_EVENTS BERTD_TEXT(BERTD_EVENTS_HEAD)
#define STORE_TAIL_EVENTS BERTD_TEXT(BERTD_EVENTS_TAIL)
/* Text of the event row for dropped ones. */
#define STORE_DROP_TEXT                                                                                            \
        "printf('%s%s%s dropped', iif(events_dropped=0, '', printf('%d older event%s', events_dropped,"            \
        " iif(events_dropped=1, '', 's'))), iif(events_dropped>0 AND attempts_dropped>0, ' and ', ''),"            \
        " iif(attempts_dropped=0, '', printf('%d older attempt%s', attempts_dropped, iif(attempts_dropped=1, '', " \
        "'s'))))"

extern const char *const store_statements[STATEMENT_MAX];

#endif
