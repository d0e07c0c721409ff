/* Exit codes shared by the trainer, the shim and the daemon (contract C6), and bertctl's own. */
#ifndef BERTD_EXIT_H
#define BERTD_EXIT_H

/* Of a job's process. */
enum {
        BERTD_EXIT_OK = 0,       /* finished */
        BERTD_EXIT_FAILURE = 1,  /* anything else: judged by the restart policy */
        BERTD_EXIT_USAGE = 2,    /* wrong command line: never retried */
        BERTD_EXIT_DATA = 65,    /* wrong corpus or vocabulary (EX_DATAERR): never retried */
        BERTD_EXIT_INPUT = 66,   /* an input file is missing (EX_NOINPUT): a job that has completed a step waits for it,
                                    else never retried */
        BERTD_EXIT_OSERR = 71,   /* out of memory, fork failed (EX_OSERR) */
        BERTD_EXIT_IO = 74,      /* read or write failed, cannot be written, disk full (EX_IOERR) */
        BERTD_EXIT_STOPPED = 75, /* stopped on request after a checkpoint (EX_TEMPFAIL) */
        BERTD_EXIT_BAD_CHECKPOINT = 76, /* this checkpoint cannot be used: try an older one */
        BERTD_EXIT_NAN = 77,            /* loss or gradient is not finite */
        BERTD_EXIT_CONFIG = 78,         /* wrong job spec or model config (EX_CONFIG): never retried */
};

/* bertctl. */
enum {
        BERTCTL_EXIT_OK = 0,
        BERTCTL_EXIT_FAILED = 1, /* the operation failed; `wait`: failed, cancelled or paused */
        BERTCTL_EXIT_USAGE = 2,  /* wrong command line or job spec */
        BERTCTL_EXIT_NO_SUCH_JOB = 3,
        BERTCTL_EXIT_NO_DAEMON = 4,
};

#endif
