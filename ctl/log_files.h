/*
 * Reading an attempt's log files (include/bertd/logs.h) while its shim writes, renames and drops them.
 *
 *   log_files_open(path, &files)      all that there are, in order; then log_files_print
 *   log_reader_begin(&reader, &files) takes over where the print ended; then log_reader_follow() again and again
 *
 * Following loses and repeats nothing unless a file is dropped before it was read; then it prints how much is missing.
 */
#ifndef CTL_LOG_FILES_H
#define CTL_LOG_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "bertd/logs.h"
#include "common/error.h"

#define LOG_ALL_LINES UINT64_MAX

struct log_file {
        int fd;
        dev_t device;
        ino_t inode;
        off_t size;
        struct timespec written;
};

struct log_files {
        struct log_file files[BERTD_LOG_KEEP_MAX + 1]; /* in the order of what they hold; owned */
        unsigned n;
        bool first;            /* files[0] is log.first */
        int missing;           /* why the newest, the one that is written to, is not among them; 0: it is */
        uint64_t dropped;      /* bytes that rotation has dropped */
        uint64_t beginning;    /* bytes of output in log.first */
        uint64_t dropped_usec; /* since the epoch, the last of them */
};

/* `path` is the newest one's. 0 where any could be opened, else −errno for the newest (−EINVAL: not a regular file). */
int log_files_open(const char *path, struct log_files *ret);
void log_files_close(struct log_files *files);
#define cleanup_log_files cleanup(log_files_close)

/* To stdout: all, with a first line about what was dropped; or the last `lines`, of each of which, as of a progress
 * bar, only the state that a terminal would show last. */
int log_files_print(struct log_files *files, uint64_t lines, bool following, struct error *error);

struct log_reader {
        int fd;                                   /* −1: none yet */
        struct log_file seen[BERTD_LOG_KEEP_MAX]; /* older than fd; their fds are not valid */
        unsigned n_seen;
        uint64_t begins; /* bytes of output before fd's */
        char last[64];   /* bytes passed on; if they are no longer in the file, it was rewritten */
        size_t n_last;
};

void log_reader_begin(struct log_reader *reader, struct log_files *files); /* takes the newest file out of them */
int log_reader_follow(struct log_reader *reader, const char *path, struct error *error); /* what is new, to stdout */
bool log_reader_ends_in_line(const struct log_reader *reader); /* what was passed on last ends without a newline */
void log_reader_close(struct log_reader *reader);

#endif
