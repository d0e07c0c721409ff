/*
 * The attempt's log: output is appended to `log`; a full file becomes log.1, that one log.2, and so on; the oldest is
 * dropped, so that all of them together stay within the bound. The first BERTD_LOG_FIRST bytes of the attempt are kept
 * in log.first, which ends with a line that gives the number of bytes dropped after them. ctl/log_files.h reads them.
 *
 * Output is always read. If the disk is full, bytes are counted and dropped; the count is noted when there is space
 * again. Whatever others do to the files, output continues in a regular file of that name, the bound holds, and a line
 * there reports missing bytes. The last 64 KiB stay in memory for shim_classify.
 *
 *   shim_log_open(&log, ...)     shim_log_write()*, shim_log_look()* ...     shim_log_close(&log)    also after a
 * failed open
 */
#ifndef DAEMON_SHIM_LOG_H
#define DAEMON_SHIM_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SHIM_TAIL_BYTES (64u << 10)

struct shim_log {
        char *path;
        int fd;               /* -1: not open; output is dropped until it can be opened */
        uint64_t size, piece; /* bytes in the file; rotation at `piece` */
        unsigned keep;        /* files, with `path` itself */
        uint64_t dropped;     /* bytes lost since the last note */
        int dropped_errno;
        bool within;           /* the last output does not end a line */
        bool older_within;     /* the same for the previous file */
        uint64_t first;        /* bytes of output in log.first */
        bool first_whole;      /* it is complete */
        char first_end;        /* the last of these bytes */
        uint64_t rotated_away; /* bytes dropped by rotation */
        char *tail;            /* ring of SHIM_TAIL_BYTES */
        uint64_t tail_written; /* bytes ever put into the ring */
};

/* Opens for appending: `keep` files (0: 2, from an older bertd), together at most `max_bytes`. A file that cannot be
 * opened is not an error: its bytes are dropped and counted. Only −ENOMEM. */
int shim_log_open(struct shim_log *log, const char *path, uint64_t max_bytes, unsigned keep, struct error *error);
void shim_log_write(struct shim_log *log, const char *data, size_t size);

/* Repairs changes by others: recreates a removed file even if the job is silent. */
void shim_log_look(struct shim_log *log);

/* Writes a line of the shim, prefixed with "bertd: ". */
void shim_log_note(struct shim_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last bytes in order, *ret_size bytes; NULL: no memory. Caller frees. */
char *shim_log_tail(const struct shim_log *log, size_t *ret_size);
void shim_log_close(struct shim_log *log);

#endif
