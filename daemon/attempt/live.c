/*
 * See live.h. Owns nothing. Invariant: at most one shim of an attempt gets GO.
 */
#include "daemon/attempt/live.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "daemon/attempt/end.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/process.h"
#include "daemon/launch/cgroup.h"
#include "daemon/launch/launcher.h"
#include "daemon/node/transition.h"
#include "daemon/rules/goodput.h"

#define EXITED_TIMEOUT_USEC (3 * USEC_PER_SEC)
#define KILL_TIMEOUT_USEC (3 * USEC_PER_SEC) /* together with the sweep's limit below the 10 s of `cancel --now` */
#define STOP_SLACK_USEC (30 * USEC_PER_SEC)
#define STOP_EXTENSIONS 4
#define VERSION_SIZE 32
#define VERSION_CHARACTERS "0123456789.+~-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static void on_stop_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_KILLED, "did not stop in time and was killed");
}

static void on_exited_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_LOST, "bertd-shim reported the end but did not exit");
}

static void on_shim_gone(void *userdata, int fd, uint32_t events) {
        attempt_over(userdata, EXIT_CLASS_LOST, "bertd-shim died without an exit record");
}

int attempt_watch_shim(struct attempt_run *run, int pidfd) {
        int r = attempt_run_watch(run, pidfd, on_shim_gone);

        if (r >= 0)
                run->phase = PHASE_LIVE;
        return r;
}

/* Only the attempt's cgroup: a hello may come from any process of the user, and this cgroup is killed as root. */
void attempt_note_cgroup(struct attempt_run *run, pid_t pid) {
        if (run->job->launcher != LAUNCHER_SYSTEMD)
                return;
        cleanup_free char *unit = launcher_unit_name(run->node, run->job);
        char *cgroup = unit ? cgroup_of(pid, unit) : NULL;
        if (!cgroup)
                return;
        free(run->cgroup);
        run->cgroup = cgroup;
}

/* ---- the shim's hello ---- */

struct job *attempt_find_open(struct node *node, uint64_t id, uint32_t number, const char *nonce) {
        struct job *job = store_find(node->store, id);

        if (!job || !job->run || !job->attempt.open || job->attempt.number != number ||
            strcmp(job->attempt.nonce, nonce) != 0)
                return NULL;
        return job->run->phase == PHASE_SWEEPING || job->run->phase == PHASE_COMMITTING ? NULL : job;
}

static int meet_shim(struct attempt_run *run, pid_t pid) {
        struct attempt *a = &run->job->attempt;
        uint64_t start;

        cleanup_close int fd = process_pidfd(pid);
        if (fd < 0)
                return fd;
        int r = process_start_time(pid, &start);
        if (r < 0)
                return r;
        a->pid = pid;
        a->pid_start = start;
        attempt_note_cgroup(run, pid);
        r = attempt_watch_shim(run, steal_fd(&fd));
        if (r < 0)
                return r;
        if (node_move(run->node, run->job, EVENT_HELLO, NULL) != STATE_MOVE) {
                store_mark(run->node->store, run->job);
                node_commit_soon(run->node);
        }
        return 0;
}

/* "0.1.0 2"; untrusted. */
static int read_version(const char *text, uint64_t *ret_protocol, char version[VERSION_SIZE]) {
        const char *space = strchr(text, ' ');
        size_t n = space ? (size_t) (space - text) : strlen(text);

        *ret_protocol = 1;
        if (n >= VERSION_SIZE || strspn(text, VERSION_CHARACTERS) < n ||
            (space && parse_u64(space + 1, 1, UINT32_MAX, ret_protocol) < 0))
                return -EINVAL;
        (void) snprintf(version, VERSION_SIZE, "%.*s", (int) n, text);
        return 0;
}

/* A newer shim started by this bertd is from a package installed meanwhile; its job does not run yet. */
static int meet_newer(struct attempt_run *run, const char *version, uint32_t *ret_answer) {
        char text[128];

        if (!run->adopted) {
                (void) snprintf(text, sizeof(text), "%s is from bertd %s, newer than this bertd %s; restart bertd",
                                strrchr(run->node->shim, '/') + 1, version, BERTD_VERSION);
                *ret_answer = BERTD_ATTEMPT_STOP;
                attempt_not_started(run, text);
                return 0;
        }
        if (!run->newer)
                log_error(
                        "job %" PRIu64
                        ": its shim is from bertd %s, newer than this bertd: it keeps running, but cannot be followed",
                        run->job->id, version);
        free(run->newer);
        run->newer = strdup(version);
        if (run->job->state == JOB_STOPPING)
                attempt_stop(run->job);
        return run->newer ? -EPROTONOSUPPORT : -ENOMEM;
}

int attempt_hello(struct node *node, struct shim_link *link, uid_t uid, pid_t pid, uint64_t id, uint32_t number,
                  const char *nonce, const char *version, uint32_t *ret_answer) {
        char name[VERSION_SIZE];
        uint64_t protocol;
        struct job *job = store_find(node->store, id);

        if (job && uid != job->uid && uid != geteuid())
                return -EPERM;
        job = attempt_find_open(node, id, number, nonce);
        *ret_answer = BERTD_ATTEMPT_STOP;
        if (!job || (job->attempt.pid != 0 && job->attempt.pid != pid))
                return 0;
        struct attempt_run *run = job->run;
        if (read_version(version, &protocol, name) < 0)
                return -EINVAL;
        if (job->attempt.pid == 0 && job->state == JOB_STOPPING) {
                attempt_over(run, EXIT_CLASS_STOPPED, "stopped before it started");
                return 0;
        }
        if (job->attempt.pid == 0 || run->phase != PHASE_LIVE) {
                int r = meet_shim(run, pid);
                if (r < 0)
                        return r;
        }
        if (job->state != JOB_STOPPING)
                timer_disarm(&run->timer);
        if (run->link && run->link != link)
                run->link->calls->drop(run->link); /* one connection per shim */
        if (link->job != id)
                attempt_link_gone(node, link); /* one job per connection: it was the shim of another before */
        run->link = link;
        link->job = id;
        if (protocol > BERTD_SHIM_PROTOCOL)
                return meet_newer(run, name, ret_answer);
        free(run->newer);
        run->newer = NULL;
        if (job->state == JOB_STOPPING)
                attempt_stop(job);
        if (job_is_lease(job) && node->drain.move)
                link->calls->move(link, node->drain.reason);
        *ret_answer = BERTD_ATTEMPT_GO;
        return 0;
}

void attempt_exited(struct attempt_run *run) { attempt_run_deadline(run, EXITED_TIMEOUT_USEC, on_exited_timeout); }

uint64_t attempt_eta_sec(const struct job *job) {
        const struct attempt_run *run = job->run;

        if (!run || run->clock.first_usec == 0 || job->step <= run->clock.first_step || job->steps <= job->step)
                return 0;
        double per_step =
                (double) (loop_boottime() - run->clock.first_usec) / (double) (job->step - run->clock.first_step);
        double sec = per_step * (double) (job->steps - job->step) / (double) USEC_PER_SEC;
        return sec <= BERTD_SECONDS_MAX ? (uint64_t) sec : 0;
}

double attempt_goodput(const struct job *job) {
        return goodput(job, job->run ? &job->run->clock : NULL, loop_realtime());
}

/* ---- stop ---- */

/* A stop for a shim of any protocol, as from systemd. */
static void stop_by_signal(struct attempt_run *run) {
        if (!run->pidfd || pidfd_send_signal(source_fd(run->pidfd), SIGTERM, NULL, 0) < 0)
                log_error("job %" PRIu64 ": cannot send the stop to its shim", run->job->id);
}

void attempt_stop(struct job *job) {
        struct attempt_run *run = job->run;
        uint64_t grace = job->grace_sec * USEC_PER_SEC;
        bool now = job->stop_reason == STOP_CANCEL_NOW;

        if (!run || run->phase == PHASE_SWEEPING)
                return;
        if (run->phase == PHASE_COMMITTING) {
                attempt_over(run, EXIT_CLASS_STOPPED, "stopped before it started");
                return;
        }
        if (now && (!run->link || run->newer)) {
                attempt_over(run, EXIT_CLASS_KILLED, "killed on request");
                return;
        }
        attempt_run_deadline(run, now ? KILL_TIMEOUT_USEC : STOP_EXTENSIONS * grace + STOP_SLACK_USEC, on_stop_timeout);
        if (run->pidfd) /* it may have been stopped together with its job */
                (void) pidfd_send_signal(source_fd(run->pidfd), SIGCONT, NULL, 0);
        if (run->newer)
                stop_by_signal(run);
        else if (run->link)
                run->link->calls->stop(run->link, now ? 0 : grace);
}

int attempt_checkpoint(struct job *job) {
        if (!job->run || !job->run->link || job->run->newer || job->run->phase != PHASE_LIVE)
                return -ENOTCONN;
        return job->run->link->calls->checkpoint(job->run->link);
}

void attempt_move(struct job *job, const char *reason) {
        if (job->run && job->run->link && !job->run->newer)
                job->run->link->calls->move(job->run->link, reason);
}

bool attempt_takes_checkpoints(const struct job *job) { return job->run && job->run->takes_checkpoints; }

void attempt_link_gone(struct node *node, struct shim_link *link) {
        struct job *job = store_find(node->store, link->job);

        if (job && job->run && job->run->link == link)
                job->run->link = NULL;
}
