/* See submission.h. */
#include "daemon/rules/submission.h"

#include <stdlib.h>
#include <string.h>

static void *asked(struct submission *submission, const struct job_field *field) {
        return field->asked == NO_OFFSET ? NULL : (char *) submission + field->asked;
}

void submission_defaults(struct submission *submission) {
        *submission = (struct submission) {};
        for (size_t i = 0; i < JOB_N_FIELDS; i++) {
                void *at = asked(submission, &job_fields[i]);
                if (at && job_fields[i].type <= FIELD_BOOL)
                        job_field_set_number(&job_fields[i], at, job_fields[i].initial);
        }
}

static void free_strings(char **strings) {
        for (size_t i = 0; strings && strings[i]; i++)
                free(strings[i]);
        free(strings);
}

static void free_past(struct past_checkpoint *rows, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                free(rows[i].path);
        free(rows);
}

void submission_free(struct submission *submission) {
        for (size_t i = 0; i < JOB_N_FIELDS; i++) {
                void *at = asked(submission, &job_fields[i]);
                if (at && job_field_is_text(&job_fields[i]))
                        free(*(char **) at);
                else if (at && job_fields[i].type == FIELD_STRINGS)
                        free_strings(*(char ***) at);
                else if (at && job_fields[i].type == FIELD_PAST)
                        free_past(*(struct past_checkpoint **) at, submission->n_past);
        }
        *submission = (struct submission) {};
}
