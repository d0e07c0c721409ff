/*
 * The leash: lines of JSON between a job's head (bertd-gang) and a host that it leases (bertctl lease, then
 * bertd-leash), over the standard input and output of one ssh. Each line is an object with a "type". Both sides send
 * LEASH_BEAT every LEASH_BEAT_USEC; a side that receives nothing for the host timeout ends. All bytes received
 * count as a sign of life, so a beat is sent only if nothing else is queued.
 *
 *   reader: zeroed; (fill, next until 0)*; free          descriptors are the caller's
 *   writer: zeroed; (add | output | push)*; free         a slow peer costs at most LEASH_QUEUE_MAX and a little
 *
 * Nothing here blocks if the descriptors do not. Text of the other side is not trusted: leash_text().
 */
#ifndef COMMON_LEASH_H
#define COMMON_LEASH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LEASH_VERSION 2
#define LEASH_LINE_MAX ((size_t) 1 << 20)    /* bytes of a line with its newline */
#define LEASH_QUEUE_MAX ((size_t) 4 << 20)   /* bytes waiting to be sent; beyond them output is dropped */
#define LEASH_QUEUE_HARD ((size_t) 6 << 20)  /* the same for all other lines: beyond them the connection is given up */
#define LEASH_OUTPUT_MAX ((size_t) 64 << 10) /* a program's bytes per line: at most six times as many on the line */
#define LEASH_STACKS_MAX ((size_t) 256 << 10)
#define LEASH_REASON_MAX 1024
#define LEASH_NOISE_MAX 1000 /* lines before the first object, e.g. printed by ~/.bashrc */
#define LEASH_RUNS_MAX 64    /* commands at a time */
#define LEASH_BEAT_USEC ((uint64_t) 2000000)
#define LEASH_INPUTS_USEC ((uint64_t) 10000000) /* limit for the line that bertctl lease --inputs reads */
#define LEASH_TAKE_USEC \
        ((uint64_t) 180000000) /* for LEASH_TAKE after LEASH_HOST: others may answer late, or spares be asked */
#define LEASH_FREED_USEC ((uint64_t) 5000000) /* limit for LEASH_FREED after LEASH_QUIT */
#define LEASH_TIMEOUT_DEFAULT 20              /* seconds of silence: resources.host_timeout_sec */
#define LEASH_TIMEOUT_MIN 8
#define LEASH_TIMEOUT_MAX 3600

enum leash_type {
        /* to the head */
        LEASH_HOST, /* always first: versions, clock, GPUs, inputs */
        LEASH_REFUSED,
        LEASH_GRANTED,
        LEASH_OUTPUT,
        LEASH_EXITED,
        LEASH_OOM,
        LEASH_DRAIN,
        LEASH_ENDING, /* the lease ends in order: cancelled there, the host shuts down */
        LEASH_FREED,  /* last: no process is left */
        /* both ways */
        LEASH_BEAT,
        LEASH_STACKS, /* request: without text */
        /* from the head */
        LEASH_INPUTS, /* to bertctl lease, as the next: paths to look at */
        LEASH_TAKE,   /* take the lease now: the head asks its hosts in order */
        LEASH_RUN,
        LEASH_SIGNAL,
        LEASH_QUIT,
        LEASH_TYPE_MAX, /* also: a type of a newer version, ignored */
};
#define LEASH_TYPE_NAMES                                                                                               \
        {                                                                                                              \
                "host", "refused", "granted", "output", "exited", "oom", "drain", "ending", "freed", "beat", "stacks", \
                        "inputs", "take", "run", "signal", "quit"                                                      \
        }

/* Why a lease is refused. All but input and usage can pass: the head waits. */
enum leash_class {
        LEASH_CLASS_BUSY, /* slots or GPUs; the reason names the holder */
        LEASH_CLASS_AWAY, /* bertd does not answer there, or is starting */
        LEASH_CLASS_DRAINING,
        LEASH_CLASS_VERSION,
        LEASH_CLASS_FORBIDDEN, /* not in group bertd */
        LEASH_CLASS_FORK,      /* bertd's fork launcher lends nothing */
        LEASH_CLASS_INPUT,
        LEASH_CLASS_USAGE,
        LEASH_CLASS_MAX, /* also: unknown */
};
#define LEASH_CLASS_NAMES \
        { "busy", "away", "draining", "version", "forbidden", "fork", "input", "usage" }

/* ---- lines: a new reference, or NULL without memory ---- */
json_t *leash_line(enum leash_type type);
json_t *leash_refused(enum leash_class class, const char *reason);
/* ending, drain (move: also leave) and a reply of stacks. Bytes that are not UTF-8 become "?"; cut at their bound. */
json_t *leash_ending(const char *reason);
json_t *leash_drain(const char *reason, bool move);
json_t *leash_stacks(const char *text);
/* At most LEASH_OUTPUT_MAX bytes, any. */
json_t *leash_output(uint64_t id, int stream, const char *data, size_t size);
/* `status` as waitpid's: exited has either "code" or "signal". */
json_t *leash_exited(uint64_t id, int status);
/* A shell line; `environment` (object of strings) is borrowed, may be NULL. */
json_t *leash_run(uint64_t id, const char *line, json_t *environment);
/* `stop`: a stop was asked for; bertd-gang's process of each rank gets LEASH_STOP_MARK first. */
json_t *leash_signal(int signal, bool stop);
#define LEASH_STOP_PAUSE_USEC 200000   /* between the mark and the signal */
#define LEASH_STOP_MARK (SIGRTMIN + 3) /* nobody else sends it, and mpirun does not hand it on */

#define RANK_WAS_STOPPED \
        "bertd: ended rank " /* begins the log's line of a rank that ended by a stop; mpirun got 0 of it */

enum leash_type leash_type_of(const json_t *line);
/* The class and reason of refused. LEASH_CLASS_MAX: unknown. */
enum leash_class leash_class_of(const json_t *line);
/* The text at `key` made fit for one line of a message or log: bytes of control characters become "?", cut at
 * LEASH_REASON_MAX; "" if missing. The caller frees; NULL: no memory. */
char *leash_text(const json_t *line, const char *key);
/* A non-negative integer at `key`; false: missing or something else. */
bool leash_number(const json_t *line, const char *key, uint64_t max, uint64_t *ret);
/* false: not well-formed. `ret_data` has a NUL after its end, the caller frees. */
bool leash_read_output(const json_t *line, uint64_t *ret_id, int *ret_stream, char **ret_data, size_t *ret_size);
/* `ret_signal` is 0 after an exit. */
bool leash_read_exited(const json_t *line, uint64_t *ret_id, int *ret_code, int *ret_signal);

/* ---- received lines ---- */
struct leash_reader {
        char *data;
        size_t used, room;
        size_t at;      /* start of the next line */
        size_t scanned; /* no newline before */
        bool started;   /* an object has come: from here on each line must be one */
        unsigned noise; /* lines skipped before */
};

/* One read(). Bytes read; 0: end of file; −EAGAIN; −ENOBUFS: call leash_reader_next first; −errno. */
ssize_t leash_reader_fill(struct leash_reader *reader, int fd);
/* 1: the next object, a new reference; 0: none yet; −EBADMSG: a line too long or not an object, or too much noise. */
int leash_reader_next(struct leash_reader *reader, json_t **ret);
void leash_reader_free(struct leash_reader *reader);

/* ---- lines to send ---- */
struct leash_writer {
        char *data;
        size_t used, room;
        size_t at;        /* sent of it */
        uint64_t dropped; /* bytes of output since the last note of it */
};

/* Takes `line` (NULL: no memory). 0; −ENOMEM; −ENOBUFS: LEASH_QUEUE_HARD. A beat is not added to a queue in use. */
int leash_writer_add(struct leash_writer *writer, json_t *line);
/* A program's output, split into lines. Beyond LEASH_QUEUE_MAX it is dropped, and a note is sent later as stream 2. */
int leash_writer_output(struct leash_writer *writer, uint64_t id, int stream, const char *data, size_t size);
/* Writes what the descriptor takes. Bytes left; or −errno. */
ssize_t leash_writer_push(struct leash_writer *writer, int fd);
size_t leash_writer_left(const struct leash_writer *writer);
void leash_writer_free(struct leash_writer *writer);

#endif
