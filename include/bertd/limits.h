/*
 * All bounds of jobs and of the protocol, and all defaults of jobs, for specs, bertctl and bertd. Everything that users
 * can fill is bounded in bytes and per user, so that bertd stays below 64 MB whatever a user sends (contract C2).
 */
#ifndef BERTD_LIMITS_H
#define BERTD_LIMITS_H

/* ---- texts of a job, in bytes ---- */
#define BERTD_NAME_MAX 128
#define BERTD_COMMENT_MAX 256
#define BERTD_PATH_MAX 4095            /* cwd, run_dir, on_exit: 4 KiB with the NUL */
#define BERTD_REASON_MAX 1024          /* reason and status; longer ones are cut */
#define BERTD_COMMAND_MAX (64u << 10)  /* all arguments, see BERTD_WORD_MIN */
#define BERTD_SPEC_MAX (256u << 10)    /* the spec's text */
#define BERTD_INPUTS_MAX (1u << 20)    /* environment and spec together: both are on disk only */
#define BERTD_CPU_LIST_MAX 1024        /* "0-3,8" */
#define BERTD_SCHEDULING_MAX 63        /* as common/scheduling.h */
#define BERTD_LOST_MAX 1024            /* "killed=12500000 oom=300" */
#define BERTD_PAST_CHECKPOINTS_MAX 512 /* of a job that is continued; all their paths: 64 KiB */
#define BERTD_PAST_PATHS_MAX (64u << 10)
#define BERTD_HOSTS_MAX 64                       /* of one job */
#define BERTD_HOST_MAX 253                       /* a host's name */
#define BERTD_LEASE_OF_MAX (BERTD_HOST_MAX + 20) /* HOST:JOB */
#define BERTD_DRAIN_REASON_MAX 256
#define BERTD_HOSTS_BYTES_MAX (BERTD_HOSTS_MAX * (BERTD_HOST_MAX + 1)) /* their names in one text */
#define BERTD_NETWORK_MAX 64                                           /* an interface or CIDR */
#define BERTD_TRAVELS_MAX 4096                                         /* names of variables, in one text */
#define BERTD_WORD_MIN 8 /* an argument or variable counts with its NUL, and at least this much */

/* ---- open jobs ---- */
#define BERTD_JOBS_OF_UID_MAX 10000
#define BERTD_JOBS_MAX 30000
#define BERTD_TEXTS_OF_UID_MAX (8u << 20) /* bytes of their texts in memory */
#define BERTD_TEXTS_MAX (32u << 20)

/* ---- the socket ---- */
#define BERTD_CLIENTS_OF_UID_MAX 64
#define BERTD_CLIENTS_MAX 512
#define BERTD_CLIENTS_OF_ROOT 16      /* of these, reserved for root */
#define BERTD_WAITS_OF_CLIENT_MAX 256 /* unanswered Wait calls */
#define BERTD_WAITS_OF_UID_MAX 1024
#define BERTD_WAITS_MAX 8192
#define BERTD_NEWS_MAX 192         /* numbers in "found", and in "gone", per report of a shim */
#define BERTD_ON_EXIT_OF_UID_MAX 4 /* on_exit programs at a time; the others wait */
#define BERTD_ON_EXIT_MAX 32
#define BERTD_LIST_PAGE_MAX 100                 /* jobs or events per reply, so that others do not wait long */
#define BERTD_PAGE_MAX (256u << 10)             /* bytes per reply */
#define BERTD_UNREAD_OF_CLIENT_MAX (512u << 10) /* bytes of unread replies */
#define BERTD_UNREAD_OF_UID_MAX (2u << 20)
#define BERTD_UNREAD_MAX (16u << 20)
#define BERTD_REQUESTS_OF_UID_MAX (4u << 20) /* bytes of incomplete requests */
#define BERTD_REQUESTS_MAX (16u << 20)
/* One Submit: on the wire an argument takes at most twice its counted size. */
#define BERTD_MESSAGE_MAX (2 * (BERTD_COMMAND_MAX + BERTD_INPUTS_MAX) + (64u << 10))

/* ---- numbers of a job, and their defaults ---- */
#define BERTD_ID_MAX INT64_MAX
#define BERTD_PRIORITY_MIN (-1000)
#define BERTD_PRIORITY_MAX 1000
#define BERTD_PRIORITY_DEFAULT 0
#define BERTD_RANKS_MAX 4096
#define BERTD_RANKS_DEFAULT 1
#define BERTD_THREADS_MAX 1024
#define BERTD_THREADS_DEFAULT 1
#define BERTD_GPUS_MAX 64
#define BERTD_GPUS_DEFAULT 0
#define BERTD_MEMORY_MIN (1ull << 20) /* bytes: a smaller limit would kill the shim */
#define BERTD_MEMORY_MAX (1ull << 52)
#define BERTD_CPUS_MIN 0.01
#define BERTD_CPUS_MAX 65536
#define BERTD_NICE_MIN (-20)
#define BERTD_NICE_MAX 19
#define BERTD_RETRIES_MAX 1000000 /* max_without_progress */
#define BERTD_RETRIES_DEFAULT 5
#define BERTD_BACKOFF_FIRST_MAX 86400 /* seconds, as all below */
#define BERTD_BACKOFF_FIRST_DEFAULT 5
#define BERTD_BACKOFF_LAST_MAX 604800
#define BERTD_BACKOFF_LAST_DEFAULT 600
#define BERTD_GRACE_MAX 86400
#define BERTD_GRACE_DEFAULT 120
#define BERTD_HANG_MAX 31536000
#define BERTD_HOST_TIMEOUT_MIN 8
#define BERTD_HOST_TIMEOUT_MAX 3600
#define BERTD_HOST_TIMEOUT_DEFAULT 20
#define BERTD_COOLDOWN_MAX 86400
#define BERTD_COOLDOWN_FIRST_DEFAULT 10
#define BERTD_COOLDOWN_LAST_DEFAULT 600
#define BERTD_EVERY_SEC_MAX 1000000000
#define BERTD_EVERY_SEC_DEFAULT 600
#define BERTD_KEEP_MAX 1000000
#define BERTD_KEEP_DEFAULT 3
#define BERTD_STEPS_MAX 1000000000000  /* updates; larger reports are ignored */
#define BERTD_RATE_MAX 1e15            /* samples/s */
#define BERTD_SAMPLES_MAX (1ull << 62) /* the same for samples and for bytes of a checkpoint */
#define BERTD_SECONDS_MAX 31536000000  /* a thousand years: longest time shown */

/* Number of oldest and newest attempts (rows and folders) and events kept per job. */
#define BERTD_ATTEMPTS_HEAD 10
#define BERTD_ATTEMPTS_TAIL 90
#define BERTD_EVENTS_HEAD 100
#define BERTD_EVENTS_TAIL 900

/* A number above as text, for --help and the spec's table of defaults. */
#define BERTD_TEXT(number) BERTD_TEXT_OF(number)
#define BERTD_TEXT_OF(number) #number

#endif
