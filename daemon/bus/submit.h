/*
 * Submit's a{sv} (include/bertd/bus.h): keys, types and bounds are those of rules/job_fields.h. A submission is checked whole before anything
 * is stored; the error's text names the key and what was expected.
 *
 *   cleanup_submission struct submission submission = {};
 *   submission_defaults(&submission);
 *   submission_read(&submission, message, &error), then submission_check(&submission, &host, &too_large, &error)
 */
#ifndef DAEMON_SUBMIT_H
#define DAEMON_SUBMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "daemon/rules/submission.h"

/* What the host has in all. */
struct submit_host {
        uint64_t slots;
        uint32_t gpus;
        bool limits; /* its launcher holds a job to memory and cpus */
};

/* Reads the message's a{sv}: unknown keys, wrong types and keys given twice are refused. */
int submission_read(struct submission *submission, sd_bus_message *message, struct error *error);

/* Bytes of its texts. */
size_t submission_size(const struct submission *submission);

/* HOME, where it has none. −ENOMEM. */
int submission_add_home(struct submission *submission, const char *home);

/* What a client says of its limits is its word: none is kept above `own`, which are the kernel's, and none is left out. */
void submission_clamp_limits(struct submission *submission, const struct rlimit own[RLIM_NLIMITS]);

/* Bounds of every field. ret_too_large tells a request that the host can never meet from a wrong one. */
int submission_check(const struct submission *submission, const struct submit_host *host, bool *ret_too_large,
                     struct error *error);

#endif
