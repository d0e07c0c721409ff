/*
 * The files of an attempt: STATE/jobs/N/{spec.yaml, attempt-K/{attempt.json, gang.json, lock, tombstone, exit.json,
 * log, shim.log}}.
 *
 * The folders belong to the job's user, so bertd (often root) trusts no name in them: every access is relative to the
 * descriptor of a folder, follows no link, enters no other file system (users can mount on their folders, and a mount
 * can hang), and opens only regular files of a bounded size.
 */
#ifndef DAEMON_ATTEMPT_FOLDER_H
#define DAEMON_ATTEMPT_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/node/node.h"
#include "daemon/rules/job.h"
#include "daemon/store/store.h"
#include "daemon/base/strv.h"

/* STATE/jobs/N, …/attempt-K and a file in it; callers free. NULL: no memory. */
char *files_job_dir(const char *state_dir, uint64_t job);
char *files_attempt_path(const char *state_dir, const struct job *job, const char *name); /* "" = the folder */
char *files_run_dir(const char *state_dir, const struct job *job);

/* A short folder for Open MPI's session files and segments. NULL: no memory. */
char *files_scratch(const struct job *job, bool private_shm);

struct files_attempt {
        const struct strv *argv, *environment;
        const struct job_inputs *inputs;
        const char *spec, *socket, *run_dir, *log, *scratch;
        const char *gang;  /* text of gang.json; NULL: of one host */
        const char *hosts; /* of an allocation; NULL: of one host, or of a gang */
        bool ran;          /* an earlier attempt has executed the program */
};

/* STATE/jobs, created if missing. −errno, also without openat2(2); the caller closes. */
int files_open_jobs(const char *state_dir, int *ret, struct error *error);

/* Checks that jobs_fd is STATE/jobs; creates it again if it was removed. */
int files_find_jobs(struct node *node, struct error *error);

/* Creates the folders and writes spec.yaml, attempt.json and an empty lock. The job's whole ledger must be in memory.
 */
int files_prepare(int jobs_fd, const struct job *job, const struct files_attempt *contents, struct error *error);

/* Whether the folder, or a mount, which is not touched, exists. Its parent does not belong to a user. */
bool files_is_folder(const char *path);

/* For the shim's output before it has a log (fork launcher): an fd, or −errno. */
int files_open_shim_log(int jobs_fd, const struct job *job);

/* Takes the record of an end (exit_record_write) into job->attempt (exit code, signal, class, reason, step, rank, host,
 * evidence, samples) and the job's ledger, which is whole (what of its checkpoints below run_dir came and went). Its
 * user may have made it: a record of another attempt, or one that is none, is refused, and nothing is changed.
 * `*ret_requested`: the stop was asked for. */
int files_use_record(const char *text, size_t size, struct job *job, const char *run_dir, bool *ret_requested,
                     struct error *error);

/* The same from exit.json. −ENOENT: missing. */
int files_read_exit(int jobs_fd, struct job *job, const char *run_dir, bool *ret_requested, struct error *error);

/* Whether a process holds the attempt's lock. */
bool files_is_locked(int jobs_fd, const struct job *job);

/* Writes the tombstone, under the lock if it is free. */
int files_close_attempt(int jobs_fd, const struct job *job, struct error *error);

#endif
