/* exit.json as bertd reads it, and the same text as a shim reports it: its user may have written anything there. */
#include <fcntl.h>
#include <string.h>

#include "bertd/job.h"
#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/attempt/folder.h"
#include "tests/fuzz/fuzz.h"

static void check_line(const char *text) {
        for (size_t left = text ? strlen(text) : 0, n; left > 0; text += n, left -= n) {
                n = utf8_character(text, left);
                assert(n > 0 && (unsigned char) *text >= 0x20 && *text != 0x7f);
        }
}

static void check_attempt(const struct attempt *a) {
        assert(a->exit_class >= 0 && a->exit_class < EXIT_CLASS_MAX);
        assert(a->exit_code >= -1 && a->exit_code <= 255 && a->signal >= 0 && a->signal <= 64);
        assert(a->rank >= -1 && a->rank < BERTD_RANKS_MAX);
        assert(a->samples_first <= a->samples_last);
        check_line(a->reason);
        check_line(a->private);
        check_line(a->host);
        check_line(a->evidence);
}

static void check_row(const struct job *job, size_t i) {
        const struct checkpoint *c = &job->ledger[i];

        assert(c->step > 0 && c->step <= INT64_MAX && c->size > 0 && c->size <= INT64_MAX && c->created <= INT64_MAX);
        assert(i == 0 || job->ledger[i - 1].step < c->step);
        free(c->path);
}

/* It is as it should be, and then empty. */
static void check_ledger(struct job *job) {
        for (size_t i = 0; i < job->n_ledger; i++)
                check_row(job, i);
        free(job->ledger);
        job->ledger = NULL;
        job->n_ledger = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;
        static int jobs_fd = -1;
        static const char nonce[] = "0123456789abcdef";
        struct job job = { .id = 7, .uid = geteuid(), .attempt = { .number = 1 } };
        struct error error = {};
        bool requested;

        if (!path) {
                cleanup_free char *jobs = fuzz_path("jobs");
                path = fuzz_path("jobs/7/attempt-1/exit.json");
                jobs_fd = open(jobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        memcpy(job.attempt.nonce, nonce, sizeof(nonce));
        fuzz_write(path, data, size);
        int r = files_read_exit(jobs_fd, &job, "/run", &requested, &error);
        if (r == 0)
                check_attempt(&job.attempt);
        else
                assert(error.text[0]);
        check_ledger(&job);
        attempt_clear(&job.attempt);
        job.attempt.number = 1;
        memcpy(job.attempt.nonce, nonce, sizeof(nonce));
        assert((files_use_record((const char *) data, size, &job, "/run", &requested, NULL) == 0) == (r == 0));
        check_ledger(&job);
        attempt_clear(&job.attempt);
        return 0;
}
