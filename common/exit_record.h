/*
 * exit.json, format version 1: how an attempt ended, durable. The shim writes it and bertd reads it. The job's user can
 * change it, so the reader checks every value.
 *
 *   exit_record_open(...)     shim: reserves the space in advance
 *   exit_record_write(...)    shim: the record as text, for exit.json and for the report to bertd
 *   exit_record_commit(...)   shim: write, fsync, rename, fsync of the folder: the last act of an attempt
 *   exit_record_read(...)     bertd; then exit_record_clear()
 */
#ifndef COMMON_EXIT_RECORD_H
#define COMMON_EXIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"
#include "common/error.h"

#define EXIT_RECORD_MAX 65536      /* maximum size of a record; longer ones are ignored */
#define EXIT_RECORD_REASON_MAX 512 /* buffer size of a reason */
#define EXIT_RECORD_HOST_MAX 254   /* buffer size of a host name */
#define EXIT_RECORD_MORE_MAX 400   /* buffer size of what is added to a reason */
#define EXIT_RECORD_PATH_MAX 4096  /* buffer size of a path */

struct exit_verdict {
        enum exit_class exit_class;
        int exit_code; /* of the main child, or of the rank that mpirun blames; -1: died of a signal */
        int signal;    /* likewise; 0: none */
        bool oom;
        int first_rank;                       /* the rank that failed first; -1: unknown */
        char host[EXIT_RECORD_HOST_MAX];      /* where it ran; "" = unknown */
        char reason[EXIT_RECORD_REASON_MAX];  /* one line of valid UTF-8, for everybody: quotes no output of the job */
        char private[EXIT_RECORD_REASON_MAX]; /* the full reason, for the owner and root; "" = reason */
        /* Addition to both, whatever the verdict: the processes left behind. "" = none. */
        char more[EXIT_RECORD_MORE_MAX], more_private[EXIT_RECORD_MORE_MAX];
};

/* Times in usec since the epoch. */
struct exit_record {
        uint64_t job; /* with attempt and nonce: whose it is */
        uint32_t attempt;
        const char *nonce;
        struct exit_verdict verdict;
        bool requested; /* the stop was asked for */
        uint64_t step;
        uint64_t samples_first, samples_last; /* of the current step; both 0 = unknown */
        char evidence[EXIT_RECORD_PATH_MAX];  /* folder with the stacks of a hang; "" = none */
        /* Checkpoints that appeared (three numbers each: step, bytes, time) and steps that disappeared. The writer
         * borrows, the reader allocates. */
        uint64_t *found, *gone;
        size_t n_found, n_gone; /* numbers */
        /* Written alone. */
        uint64_t started_usec, ended_usec;
        const char *boot_id;
        /* Read alone: false where the class is missing or unknown here. */
        bool has_class;
};

/* Creates DIR/exit.json.tmp with its space allocated; returns a descriptor that the caller closes, or −errno. */
int exit_record_open(int dir_fd, struct error *error);

/* One line of JSON, less than EXIT_RECORD_MAX bytes; the caller frees. NULL: no memory. */
char *exit_record_write(const struct exit_record *record);

/* Writes the text into the file of exit_record_open and renames it to exit.json. */
int exit_record_commit(int dir_fd, int fd, const char *text, struct error *error);

/* The record of the attempt named by job, attempt and nonce of *ret. A number out of range, or a text that is not one
 * line of UTF-8 within its bound, reads as unknown. −EBADMSG, −EFBIG: not a record, or of another attempt; then there
 * is nothing to clear. */
int exit_record_read(const char *text, size_t size, struct exit_record *ret, struct error *error);
void exit_record_clear(struct exit_record *record);

#endif
