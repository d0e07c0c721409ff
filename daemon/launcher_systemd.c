/*
 * Role: starts a shim as a transient service of the system's systemd, in a cgroup of its own. Calls are asynchronous; the answer
 * says only that the job was queued, the shim's hello is what counts.
 * Owns: the manager's connection to systemd, opened when first needed and reopened when it breaks; a call's slot in
 * run->launcher_data.
 * No PAMName: it would move the job into a login session, which ends with the user's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/launcher.h"
#include "daemon/log.h"

#define START_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define STOP_EXTENSIONS 4 /* how often the grace may be extended while a checkpoint is being written */

char *launcher_unit_name(const struct manager *manager, const struct job *job) {
        return format_string("bertd-%.8s-%" PRIu64 "-%u.service", store_instance(manager->store), job->id,
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
                return sd_bus_open_system(ret);
        }
        *ret = bus;
        return 0;
}

/* systemd closes the connection when it re-executes: the next start opens another. */
static int get_bus(struct manager *manager, sd_bus **ret) {
        if (manager->systemd && sd_bus_is_open(manager->systemd) <= 0)
                manager->systemd = sd_bus_close_unref(manager->systemd);
        if (!manager->systemd) {
                int r = open_bus(&manager->systemd);
                if (r >= 0)
                        r = sd_bus_attach_event(manager->systemd, manager->loop, SD_EVENT_PRIORITY_NORMAL);
                if (r < 0) {
                        manager->systemd = sd_bus_close_unref(manager->systemd);
                        return r;
                }
        }
        *ret = manager->systemd;
        return 0;
}

static int add_exec(sd_bus_message *m, const struct launch *launch) {
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
                r = sd_bus_message_append(m, "s", launch->shim);
        if (r >= 0)
                r = sd_bus_message_append_strv(m, launch->argv->words);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", false);
        for (int i = 0; r >= 0 && i < 4; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* The shim takes the job's environment from attempt.json: systemd would refuse some of what a shell allows. */
static int add_environment(sd_bus_message *m, const struct launch *launch) {
        struct strv ours = {};

        for (size_t i = 0; i < launch->environment->n; i++)
                if (strncmp(launch->environment->words[i], "BERTD_", 6) == 0)
                        strv_add(&ours, launch->environment->words[i]);
        int r = ours.failed ? -ENOMEM : sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Environment");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, ours.words);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
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
                const struct submit_rlimit *limit = &inputs->rlimits[i];
                if (limit->resource >= ELEMENTSOF(limit_names))
                        continue;
                (void) snprintf(soft, sizeof(soft), "%sSoft", limit_names[limit->resource]);
                r = sd_bus_message_append(m, "(sv)", limit_names[limit->resource], "t", limit->hard);
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", soft, "t", limit->soft);
        }
        return r;
}

static int add_properties(sd_bus_message *m, const struct job *job, const struct launch *launch) {
        char user[32], group[32];
        cleanup_free char *description =
                format_string("bertd job %" PRIu64 " attempt %u", job->id, job->attempt.number);
        uint64_t stop = job->grace_sec * USEC_PER_SEC + 10 * USEC_PER_SEC;

        (void) snprintf(user, sizeof(user), "%u", (unsigned) job->uid);
        (void) snprintf(group, sizeof(group), "%u", (unsigned) job->gid);
        int r = !description
                        ? -ENOMEM
                        : sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", description,
                                                "Type", "s", "notify", "NotifyAccess", "s", "main", "KillMode", "s",
                                                "mixed", "SendSIGKILL", "b", true, "OOMPolicy", "s", "continue",
                                                "Slice", "s", "bertd.slice", "CollectMode", "s", "inactive-or-failed");
        if (r >= 0 && job->uid != 0)
                r = sd_bus_message_append(m, "(sv)(sv)", "User", "s", user, "Group", "s", group);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "TimeoutStartUSec", "t", START_TIMEOUT_USEC,
                                          "TimeoutStopUSec", "t", STOP_EXTENSIONS * stop, "UMask", "u", job->umask,
                                          "PrivateIPC", "b", true);
        /* A /dev/shm of its own: logind's RemoveIPC empties the shared one when the user logs out. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "TemporaryFileSystem", "a(ss)", 1, "/dev/shm", "mode=1777");
        if (r >= 0)
                r = add_limits(m, launch->inputs);
        if (r >= 0)
                r = add_environment(m, launch);
        return r < 0 ? r : add_exec(m, launch);
}

static int build_call(sd_bus *bus, struct attempt_run *run, const struct launch *launch, sd_bus_message **ret) {
        cleanup_message sd_bus_message *m = NULL;
        cleanup_free char *unit = launcher_unit_name(run->manager, run->job);

        int r = !unit ? -ENOMEM
                      : sd_bus_message_new_method_call(bus, &m, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                                       "org.freedesktop.systemd1.Manager", "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = add_properties(m, run->job, launch);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r < 0)
                return r;
        *ret = steal_pointer(&m);
        return 0;
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        struct attempt_run *run = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        run->launcher_data = sd_bus_slot_unref(run->launcher_data);
        if (e) {
                char text[512];
                (void) snprintf(text, sizeof(text), "systemd: %s", e->message ? e->message : e->name);
                attempt_launch_failed(run, text);
        }
        return 0;
}

static int start(struct attempt_run *run, const struct launch *launch, struct error *error) {
        cleanup_message sd_bus_message *m = NULL;
        sd_bus *bus;
        sd_bus_slot *slot = NULL;

        int r = get_bus(run->manager, &bus);
        if (r < 0)
                return error_errno(error, -r, "systemd cannot be reached");
        r = build_call(bus, run, launch, &m);
        if (r >= 0)
                r = sd_bus_call_async(bus, &slot, m, on_started, run, START_TIMEOUT_USEC);
        if (r < 0)
                return error_errno(error, -r, "StartTransientUnit");
        run->launcher_data = slot;
        return 0;
}

static void forget(struct attempt_run *run) { run->launcher_data = sd_bus_slot_unref(run->launcher_data); }

/* Everything in the unit, should its cgroup not be known to us. */
static void kill_unit(struct manager *manager, struct job *job) {
        sd_bus *bus;
        cleanup_free char *unit = launcher_unit_name(manager, job);

        if (!unit || get_bus(manager, &bus) < 0)
                return;
        int r = sd_bus_call_method_async(bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                         "org.freedesktop.systemd1.Manager", "KillUnit", NULL, NULL, "ssi", unit, "all",
                                         9);
        if (r < 0)
                log_error("job %" PRIu64 ": %s cannot be killed: %s", job->id, unit, strerror(-r));
}

const struct launcher launcher_systemd = {
        .name = "systemd", .private_shm = true, .start = start, .forget = forget, .kill = kill_unit
};
