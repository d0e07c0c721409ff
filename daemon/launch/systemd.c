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
#include "common/utf8.h"
#include "daemon/launch/launcher.h"
#include "daemon/base/log.h"

#define SYSTEMD_SERVICE "org.freedesktop.systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define START_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define STOP_EXTENSIONS 4 /* how often the grace may be extended while a checkpoint is being written */

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

static int add_exec(sd_bus_message *m, const struct launch_request *request) {
        int r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "ExecStart");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sasb");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", request->shim);
        if (r >= 0)
                r = sd_bus_message_append_strv(m, request->argv->words);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", false);
        for (int i = 0; r >= 0 && i < 4; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_environment(sd_bus_message *m, const struct strv *assignments) {
        int r = sd_bus_message_open_container(m, 'r', "sv");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Environment");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, assignments->words);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* systemd refuses the whole call for one invalid assignment. */
static bool assignment_is_plain(const char *assignment) {
        size_t name = strspn(assignment, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");

        if (name == 0 || assignment[name] != '=' || (assignment[0] >= '0' && assignment[0] <= '9'))
                return false;
        for (const unsigned char *p = (const unsigned char *) assignment; *p; p++)
                if ((*p < 0x20 && *p != '\t' && *p != '\n') || *p == 0x7f)
                        return false;
        return text_is_utf8(assignment);
}

/* The shim takes the job's environment from attempt.json: systemd would refuse some of what a shell allows. */
static int add_environment(sd_bus_message *m, const struct launch_request *request) {
        struct strv ours = {};

        for (size_t i = 0; i < request->environment->n; i++)
                if (strncmp(request->environment->words[i], "BERTD_", 6) == 0 &&
                    assignment_is_plain(request->environment->words[i]))
                        strv_add(&ours, request->environment->words[i]);
        int r = ours.failed ? -ENOMEM : append_environment(m, &ours);
        strv_free(&ours);
        return r;
}

static const char *const limit_names[] = {
        "LimitCPU",      "LimitFSIZE",  "LimitDATA",    "LimitSTACK",  "LimitCORE",  "LimitRSS",
        "LimitNPROC",    "LimitNOFILE", "LimitMEMLOCK", "LimitAS",     "LimitLOCKS", "LimitSIGPENDING",
        "LimitMSGQUEUE", "LimitNICE",   "LimitRTPRIO",  "LimitRTTIME",
};

static int add_limits(sd_bus_message *m, const struct job_inputs *inputs) {
        int r = 0;

        for (uint32_t i = 0; r >= 0 && i < inputs->n_rlimits; i++) {
                char soft[32];
                const struct job_rlimit *limit = &inputs->rlimits[i];
                if (limit->resource >= ELEMENTSOF(limit_names))
                        continue;
                (void) snprintf(soft, sizeof(soft), "%sSoft", limit_names[limit->resource]);
                r = sd_bus_message_append(m, "(sv)", limit_names[limit->resource], "t", limit->hard);
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", soft, "t", limit->soft);
        }
        return r;
}

/* No swap: a job over its limit is killed instead of slowed down, and the shim survives to report it. */
static int add_resources(sd_bus_message *m, const struct job *job) {
        int r = 0;

        if (job->memory > 0)
                r = sd_bus_message_append(m, "(sv)(sv)(sv)", "MemoryAccounting", "b", true, "MemoryMax", "t",
                                          job->memory, "MemorySwapMax", "t", UINT64_C(0));
        if (r >= 0 && job->cpus > 0)
                r = sd_bus_message_append(m, "(sv)", "CPUQuotaPerSecUSec", "t",
                                          (uint64_t) (job->cpus * (double) USEC_PER_SEC));
        return r;
}

/* `journalctl -t bertd JOB_ID=42` */
static int add_journal(sd_bus_message *m, const struct job *job) {
        cleanup_free char *field = format_string("JOB_ID=%" PRIu64, job->id);

        int r = !field ? -ENOMEM : sd_bus_message_append(m, "(sv)", "SyslogIdentifier", "s", "bertd");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "LogExtraFields");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "aay");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', field, strlen(field));
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* At shutdown a job stops before its mounts and the network. */
static int add_order(sd_bus_message *m) {
        return sd_bus_message_append(m, "(sv)", "After", "as", 4, "network.target", "remote-fs.target",
                                     "local-fs.target", "nss-user-lookup.target");
}

static int add_properties(sd_bus_message *m, const struct job *job, const struct launch_request *request) {
        char user[32], group[32];
        /* No control character can be in a name: submit.c and the user database see to it. */
        cleanup_free char *description = format_string("bertd job %" PRIu64 " (%s) of %s, attempt %u", job->id,
                                                       job->name, job->user, job->attempt.number);
        uint64_t stop = job->grace_sec * USEC_PER_SEC + 10 * USEC_PER_SEC;

        (void) snprintf(user, sizeof(user), "%u", (unsigned) job->uid);
        (void) snprintf(group, sizeof(group), "%u", (unsigned) job->gid);
        int r = !description
                        ? -ENOMEM
                        : sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", description,
                                                "Type", "s", "notify", "NotifyAccess", "s", "main", "KillMode", "s",
                                                "mixed", "SendSIGKILL", "b", true, "OOMPolicy", "s", "continue",
                                                "Slice", "s", LAUNCHER_SLICE, "CollectMode", "s", "inactive-or-failed");
        if (r >= 0 && job->uid != 0)
                r = sd_bus_message_append(m, "(sv)(sv)", "User", "s", user, "Group", "s", group);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "TimeoutStartUSec", "t", START_TIMEOUT_USEC,
                                          "TimeoutStopUSec", "t", STOP_EXTENSIONS * stop, "UMask", "u", job->umask,
                                          "PrivateIPC", "b", true);
        /* A private /dev/shm: logind's RemoveIPC empties the shared one when the user logs out. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "TemporaryFileSystem", "a(ss)", 1, "/dev/shm", "mode=1777");
        if (r >= 0)
                r = add_resources(m, job);
        if (r >= 0)
                r = add_journal(m, job);
        if (r >= 0)
                r = add_order(m);
        if (r >= 0)
                r = add_limits(m, request->inputs);
        if (r >= 0)
                r = add_environment(m, request);
        return r < 0 ? r : add_exec(m, request);
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
                r = add_properties(m, job, request);
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

static int add_task_properties(sd_bus_message *m, const struct job *job, char *const *argv, char *const *environment,
                               const char *cwd, uint64_t limit_usec) {
        char user[32], group[32];
        cleanup_free char *folder = format_string("-%s", cwd); /* may be missing */
        struct strv plain = {}, words = {};

        (void) snprintf(user, sizeof(user), "%u", (unsigned) job->uid);
        (void) snprintf(group, sizeof(group), "%u", (unsigned) job->gid);
        for (char *const *e = environment; *e; e++)
                if (assignment_is_plain(*e))
                        strv_add(&plain, *e);
        for (char *const *a = argv; *a; a++)
                strv_add(&words, *a);
        const struct launch_request request = { .shim = argv[0], .argv = &words };
        int r = plain.failed || words.failed || !folder
                        ? -ENOMEM
                        : sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Type", "s", "oneshot", "Slice", "s",
                                                LAUNCHER_SLICE, "CollectMode", "s", "inactive-or-failed",
                                                "TimeoutStartUSec", "t", limit_usec, "UMask", "u", job->umask,
                                                "WorkingDirectory", "s", folder, "SendSIGKILL", "b", true);
        if (r >= 0 && job->uid != 0)
                r = sd_bus_message_append(m, "(sv)(sv)", "User", "s", user, "Group", "s", group);
        if (r >= 0)
                r = add_journal(m, job);
        if (r >= 0)
                r = append_environment(m, &plain);
        if (r >= 0)
                r = add_exec(m, &request);
        strv_free(&plain);
        strv_free(&words);
        return r;
}

static int run_task(struct systemd_task *task, sd_bus *bus, const struct job *job, char *const *argv,
                    char *const *environment, const char *cwd, uint64_t limit_usec) {
        cleanup_message sd_bus_message *m = NULL;

        int r = new_start_call(bus, task->pending->unit, &m);
        if (r >= 0)
                r = add_task_properties(m, job, argv, environment, cwd, limit_usec);
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
