/*
 * bertd-leash: the main child of a lease, on a host that lends. It owns the ssh channel to the job's head
 * (common/leash.h) and is a process apart from the shim: it opens no file after its start and never waits for a disk,
 * so it beats as long as it is not stopped. Whatever it started ends with it.
 *
 * Life: handover or standard input and output -> granted -> (commands, beats) -> an end: quit, end of file, silence,
 * SIGTERM, a malformed line -> every descendant killed -> freed, exit. One thread, one poll loop; descriptors that do
 * not block.
 */
#ifndef DAEMON_LEASH_LEASH_H
#define DAEMON_LEASH_LEASH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "common/error.h"
#include "common/leash.h"

#define LEASH_HELPERS_MAX 8 /* at a time: each sends signals or collects stacks */

/* A command of the head: sh -c LINE. */
struct leash_command {
        uint64_t id;
        pid_t pid;      /* 0: this entry is free */
        int streams[2]; /* read ends of its standard output and error; −1: closed */
};

/* See helpers.c. */
struct leash_helper {
        pid_t pid; /* 0: this entry is free */
        int fd;    /* its text; −1: it has none */
        char *text;
        size_t size;
        uint64_t deadline_usec; /* boot time, as all below */
};

struct leash {
        int in, out;    /* the channel */
        int connection; /* of the handover: bertctl waits until it is closed; −1 */
        int signal_fd;
        int notify_fd; /* to the shim; −1 */
        struct sockaddr_un notify;
        socklen_t notify_size;
        struct leash_reader reader;
        struct leash_writer writer;
        struct leash_command commands[LEASH_RUNS_MAX];
        struct leash_helper helpers[LEASH_HELPERS_MAX];
        uint64_t timeout_usec, heard_usec, next_beat_usec;
        uint64_t oom_kills;
        bool over, failed; /* failed: exit 1 */
        char reason[LEASH_REASON_MAX];
};

/* ---- leash.c ---- */

/* The first end wins. `report`: the head is sent the reason. */
void leash_end(struct leash *leash, bool failed, bool report, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Takes the line. */
void leash_send(struct leash *leash, json_t *line);

/* ---- commands.c ---- */

void leash_command_start(struct leash *leash, const json_t *line);
/* Reads at most a bounded part of what it has written. */
void leash_command_read(struct leash *leash, struct leash_command *command, int stream);
/* False: not a command's process. */
bool leash_command_exited(struct leash *leash, pid_t pid, int status);

/* ---- helpers.c ---- */

/* To the ranks; `caught`: only to those of their processes that handle it; `stop`: after LEASH_STOP_MARK. */
void leash_helper_signal(struct leash *leash, int signal, bool caught, bool stop);
void leash_helper_stacks(struct leash *leash);
void leash_helper_read(struct leash *leash, struct leash_helper *helper);
bool leash_helper_exited(struct leash *leash, pid_t pid);
/* Kills those whose time is over. Returns the next deadline, UINT64_MAX: none. */
uint64_t leash_helpers_look(struct leash *leash, uint64_t now);

#endif
