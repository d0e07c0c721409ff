/* The end of a job's output, from which the shim tells how it ended: the verdict is written as exit.json, and bertd
 * must read there what was meant. */
#include <fcntl.h>
#include <string.h>

#include "common/cleanup.h"
#include "daemon/attempt/folder.h"
#include "daemon/shim/verdict.h"
#include "tests/fuzz/fuzz.h"

static const char nonce[] = "0123456789abcdef";

static void judge(struct fuzz_input input, struct exit_verdict *ret) {
        struct shim_evidence evidence = { .wait_status = (int) (fuzz_u32(&input) & 0xffff) };
        uint8_t flags = fuzz_u8(&input);

        evidence.stop_asked = flags & 1;
        evidence.oom_kills = flags >> 1 & 1;
        evidence.memory_limit = flags & 4 ? UINT64_C(1) << (flags >> 3) : 0;
        evidence.host = flags & 8 ? "node-1" : "";
        evidence.reports = flags >> 4 & 1;
        cleanup_free char *tail = malloc(input.size);
        if (input.size > 0)
                memcpy(tail, input.data, input.size);
        evidence.tail = tail;
        evidence.tail_size = input.size;
        shim_classify(&evidence, ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static int jobs_fd = -1, folder_fd = -1;
        struct job job = { .id = 7, .uid = geteuid(), .attempt = { .number = 1 } };
        struct exit_record record = { .job = 7, .attempt = 1, .nonce = nonce, .boot_id = "none" };
        bool requested;

        if (jobs_fd < 0) {
                cleanup_free char *jobs = fuzz_path("jobs"), *file = fuzz_path("jobs/7/attempt-1/x");
                *strrchr(file, '/') = '\0';
                jobs_fd = open(jobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                folder_fd = open(file, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        memcpy(job.attempt.nonce, nonce, sizeof(nonce));
        judge((struct fuzz_input) { data, size }, &record.verdict);
        cleanup_close int fd = exit_record_open(folder_fd, NULL);
        cleanup_free char *text = exit_record_write(&record);
        assert(text && exit_record_commit(folder_fd, fd, text, NULL) == 0);
        assert(files_read_exit(jobs_fd, &job, "/run", &requested, NULL) == 0);
        assert(job.attempt.exit_class == (int) record.verdict.exit_class);
        assert(job.attempt.reason && strcmp(job.attempt.reason, record.verdict.reason) == 0);
        const char *private = record.verdict.private[0] ? record.verdict.private : record.verdict.reason;
        assert(strcmp(attempt_private(&job.attempt), private) == 0);
        attempt_clear(&job.attempt);
        return 0;
}
