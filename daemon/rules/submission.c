/* See submission.h. */
#include "daemon/rules/submission.h"

#include <stdlib.h>
#include <string.h>

#include "bertd/limits.h"
#include "bertd/logs.h"

static void free_strings(char **strings) {
        for (size_t i = 0; strings && strings[i]; i++)
                free(strings[i]);
        free(strings);
}

void submission_defaults(struct submission *submission) {
        *submission = (struct submission) {
                .priority = BERTD_PRIORITY_DEFAULT,
                .ranks = BERTD_RANKS_DEFAULT,
                .threads = BERTD_THREADS_DEFAULT,
                .gpus = BERTD_GPUS_DEFAULT,
                .max_without_progress = BERTD_RETRIES_DEFAULT,
                .backoff_min_sec = BERTD_BACKOFF_FIRST_DEFAULT,
                .backoff_max_sec = BERTD_BACKOFF_LAST_DEFAULT,
                .grace_sec = BERTD_GRACE_DEFAULT,
                .keep = BERTD_KEEP_DEFAULT,
                .umask = 022,
                .hang_sec = -1,
                .start_sec = -1,
                .log_max_size = BERTD_LOG_SIZE_DEFAULT,
                .log_keep = BERTD_LOG_KEEP_DEFAULT,
        };
}

void submission_free(struct submission *submission) {
        free(submission->name);
        free(submission->kind);
        free(submission->run_dir);
        free(submission->on_exit);
        free(submission->spec);
        free(submission->cwd);
        free(submission->on_nan);
        free(submission->ends_with);
        free(submission->cpu_list);
        free(submission->scheduling);
        free_strings(submission->command);
        free_strings(submission->environment);
        *submission = (struct submission) {};
}
