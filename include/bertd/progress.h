/* Progress datagrams (contract C5) and a job's environment (C6). Keys as sd_notify(3), one KEY=value a line. */
#ifndef BERTD_PROGRESS_H
#define BERTD_PROGRESS_H

#define BERTD_NOTIFY_STEP "X_BERTD_STEP"   /* completed updates, decimal */
#define BERTD_NOTIFY_STEPS "X_BERTD_STEPS" /* total updates, decimal */
#define BERTD_NOTIFY_LOSS "X_BERTD_LOSS"   /* %.9g */
#define BERTD_NOTIFY_RATE "X_BERTD_RATE"   /* samples/s */
#define BERTD_NOTIFY_CHECKPOINT \
        "X_BERTD_CHECKPOINT" /* absolute path of a complete (the trainer's: durable) checkpoint */
#define BERTD_NOTIFY_CHECKPOINT_STEP "X_BERTD_CHECKPOINT_STEP" /* completed updates in it, decimal */
#define BERTD_NOTIFY_SIGNALS \
        "X_BERTD_SIGNALS"                    /* "stop:USR1,checkpoint:USR2": signals handled by the sender or MAINPID */
#define BERTD_NOTIFY_STACKS "X_BERTD_STACKS" /* "QUIT": on this signal the sender writes its stacks to BERTD_STACKS */
#define BERTD_NOTIFY_RANK "X_BERTD_RANK"     /* the sender's rank */
#define BERTD_NOTIFY_SAMPLES "X_BERTD_SAMPLES"        /* FIRST-LAST: global samples of the update that begins now */
#define BERTD_NOTIFY_STALL "X_BERTD_CHECKPOINT_STALL" /* seconds that the last checkpoint stalled training */
#define BERTD_NOTIFY_WRITE "X_BERTD_CHECKPOINT_WRITE" /* seconds from its snapshot to its durable rename */
#define BERTD_NOTIFY_BUSY                                                                                          \
        "X_BERTD_BUSY" /* work between two steps ("evaluation"); until the next step or an empty value, WATCHDOG=1 \
                          counts as a sign of life for the hang check */
#define BERTD_NOTIFY_SLOWEST \
        "X_BERTD_SLOWEST"     /* HOST,RANK,RATIO: takes RATIO times the median rank's time; empty: over */
#define BERTD_NOTIFY_MAX 4096 /* bytes of one datagram */

#define BERTD_ENV_JOB_ID "BERTD_JOB_ID"
#define BERTD_ENV_ATTEMPT "BERTD_ATTEMPT"
#define BERTD_ENV_RUN_DIR "BERTD_RUN_DIR"
#define BERTD_ENV_RESUME "BERTD_RESUME"            /* newest good checkpoint, or empty */
#define BERTD_ENV_NONCE "BERTD_NONCE"              /* marks every process of an attempt */
#define BERTD_ENV_STACKS "BERTD_STACKS"            /* folder for X_BERTD_STACKS */
#define BERTD_ENV_REPEATED "BERTD_NOTICE_REPEATED" /* 1 if this on_exit may have been started before */

#endif
