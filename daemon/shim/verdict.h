/* How an attempt ended: the verdict, a pure function of the evidence. Its durable record is common/exit_record.h's. */
#ifndef DAEMON_SHIM_VERDICT_H
#define DAEMON_SHIM_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/job.h"
#include "common/error.h"
#include "common/exit_record.h"
#include "daemon/shim/list.h"

/* What is known after the main child was reaped. */
struct shim_evidence {
        int wait_status;  /* of waitpid */
        const char *tail; /* the end of its output, tail_size bytes, no NUL needed, any bytes */
        size_t tail_size;
        uint64_t oom_kills;    /* increase of oom_kill in memory.events of the shim's cgroup; 0 if it cannot be read */
        uint64_t memory_limit; /* of that cgroup, in bytes; 0: none or unknown */
        const char *exception; /* the failing process's entry in torchrun's error file; NULL: none */
        const char *host;      /* host of ranks without a host in the output; "" = unknown */
        const char *hosts;     /* of a gang: all hosts, joined by commas, each with `ranks` ranks; NULL: none */
        unsigned ranks;
        const char *oom_hosts; /* of these, those where the kernel killed a process; NULL: none */
        bool gang;             /* bertd starts its ranks */
        bool stop_asked;
        bool saved;   /* a checkpoint has been recorded since then */
        bool reports; /* bert-trainer, or a program that has reported progress: exit codes 75, 76 and 77 have their
                         meaning of contract C6 */
};

void shim_classify(const struct shim_evidence *evidence, struct exit_verdict *ret);

#define SHIM_LINE_MAX 200 /* maximum length of a quoted line of output */

/* The last line with information, as shown by a terminal: after its last carriage return, without escape sequences; at
 * most SHIM_LINE_MAX bytes, cut at a character. "" if there is none. Skips lines of the shim. */
void shim_last_line(const char *text, size_t size, char ret[SHIM_LINE_MAX + 1]);

/* Copies at most size_src bytes as one line of valid UTF-8 without control characters; cut at size - 1. Returns dst. */
char *shim_clean_text(char *dst, size_t size, const char *src, size_t size_src);

#endif
