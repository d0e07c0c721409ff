/*
 * Role: starts a shim as a transient service of the system manager, in its own cgroup. Calls are asynchronous; the
 * answer only means that systemd queued a job, the shim's hello is what counts. Owns: the manager's connection to
 * systemd, opened when first needed and reopened when it breaks; in a launch its pending call and match. systemd
 * signals the end of every job on a direct connection, without a subscription. No PAMName: it would move the job into a
 * login session, which ends with the user's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/launch/launcher.h"
#include "daemon/launch/systemd_unit.h"
#include "daemon/base/log.h"

#define SYSTEMD_SERVICE "org.freedesktop.systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

char *launcher_unit_name(const struct node *node, const struct job *job) {
        return format_string("bertd-%.8s-%" PRIu64 "-%u.service", store_instance(node->store), job->id,
                             job->attempt.number);
}

static void cleanup_message_p(sd_bus_message **m) { (void) sd_bus_message_unref(*m); }
#define cleanup_message cleanup(cleanup_message_p)

/* The private socket needs no broker; it exists for root only. */
static int open_bus(sd_bus **ret) {
        sd_bus *bus = NULL;

        int r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0) {
                (void) sd_bus_unref(bus);
                r = sd_bus_open_system(ret);
                /* over a broker, signals need a subscription */
                return r < 0 ? r
                             : sd_bus_call_method_async(*ret, NULL, SYSTEMD_SERVICE, "/org/freedesktop/systemd1",
                                                        SYSTEMD_MANAGER, "Subscribe", NULL, NULL, NULL);
        }
        *ret = bus;
        return 0;
}

/* systemd closes the connection when it re-executes: the next start opens a new one. */
static int get_bus(struct node *node, sd_bus **ret) {
        if (node->systemd && sd_bus_is_open(node->systemd) <= 0)
                node->systemd = sd_bus_close_unref(node->systemd);
        if (!node->systemd) {
                int r = open_bus(&node->systemd);
                if (r >= 0)
                        r = loop_attach_bus(node->loop, node->systemd);
                if (r < 0) {
                        node->systemd = sd_bus_close_unref(node->systemd);
                        return r;
                }
        }
        *ret = node->systemd;
        return 0;
}

struct pending {
        sd_bus_slot *call, *removed;
        char *unit;
};

static void pending_free(struct pending *pending) {
        if (!pending)
                return;
        (void) sd_bus_slot_unref(pending->call);
        (void) sd_bus_slot_unref(pending->removed);
        free(pending->unit);
        free(pending);
}

static int watch_jobs(sd_bus *bus, sd_bus_slot **slot, sd_bus_message_handler_t handler, void *userdata) {
        return sd_bus_match_signal(bus, slot, NULL, "/org/freedesktop/systemd1", SYSTEMD_MANAGER, "JobRemoved", handler,
                                   userdata);
}

/* "done", "failed", ... if the signal is about this unit, else NULL. */
static const char *result_of(sd_bus_message *m, const char *unit) {
        const char *path, *name, *result;
        uint32_t id;

        int r = sd_bus_message_read(m, "uoss", &id, &path, &name, &result);
        return r >= 0 && strcmp(name, unit) == 0 ? result : NULL;
}

static int new_start_call(sd_bus *bus, const char *unit, sd_bus_message **ret) {
        int r = sd_bus_message_new_method_call(bus, ret, SYSTEMD_SERVICE, "/org/freedesktop/systemd1", SYSTEMD_MANAGER,
                                               "StartTransientUnit");

        if (r >= 0)
                r = sd_bus_message_append(*ret, "ss", unit, "fail");
        return r < 0 ? r : sd_bus_message_open_container(*ret, 'a', "(sv)");
}

static int end_start_call(sd_bus_message *m) {
        int r = sd_bus_message_close_container(m);

        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

static int build_call(sd_bus *bus, const char *unit, const struct job *job, const struct launch_request *request,
                      sd_bus_message **ret) {
        cleanup_message sd_bus_message *m = NULL;

        int r = new_start_call(bus, unit, &m);
        if (r >= 0)
                r = unit_add_properties(m, job, request);
        if (r >= 0)
                r = end_start_call(m);
        if (r < 0)
                return r;
        *ret = steal_pointer(&m);
        return 0;
}

struct launch {
        const struct launch_events *events;
        void *userdata;
        struct pending *pending;
};

static void forget(struct launch *launch) {
        if (!launch)
                return;
        pending_free(launch->pending);
        free(launch);
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct launch *launch = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        char text[512];

        launch->pending->call = sd_bus_slot_unref(launch->pending->call);
        if (!e)
                return 0;
        (void) snprintf(text, sizeof(text), "systemd: %s", e->message ? e->message : e->name);
        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.TransactionIsDestructive") ||
            sd_bus_error_has_name(e, "org.freedesktop.systemd1.ShuttingDown"))
                launch->events->refused(launch->userdata, "the host is shutting down");
        else
                launch->events->failed(launch->userdata, text);
        return 0;
}

/* The unit's start has finished: the shim is ready, or failed. */
static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct launch *launch = userdata;
        const char *result = result_of(m, launch->pending->unit);
        char text[512];

        if (!result || strcmp(result, "done") == 0)
                return 0;
        (void) snprintf(text, sizeof(text), "systemd: start of %s: %s; see `journalctl -u %s`", launch->pending->unit,
                        result, launch->pending->unit);
        launch->events->failed(launch->userdata, text);
        return 0;
}

static struct launch *launch_new(const struct launch_request *request) {
        struct launch *launch = calloc(1, sizeof(*launch));

        if (!launch)
                return NULL;
        *launch = (struct launch) { .events = request->events,
                                    .userdata = request->userdata,
                                    .pending = calloc(1, sizeof(*launch->pending)) };
        if (launch->pending)
                launch->pending->unit = launcher_unit_name(request->node, request->job);
        if (launch->pending && launch->pending->unit)
                return launch;
        forget(launch);
        return NULL;
}

static int start(const struct launch_request *request, struct launch **ret, struct error *error) {
        cleanup_message sd_bus_message *m = NULL;
        sd_bus *bus;

        int r = get_bus(request->node, &bus);
        if (r < 0)
                return error_errno(error, -r, "systemd cannot be reached");
        struct launch *launch = launch_new(request);
        if (!launch)
                return error_errno(error, ENOMEM, "StartTransientUnit");
        struct pending *pending = launch->pending;
        r = build_call(bus, pending->unit, request->job, request, &m);
        if (r >= 0)
                r = watch_jobs(bus, &pending->removed, on_removed, launch);
        if (r >= 0)
                r = sd_bus_call_async(bus, &pending->call, m, on_started, launch, START_TIMEOUT_USEC);
        if (r < 0) {
                forget(launch);
                return error_errno(error, -r, "StartTransientUnit");
        }
        *ret = launch;
        return 0;
}

/* ---- tasks ---- */

struct systemd_task {
        struct pending *pending;
        void (*began)(void *userdata);
        void (*done)(void *userdata);
        void *userdata;
};

void systemd_task_free(struct systemd_task *task) {
        if (!task)
                return;
        pending_free(task->pending);
        free(task);
}

static int on_task_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const struct systemd_task *task = userdata;

        if (result_of(m, task->pending->unit))
                task->done(task->userdata);
        return 0;
}

static int on_task_started(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const struct systemd_task *task = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e) {
                log_error("%s: systemd: %s", task->pending->unit, e->message ? e->message : e->name);
                task->done(task->userdata);
        } else {
                task->began(task->userdata);
        }
        return 0;
}

static int run_task(struct systemd_task *task, sd_bus *bus, const struct job *job, char *const *argv,
                    char *const *environment, const char *cwd, uint64_t limit_usec) {
        cleanup_message sd_bus_message *m = NULL;

        int r = new_start_call(bus, task->pending->unit, &m);
        if (r >= 0)
                r = unit_add_task_properties(m, job, argv, environment, cwd, limit_usec);
        if (r >= 0)
                r = end_start_call(m);
        if (r >= 0)
                r = watch_jobs(bus, &task->pending->removed, on_task_removed, task);
        return r < 0 ? r : sd_bus_call_async(bus, &task->pending->call, m, on_task_started, task, START_TIMEOUT_USEC);
}

/* A unique name each time: a second task of the same attempt (rm of its scratch folder and of the job, on_exit of a job
 * that has ended again) may start while the first still runs, perhaps started by an earlier bertd. */
static char *task_unit_name(const struct node *node, const struct job *job, const char *name) {
        uint32_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return NULL;
        return format_string("bertd-%.8s-%" PRIu64 "-%u-%s-%08" PRIx32 ".service", store_instance(node->store), job->id,
                             job->attempt.number, name, random);
}

struct systemd_task *systemd_task_run(struct node *node, const struct job *job, const char *name, char *const *argv,
                                      char *const *environment, const char *cwd, uint64_t limit_usec,
                                      void (*began)(void *userdata), void (*done)(void *userdata), void *userdata) {
        sd_bus *bus;
        struct systemd_task *task = calloc(1, sizeof(*task));

        if (!task)
                return NULL;
        task->began = began;
        task->done = done;
        task->userdata = userdata;
        task->pending = calloc(1, sizeof(*task->pending));
        if (task->pending)
                task->pending->unit = task_unit_name(node, job, name);
        int r = !task->pending || !task->pending->unit ? -ENOMEM : get_bus(node, &bus);
        if (r >= 0)
                r = run_task(task, bus, job, argv, environment, cwd, limit_usec);
        if (r >= 0)
                return task;
        log_error("job %" PRIu64 ": %s: %s", job->id, name, strerror(-r));
        systemd_task_free(task);
        return NULL;
}

/* Kills the whole unit, for an unknown cgroup. */
static void kill_unit(struct node *node, struct job *job) {
        sd_bus *bus;
        cleanup_free char *unit = launcher_unit_name(node, job);

        if (!unit || get_bus(node, &bus) < 0)
                return;
        int r = sd_bus_call_method_async(bus, NULL, SYSTEMD_SERVICE, "/org/freedesktop/systemd1", SYSTEMD_MANAGER,
                                         "KillUnit", NULL, NULL, "ssi", unit, "all", 9);
        if (r < 0)
                log_error("job %" PRIu64 ": %s cannot be killed: %s", job->id, unit, strerror(-r));
}

const struct launcher launcher_systemd = {
        .name = "systemd", .private_shm = true, .start = start, .forget = forget, .kill = kill_unit
};
