/*
 * The shim of one attempt: parent of the job; reads its output and progress, records the result. It outlives bertd,
 * which controls it over one connection (include/bertd/bus.h). One thread, one sd-event loop.
 *
 * Life of an attempt: lock, tombstone, attempt.json -> hello, listing of the job's checkpoints (SHIM_WAITING) -> main
 * child runs (SHIM_RUNNING) -> it died, its tree was killed, exit.json is durable (SHIM_ENDED) -> last report, exit. If
 * exit.json cannot be written (e.g. the folder was removed), only the last report has the result: the shim waits for
 * bertd.
 */
#ifndef DAEMON_SHIM_SHIM_H
#define DAEMON_SHIM_SHIM_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "bertd/limits.h"
#include "common/pace.h"
#include "daemon/shim/child.h"
#include "daemon/shim/confirm.h"
#include "daemon/shim/gang.h"
#include "daemon/shim/copy.h"
#include "daemon/shim/list.h"
#include "daemon/shim/log.h"
#include "daemon/shim/verdict.h"
#include "daemon/shim/term.h"
#include "daemon/shim/hang_clock.h"

#define SHIM_STATUS_MAX 256
#define SHIM_CHECKPOINTS_MAX 64 /* not yet reported; beyond that the oldest is dropped (its file stays) */

enum shim_state { SHIM_WAITING, SHIM_RUNNING, SHIM_ENDED };

struct checkpoint_note {
        uint64_t step, size;
        uint64_t at;         /* the program's step when it reported it */
        double stall, write; /* seconds, NaN = unknown */
        bool unconfirmed;    /* it may not be on the disk */
        char path[PATH_MAX];
};

/* The job's last reports. Unknown numbers: loss and rate NaN, steps 0. */
struct progress {
        bool ready, busy;             /* busy: working between two steps */
        bool spoke;                   /* an X_BERTD_ key was received from any rank */
        char status[SHIM_STATUS_MAX]; /* valid UTF-8 */
        char slowest[PACE_TEXT_MAX];  /* common/pace.h; "": no rank lags */
        bool paced;                   /* noted once */
        uint64_t step, steps;
        double loss, rate;
        uint64_t samples_first, samples_last; /* of the current step; both 0 = unknown */
        struct checkpoint_note *checkpoints;  /* queue, oldest first, allocated on demand */
        unsigned n_checkpoints;
};

/* The program's declarations (contract C5); see declared.c. */
#define DECLARATIONS_MAX 256
#define DECLARED_STACKS_MAX 256
struct shim_declared {
        struct proc main;     /* MAINPID, else the process that declared signals; pid 0: none */
        int stop, checkpoint; /* signals it handles; 0: none */
        unsigned n_declarations;
        uint64_t lived_usec; /* boot time of the last check during a stop at which `main` was alive */
        struct declared_stacks {
                pid_t pid;
                int signal; /* on this signal the process writes the stacks of its threads */
        } * stacks;         /* allocated on demand */
        unsigned n_stacks;
};

/* See reported.c. */
struct shim_reported {
        struct checkpoint_note *queue; /* oldest first, allocated on demand; the first is being confirmed */
        unsigned n, refused;
        struct confirm confirm;
        uint64_t begun_usec;             /* boot time */
        sd_event_source *source, *timer; /* timer: the limit of the current one, or the pause after it */
};

/* See copies.c. */
struct shim_copies {
        char *want, *now, *last; /* checkpoint to copy next, being copied, copied; NULL: none */
        struct copy copy;
        sd_event_source *source, *timer; /* timer: the limit of the current one, or the wait after a failure */
        uint64_t again_usec;             /* that wait; 0: the last one succeeded */
        bool ending;                     /* the job has ended, and bertd hears of it after this copy */
        char problem[COPY_REASON_MAX];   /* why the last one failed; "" = it did not */
};

/* See heartbeat.c. */
struct shim_heartbeat {
        sd_event_source *timer;
        pid_t writer; /* 0: none */
};

struct shim;

/* The connection to bertd; see bus.c. */
struct shim_bus {
        const char *socket;     /* borrowed */
        sd_bus *bus;            /* NULL: disconnected */
        sd_event_source *retry; /* runs only while disconnected */
        sd_event_source *pace;  /* runs only while a report is delayed */
        sd_event_source *last;  /* limit for an ended shim's wait for bertd */
        sd_bus_slot *report;    /* in flight, at most one */
        bool greeted;           /* hello was answered on this connection */
        bool dirty;             /* something was not reported yet */
        bool urgent;            /* a checkpoint: do not wait for the pace */
        bool sent_checkpoint;   /* the report in flight carries checkpoints[0] */
        bool sent_beginning;    /* and the step where the program started */
        uint64_t last_usec;     /* boot time of the last report */
};

/* See hang.c. */
struct shim_hang {
        struct shim_watch watch;
        sd_event_source *timer; /* the next check, then the collector's limit */
        uint64_t mark;          /* shim_writing_mark at the last check */
        pid_t collector;        /* of evidence, 0: none */
        int ranks_fd;           /* the collector's report of ranks; −1 */
        bool found;             /* the job hangs */
        char folder[16];        /* of the evidence, in the attempt's folder; "" = none */
        bool described;         /* the verdict has been made */
        struct exit_verdict verdict;
};

/* See carry.c. */
struct shim_carry {
        int fd;     /* pidfd of the writer; −1: none */
        bool again; /* something has changed since it began */
        sd_event_source *source, *timer;
        uint64_t first_step, first_usec, last_usec; /* boot time of the attempt's first step and of the last */
};

/* See left.c. */
#define LEFT_LOOKED_AT_MAX 64 /* processes whose names are read */
struct shim_left {
        sd_event_source *timer;
        int first;          /* the wait status of the first process */
        size_t running;     /* reported to bertd with ends_with last */
        size_t n;           /* processes left behind */
        bool killed;        /* alive when the grace time of a stop expired */
        char names[224];    /* their names, for everybody */
        char commands[224]; /* their command lines, for the owner and root */
};

/* See lease.c. */
struct shim_lease {
        sd_event_source *timer;
        uint64_t heard_usec; /* boot time: last sign of life of bertd-leash */
        bool silent;         /* it was killed for want of one */
        struct shim_address {
                struct sockaddr_un address;
                socklen_t size;
        } leash;                               /* its socket; size 0: not known yet */
        char move[BERTD_DRAIN_REASON_MAX + 1]; /* why its head should go, not sent yet; "": it need not */
};

struct shim {
        sd_event *event;
        enum shim_state state;
        struct attempt_spec attempt;
        struct main_child child;
        struct shim_log log;
        struct progress progress;
        struct shim_declared declared;
        struct shim_reported reported;
        struct shim_bus bus;
        struct shim_hang hang;
        struct shim_carry carry;
        struct shim_copies copies;
        struct shim_heartbeat heartbeat;
        struct list list;      /* the running lister */
        struct list_news news; /* changes not yet reported */
        sd_event_source *list_source, *list_timer;
        bool go;     /* bertd answered GO */
        bool listed; /* the step to start from is known */
        bool began;  /* began_step was not reported yet (0: from the beginning) */
        uint64_t began_step;
        char no_start[EXIT_RECORD_REASON_MAX]; /* why the job cannot start; "" = it can */
        char *dir;                             /* the attempt's folder */
        int dir_fd, lock_fd, exit_fd;
        int notify_fd;                  /* datagram socket of the job; −1 */
        char *notify_path, *notify_dir; /* the folder only if the shim created it */
        sd_event_source *output_source, *notify_source, *child_source, *term_source, *int_source, *patience, *grace,
                *continued, *log_look;
        struct shim_left left;
        struct shim_gang gang;
        struct shim_lease lease;
        struct term term;                          /* processes that got SIGTERM in a stop */
        bool stop_asked, saved_in_stop;            /* a checkpoint has been recorded since then */
        bool killed;                               /* the whole job got SIGKILL: no process is waited for */
        bool closed;                               /* bertd has closed the attempt */
        char *record;                              /* SHIM_ENDED: the record, from exit_record_write */
        bool recorded;                             /* it is in exit.json; else it can only be reported to bertd */
        uint64_t stop_until_usec, stop_limit_usec; /* boot time: next check, limit */
        uint64_t written_mark,
                written_usec; /* fingerprint of checkpoint files being written, time of its last change */
        uint64_t started_usec;
        uint64_t oom_kills; /* memory.events at the start */
        char boot_id[64], host[EXIT_RECORD_HOST_MAX];
};

#define KILL_LIMIT_USEC (10 * USEC_PER_SEC)

/* ---- main.c ---- */

/* bertd answered GO; called again by later hellos until the program has been started. */
void shim_go(struct shim *shim);

/* After GO, when the step to start from is known: starts the program. */
void shim_begin(struct shim *shim);

/* bertd answered STOP: the attempt is closed. Kills all processes and exits without a report. */
void shim_closed(struct shim *shim);

/* Kills the whole job with SIGKILL and ends it. */
void shim_kill_all(struct shim *shim);

/* A process of the job has exited, or it is time to look again. */
void shim_look(struct shim *shim);

/* The job's first process while it lives, else 0. */
pid_t shim_first(const struct shim *shim);

/* ---- lease.c ---- */

bool shim_is_lease(const struct shim *shim);
int shim_lease_prepare(const struct shim *shim); /* call at the start; 0 or −errno, as the next */
int shim_lease_start(struct shim *shim);         /* bertd-leash was started */
void shim_lease_heard(struct shim *shim, const struct shim_address *from);  /* it has sent a datagram */
void shim_lease_move(struct shim *shim, const char *reason);                /* its head is asked to go */
bool shim_lease_verdict(const struct shim *shim, struct exit_verdict *ret); /* false: judge it like others */

/* ---- stop.c ---- */

/* Stops the job; SIGKILL after grace_usec of boot time, at once for 0. */
void shim_stop(struct shim *shim, uint64_t grace_usec);

/* Requests a checkpoint from a job that supports it. */
void shim_checkpoint(struct shim *shim);

/* SIGTERM to the whole job, process by process; SIGKILL after grace_usec. */
void shim_end_all(struct shim *shim, uint64_t grace_usec);

/* Sends SIGTERM to the next processes; the timer checks again. */
void shim_ask_next(struct shim *shim);

/* ---- end.c ---- */

void shim_judge(struct shim *shim, struct exit_verdict *ret);

/* Writes the record and reports it. */
void shim_end(struct shim *shim, const struct exit_verdict *verdict);

/* Ends an attempt that has no main child. */
void shim_end_unstarted(struct shim *shim, enum exit_class exit_class, const char *reason);

/* ---- progress.c ---- */

int shim_progress_open(struct shim *shim, struct error *error); /* the job's NOTIFY_SOCKET */
void shim_progress_read(struct shim *shim);                     /* reads waiting datagrams */
bool shim_progress_reaches(struct shim *shim); /* false: its file was removed; tries to create it again */
void shim_progress_close(struct shim *shim);

/* ---- checkpoints.c ---- */

int shim_checkpoints_start(struct shim *shim);    /* starts listing; then sets shim->listed, calls shim_begin */
void shim_checkpoints_wait(struct shim *shim);    /* GO came before the listing: sets the status that users see */
void shim_checkpoints_changed(struct shim *shim); /* the job wrote one: lists again soon */
void shim_checkpoints_end(struct shim *shim);     /* the job has ended: lists a last time, with a limit */
void shim_checkpoints_close(struct shim *shim);

/* ---- reported.c ---- */

/* A command has reported a checkpoint. Calls shim_checkpoint_done once it is durable, or after a time limit. */
void shim_reported_add(struct shim *shim, uint64_t step, const char *path, double stall, double write);
void shim_reported_refuse(struct shim *shim, const char *path, const char *why); /* logged, a bounded number of times */
void shim_reported_end(struct shim *shim); /* the job has ended: confirms the rest, for a bounded time */
void shim_reported_close(struct shim *shim);

/* ---- carry.c ---- */

void shim_carry_changed(struct shim *shim);             /* a new checkpoint, or the program starts: writes soon */
void shim_carry_step(struct shim *shim, uint64_t step); /* the program has reported a step */
void shim_carry_end(struct shim *shim);                 /* the job has ended: writes a last time, with a limit */
void shim_carry_close(struct shim *shim);
/* ---- copies.c ---- */

void shim_copies_start(struct shim *shim); /* the checkpoint that the job starts from, if it was not copied */
void shim_copies_add(struct shim *shim, const char *path); /* a trainer's checkpoint is durable */
/* The job has ended and its record is written. True: a last copy is being made, and shim_bus_ended follows it. */
bool shim_copies_end(struct shim *shim, const struct exit_verdict *verdict);
void shim_copies_close(struct shim *shim);

/* ---- heartbeat.c ---- */

int shim_heartbeat_start(struct shim *shim); /* RUN_DIR/heartbeat: the run lives on this host */
void shim_heartbeat_reaped(struct shim *shim, pid_t pid);
void shim_heartbeat_end(struct shim *shim,
                        const struct exit_verdict *verdict); /* removes it, unless the job has died */
void shim_heartbeat_close(struct shim *shim);

/* ---- program.c ---- */

/* Before a command is started: the environment of Python, torch.distributed and torchrun, unless the submitter set it.
 */
void shim_program_prepare(struct shim *shim);

/* It has ended: moves the stacks that it wrote to the evidence of its hang. */
void shim_program_end(struct shim *shim);

/* ---- declared.c ---- */

/* A line of a datagram from `sender`: MAINPID=, X_BERTD_SIGNALS=, X_BERTD_STACKS=. An invalid value changes nothing. */
void shim_declared_main(struct shim *shim, const char *value);
void shim_declared_signals(struct shim *shim, pid_t sender, const char *value);
void shim_declared_stacks(struct shim *shim, pid_t sender, const char *value);

bool shim_declared_lives(const struct shim *shim); /* the process that gets requests for stops and checkpoints */

/* Sends it a signal. False: not declared, or the process is gone. */
bool shim_declared_signal(const struct shim *shim, int signal);

/* Requests the stacks of every process that declared X_BERTD_STACKS. */
void shim_declared_ask_stacks(const struct shim *shim);

/* ---- progress.c ---- */

/* The step of "/.../step-000012000.ckpt". */
bool shim_step_of_name(const char *path, uint64_t *ret);

/* Reports a checkpoint to bertd. */
void shim_checkpoint_done(struct shim *shim, const struct checkpoint_note *note);

/* Whether a checkpoint may have this path: below the run folder, or, for a command, below its working directory. */
bool shim_may_report(const struct shim *shim, const char *path);

/* ---- hang.c ---- */

int shim_hang_start(struct shim *shim); /* call when the job was started */
void shim_hang_step(struct shim *shim, uint64_t step);
void shim_hang_alive(struct shim *shim);                         /* a sign of life, or the shim itself was stopped */
void shim_hang_collected(struct shim *shim);                     /* the collector has ended */
void shim_hang_gathered(struct shim *shim);                      /* the other hosts have sent their stacks */
const struct exit_verdict *shim_hang_verdict(struct shim *shim); /* verdict of a hung job */

/* ---- writing.c ---- */

/* Changes whenever a checkpoint with a temporary name grows; 0: none exists. */
uint64_t shim_writing_mark(const struct shim *shim);

/* ---- left.c ---- */

void shim_left_look(
        struct shim *shim); /* call when the first process has exited, others live, and no stop was requested */

/* Adds the processes left behind to the reason. */
void shim_left_describe(const struct shim *shim, struct exit_verdict *v);
void shim_left_killed(struct shim *shim); /* remembers the processes alive when the grace time of a stop expires */

/* ---- bus.c ---- */

/* Starts connecting; retries every second, without limit, until the answer is GO or STOP. */
int shim_bus_start(struct shim *shim, const char *socket);

/* shim->progress has changed; sends at most 4 reports a second unless urgent. */
void shim_bus_changed(struct shim *shim, bool urgent);

/* Sends the last report, with the record. Ends the event loop when it is answered, or when it cannot be sent and
 * exit.json exists. */
void shim_bus_ended(struct shim *shim);
void shim_bus_close(struct shim *shim);

#endif
