/*
 * The attempt's log: output is appended to `log`; a full file becomes log.1, that one log.2, and so on; the oldest is dropped, so that
 * all of them together stay within the bound. Of the attempt's beginning BERTD_LOG_FIRST bytes are kept beside, in log.first, which
 * ends with a line that says what was dropped after them. ctl/log_files.h reads them.
 *
 * Never a reason to stop reading the job's output. Where the disk is full, bytes are counted and dropped; the count is noted when space
 * returns. Whatever somebody does to the files, output goes on in a regular file of that name, the bound holds, and a line there says
 * what is known of what is missing. The last 64 KiB stay in memory for shim_classify.
 *
 *   shim_log_open(&log, ...)     shim_log_write()*, shim_log_look()* ...     shim_log_close(&log)    also after a failed open
 */
#ifndef DAEMON_SHIM_LOGS_H
#define DAEMON_SHIM_LOGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SHIM_TAIL_BYTES (64u << 10)

struct shim_log {
        char *path;
        int fd;               /* -1: could not be opened; then all is dropped until it can */
        uint64_t size, piece; /* bytes in the file; rotation at `piece` */
        unsigned keep;        /* files, with `path` itself */
        uint64_t dropped;     /* bytes lost since the last note */
        int dropped_errno;
        bool within;           /* a line: the output that was written last does not end one */
        bool older_within;     /* the same of the file before this one */
        uint64_t first;        /* bytes of output in log.first */
        bool first_whole;      /* it gets no more */
        char first_end;        /* the last of them */
        uint64_t rotated_away; /* bytes that rotation has dropped */
        char *tail;            /* ring of SHIM_TAIL_BYTES */
        uint64_t tail_written; /* bytes ever put into the ring */
};

/* Opens for appending: `keep` files (0: what an older bertd means, 2) of together at most `max_bytes`. A file that cannot be opened is
 * not an error here: its bytes are dropped and counted. −ENOMEM only. */
int shim_log_open(struct shim_log *log, const char *path, uint64_t max_bytes, unsigned keep, struct error *error);
void shim_log_write(struct shim_log *log, const char *data, size_t size);

/* Puts right what somebody did to the file: one that is gone is there again, though the job is silent. */
void shim_log_look(struct shim_log *log);

/* A line of the shim's own, with "bertd: " in front. */
void shim_log_note(struct shim_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last bytes in order, fresh memory of *ret_size bytes; NULL: no memory. Caller frees. */
char *shim_log_tail(const struct shim_log *log, size_t *ret_size);
void shim_log_close(struct shim_log *log);

#endif
