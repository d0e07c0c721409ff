/*
 * A call of org.bertd1.Manager (include/bertd/bus.h) on its way through methods.c to its handler: jobs.c (what changes
 * jobs), reads.c, shim_calls.c. They decode and answer; act.h does it. Nobody else includes this.
 */
#ifndef DAEMON_BUS_METHODS_H
#define DAEMON_BUS_METHODS_H

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "daemon/bus/act.h"
#include "daemon/bus/server.h"
#include "daemon/plan/settle.h"

static inline void cleanup_message_p(sd_bus_message **message) { (void) sd_bus_message_unref(*message); }
#define cleanup_message cleanup(cleanup_message_p)

struct call {
        struct change change; /* of a CHANGE only: then the call is on the heap */
        struct act act;
        struct peer *peer; /* NULL in a CHANGE: the client may be gone by then */
        sd_bus_error *error;
        const struct method *method;
        sd_bus_message *message; /* the CHANGE's own reference */
        int (*apply)(struct call *call,
                     sd_bus_message *m); /* like a handler, within the commit; NULL: done, the answer waits */
        void (*done)(struct call *call, sd_bus_message *m); /* answers when durable. NULL: an empty answer */
        struct submission *submission;                      /* Submit */
        gid_t gid;
        char *user;
};

/* Queues a change: `apply` runs within this turn's commit. Takes the contents of the call. */
int call_queue(struct call *from, sd_bus_message *m, int (*apply)(struct call *call, sd_bus_message *m));

int call_reply_nothing(sd_bus_message *m);

enum authority {
        ANYONE,     /* everyone everyone who may connect */
        JOB_ANYONE, /* the first argument is a job's id; anyone */
        JOB_OWNER,  /* the same; the job's user or root */
        ADMIN,      /* root or the daemon's own user */
};

enum method_kind { AT_ONCE, CHANGE };

typedef int (*handler_t)(struct call *call, sd_bus_message *m);

#define METHODS(X)                                                                  \
        X("Submit", "a{sv}", "t", ANYONE, AT_ONCE, submit)                          \
        X("Lease", "a{sv}", "t", ANYONE, AT_ONCE, lease)                            \
        X("GetJob", "t", "a{sv}", JOB_ANYONE, AT_ONCE, get_job)                     \
        X("ListJobs", "tub", "aa{sv}", ANYONE, AT_ONCE, list_jobs)                  \
        X("FindJob", "s", "t", ANYONE, AT_ONCE, find_by_name)                       \
        X("GetEvents", "ttu", "a(ttssssstt)", JOB_ANYONE, AT_ONCE, get_events)      \
        X("GetCheckpoints", "t", "aa{sv}", JOB_ANYONE, AT_ONCE, get_checkpoints)    \
        X("ListCheckpoints", "tt", "aa{sv}", JOB_ANYONE, AT_ONCE, list_checkpoints) \
        X("GetSpec", "t", "s", JOB_OWNER, AT_ONCE, get_spec)                        \
        X("Cancel", "tb", "", JOB_OWNER, CHANGE, cancel)                            \
        X("Pause", "t", "", JOB_OWNER, CHANGE, pause_job)                           \
        X("Resume", "ta{sv}", "", JOB_OWNER, CHANGE, resume_job)                    \
        X("Checkpoint", "t", "", JOB_OWNER, AT_ONCE, checkpoint_job)                \
        X("Remove", "t", "", JOB_OWNER, CHANGE, remove_job)                         \
        X("Wait", "t", "s", JOB_ANYONE, AT_ONCE, wait_job)                          \
        X("WaitChange", "t", "t", ANYONE, AT_ONCE, wait_change)                     \
        X("GetDaemon", "", "a{sv}", ANYONE, AT_ONCE, get_daemon)                    \
        X("Shutdown", "b", "", ADMIN, AT_ONCE, shutdown_daemon)                     \
        X("Drain", "sb", "", ADMIN, CHANGE, drain)                                  \
        X("Undrain", "", "", ADMIN, CHANGE, undrain)                                \
        X("AttemptHello", "tuss", "u", ANYONE, AT_ONCE, hello)                      \
        X("AttemptReport", "a{sv}", "", ANYONE, AT_ONCE, report)

#define ROW(name, in, out, authority, kind, handler) int method_##handler(struct call *call, sd_bus_message *m);
METHODS(ROW)
#undef ROW

#endif
