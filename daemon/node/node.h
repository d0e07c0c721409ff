/*
 * The node: the state of this host's bertd, one per daemon. Plain data with the loop and the store; the parts above it
 * (launch, attempt, plan, bus) keep their state here in pointers that are opaque below them.
 *
 *   a fact goes up     by a return value, or by a mark in the store and one of the two deferred sources below
 *   a command goes down by a call
 */
#ifndef DAEMON_NODE_NODE_H
#define DAEMON_NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "bertd/limits.h"
#include "common/error.h"
#include "daemon/base/descriptors.h"
#include "daemon/base/loop.h"
#include "daemon/gpu/gpus.h"
#include "daemon/rules/job.h"
#include "daemon/rules/queue.h"
#include "daemon/rules/states.h"
#include "daemon/store/store.h"

struct bus_server;
struct user_task;
struct gpu_watch;
struct accounts;
struct launcher;
struct settle;
struct trash;

struct node_options {
        const char *state_dir, *socket; /* absolute */
        int passed_socket;              /* a listening socket for `socket`, 0: none. Taken */
        uint64_t slots, keep_ended;     /* keep_ended: see store_keep_ended */
        struct gpus gpus;
        enum launcher_kind launcher;
        bool allocation; /* of a batch system, which starts the ranks of other hosts: no leases (bertd --owner) */
};

/* `bertctl drain`: nothing new starts, and no lease is granted. Kept in state.db. */
struct node_drain {
        uint64_t since; /* wall time; 0: not drained */
        bool move;      /* leases are asked to go */
        char reason[BERTD_DRAIN_REASON_MAX + 1];
};

/* Callbacks to the bus. */
struct node_listener {
        void (*charge)(void *userdata, uid_t uid, uint64_t usec); /* a change that this user requested took this long */
        void (*changed)(void *userdata, uint64_t serial);         /* a change is durable */
        void (*rests)(struct job *job);                           /* the end or pause of this job is durable */
};

struct node {
        const struct node_listener *listener; /* NULL: none */
        void *listener_data;
        struct node_options options;
        struct loop *loop;
        struct store *store;
        struct bus_server *server;
        struct accounts *accounts;                      /* user accounts */
        const struct launcher *launchers[LAUNCHER_MAX]; /* NULL if not available */
        sd_bus *systemd;                                /* the systemd launcher's connection, NULL until it is needed */
        struct source *commit;                          /* plan/settle.h: commits marked changes */
        struct source *plan;                            /* plan/schedule.h: plans the queue */
        struct timer wake;
        struct settle *settle;
        struct queue_heads heads; /* the first queued jobs that wait for resources, from the last planning */
        uint64_t serial; /* of the newest durable change; a new daemon continues above those of its predecessors */
        struct descriptors files;
        uint32_t attempts; /* open attempts of jobs that hold resources */
        uint64_t slots_used;
        uint64_t gpus_used; /* bit mask over options.gpus */
        uint32_t gpus_lost; /* number held by jobs, but not in options.gpus */
        struct gpu_watch *gpu_watch;
        struct trash *trash;
        struct user_task *user_tasks; /* running helpers; daemon/launch/user_task.h */
        int jobs_fd;                  /* STATE/jobs */
        int lock_fd, dir_fd;          /* STATE/bertd.lock and STATE itself, both locked */
        int reserve_fd;               /* reserve.h; < 0: none */
        char boot_id[BOOT_ID_SIZE];
        char *trainer, *shim, *gang, *leash; /* paths of bert-trainer, bertd-shim, bertd-gang and bertd-leash */
        char storage_error[256];             /* why the last commit failed, "" = it succeeded */
        bool exits_wait;                     /* an on_exit program waits for a turn */
        uid_t exit_turns[BERTD_ON_EXIT_MAX]; /* on_exit.c: users whose on_exit the next commit starts */
        unsigned n_exit_turns;
        struct timer exit_retry; /* armed while one could not be started */
        struct node_drain drain;
        bool draining; /* shutdown with jobs: start no job, exit when all have stopped */
};

/* Commits the marked changes at the end of this turn. */
void node_commit_soon(struct node *node);

/* Plans the queue at the end of this turn. */
void node_plan_soon(struct node *node);

/* Recomputes attempts, slots_used and gpus_used from the jobs. */
void node_account(struct node *node);

/* Free resources. */
struct queue_free node_free_resources(const struct node *node);

#endif
