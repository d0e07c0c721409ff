/*
 * Copies of a run's checkpoints in another folder (spec key checkpoint.copy_to), perhaps on another host: one side
 * reads the files and sends them through two pipes, the other stores them. The folder looks like a run folder:
 * DIR/checkpoints/step-N.ckpt and DIR/bertd.json, so a run can continue from it. DIR/.bertd-copies names the run that
 * they are of.
 *
 *   sender                                      receiver
 *   {"folder", "of", "name", "size", "modified", "keep"}\n
 *                                               {"type":"send"} | {"type":"have"} | {"type":"refused","reason"}\n
 *   the bytes, then their XXH64 in 16 hex digits\n
 *                                               {"type":"stored"} | {"type":"refused","reason"}\n
 *
 * and so on, until the sender closes its pipe. A file gets its name once all its bytes are on the disk and their hash
 * is the sender's; then the oldest checkpoints beyond `keep` are removed, never the one just stored. Both sides give up
 * on silence of COPIES_SILENCE_SEC.
 */
#ifndef COMMON_COPIES_H
#define COMMON_COPIES_H

#include <stdint.h>

#include "common/error.h"

#define COPIES_MARKER ".bertd-copies"
#define COPIES_HEARTBEAT "heartbeat"   /* of a run folder: the run lives if it is fresh */
#define COPIES_HEARTBEAT_FRESH_SEC 120 /* older: stale */
#define COPIES_SILENCE_SEC 120

struct copies_file {
        const char *path;   /* to read; its name, step-N.ckpt or bertd.json, stays */
        const char *folder; /* absolute: to store it below */
        const char *of;     /* HOST:RUN_DIR: a folder has the copies of one run */
        uint32_t keep;      /* checkpoints, at least 1 */
};

/* Answers on `out` what is asked on `in`, until end of file. A file that is refused is not an error. */
int copies_receive(int in, int out, struct error *error);

/* 1: stored, 0: it existed already. −errno with the receiver's reason. A missing file of another name than a
 * checkpoint's is 0. SIGPIPE is ignored by the caller. */
int copies_send(int in, int out, const struct copies_file *file, struct error *error);

#endif
