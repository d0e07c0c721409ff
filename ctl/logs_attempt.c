/* See logs_attempt.h. A job that is about to be tried again, or has just begun, is asked about because of the attempt
 * before. */
#include "ctl/logs_attempt.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "ctl/format.h"

static bool is_filled(const char *base, uint64_t attempt, const char *name) {
        cleanup_free char *path = format_string("%s%" PRIu64 "/%s", base, attempt, name);
        struct stat st;

        return path && stat(path, &st) == 0 && st.st_size > 0;
}

static bool has_written(const char *base, uint64_t attempt) {
        return is_filled(base, attempt, "log") || is_filled(base, attempt, "log.1") ||
               is_filled(base, attempt, "log.first");
}

/* Attempts before the oldest that is kept have no log. */
static uint64_t newest_written(const char *base, uint64_t newest) {
        for (uint64_t n = newest; n > 0 && newest - n < BERTD_ATTEMPTS_TAIL; n--)
                if (has_written(base, n))
                        return n;
        return newest;
}

uint64_t logs_attempt(const struct term *term, const struct job_info *job, const char *base, uint64_t newest) {
        bool runs = job->attempt_started > 0;
        uint64_t shown = newest_written(base, newest), last_ended = runs ? newest - 1 : newest;

        if (job_is_at_rest(job) ? shown == newest : runs && shown == newest)
                return shown;
        (void) fputs("bertctl: ", stderr);
        if (shown != newest)
                (void) fprintf(stderr, "attempt %" PRIu64 " has written nothing%s; ", newest, runs ? " yet" : "");
        (void) fprintf(stderr, "this is attempt %" PRIu64, shown);
        if (shown == last_ended && text_of(job->first_cause)[0]) {
                (void) fputs(", which ended: ", stderr);
                (void) text_put(stderr, term, job->first_cause, 0);
        }
        (void) fputc('\n', stderr);
        return shown;
}
