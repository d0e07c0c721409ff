/*
 * What the daemon reports of a job, a checkpoint and itself (the a{sv} of include/bertd/bus.h) as structs. What a
 * function *_read has filled, wholly or in part, is freed with its *_clear. Strings may be NULL; times are microseconds
 * since the epoch, 0 = not yet.
 */
#ifndef CTL_JOBINFO_H
#define CTL_JOBINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "bertd/job.h"
#include "common/cleanup.h"
#include "common/names.h"
#include "ctl/dict.h"

struct job_info {
        uint64_t id, uid, ranks, threads, gpus, attempts;
        uint64_t use, world; /* hosts that it needs, ranks in all; 0: of an older bertd */
        uint64_t last_step, lost_steps;
        uint64_t memory;       /* limit in bytes, 0 = none */
        uint64_t log_max_size; /* bytes of an attempt's log, in log_keep files; 0 = from an older bertd, which does not
                                  report it */
        uint64_t log_keep;
        int64_t nice;
        int64_t exit_rank;           /* the rank that failed first, −1 = unknown */
        int64_t hang_sec, start_sec; /* −1 = bertd's own, 0 = never */
        double goodput;              /* useful steps over wall time, 0..1; NaN = unknown, as the next two */
        double checkpoint_stall_sec, checkpoint_write_sec;
        double cpus;            /* limit, 0 = none */
        int64_t priority, exit; /* exit −1 = none yet */
        char *name, *user, *state, *reason, *status, *kind, *launcher, *exit_class, *exit_signal, *exit_host;
        char *first_cause, *evidence; /* NULL where the caller may not see them */
        char *on_nan, *ends_with;
        int64_t first_exit; /* with runs_on: of the first process: its exit code, or minus the signal */
        uint64_t runs_on;   /* processes that live on without it; 0: it lives */
        char *checkpoint_path, *run_dir, *log, *cwd, *on_exit;
        char **lost_sec;              /* "killed=12.500": seconds that ends of a class have cost */
        char **hosts, **hosts_in_use; /* the head first; empty: this host alone, NULL: of an older bertd */
        char *network, *copy_to;
        char *slowest; /* common/pace.h; "": no rank lags */
        uint64_t slowest_since;
        char **gpu_usage; /* common/gpu_use.h; of the GPUs that it holds on this host. NULL: of an older bertd */
        uint64_t gpu_usage_read;
        char **command; /* NULL where the caller may not see it */
        uint64_t submitted, started, attempt_started, ended, not_before, next_try_usec;
        uint64_t step, steps, eta_sec, checkpoint_step; /* eta_sec 0 or UINT64_MAX = unknown */
        double loss, rate;                              /* NaN = unknown */
        struct dict_others others;                      /* fields that have no member: shown under their own names */
};

struct checkpoint_info {
        uint64_t step, size, attempt, restored, created;
        char *path, *state;
};

struct daemon_info {
        char *version, *state_dir, *launcher;
        uint64_t protocol; /* 0: of a daemon before there were numbers, whose protocol is 1 */
        uint64_t pid, slots, slots_used, gpus, gpus_used, gpus_busy, gpus_quarantined;
        uint64_t keep_ended, held; /* ended jobs that are kept, 0 = all; that stay besides, for their checkpoints */
        char **gpu_notes;          /* "GPU 2: in use outside bertd: ..."; NULL from an older daemon */
        char **gpu_list;           /* "free GPU-...": free, used or blocked; NULL from an older daemon */
        char *draining;            /* why nothing new starts, and nothing is lent; "" = it is not drained */
        uint64_t draining_since;
        char *storage_error;            /* why state.db cannot be written now; "" = it can, NULL from an older daemon */
        uint64_t counts[JOB_STATE_MAX]; /* jobs by enum job_state */
};

/* Return 1, 0 at the end of the array they are read from, or −errno. */
int job_info_read(sd_bus_message *message, struct job_info *ret);
int checkpoint_info_read(sd_bus_message *message, struct checkpoint_info *ret);
/* Gives a good checkpoint the state "missing" if its file does not exist: bertd itself opens no files of users. One
 * that we may not see stays good. */
void checkpoint_info_look(struct checkpoint_info *checkpoint);
int daemon_info_read(sd_bus_message *message, struct daemon_info *ret);

void job_info_clear(struct job_info *job);
void checkpoint_info_clear(struct checkpoint_info *checkpoint);
void daemon_info_clear(struct daemon_info *daemon);
#define cleanup_job_info cleanup(job_info_clear)
#define cleanup_daemon_info cleanup(daemon_info_clear)

/* A growing array of jobs. */
struct job_list {
        struct job_info *jobs;
        size_t n, allocated;
};
/* Moves `job` to the end of the list (the caller's struct is left empty). Returns 0 or −ENOMEM. */
int job_list_add(struct job_list *list, struct job_info *job);
void job_list_clear(struct job_list *list);
#define cleanup_job_list cleanup(job_list_clear)

/* Done, failed or cancelled. */
bool job_has_ended(const struct job_info *job);
/* Ended or paused: nothing more happens by itself. */
bool job_is_at_rest(const struct job_info *job);

/* Seconds to go; false where the daemon does not know. */
bool job_eta(const struct job_info *job, uint64_t *ret_sec);

#endif
