/* Words that every program uses for jobs (contract C3). The names are what users, scripts and state.db see. */
#ifndef BERTD_JOB_H
#define BERTD_JOB_H

enum job_state {
        JOB_QUEUED,   /* waits for slots, GPUs or its turn */
        JOB_STARTING, /* intent committed, shim launched, its hello not yet heard */
        JOB_RUNNING,  /* the shim said hello */
        JOB_STOPPING, /* pause, cancel or shutdown under way */
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
        EXIT_CLASS_STOPPED,        /* exit 75 */
        EXIT_CLASS_USER_ERROR,     /* exit 2, 65, 66, 78: never retried */
        EXIT_CLASS_BAD_CHECKPOINT, /* exit 76 */
        EXIT_CLASS_NAN,            /* exit 77 */
        EXIT_CLASS_FAILED,         /* any other exit code */
        EXIT_CLASS_SIGNAL, /* a rank died of a signal that it got by its own fault: SEGV, BUS, FPE, ILL, ABRT, ... */
        EXIT_CLASS_KILLED, /* SIGKILL, SIGTERM or SIGINT from outside */
        EXIT_CLASS_OOM,    /* the kernel's OOM killer */
        EXIT_CLASS_MPI,    /* MPI, NCCL or CUDA error text */
        EXIT_CLASS_DISK_FULL,
        EXIT_CLASS_HANG,
        EXIT_CLASS_REBOOT, /* the boot id changed */
        EXIT_CLASS_LOST,   /* the shim is gone without an exit record */
        EXIT_CLASS_LAUNCH, /* the attempt could not be started */
        EXIT_CLASS_MAX
};
#define EXIT_CLASS_NAMES                                                                                           \
        {                                                                                                          \
                "finished", "stopped", "user-error", "bad-checkpoint", "nan", "failed", "signal", "killed", "oom", \
                        "mpi", "disk-full", "hang", "reboot", "lost", "launch"                                     \
        }

#define BERTD_RANKS_MAX 4096
#define BERTD_THREADS_MAX 1024
#define BERTD_NAME_MAX 128               /* bytes of a job's name */
#define BERTD_SPEC_MAX (256u << 10)      /* bytes of a job's spec */
#define BERTD_ENVIRONMENT_MAX (1u << 20) /* bytes of a job's environment and command */
#define BERTD_ID_MAX INT64_MAX

/* Of a job's attempts (their rows and folders) and events the oldest and the newest so many are kept. */
#define BERTD_ATTEMPTS_HEAD 10
#define BERTD_ATTEMPTS_TAIL 90
#define BERTD_EVENTS_HEAD 100
#define BERTD_EVENTS_TAIL 900

/* What a NaN or infinite loss does: ends the job, or goes back to the checkpoint before (contract C8). */
enum on_nan { ON_NAN_STOP, ON_NAN_ROLLBACK, ON_NAN_MAX };
#define ON_NAN_NAMES \
        { "stop", "rollback" }

#define BERTD_MEMORY_MIN (1ull << 20) /* bytes: a smaller limit would kill the shim */
#define BERTD_MEMORY_MAX (1ull << 52)
#define BERTD_CPUS_MIN 0.01
#define BERTD_CPUS_MAX 65536
#define BERTD_HANG_MAX 31536000 /* seconds */

#endif
