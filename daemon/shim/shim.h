/*
 * The shim of one attempt: parent of the job, reader of its output and progress, writer of its end. It outlives bertd and is told
 * what to do over one connection (include/bertd/bus.h). One thread, one sd-event loop.
 *
 * Life of an attempt: lock, tombstone, attempt.json -> hello, and the job's checkpoints are looked for (SHIM_WAITING) -> main child
 * runs (SHIM_RUNNING) -> it died, its tree is ended, exit.json is durable (SHIM_ENDED) -> last report, exit. Where exit.json cannot be
 * written (somebody removed the folder) the last report is all that says how it ended: bertd is waited for.
 */
#ifndef DAEMON_SHIM_H
#define DAEMON_SHIM_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "daemon/shim/child.h"
#include "daemon/shim/list.h"
#include "daemon/shim/log.h"
#include "daemon/shim/verdict.h"
#include "daemon/shim/term.h"
#include "daemon/shim/hang_clock.h"

#define SHIM_STATUS_MAX 256
#define SHIM_CHECKPOINTS_MAX 64 /* not yet reported; beyond, the oldest is forgotten (its file is not) */

enum shim_state { SHIM_WAITING, SHIM_RUNNING, SHIM_ENDED };

struct checkpoint_note {
        uint64_t step, size;
        double stall, write; /* seconds, NaN = unknown */
        char path[PATH_MAX];
};

/* What the job said last. Unknown numbers: loss and rate NaN, steps 0. */
struct progress {
        bool ready, busy;             /* busy: at work between two steps */
        bool spoke;                   /* an X_BERTD_ key has come, of any rank */
        char status[SHIM_STATUS_MAX]; /* valid UTF-8 */
        uint64_t step, steps;
        double loss, rate;
        uint64_t samples_first, samples_last; /* of the step under way; both 0 = unknown */
        struct checkpoint_note *checkpoints;  /* queue, oldest first, allocated on demand */
        unsigned n_checkpoints;
};

struct shim;

/* The connection to bertd; see bus.c. */
struct shim_bus {
        const char *socket;     /* borrowed */
        sd_bus *bus;            /* NULL: disconnected */
        sd_event_source *retry; /* runs only while disconnected */
        sd_event_source *pace;  /* runs only while a report waits for its turn */
        sd_event_source *last;  /* when a shim that has ended no longer waits for bertd */
        sd_bus_slot *report;    /* in flight, at most one */
        bool greeted;           /* hello was answered on this connection */
        bool dirty;             /* there is news that bertd has not been told */
        bool urgent;            /* a checkpoint: do not wait for the pace */
        bool sent_checkpoint;   /* the report in flight carries checkpoints[0] */
        bool sent_beginning;    /* and where the program began */
        uint64_t last_usec;     /* boot time of the last report */
};

/* See hang.c. */
struct shim_hang {
        struct shim_watch watch;
        sd_event_source *timer; /* the next look, then the collector's limit */
        uint64_t mark;          /* shim_writing_mark at the last look */
        pid_t collector;        /* of evidence, 0: none */
        int ranks_fd;           /* where the collector tells of ranks; −1 */
        bool found;             /* the job hangs */
        char folder[16];        /* with the evidence, in the attempt's folder; "" = none */
        bool described;         /* the verdict is made, once */
        struct shim_verdict verdict;
};

/* See left.c. */
#define LEFT_LOOKED_AT_MAX 64 /* processes whose names are read */
struct shim_left {
        sd_event_source *timer;
        int first;          /* the wait status of the first process */
        size_t running;     /* as bertd is told where the job ends with the last */
        size_t n;           /* that were left behind */
        bool killed;        /* they lived when a stop's grace time was over */
        char names[224];    /* theirs, for everybody */
        char commands[224]; /* and their command lines, for the owner and root */
};

struct shim {
        sd_event *event;
        enum shim_state state;
        struct attempt attempt;
        struct child child;
        struct shim_log log;
        struct progress progress;
        struct shim_bus bus;
        struct shim_hang hang;
        struct list list;      /* the lister at work */
        struct list_news news; /* what bertd has not been told */
        sd_event_source *list_source, *list_timer;
        bool go;           /* bertd said so */
        bool listed;       /* where to begin is known */
        bool began;        /* bertd has not been told where: began_step, 0: at the beginning */
        bool path_refused; /* a path that the job reported was, and its log says so */
        uint64_t began_step;
        char no_start[EXIT_RECORD_REASON_MAX]; /* why it cannot begin anywhere; "" = it can */
        char *dir;                             /* the attempt's folder */
        int dir_fd, lock_fd, exit_fd;
        int notify_fd;                  /* datagram socket of the job; −1 */
        char *notify_path, *notify_dir; /* the folder only where it is the shim's own */
        sd_event_source *output_source, *notify_source, *child_source, *term_source, *int_source, *patience, *grace,
                *continued, *log_look;
        struct shim_left left;
        struct term term; /* whom a stop has asked by SIGTERM */
        bool stop_asked;
        bool killed;                               /* all of the job got SIGKILL: nothing of it is waited for */
        bool closed;                               /* bertd said that the attempt is over */
        char *record;                              /* SHIM_ENDED: how, as shim_record_text has it */
        bool recorded;                             /* exit.json holds it; else only bertd can be told */
        uint64_t stop_until_usec, stop_limit_usec; /* boot time: next look, last moment */
        uint64_t written_mark, written_usec; /* fingerprint of checkpoint files being written, when it last changed */
        uint64_t started_usec;
        uint64_t oom_kills; /* memory.events at the start */
        char boot_id[64], host[EXIT_RECORD_HOST_MAX];
};

/* ---- main.c, called from bus.c ---- */

/* bertd said GO; called again by later hellos until the program has been started. */
void shim_go(struct shim *shim);

/* It did, and where to begin is known: starts the program. */
void shim_begin(struct shim *shim);

/* bertd said STOP: the attempt is closed. Kills what runs and ends without a report. */
void shim_closed(struct shim *shim);

/* Asks the job to stop; SIGKILL after grace_usec of boot time, at once for 0. */
void shim_stop(struct shim *shim, uint64_t grace_usec);

/* Asks the job for a checkpoint where it understands that. */
void shim_checkpoint(struct shim *shim);

/* SIGKILL to all of the job, and its end. */
void shim_kill_all(struct shim *shim);

/* SIGTERM to all of the job, process by process, and SIGKILL after grace_usec. */
void shim_end_all(struct shim *shim, uint64_t grace_usec);

/* The job's first process while it lives, else 0. */
pid_t shim_first(const struct shim *shim);

/* Changes whenever a checkpoint that has no final name yet grows; 0: none is there. */
uint64_t shim_writing_mark(const struct shim *shim);

/* ---- progress.c ---- */

int shim_progress_open(struct shim *shim, struct error *error); /* the job's NOTIFY_SOCKET */
void shim_progress_read(struct shim *shim);                     /* what is waiting there */
bool shim_progress_reaches(
        struct shim *shim); /* false: its file was removed meanwhile; it is made anew where it can be */
void shim_progress_close(struct shim *shim);

/* ---- checkpoints.c ---- */

int shim_checkpoints_start(struct shim *shim);    /* looks; shim->listed, then shim_begin */
void shim_checkpoints_wait(struct shim *shim);    /* bertd said GO meanwhile: its users see what is waited for */
void shim_checkpoints_changed(struct shim *shim); /* the job wrote one: looks again soon */
void shim_checkpoints_end(struct shim *shim);     /* the job has ended: looks for the last time, for a bounded time */
void shim_checkpoints_close(struct shim *shim);

/* May a checkpoint have this path? Below the run folder, a command's there or below its working directory. */
bool shim_may_report(const struct shim *shim, const char *path);

/* ---- hang.c ---- */

int shim_hang_start(struct shim *shim); /* the job was started */
void shim_hang_step(struct shim *shim, uint64_t step);
void shim_hang_alive(struct shim *shim);                         /* a sign of life, or the shim itself was stopped */
void shim_hang_collected(struct shim *shim);                     /* the collector has ended */
const struct shim_verdict *shim_hang_verdict(struct shim *shim); /* of a job that was found to hang */

/* ---- left.c ---- */

void shim_left_look(struct shim *shim); /* the first process has ended, others live, and no stop was asked for */

/* Adds who was left behind to the reason. */
void shim_left_describe(const struct shim *shim, struct shim_verdict *v);
void shim_left_killed(struct shim *shim); /* remembers who lives as a stop's grace time is over */

/* ---- bus.c ---- */

/* Starts connecting; goes on for ever, once a second, until it is told GO or STOP. */
int shim_bus_start(struct shim *shim, const char *socket);

/* There is something new in shim->progress; sent at most 4 times a second unless urgent. */
void shim_bus_changed(struct shim *shim, bool urgent);

/* The last report, with the record. Ends the event loop when it is answered, or cannot be sent and exit.json is there. */
void shim_bus_ended(struct shim *shim);
void shim_bus_close(struct shim *shim);

#endif
