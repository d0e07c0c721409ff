/* clang-format off */
/*
 * The client protocol (contract C2): sd-bus, peer to peer, on the daemon's Unix socket.
 *
 * Object /org/bertd1, interface org.bertd1.Manager, served by bertd:
 *
 *   method          in                 out      who             meaning
 *   Submit          a{sv}              t        anyone          a new job's id, after its one durable commit; the
 *                                                               answer waits for the user database (at most 5 s)
 *   Lease           a{sv}              t        anyone          a new lease's id, after its commit: granted at once or refused with
 *                                                               BERTD_ERROR_BUSY, _DRAINED, _LENDS_NOTHING, ...; then bertd-leash
 *                                                               takes the caller's descriptors (common/handover.h)
 *   GetJob          t                  a{sv}    anyone*         one job
 *   ListJobs        tub                aa{sv}   anyone*         jobs with id < first (0: newest), at most second (<= 100),
 *                                                               newest first; third: only jobs that have not ended
 *   FindJob         s                  t        anyone          the caller's newest job of that name, else anyone's
 *   GetEvents       ttu                a(ttssssstt) anyone*     job, after event id, at most: (event id, time, from, to, what,
 *                                                               reason, exit class, last step, lost steps); reason without
 *                                                               quotes unless owner or root; class empty where no attempt ended.
 *                                                               Of a job with many, one "dropped", from and to empty, stands for
 *                                                               those that are not kept (include/bertd/limits.h)
 *   GetCheckpoints  t                  aa{sv}   anyone          the ledger, newest first: its first page
 *   ListCheckpoints tt                 aa{sv}   anyone          the same of steps < second (0: newest)
 *   GetSpec         t                  s        owner           the normalised spec text
 *   Cancel          tb                 -        owner           second: now (no grace, no checkpoint)
 *   Pause           t                  -        owner
 *   Resume          ta{sv}             -        owner           options: ranks (u), from (t, a step), use (u)
 *   Checkpoint      t                  -        owner           take one now
 *   Remove          t                  -        owner           an ended job and its folder
 *   Wait            t                  s        anyone          answers when the job has ended or is paused: its state's name
 *   WaitChange      t                  t        anyone          answers with the serial of the newest durable change as soon as that
 *                                                               is not the argument (0: at once); one outstanding a connection
 *   GetDaemon       -                  a{sv}    anyone          version, protocol, pid, state_dir, launcher, slots, slots_used, gpus,
 *                                                               gpus_used, counts of jobs by state (queued, ..., all u),
 *                                                               draining s (why; empty: it is not drained), draining_since t, draining_move u,
 *                                                               gpu_list as ("free GPU-...", "used ...", "blocked ..."),
 *                                                               keep_ended t (0: all), held t (ended jobs beyond it, which stay for
 *                                                               the checkpoints in their folders)
 *   Shutdown        b                  -        root or the daemon's user   true: stop the jobs first (they checkpoint and
 *                                                               return to queued)
 *   Drain           sb                 -        root or the daemon's user   reason, and whether leases are asked to go: from now on nothing
 *                                                               new starts, and no lease is granted
 *   Undrain         -                  -        root or the daemon's user
 *   AttemptHello    tuss               u        the job's user  job, attempt, nonce, "VERSION PROTOCOL" of the shim; out: BERTD_ATTEMPT_*
 *   AttemptReport   a{sv}              -        the job's user  current progress, see below
 *
 * Submit, Cancel, Pause, Resume, Remove and AttemptReport are answered after their commit. While another program has
 * state.db locked they wait, at most 8 s, then they are refused with BERTD_ERROR_STORAGE. A received call is carried
 * out even if its caller has disconnected. Remove and Resume wait as long for the start of the job's on_exit, then:
 * BERTD_ERROR_WRONG_STATE.
 *
 * A list is a page of at most BERTD_PAGE_MAX bytes: it may have fewer entries than requested, and the caller continues
 * after its last entry until a page is empty. All bounds: include/bertd/limits.h.
 *
 * Versions. The server's id (D-Bus' GUID, sd_bus_get_bus_id), which a client has before its first call, begins with
 * BERTD_BUS_ID and a byte that is BERTD_PROTOCOL. bertctl refuses a bertd of another protocol and prints the cure;
 * other clients need not check. GetDaemon and Shutdown are the same in every protocol. The id of a bertd of protocol 1
 * contains no protocol.
 * A shim outlives upgrades of bertd: every bertd serves all older shims (protocol 1: only the version), and ignores
 * unknown keys. To one of a newer protocol it answers BERTD_ERROR_VERSION, watches it, stops it with SIGTERM, and
 * starts no other; that shim stays connected and sends its hello to the next bertd.
 *
 *   anyone* = fields marked * below are only for the owner and root; for others a reason does not contain what
 *             the job wrote, nor its command ("exit code 1" for "exit code 1: ValueError: ...").
 *
 * a{sv} of a job (tests/check-fields holds this list and the next to daemon/rules/job_fields.h):
 *   id t
 *   name s
 *   user s
 *   uid u
 *   state s
 *   reason s                why it is in that state
 *   kind s                  pretrain | finetune | command | lease
 *   launcher s              systemd | fork
 *   priority i              as in Submit, and so are the fields of that name below
 *   ranks u
 *   threads u
 *   gpus u
 *   attempts u              so far
 *   submitted t             usec since the epoch, as are all times; 0 = not yet
 *   started t
 *   attempt_started t       of the attempt that runs; 0: none does
 *   ended t
 *   not_before t            in back-off: the time of the next attempt
 *   next_try_usec t         until then, by the boot-time clock; 0: not in back-off
 *   step t                  of the newest report
 *   steps t                 in all; 0 = unknown
 *   loss d                  NaN = unknown
 *   rate d                  samples/s; NaN = unknown
 *   eta_sec t
 *   checkpoint_step t       of the newest good checkpoint
 *   checkpoint_path s
 *   checkpoint_stall_sec d  how long it stalled training; NaN = unknown
 *   checkpoint_write_sec d  until it was written; NaN = unknown
 *   exit i                  exit code; -1 = none yet
 *   exit_class s            include/bertd/job.h; empty = none yet
 *   exit_signal s           "SIGSEGV"; empty = none
 *   exit_rank i             that failed first; -1 = unknown
 *   exit_host s             where; empty = unknown
 *   last_step t             of the attempt that ended last
 *   lost_steps t            done and done again, in all
 *   lost_sec as             "killed=12.500": seconds since the checkpoint or start before, over all attempts that ended so
 *   goodput d               useful steps over wall time, 0..1; NaN = unknown
 *   memory t
 *   cpus d
 *   hang_sec i
 *   start_sec i
 *   on_nan s
 *   ends_with s
 *   nice i
 *   log_max_size t
 *   log_keep u
 *   hosts as                of a job of many hosts: as in Submit, the head first; empty = this host alone
 *   use u                   hosts that it needs
 *   world u                 ranks in all: ranks on each host in use
 *   hosts_in_use as         of the newest attempt, the head first; empty = this host alone
 *   slowest s               "HOST,RANK,RATIO": a rank that takes RATIO times the median rank's time; empty = none
 *   slowest_since t
 *   gpu_usage as            of each GPU that the newest attempt holds on this host: "USED TOTAL LOAD NAME", bytes and percent; "-" = unknown
 *   gpu_usage_read t        when the driver reported it; 0 = nothing lately. To read it makes bertd query the driver
 *   network s
 *   copy_to s *
 *   run_dir s
 *   log s                   the newest attempt's log file
 *   cwd s
 *   first_exit i            while a command runs on without its first process: its exit code, or minus its signal
 *   runs_on u               likewise: processes that live
 *   lease_of s              of a lease: "h1:42", the job of another host that has it; likewise the next two
 *   lease_attempt u
 *   lease_name s
 *   comment s *
 *   first_cause s *         why the last attempt died
 *   evidence s *            folder with the stacks of the last hang; empty = none
 *   status s *              what the job last reported as STATUS=
 *   command as *            of GetJob alone
 *
 * a{sv} of Submit; an unknown key is refused by name:
 *   name s                  required, as are the next two
 *   kind s                  pretrain | finetune | command
 *   cwd s                   absolute
 *   priority i
 *   comment s               for people; one line
 *   run_dir s               absolute; empty = the job's own folder
 *   ranks u
 *   threads u
 *   gpus u
 *   max_without_progress u
 *   backoff_min_sec u
 *   backoff_max_sec u
 *   grace_sec u
 *   keep u                  of the copies below copy_to; the program reads it in its spec
 *   keep_every t            not used: the program reads it in its spec
 *   on_exit s
 *   spec s                  normalised; required unless kind is command
 *   command as              required if kind is command
 *   environment as          "NAME=VALUE"
 *   umask u
 *   rlimits a(utt)          resource, soft, hard
 *   memory t                bytes; 0 = no limit
 *   cpus d                  0 = no limit
 *   hang_sec i              without a step; -1 = max(5 min, 20 x median step), 0 = never
 *   start_sec i             to the first step; -1 = 30 min, of a command never; 0 = never
 *   on_nan s                stop | rollback
 *   ends_with s             first | last: with which process of a command it ends
 *   log_max_size t          bytes of an attempt's log (include/bertd/logs.h)
 *   log_keep u              files that it is in
 *   hosts s                 names with commas, this host first (bertd resolves none); empty = this host alone
 *   use u                   number of them that run it, the others are spares; 0 = all
 *   network s               CIDR or interface of MPI's connections; empty = Open MPI chooses
 *   travels s               names of variables with commas, e.g. "A,B_*": which the ranks of other hosts get, too
 *   unmanaged u             1: hosts without a bertd may be used
 *   host_timeout_sec u      silence after which another host is lost
 *   shrink u                1: starts with fewer hosts if there are no more
 *   host_cooldown_min_sec u  a lost host is not used for so long: first, doubling,
 *   host_cooldown_max_sec u  and longest
 *   copy_to s               folder or HOST:FOLDER that gets a copy of each checkpoint; empty = none
 *   nice i                  of the submitter
 *   cpu_list s              CPUs that it may use, "0-3,8"; empty = any
 *   scheduling s            policy and I/O priority, "batch,io-best-effort:7"; empty = as usual
 *   continues b             continues the run in run_dir: refused while another open job has this folder; the next keys only with it
 *   past_deaths u           counters of that run, as its bertd had them
 *   past_free_deaths u
 *   past_run_steps t
 *   past_run_usec t
 *   past_active_usec t
 *   past_lost s             "killed=12500000 oom=300": usec by class
 *   past_checkpoints a(tttss)  step, bytes, usec, state (good | demoted | unconfirmed), path (empty: the trainer's); at most 512
 *
 * a{sv} of Lease: lease_of (s, "HOST:JOB"), lease_name (s), lease_attempt (u), channel (s, 32 hex digits: the name of the caller's
 * socket), and of Submit's keys cwd, ranks, threads, gpus, memory, cpus, host_timeout_sec, environment, umask, rlimits, nice, cpu_list
 * and scheduling; others are refused or have no effect.
 *
 * a{sv} of a checkpoint: step t, path s, size t, state s (good | demoted | abandoned | deleted | unconfirmed), attempt u, restored
 * as count u, created t. As the job's shim last saw it: bertd looks at no file of a user's.
 *
 * AttemptReport: job t, attempt u, nonce s, and any of: pid i (the main child), ready b, status s, slowest s (as in a job's a{sv}), step t, steps t,
 * loss d, rate d, checkpoint_step t, checkpoint_path s, checkpoint_size t, checkpoint_stall d, checkpoint_write d
 * (seconds), checkpoint_unconfirmed u (1: it may not have reached the disk), checkpoint_at t (the program's step when it
 * saved it; missing from an older shim), takes_checkpoints u (1: the program has
 * declared a checkpoint signal), samples_first t, samples_last t (of the current update), first_exit i and runs_on u
 * (as in a job's a{sv}), exited b (the attempt has ended; the shim exits once this is answered), record s (with exited: the text of
 * exit.json; used where that file is missing or damaged); and of a shim that looks for the job's checkpoints
 * (attempt.json's key "checkpoints"): resumed_step t (where the program begins; 0: at the beginning), found at (step,
 * bytes, usec since the epoch of each file RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt that came), gone at (steps whose
 * file went). checkpoint_path must be below the run folder, or for a command below cwd; others are not recorded.
 * Unknown keys with numbers or texts are ignored; at most 64 keys.
 *
 * Object /org/bertd1/attempt, interface org.bertd1.Attempt, served by the shim on the same connection:
 *   Stop         t   -   ask the ranks to checkpoint and stop, a command's processes one by one to end (SIGTERM); SIGKILL after so many
 *                        usec (extended while a checkpoint is being written, at most 4 times); 0: SIGKILL now
 *   Checkpoint   -   -   ask for a checkpoint
 *   Move         s   -   of a lease: its head is asked to use another host; the reason
 */
/* clang-format on */
#ifndef BERTD_BUS_H
#define BERTD_BUS_H

#include "bertd/limits.h"

#define BERTD_PROTOCOL 2      /* of clients: raised by incompatible changes */
#define BERTD_SHIM_PROTOCOL 2 /* of shims, likewise */
#define BERTD_BUS_ID "bertd"  /* the first bytes of the server's id; the protocol is the next */

#define BERTD_BUS_PATH "/org/bertd1"
#define BERTD_BUS_INTERFACE "org.bertd1.Manager"
#define BERTD_BUS_ATTEMPT_PATH "/org/bertd1/attempt"
#define BERTD_BUS_ATTEMPT_INTERFACE "org.bertd1.Attempt"

#define BERTD_ERROR_NO_SUCH_JOB "org.bertd1.Error.NoSuchJob"
#define BERTD_ERROR_NO_SUCH_CHECKPOINT "org.bertd1.Error.NoSuchCheckpoint"
#define BERTD_ERROR_ACCESS_DENIED "org.bertd1.Error.AccessDenied"
#define BERTD_ERROR_WRONG_STATE "org.bertd1.Error.WrongState"
#define BERTD_ERROR_INVALID_SPEC "org.bertd1.Error.InvalidSpec"
#define BERTD_ERROR_TOO_LARGE "org.bertd1.Error.TooLarge"      /* more than the host will ever have */
#define BERTD_ERROR_QUOTA "org.bertd1.Error.Quota"             /* more than a user may have: include/bertd/limits.h */
#define BERTD_ERROR_STORAGE "org.bertd1.Error.Storage"         /* state.db could not be written: nothing was changed */
#define BERTD_ERROR_UNAVAILABLE "org.bertd1.Error.Unavailable" /* the user database does not answer: try again */
#define BERTD_ERROR_BUSY "org.bertd1.Error.Busy"               /* a lease: others have what it needs */
#define BERTD_ERROR_DRAINED "org.bertd1.Error.Drained"         /* a lease: `bertctl drain` */
#define BERTD_ERROR_LENDS_NOTHING "org.bertd1.Error.LendsNothing" /* a lease: the launcher is fork */
#define BERTD_ERROR_STOPPING "org.bertd1.Error.Stopping"          /* the daemon is shutting down */
#define BERTD_ERROR_VERSION "org.bertd1.Error.Version"            /* the shim is newer than the daemon */

#define BERTD_LENDS_NOTHING "lends nothing: launcher fork; run bertd as root under systemd"

/* AttemptHello's answer. */
enum {
        BERTD_ATTEMPT_GO = 0,   /* the attempt is current: run */
        BERTD_ATTEMPT_STOP = 1, /* it was closed meanwhile: exit without running */
};

#endif
