/*
 * The attempt's log file: appended to, rotated by size (log -> log.1 at half of the bound), never a reason to stop reading the
 * job's output. Where the disk is full, bytes are counted and dropped; the count is noted when space returns. The last 64 KiB
 * stay in memory for shim_classify.
 *
 *   shim_log_open(&log, ...)     log_write()* ...     shim_log_close(&log)    also after a failed open
 */
#ifndef DAEMON_SHIM_LOGS_H
#define DAEMON_SHIM_LOGS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SHIM_TAIL_BYTES (64u << 10)

struct shim_log {
        char *path, *rotated; /* owned; rotated is path with ".1" */
        int fd;               /* -1: could not be opened; then all is dropped until it can */
        uint64_t size, half;  /* bytes in the file; rotation at `half` */
        uint64_t dropped;     /* bytes lost since the last note */
        int dropped_errno;
        char *tail;            /* ring of SHIM_TAIL_BYTES */
        uint64_t tail_written; /* bytes ever put into the ring */
};

/* Opens for appending. A file that cannot be opened is not an error here: its bytes are dropped and counted. −ENOMEM only. */
int shim_log_open(struct shim_log *log, const char *path, uint64_t max_bytes, struct error *error);
void shim_log_write(struct shim_log *log, const char *data, size_t size);

/* A line of the shim's own, with "bertd: " in front. */
void shim_log_note(struct shim_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last bytes in order, fresh memory of *ret_size bytes; NULL: no memory. Caller frees. */
char *shim_log_tail(const struct shim_log *log, size_t *ret_size);
void shim_log_close(struct shim_log *log);

#endif
