/*
 * See systemd_unit.h. Owns nothing.
 * No PAMName: it would move the job into a login session, which ends with the user's.
 */
#include "daemon/launch/systemd_unit.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/utf8.h"

#define STOP_EXTENSIONS 4 /* how often the grace may be extended while a checkpoint is being written */

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

/* systemd refuses a whole call for one assignment that it does not like. */
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

/* At shutdown a job stops before its mounts and the network go. */
static int add_order(sd_bus_message *m) {
        return sd_bus_message_append(m, "(sv)", "After", "as", 4, "network.target", "remote-fs.target",
                                     "local-fs.target", "nss-user-lookup.target");
}

/* A stopped shim falls to the watchdog, and with it the whole lease; see shim/lease.c. PrivateTmp: a rank that is
 * killed leaves Open MPI's folder there. */
static int add_lease(sd_bus_message *m, const struct job *job) {
        if (!job_is_lease(job))
                return 0;
        return sd_bus_message_append(m, "(sv)(sv)(sv)(sv)", "KillMode", "s", "control-group", "PrivateTmp", "b", true,
                                     "WatchdogUSec", "t", job->host_timeout_sec * USEC_PER_SEC, "WatchdogSignal", "i",
                                     SIGKILL);
}

int unit_add_properties(sd_bus_message *m, const struct job *job, const struct launch_request *request) {
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
        /* Its own /dev/shm: logind's RemoveIPC empties the shared one when the user logs out. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "TemporaryFileSystem", "a(ss)", 1, "/dev/shm", "mode=1777");
        if (r >= 0)
                r = add_resources(m, job);
        if (r >= 0)
                r = add_journal(m, job);
        if (r >= 0)
                r = add_order(m);
        if (r >= 0)
                r = add_lease(m, job);
        if (r >= 0)
                r = add_limits(m, request->inputs);
        if (r >= 0)
                r = add_environment(m, request);
        return r < 0 ? r : add_exec(m, request);
}

int unit_add_task_properties(sd_bus_message *m, const struct job *job, char *const *argv, char *const *environment,
                             const char *cwd, uint64_t limit_usec) {
        char user[32], group[32];
        cleanup_free char *folder = format_string("-%s", cwd); /* one that is gone does not matter */
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
