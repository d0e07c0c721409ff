/* See jobview.h. Owns nothing; reads memory only. Invariant: what only an owner may see is decided here and nowhere else. */
#include "daemon/jobview.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "daemon/attempt.h"
#include "daemon/files.h"
#include "daemon/gpu_watch.h"
#include "daemon/launcher.h"
#include "daemon/reasons.h"

/* Appends {key, variant}; the first failure sticks in *r. */
static void add_string(sd_bus_message *m, int *r, const char *key, const char *value) {
        if (*r >= 0)
                *r = sd_bus_message_append(m, "{sv}", key, "s", value ? value : "");
}
static void add_u32(sd_bus_message *m, int *r, const char *key, uint32_t value) {
        if (*r >= 0)
                *r = sd_bus_message_append(m, "{sv}", key, "u", value);
}
static void add_u64(sd_bus_message *m, int *r, const char *key, uint64_t value) {
        if (*r >= 0)
                *r = sd_bus_message_append(m, "{sv}", key, "t", value);
}
static void add_i32(sd_bus_message *m, int *r, const char *key, int32_t value) {
        if (*r >= 0)
                *r = sd_bus_message_append(m, "{sv}", key, "i", value);
}
static void add_double(sd_bus_message *m, int *r, const char *key, double value) {
        if (*r >= 0)
                *r = sd_bus_message_append(m, "{sv}", key, "d", value);
}

static void add_strings(sd_bus_message *m, int *r, const char *key, char **words) {
        if (*r >= 0)
                *r = sd_bus_message_open_container(m, 'e', "sv");
        if (*r >= 0)
                *r = sd_bus_message_append(m, "s", key);
        if (*r >= 0)
                *r = sd_bus_message_open_container(m, 'v', "as");
        if (*r >= 0)
                *r = sd_bus_message_append_strv(m, words);
        if (*r >= 0)
                *r = sd_bus_message_close_container(m);
        if (*r >= 0)
                *r = sd_bus_message_close_container(m);
}

static void add_command(sd_bus_message *m, int *r, const struct job *job) {
        cleanup_free char **words = unpack_strings(job->command, job->command_size);

        if (!words && *r >= 0)
                *r = -ENOMEM;
        add_strings(m, r, "command", words);
}

/* Why GPUs that no job uses are not given to this one. */
static void add_gpu_reasons(const struct manager *manager, const struct job *job, char *text, size_t size) {
        for (uint32_t i = 0; job->wait.wait == WAIT_GPUS && i < manager->options.gpus.n; i++) {
                const char *note = gpu_watch_note(manager->gpu_watch, i);
                size_t length = strlen(text);
                if (note[0])
                        (void) snprintf(text + length, size - length, "; GPU %u: %s", i, note);
        }
}

/* Waiting is public; a death's reason may quote the job's log. A transition that is not on the disk yet says so. */
static void add_reason(sd_bus_message *m, int *r, const struct manager *manager, const struct job *job, bool owner) {
        char wait[512] = "", text[2048];

        if (job->state == JOB_QUEUED) {
                (void) reason_of_waiting(&job->wait, manager_free_resources(manager), wait, sizeof(wait));
                add_gpu_reasons(manager, job, wait, sizeof(wait));
        }
        if (job->run && job->run->newer)
                (void) snprintf(wait, sizeof(wait),
                                "its shim is of bertd %s, newer than this bertd %s: it runs on, and is followed again "
                                "when that bertd "
                                "is started",
                                job->run->newer, BERTD_VERSION);
        const char *own = owner && job->reason ? job->reason : "";
        /* Nothing starts while a commit is outstanding. */
        const char *storage = job->dirty || job->state == JOB_QUEUED ? manager->storage_error : "";
        (void) snprintf(text, sizeof(text), "%s%s%s%s%s", wait, wait[0] && own[0] ? "; " : "", own,
                        storage[0] && (wait[0] || own[0]) ? "; " : "", storage);
        add_string(m, r, "reason", text);
}

static void add_progress(sd_bus_message *m, int *r, const struct job *job) {
        const struct checkpoint *c = job_newest_good(job);

        add_u64(m, r, "step", job->step);
        add_u64(m, r, "steps", job->steps);
        add_double(m, r, "loss", job->loss);
        add_double(m, r, "rate", job->state == JOB_RUNNING || job->state == JOB_STOPPING ? job->rate : (double) NAN);
        add_u64(m, r, "eta_sec", attempt_eta_sec(job));
        add_u64(m, r, "checkpoint_step", c ? c->step : 0);
        add_string(m, r, "checkpoint_path", c ? c->path : "");
        add_i32(m, r, "exit", job->exit_code);
        add_string(m, r, "exit_class", exit_class_name(job->exit_class));
        add_u64(m, r, "lost_steps", job->lost_steps);
        add_double(m, r, "goodput", attempt_goodput(job));
        add_double(m, r, "checkpoint_stall_sec", job->checkpoint_stall);
        add_double(m, r, "checkpoint_write_sec", job->checkpoint_write);
}

/* How the attempt that ended last did. First causes may quote the job's log. */
static void add_end(sd_bus_message *m, int *r, const struct job *job, bool owner) {
        static const struct attempt none = { .rank = -1 };
        const struct attempt *a = job_last_ended(job);
        char name[16] = "";

        if (!a)
                a = &none;
        if (a->signal > 0 && sigabbrev_np(a->signal))
                (void) snprintf(name, sizeof(name), "SIG%.8s", sigabbrev_np(a->signal));
        else if (a->signal > 0)
                (void) snprintf(name, sizeof(name), "SIG%d", a->signal);
        add_string(m, r, "exit_signal", name);
        add_i32(m, r, "exit_rank", a->rank);
        add_string(m, r, "exit_host", a->host);
        add_u64(m, r, "last_step", a->step);
        if (!owner)
                return;
        add_string(m, r, "evidence", a->evidence);
        add_string(m, r, "first_cause", a->reason);
}

static void add_limits(sd_bus_message *m, int *r, const struct job *job) {
        add_u64(m, r, "memory", job->memory);
        add_double(m, r, "cpus", job->cpus);
        add_i32(m, r, "hang_sec", job->hang_sec);
        add_i32(m, r, "start_sec", job->start_sec);
        add_string(m, r, "on_nan", on_nan_name(job->on_nan));
}

static void add_paths(sd_bus_message *m, int *r, const struct manager *manager, const struct job *job) {
        cleanup_free char *run_dir = files_run_dir(manager->options.state_dir, job);
        cleanup_free char *log =
                job->attempt.number ? files_attempt_path(manager->options.state_dir, job, "log") : NULL;

        add_string(m, r, "run_dir", run_dir);
        add_string(m, r, "log", log);
        add_string(m, r, "cwd", job->cwd);
}

int jobview_job(sd_bus_message *m, const struct manager *manager, const struct job *job, bool owner) {
        static const char *const launchers[] = LAUNCHER_NAMES;

        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        add_u64(m, &r, "id", job->id);
        add_string(m, &r, "name", job->name);
        add_string(m, &r, "user", job->user);
        add_u32(m, &r, "uid", job->uid);
        add_string(m, &r, "state", job_state_name(job->state));
        add_reason(m, &r, manager, job, owner);
        add_string(m, &r, "kind", job_kind_name(job->kind));
        add_string(m, &r, "launcher", launchers[job->launcher]);
        add_i32(m, &r, "priority", job->priority);
        add_u32(m, &r, "ranks", job->ranks);
        add_u32(m, &r, "threads", job->threads);
        add_u32(m, &r, "gpus", job->gpus);
        add_u32(m, &r, "attempts", job->attempt.number);
        add_u64(m, &r, "submitted", job->submitted);
        add_u64(m, &r, "started", job->started);
        add_u64(m, &r, "ended", job->ended);
        add_u64(m, &r, "not_before", job->not_before);
        add_progress(m, &r, job);
        add_end(m, &r, job, owner);
        add_limits(m, &r, job);
        add_paths(m, &r, manager, job);
        add_u64(m, &r, "attempt_started", job->attempt.open ? job->attempt.started : 0);
        if (owner) {
                add_string(m, &r, "status", job->status ? job->status : "");
                add_command(m, &r, job);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int jobview_checkpoint(sd_bus_message *m, const struct checkpoint *c) {
        static const char *const states[] = CHECKPOINT_STATE_NAMES;
        static_assert(ELEMENTSOF(states) == CHECKPOINT_STATE_MAX, "checkpoint states");

        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        add_u64(m, &r, "step", c->step);
        add_string(m, &r, "path", c->path);
        add_u64(m, &r, "size", c->size);
        add_string(m, &r, "state", states[c->state]);
        add_u32(m, &r, "attempt", c->attempt);
        add_u32(m, &r, "restored", c->restored);
        add_u64(m, &r, "created", c->created);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static uint32_t count_gpus(const struct manager *manager, enum gpu_state state) {
        return (uint32_t) __builtin_popcountll(gpu_watch_blocked(manager->gpu_watch, state));
}

static void add_gpu_notes(sd_bus_message *m, int *r, const struct manager *manager) {
        char texts[GPUS_MAX][GPU_NOTE_MAX + 16];
        char *notes[GPUS_MAX + 1] = {};
        size_t n = 0;

        gpu_watch_refresh(manager->gpu_watch);
        for (uint32_t i = 0; i < manager->options.gpus.n; i++) {
                const char *note = gpu_watch_note(manager->gpu_watch, i);
                if (!note[0])
                        continue;
                (void) snprintf(texts[n], sizeof(texts[n]), "GPU %u: %s", i, note);
                notes[n] = texts[n];
                n++;
        }
        add_strings(m, r, "gpu_notes", notes);
}

int jobview_daemon(sd_bus_message *m, const struct manager *manager) {
        uint64_t counts[JOB_STATE_MAX];
        struct queue_free free = manager_free_resources(manager);

        store_counts(manager->store, counts);
        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        add_string(m, &r, "version", BERTD_VERSION);
        add_u32(m, &r, "protocol", BERTD_PROTOCOL);
        add_u32(m, &r, "pid", (uint32_t) getpid());
        add_string(m, &r, "state_dir", manager->options.state_dir);
        add_string(m, &r, "launcher", manager->launchers[manager->options.launcher]->name);
        add_u32(m, &r, "slots", (uint32_t) free.slots_total);
        add_u32(m, &r, "slots_used", (uint32_t) manager->slots_used);
        add_u32(m, &r, "gpus", free.gpus_total);
        add_u32(m, &r, "gpus_used", (uint32_t) __builtin_popcountll(manager->gpus_used));
        add_u32(m, &r, "gpus_busy", count_gpus(manager, GPU_BUSY) + count_gpus(manager, GPU_UNKNOWN));
        add_u32(m, &r, "gpus_quarantined", count_gpus(manager, GPU_QUARANTINED));
        add_gpu_notes(m, &r, manager);
        add_string(m, &r, "storage_error", manager->storage_error);
        for (int i = 0; i < JOB_STATE_MAX; i++)
                add_u32(m, &r, job_state_name((enum job_state) i), (uint32_t) counts[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}
