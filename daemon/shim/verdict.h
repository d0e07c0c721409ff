/*
 * How an attempt ended: the verdict (a pure function of the evidence) and its durable record, exit.json.
 *
 *   exit_file_open(...)      reserves space for the record in advance
 *   shim_classify(...)       evidence -> verdict
 *   shim_record_text(...)    the record as text: for exit.json and for the report to bertd
 *   exit_file_commit(...)    write, fsync, rename, fsync of the folder: the last act of an attempt
 */
#ifndef DAEMON_SHIM_RECORD_H
#define DAEMON_SHIM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"
#include "common/error.h"
#include "common/exit_record.h"
#include "daemon/shim/list.h"

#define SHIM_RECORD_VERSION 1

/* What is known after the main child was reaped. */
struct shim_evidence {
        int wait_status;  /* of waitpid */
        const char *tail; /* the end of its output, tail_size bytes, no NUL needed, any bytes */
        size_t tail_size;
        uint64_t oom_kills;    /* increase of oom_kill in memory.events of the shim's cgroup; 0 if it cannot be read */
        uint64_t memory_limit; /* of that cgroup, in bytes; 0: none or unknown */
        const char *host;      /* host of ranks without a host in the output; "" = unknown */
        bool stop_asked;
        bool reports; /* bert-trainer, or a program that has reported progress: exit codes 75, 76 and 77 have their
                         meaning of contract C6 */
};

#define SHIM_MORE_MAX 400

struct shim_verdict {
        enum exit_class exit_class;
        int exit_code; /* of the main child, or of the rank that mpirun blames; -1: died of a signal */
        int signal;    /* likewise; 0: none */
        bool oom;
        int first_rank;                       /* the rank that failed first; -1: unknown */
        char host[EXIT_RECORD_HOST_MAX];      /* where it ran; "" = unknown */
        char reason[EXIT_RECORD_REASON_MAX];  /* one line of valid UTF-8, for everybody: quotes no output of the job */
        char private[EXIT_RECORD_REASON_MAX]; /* the full reason, for the owner and root; "" = reason */
        /* Addition to both, whatever the verdict: the processes left behind. "" = none. */
        char more[SHIM_MORE_MAX], more_private[SHIM_MORE_MAX];
};

void shim_classify(const struct shim_evidence *evidence, struct shim_verdict *ret);

#define SHIM_LINE_MAX 200 /* maximum length of a quoted line of output */

/* The last line with information, as shown by a terminal: after its last carriage return, without escape sequences; at
 * most SHIM_LINE_MAX bytes, cut at a character. "" if there is none. Skips lines of the shim. */
void shim_last_line(const char *text, size_t size, char ret[SHIM_LINE_MAX + 1]);

/* Copies at most size_src bytes as one line of valid UTF-8 without control characters; cut at size - 1. Returns dst. */
char *shim_clean_text(char *dst, size_t size, const char *src, size_t size_src);

/* exit.json, format version 1. Times in usec since the epoch. */
struct shim_record {
        uint64_t job;
        unsigned attempt;
        const char *nonce;
        struct shim_verdict verdict;
        const char *stopped_by; /* "request" or "none" */
        uint64_t step, started_usec, ended_usec;
        uint64_t samples_first, samples_last; /* of the current step; both 0 = unknown */
        const char *evidence;                 /* folder with the stacks of a hang; NULL = none */
        const char *boot_id;
        const struct list_news *news; /* new and missing checkpoints; NULL: none */
};

/* Creates DIR/exit.json.tmp with its space allocated; returns a descriptor that the caller closes, or −errno. */
int exit_file_open(int dir_fd, struct error *error);

/* One line of JSON, less than EXIT_RECORD_MAX bytes; the caller frees. NULL: no memory. */
char *shim_record_text(const struct shim_record *record);

/* Writes the text into the file of exit_file_open and renames it to exit.json. */
int exit_file_commit(int dir_fd, int fd, const char *text, struct error *error);

#endif
