/* See jobinfo.h. The tables below are the only place where the protocol's keys meet our structs. */
#include "ctl/jobinfo.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "ctl/dict.h"

#define JOB(key, kind) \
        { #key, kind, offsetof(struct job_info, key) }
static const struct dict_field job_fields[] = {
        JOB(id, DICT_U64),
        JOB(uid, DICT_U64),
        JOB(ranks, DICT_U64),
        JOB(threads, DICT_U64),
        JOB(gpus, DICT_U64),
        JOB(attempts, DICT_U64),
        JOB(priority, DICT_I64),
        JOB(exit, DICT_I64),
        JOB(name, DICT_STRING),
        JOB(user, DICT_STRING),
        JOB(state, DICT_STRING),
        JOB(reason, DICT_STRING),
        JOB(status, DICT_STRING),
        JOB(kind, DICT_STRING),
        JOB(launcher, DICT_STRING),
        JOB(exit_class, DICT_STRING),
        JOB(checkpoint_path, DICT_STRING),
        JOB(run_dir, DICT_STRING),
        JOB(log, DICT_STRING),
        JOB(cwd, DICT_STRING),
        JOB(on_exit, DICT_STRING),
        JOB(command, DICT_STRINGS),
        JOB(submitted, DICT_U64),
        JOB(started, DICT_U64),
        JOB(attempt_started, DICT_U64),
        JOB(ended, DICT_U64),
        JOB(not_before, DICT_U64),
        JOB(next_try_usec, DICT_U64),
        JOB(step, DICT_U64),
        JOB(steps, DICT_U64),
        JOB(eta_sec, DICT_U64),
        JOB(checkpoint_step, DICT_U64),
        JOB(loss, DICT_DOUBLE),
        JOB(rate, DICT_DOUBLE),
        JOB(exit_signal, DICT_STRING),
        JOB(exit_host, DICT_STRING),
        JOB(exit_rank, DICT_I64),
        JOB(first_cause, DICT_STRING),
        JOB(evidence, DICT_STRING),
        JOB(last_step, DICT_U64),
        JOB(lost_steps, DICT_U64),
        JOB(lost_sec, DICT_STRINGS),
        JOB(goodput, DICT_DOUBLE),
        JOB(checkpoint_stall_sec, DICT_DOUBLE),
        JOB(checkpoint_write_sec, DICT_DOUBLE),
        JOB(memory, DICT_U64),
        JOB(cpus, DICT_DOUBLE),
        JOB(hang_sec, DICT_I64),
        JOB(start_sec, DICT_I64),
        JOB(on_nan, DICT_STRING),
        JOB(ends_with, DICT_STRING),
        JOB(first_exit, DICT_I64),
        JOB(runs_on, DICT_U64),
        JOB(log_max_size, DICT_U64),
        JOB(log_keep, DICT_U64),
        JOB(nice, DICT_I64),
        JOB(hosts, DICT_STRINGS),
        JOB(use, DICT_U64),
        JOB(world, DICT_U64),
        JOB(hosts_in_use, DICT_STRINGS),
        JOB(network, DICT_STRING),
        JOB(slowest, DICT_STRING),
        JOB(slowest_since, DICT_U64),
        JOB(gpu_usage, DICT_STRINGS),
        JOB(gpu_usage_read, DICT_U64),
        JOB(copy_to, DICT_STRING),
        { NULL, DICT_OTHERS, offsetof(struct job_info, others) },
};

#define CHECKPOINT(key, kind) \
        { #key, kind, offsetof(struct checkpoint_info, key) }
static const struct dict_field checkpoint_fields[] = {
        CHECKPOINT(step, DICT_U64),     CHECKPOINT(size, DICT_U64),    CHECKPOINT(attempt, DICT_U64),
        CHECKPOINT(restored, DICT_U64), CHECKPOINT(created, DICT_U64), CHECKPOINT(path, DICT_STRING),
        CHECKPOINT(state, DICT_STRING),
};

#define DAEMON(key, kind) \
        { #key, kind, offsetof(struct daemon_info, key) }
#define COUNT(name, state) \
        { name, DICT_U64, offsetof(struct daemon_info, counts) + (state) * sizeof(uint64_t) }
static const struct dict_field daemon_fields[] = {
        DAEMON(version, DICT_STRING),
        DAEMON(state_dir, DICT_STRING),
        DAEMON(launcher, DICT_STRING),
        DAEMON(pid, DICT_U64),
        DAEMON(slots, DICT_U64),
        DAEMON(slots_used, DICT_U64),
        DAEMON(gpus, DICT_U64),
        DAEMON(gpus_used, DICT_U64),
        DAEMON(gpus_busy, DICT_U64),
        DAEMON(gpus_quarantined, DICT_U64),
        DAEMON(gpu_notes, DICT_STRINGS),
        DAEMON(gpu_list, DICT_STRINGS),
        DAEMON(draining, DICT_STRING),
        DAEMON(draining_since, DICT_U64),
        DAEMON(storage_error, DICT_STRING),
        DAEMON(protocol, DICT_U64),
        DAEMON(keep_ended, DICT_U64),
        DAEMON(held, DICT_U64),
        COUNT("queued", JOB_QUEUED),
        COUNT("starting", JOB_STARTING),
        COUNT("running", JOB_RUNNING),
        COUNT("stopping", JOB_STOPPING),
        COUNT("backoff", JOB_BACKOFF),
        COUNT("done", JOB_DONE),
        COUNT("failed", JOB_FAILED),
        COUNT("cancelled", JOB_CANCELLED),
        COUNT("paused", JOB_PAUSED),
};

int job_info_read(sd_bus_message *message, struct job_info *ret) {
        *ret = (struct job_info) { .exit = -1,
                                   .exit_rank = -1,
                                   .hang_sec = -1,
                                   .start_sec = -1,
                                   .loss = NAN,
                                   .rate = NAN,
                                   .goodput = NAN,
                                   .checkpoint_stall_sec = NAN,
                                   .checkpoint_write_sec = NAN };
        return dict_read(message, job_fields, ELEMENTSOF(job_fields), ret);
}

int checkpoint_info_read(sd_bus_message *message, struct checkpoint_info *ret) {
        *ret = (struct checkpoint_info) {};
        return dict_read(message, checkpoint_fields, ELEMENTSOF(checkpoint_fields), ret);
}

void checkpoint_info_look(struct checkpoint_info *checkpoint) {
        struct stat st;

        if (!checkpoint->path || !checkpoint->state || strcmp(checkpoint->state, "good") != 0 ||
            lstat(checkpoint->path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR))
                return;
        char *missing = strdup("missing");
        if (!missing)
                return;
        free(checkpoint->state);
        checkpoint->state = missing;
}

int daemon_info_read(sd_bus_message *message, struct daemon_info *ret) {
        *ret = (struct daemon_info) {};
        return dict_read(message, daemon_fields, ELEMENTSOF(daemon_fields), ret);
}

void job_info_clear(struct job_info *job) { dict_clear(job_fields, ELEMENTSOF(job_fields), job); }
void checkpoint_info_clear(struct checkpoint_info *checkpoint) {
        dict_clear(checkpoint_fields, ELEMENTSOF(checkpoint_fields), checkpoint);
}
void daemon_info_clear(struct daemon_info *daemon) { dict_clear(daemon_fields, ELEMENTSOF(daemon_fields), daemon); }

int job_list_add(struct job_list *list, struct job_info *job) {
        if (list->n == list->allocated) {
                size_t allocated = list->allocated ? list->allocated * 2 : 64;
                struct job_info *jobs = reallocarray(list->jobs, allocated, sizeof(*jobs));
                if (!jobs)
                        return -ENOMEM;
                list->jobs = jobs;
                list->allocated = allocated;
        }
        list->jobs[list->n++] = *job;
        *job = (struct job_info) {};
        return 0;
}

void job_list_clear(struct job_list *list) {
        for (size_t i = 0; i < list->n; i++)
                job_info_clear(&list->jobs[i]);
        free(list->jobs);
        *list = (struct job_list) {};
}

bool job_has_ended(const struct job_info *job) {
        int state = job_state_from_name(job->state);
        return state == JOB_DONE || state == JOB_FAILED || state == JOB_CANCELLED;
}

bool job_is_at_rest(const struct job_info *job) {
        return job_has_ended(job) || job_state_from_name(job->state) == JOB_PAUSED;
}

bool job_eta(const struct job_info *job, uint64_t *ret_sec) {
        if (job->eta_sec == 0 || job->eta_sec == UINT64_MAX || job_state_from_name(job->state) != JOB_RUNNING)
                return false;
        *ret_sec = job->eta_sec;
        return true;
}
