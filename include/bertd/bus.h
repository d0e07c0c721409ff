/*
 * The client protocol (contract C2): sd-bus, peer to peer, on the daemon's Unix socket.
 *
 * Object /org/bertd1, interface org.bertd1.Manager, served by bertd:
 *
 *   method          in                 out      who             meaning
 *   Submit          a{sv}              t        anyone          a new job's id, after its one durable commit
 *   GetJob          t                  a{sv}    anyone*         one job
 *   ListJobs        tub                aa{sv}   anyone*         jobs with id < first (0: newest), at most second (<= 100),
 *                                                               newest first; third: only jobs that have not ended
 *   GetEvents       ttu                a(ttssssstt) anyone*     job, after event id, at most: (event id, time, from, to, what,
 *                                                               reason, exit class, last step, lost steps); reason empty
 *                                                               where the caller may not see it; class empty where no attempt ended
 *   GetCheckpoints  t                  aa{sv}   anyone          the ledger, newest first
 *   GetSpec         t                  s        owner           the normalised spec text
 *   Cancel          tb                 -        owner           second: now (no grace, no checkpoint)
 *   Pause           t                  -        owner
 *   Resume          ta{sv}             -        owner           options: ranks (u), from (t, a step)
 *   Checkpoint      t                  -        owner           take one now
 *   Remove          t                  -        owner           an ended job and its folder
 *   Wait            t                  s        anyone          answers when the job has ended or is paused: its state's name
 *   GetDaemon       -                  a{sv}    anyone          version, pid, state_dir, launcher, slots, slots_used, gpus,
 *                                                               gpus_used, counts of jobs by state (queued, ..., all u)
 *   Shutdown        b                  -        root or the daemon's user   true: stop the jobs first (they checkpoint and
 *                                                               return to queued)
 *   AttemptHello    tuss               u        the job's user  job, attempt, nonce, shim version; out: BERTD_ATTEMPT_*
 *   AttemptReport   a{sv}              -        the job's user  current progress, see below
 *
 *   anyone* = spec, command, environment and reasons that quote logs are left out unless the caller is the owner or root.
 *
 * a{sv} of a job, always: id t, name s, user s, uid u, state s, reason s, kind s, launcher s, priority i, ranks u, threads u, gpus u,
 * attempts u, submitted t, started t, ended t (usec since the epoch, 0 = not yet), step t, steps t, loss d (NaN = unknown),
 * rate d (samples/s), eta_sec t, checkpoint_step t, checkpoint_path s, exit i (-1 = none yet), exit_class s,
 * exit_signal s ("SIGSEGV", empty = none), exit_rank i (the rank that failed first, -1 = unknown), exit_host s, last_step t (of the
 * attempt that ended last), lost_steps t (done and done again, in all), goodput d (useful steps over wall time, 0..1, NaN =
 * unknown), checkpoint_stall_sec d, checkpoint_write_sec d (of the newest checkpoint, NaN = unknown), memory t (limit in bytes,
 * 0 = none), cpus d (0 = none), hang_sec i, start_sec i, on_nan s, evidence s (owner and root only: the folder with the stacks of
 * the last hang, or empty), first_cause s (owner and root only: why the last attempt died),
 * not_before t (realtime usec), run_dir s, log s (the current attempt's log file), cwd s, and for the owner and root only command as.
 *
 * a{sv} of Submit: see enum submit_field in daemon/submit.c; keys name s, kind s, priority i, run_dir s, ranks u, threads u,
 * gpus u, max_without_progress u, backoff_min_sec u, backoff_max_sec u, grace_sec u, keep u, keep_every t, on_exit s, spec s,
 * command as, cwd s, environment as, umask u, rlimits a(utt) (resource, soft, hard), memory t (bytes, 0 = no limit), cpus d (0 = no
 * limit), hang_sec i (-1 = max(5 min, 20 x median step), 0 = never), start_sec i (to the first step; -1 = 30 min, for a command
 * never; 0 = never), on_nan s (stop | rollback). An unknown key is refused by name.
 *
 * a{sv} of a checkpoint: step t, path s, size t, state s (good | demoted | abandoned | deleted), attempt u, restored as count u,
 * created t. As the job's shim last saw it: bertd looks at no file of a user's.
 *
 * AttemptReport: job t, attempt u, nonce s, and any of: pid i (the main child), ready b, status s, step t, steps t, loss d,
 * rate d, checkpoint_step t, checkpoint_path s, checkpoint_size t, checkpoint_stall d, checkpoint_write d (seconds),
 * samples_first t, samples_last t (of the update under way), exited b (exit.json has been written); and of a shim that looks for the
 * job's checkpoints (attempt.json's key "checkpoints"): resumed_step t (where the program begins; 0: at the beginning), found at (step,
 * bytes, usec since the epoch of each file RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt that came), gone at (steps whose file went).
 * checkpoint_path lies below the run folder, a command's there or below cwd; another one is not recorded.
 *
 * Object /org/bertd1/attempt, interface org.bertd1.Attempt, served by the shim on the same connection:
 *   Stop         t   -   ask the ranks to checkpoint and stop; SIGKILL after so many usec (extended while a checkpoint is
 *                        being written, at most 4 times); 0: SIGKILL now
 *   Checkpoint   -   -   ask for a checkpoint
 */
#ifndef BERTD_BUS_H
#define BERTD_BUS_H

#define BERTD_BUS_PATH "/org/bertd1"
#define BERTD_BUS_INTERFACE "org.bertd1.Manager"
#define BERTD_BUS_ATTEMPT_PATH "/org/bertd1/attempt"
#define BERTD_BUS_ATTEMPT_INTERFACE "org.bertd1.Attempt"

#define BERTD_ERROR_NO_SUCH_JOB "org.bertd1.Error.NoSuchJob"
#define BERTD_ERROR_NO_SUCH_CHECKPOINT "org.bertd1.Error.NoSuchCheckpoint"
#define BERTD_ERROR_ACCESS_DENIED "org.bertd1.Error.AccessDenied"
#define BERTD_ERROR_WRONG_STATE "org.bertd1.Error.WrongState"
#define BERTD_ERROR_INVALID_SPEC "org.bertd1.Error.InvalidSpec"
#define BERTD_ERROR_TOO_LARGE "org.bertd1.Error.TooLarge" /* more than the host will ever have */
#define BERTD_ERROR_STORAGE "org.bertd1.Error.Storage"    /* state.db could not be written */
#define BERTD_ERROR_STOPPING "org.bertd1.Error.Stopping"  /* the daemon is shutting down */

/* AttemptHello's answer. */
enum {
        BERTD_ATTEMPT_GO = 0,   /* the attempt is current: run */
        BERTD_ATTEMPT_STOP = 1, /* it was closed meanwhile: exit without running */
};

#define BERTD_LIST_PAGE_MAX 100      /* jobs or events of one reply: no caller keeps the others waiting for long */
#define BERTD_MESSAGE_MAX (4u << 20) /* bytes of one Submit */

#endif
