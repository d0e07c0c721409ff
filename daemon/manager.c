/* See manager.h. Role: creates and frees the parts. */
#include "daemon/manager.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/paths.h"
#include "daemon/bus/accounts.h"
#include "daemon/bus/act.h"
#include "daemon/attempt/adopt.h"
#include "daemon/attempt/run.h"
#include "daemon/bus/server.h"
#include "daemon/bus/waits.h"
#include "daemon/launch/user_task.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/ledger.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/plan/on_exit.h"
#include "daemon/base/process.h"
#include "daemon/base/reserve.h"
#include "daemon/plan/schedule.h"
#include "daemon/plan/settle.h"
#include "daemon/plan/trash.h"
#include "daemon/state_folder.h"

int manager_new(const struct node_options *options, struct node **ret, struct error *error) {
        struct node *m = calloc(1, sizeof(*m));
        if (!m)
                return error_errno(error, ENOMEM, "manager");

        *m = (struct node) {
                .options = *options,
                .dir_fd = -1,
                .jobs_fd = -1,
                .lock_fd = -1,
                .reserve_fd = -1,
                .serial = loop_realtime(),
        };
        m->launchers[LAUNCHER_FORK] = &launcher_fork;
        m->launchers[LAUNCHER_SYSTEMD] = geteuid() == 0 ? &launcher_systemd : NULL;
        process_boot_id(m->boot_id, sizeof(m->boot_id));
        m->trainer = executable_beside("../trainer/bert-trainer", BERTD_BINDIR "/bert-trainer");
        m->shim = executable_beside("bertd-shim", BERTD_LIBEXECDIR "/bertd-shim");
        m->gang = executable_beside("bertd-gang", BERTD_LIBEXECDIR "/bertd-gang");
        m->leash = executable_beside("bertd-leash", BERTD_LIBEXECDIR "/bertd-leash");
        descriptors_read(&m->files);
        int r = m->trainer && m->shim && m->gang && m->leash ? 0 : error_errno(error, ENOMEM, "manager");
        if (r >= 0)
                r = process_check(error);
        if (r >= 0)
                r = state_folder_open(m, error);
        if (r >= 0) {
                r = loop_new(&m->loop);
                if (r >= 0)
                        r = settle_new(m, &m->settle);
                if (r < 0)
                        (void) error_errno(error, -r, "event loop");
        }
        if (r < 0) {
                manager_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void manager_free(struct node *m) {
        if (!m)
                return;
        settle_free(m->settle);
        m->settle = NULL;
        user_tasks_free(m);
        trash_free(m->trash);
        bus_server_free(m->server);
        accounts_free(m->accounts);
        for (size_t i = 0; m->store && i < store_count(m->store); i++)
                attempt_run_free(store_at(m->store, i)->run);
        if (m->systemd)
                (void) sd_bus_flush_close_unref(m->systemd);
        schedule_free(m);
        timer_disarm(&m->exit_retry);
        gpu_watch_free(m->gpu_watch);
        state_folder_close(m);
        loop_free(m->loop);
        free(m->trainer);
        free(m->shim);
        free(m->gang);
        free(m->leash);
        free(m);
}

/* ---- start and shutdown ---- */

/* A wall clock that jumped while bertd was down must not lengthen a back-off. */
static void restore_backoff(struct job *job) {
        uint64_t now = loop_realtime(), most = MAX(job->backoff_max_sec, POLICY_STARTS_SEC) * USEC_PER_SEC;
        uint64_t left = job->not_before > now ? job->not_before - now : 0;

        if (job->not_before > job->since_usec)
                most = MIN(most, job->not_before - job->since_usec);
        job->wake_boottime = loop_boottime() + MIN(left, most);
}

/* Names for the GPU bits of a row of schema 2, guessed once from today's list and then stored. */
static void name_gpus(struct node *m, struct job *job) {
        struct attempt *a = &job->attempt;
        cleanup_free char *names = a->gpu_mask != 0 ? gpus_visible(&m->options.gpus, a->gpu_mask) : NULL;

        if (!names)
                return;
        job_set_text(&a->gpus, names);
        a->gpu_mask = 0;
        store_mark(m->store, job);
        node_commit_soon(m);
}

static void reconcile(struct node *m) {
        for (size_t i = 0; i < store_count(m->store); i++) {
                struct job *job = store_at(m->store, i);
                if (job->state == JOB_BACKOFF)
                        restore_backoff(job);
                on_exit_adopt(m, job);
                if (!state_holds_resources(job->state))
                        continue;
                job->attempt.open = true;
                name_gpus(m, job);
                attempt_adopt(m, job);
        }
        node_account(m);
        node_plan_soon(m);
}

static void on_gpus(void *userdata) {
        struct node *m = userdata;

        node_plan_soon(m);
        settle_held(m->settle); /* leases wait for the driver's answer */
}

static void on_account(void *userdata, uid_t uid) {
        struct node *m = userdata;

        bus_server_resume(m->server, uid);
}

int manager_start(struct node *m, struct error *error) {
        int r = schedule_new(m);
        if (r >= 0)
                r = gpu_watch_new(m->loop, &m->options.gpus, on_gpus, m, &m->gpu_watch);
        if (r >= 0)
                r = trash_new(m, &m->trash);
        if (r < 0)
                return error_errno(error, -r, "event loop");
        r = accounts_new(m->loop, on_account, m, &m->accounts);
        if (r < 0)
                return error_errno(error, -r, "accounts");
        r = bus_server_new(m, m->options.socket, &m->server, error);
        if (r < 0)
                return r;
        if (m->files.clients < BERTD_CLIENTS_MAX)
                log_info("%" PRIu64 " open files are allowed: %u connections (not %d) and %u jobs at a time; raise the "
                         "hard limit (ulimit -Hn, LimitNOFILE=)",
                         m->files.limit, m->files.clients, BERTD_CLIENTS_MAX, m->files.attempts);
        act_load_drain(m);
        store_keep_ended(m->store, m->options.keep_ended);
        reconcile(m);
        node_commit_soon(m); /* prunes ended jobs */
        return 0;
}
