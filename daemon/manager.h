/*
 * The manager: one per daemon, owner of the loop, the store, the bus server and every open attempt.
 *
 *   manager_new    opens the state folder (one daemon each) and loads it; refuses with one line
 *   manager_start  listens, reconciles with what lives (attempt.c), plans the queue
 *   sd_event_loop(manager->loop)
 *   manager_free   jobs live on
 */
#ifndef DAEMON_MANAGER_H
#define DAEMON_MANAGER_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "bertd/limits.h"
#include "common/error.h"
#include "daemon/base/descriptors.h"
#include "daemon/gpu/gpus.h"
#include "daemon/rules/job.h"
#include "daemon/rules/queue.h"
#include "daemon/rules/states.h"
#include "daemon/store/store.h"

struct bus_server;
struct child;
struct gpu_watch;
struct accounts;
struct launcher;
struct settle;
struct trash;

struct manager_options {
        const char *state_dir, *socket; /* absolute */
        int passed_socket;              /* that listens at `socket` already, 0: none. Taken */
        uint64_t slots, keep_ended;     /* keep_ended: see store_keep_ended */
        struct gpus gpus;
        enum launcher_kind launcher;
};

struct manager {
        struct manager_options options;
        sd_event *loop;
        struct store *store;
        struct bus_server *server;
        struct accounts *accounts;                      /* who users are */
        const struct launcher *launchers[LAUNCHER_MAX]; /* NULL where this host or user has it not */
        sd_bus *systemd;                                /* the systemd launcher's connection, NULL until it is needed */
        sd_event_source *plan_source, *wake_source;
        struct settle *settle;
        struct queue_heads heads; /* the queued jobs that wait for resources, as planned last */
        uint64_t serial; /* of the newest durable change; a new daemon begins above those of the ones before it */
        struct descriptors files;
        uint32_t attempts; /* of jobs that hold resources */
        uint64_t slots_used;
        uint64_t gpus_used; /* bit mask over options.gpus */
        uint32_t gpus_lost; /* held by jobs, but not in options.gpus */
        struct gpu_watch *gpu_watch;
        struct trash *trash;
        struct child *children; /* that run now; daemon/launch/user_task.h */
        int jobs_fd;            /* STATE/jobs */
        int lock_fd, dir_fd;    /* of STATE/bertd.lock and of STATE itself: both are locked */
        int reserve_fd;         /* reserve.h; < 0: none */
        char boot_id[BOOT_ID_SIZE];
        char *trainer, *shim;                /* paths of the programs that attempts run */
        char storage_error[256];             /* why the last commit failed, "" = it did not */
        bool exits_wait;                     /* an on_exit program is owed that had no turn yet */
        uid_t exit_turns[BERTD_ON_EXIT_MAX]; /* on_exit.c: whose on_exit is started by the next commit */
        unsigned n_exit_turns;
        sd_event_source *exit_retry; /* armed while one could not be started */
        bool draining;               /* shutdown with jobs: nothing starts, exit when all have stopped */
};

int manager_new(const struct manager_options *options, struct manager **ret, struct error *error);
int manager_start(struct manager *manager, struct error *error);
void manager_free(struct manager *manager);

/*
 * The one place where a job's state changes. Looks the cell up; on STATE_MOVE sets state, times and reason, queues the event
 * row and marks the job for this turn's commit. Returns the verdict. `private`: the reason as the owner and root read it, NULL = reason.
 */
enum verdict manager_move(struct manager *manager, struct job *job, enum job_event event, const char *reason);
enum verdict manager_move_privately(struct manager *manager, struct job *job, enum job_event event, const char *reason,
                                    const char *private);

/* Something is marked: it is committed at the end of this turn (settle.h). */
void manager_commit(struct manager *manager);

/* While it drains: ends the loop when nothing holds resources any more. */
void manager_check_drained(struct manager *manager);

/* Plans the queue at the end of this loop iteration. */
void manager_plan_soon(struct manager *manager);

/* A job that has just been queued: planned soon, or at once found to wait behind the head of the queue. */
void manager_enqueue(struct manager *manager, struct job *job);

/* What is free now. */
struct queue_free manager_free_resources(const struct manager *manager);

/* STATE/jobs is where jobs_fd says; where somebody has removed it, it is made anew. */
int manager_find_jobs(struct manager *manager, struct error *error);

/* Recomputes attempts, slots_used and gpus_used from the jobs. */
void manager_account(struct manager *manager);

/* Arms the wake-up for the earliest back-off. */
void manager_arm_wake(struct manager *manager);

/* Shutdown: without jobs at once, with jobs when they have stopped. */
void manager_shutdown(struct manager *manager, bool jobs);

#endif
