/*
 * Progress for a supervisor (contract C5: sd_notify datagrams, never blocking) and for a person (one line on
 * stderr, rewritten on a terminal). Used by rank 0 alone.
 */
#ifndef TRAINER_REPORT_PROGRESS_H
#define TRAINER_REPORT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress;

/* Reads NOTIFY_SOCKET (a path, or @ for an abstract name); without it, or where it cannot be used, nothing is sent. */
struct progress *progress_new(uint64_t steps); /* NULL: no memory */
void progress_free(struct progress *progress);

void progress_ready(struct progress *progress);
void progress_watchdog(struct progress *progress); /* at most one a second is sent */
void progress_stopping(struct progress *progress);

/* What is done between two steps ("evaluation"), NULL: it is over. */
void progress_busy(struct progress *progress, const char *what);

/* A rank that is slow, and how many times longer than the median it takes for the same work; NULL: none is, any more. */
void progress_slowest(struct progress *progress, const char *host, uint32_t rank, double ratio);

/* A checkpoint is durable. `stall`: seconds that training stood still for it; `write`: from its snapshot to the rename. */
void progress_checkpoint(struct progress *progress, const char *path, double stall, double write);

/* The next update takes these samples of the global stream; sent with the next step or READY=1. */
void progress_samples(struct progress *progress, uint64_t first, uint64_t last);

/* After `step` updates. The datagrams are limited to a thousand a second, lines to one in five seconds off a terminal;
 * `force` sends. `loss` NaN: there is none. */
void progress_step(struct progress *progress, uint64_t step, double loss, double rate, bool force);

/* Ends a terminal's line, so that a message can follow. */
void progress_end_line(struct progress *progress);

#endif
