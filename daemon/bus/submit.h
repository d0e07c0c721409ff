/*
 * Submit's a{sv} (include/bertd/bus.h): keys, types and bounds are those of rules/job_fields.h. A submission is checked
 * whole before anything is stored; the error's text names the key and what was expected.
 *
 *   cleanup_submission struct submission submission = {};
 *   submission_defaults(&submission);
 *   submission_read(&submission, message, &error), then submission_check(&submission, &host, &too_large, &error)
 */
#ifndef DAEMON_BUS_SUBMIT_H
#define DAEMON_BUS_SUBMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "daemon/rules/submission.h"

/* Total resources of the host. */
struct submit_host {
        uint64_t slots;
        uint32_t gpus;
        bool limits; /* its launcher enforces memory and cpus */
};

/* Reads the message's a{sv}: unknown keys, wrong types and keys given twice are refused. */
int submission_read(struct submission *submission, sd_bus_message *message, struct error *error);

/* Bytes of its texts. */
size_t submission_size(const struct submission *submission);

/* Adds HOME if missing. −ENOMEM. */
int submission_add_home(struct submission *submission, const char *home);

/* Client-supplied limits are untrusted: lowers each to `own`, from the kernel, and adds missing ones. */
void submission_clamp_limits(struct submission *submission, const struct rlimit own[RLIM_NLIMITS]);

/* A submission of Lease, before submission_check: the path of bertd-leash. Afterwards an unlimited RLIMIT_MEMLOCK, as
 * MPI over InfiniBand needs it. */
int submission_make_lease(struct submission *submission, const char *leash, struct error *error);
int submission_check_no_lease(const struct submission *submission, struct error *error); /* one of Submit */
void submission_unlock_memory(struct submission *submission);

/* Checks the bounds of every field. ret_too_large: valid, but more than the host will ever have. */
int submission_check(const struct submission *submission, const struct submit_host *host, bool *ret_too_large,
                     struct error *error);

#endif
