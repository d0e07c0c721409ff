/* Names of states, kinds and classes in all programs (contract C3), for users, scripts and state.db. */
#ifndef BERTD_JOB_H
#define BERTD_JOB_H

#include "bertd/limits.h"

enum job_state {
        JOB_QUEUED,   /* waits for slots, GPUs or earlier jobs */
        JOB_STARTING, /* intent committed, shim launched, no hello yet */
        JOB_RUNNING,  /* the shim has connected */
        JOB_STOPPING, /* pause, cancel or shutdown in progress */
        JOB_BACKOFF,  /* died, holds no resources, returns to queued at not_before */
        JOB_DONE,
        JOB_FAILED,
        JOB_CANCELLED,
        JOB_PAUSED,
        JOB_STATE_MAX
};

#define JOB_STATE_NAMES \
        { "queued", "starting", "running", "stopping", "backoff", "done", "failed", "cancelled", "paused" }

enum job_kind { JOB_PRETRAIN, JOB_FINETUNE, JOB_COMMAND, JOB_KIND_MAX };
#define JOB_KIND_NAMES \
        { "pretrain", "finetune", "command" }

/* Why an attempt ended (contract C8). */
enum exit_class {
        EXIT_CLASS_FINISHED,       /* exit 0 */
        EXIT_CLASS_STOPPED,        /* exit 75 of a program that reports progress (76 and 77 too) */
        EXIT_CLASS_USER_ERROR,     /* exit 2, 65, 66, 78, not executable: never retried */
        EXIT_CLASS_BAD_CHECKPOINT, /* exit 76 */
        EXIT_CLASS_NAN,            /* exit 77 */
        EXIT_CLASS_FAILED,         /* any other exit code */
        EXIT_CLASS_SIGNAL,         /* a rank died of a signal caused by itself: SEGV, BUS, FPE, ILL, ABRT, ... */
        EXIT_CLASS_KILLED,         /* SIGKILL, SIGTERM or SIGINT from outside */
        EXIT_CLASS_OOM,            /* the kernel's OOM killer */
        EXIT_CLASS_MPI,            /* MPI, NCCL or CUDA error text */
        EXIT_CLASS_DISK_FULL,
        EXIT_CLASS_HANG,
        EXIT_CLASS_REBOOT,    /* the boot id changed */
        EXIT_CLASS_LOST,      /* the shim is gone without an exit record */
        EXIT_CLASS_LAUNCH,    /* the attempt could not be started */
        EXIT_CLASS_MISSING,   /* an input of a job that has run before is missing */
        EXIT_CLASS_HOST_LOST, /* another host of the job was lost: it cools down, a spare takes its place */
        EXIT_CLASS_WAIT,      /* the hosts cannot be had now */
        EXIT_CLASS_MAX
};
#define EXIT_CLASS_NAMES                                                                                           \
        {                                                                                                          \
                "finished", "stopped", "user-error", "bad-checkpoint", "nan", "failed", "signal", "killed", "oom", \
                        "mpi", "disk-full", "hang", "reboot", "lost", "launch", "missing", "host-lost", "wait"     \
        }

/* Action on a NaN or infinite loss: fail the job, or return to the previous checkpoint (contract C8). */
enum on_nan { ON_NAN_STOP, ON_NAN_ROLLBACK, ON_NAN_MAX };
#define ON_NAN_NAMES \
        { "stop", "rollback" }

/* When a command's attempt ends: with its first process, or with its last. */
enum ends_with { ENDS_WITH_FIRST, ENDS_WITH_LAST, ENDS_WITH_MAX };
#define ENDS_WITH_NAMES \
        { "first", "last" }

#endif
