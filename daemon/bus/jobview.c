/* See jobview.h. Owns nothing; reads memory only. Invariant: what only an owner may see is decided here and nowhere else. */
#include "daemon/bus/jobview.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/base/loop.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/folder.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/reasons.h"

#define GPU_NOTES_MAX (2 * GPUS_MAX) /* those of the list, and as many that are not in it any more */

/* Where the next byte goes that is aligned so. */
static int aligned(int at, int to) { return (at + to - 1) / to * to; }

/* A string of so many bytes that begins here, aligned already, ends there. */
static int after_string(int at, const char *text) { return at + 4 + (int) strlen(text) + 1; }

/* The same for the key and the signature, of so many characters, of an entry of a{sv}. */
static int after_key(int at, const char *key, int signature) {
        return after_string(aligned(at, 8), key) + 1 + signature + 1;
}

/* Each appends {key, variant}. *r is how many bytes there are by now, or the first failure, which sticks. */
static void note(int *r, int appended, int bytes) { *r = appended < 0 ? appended : bytes; }

static void add_string(sd_bus_message *m, int *r, const char *key, const char *value) {
        /* A text that was cut within a character would end the whole reply. */
        cleanup_free char *clean = text_as_utf8(value);
        const char *text = clean ? clean : value ? value : "";

        if (*r >= 0)
                note(r, sd_bus_message_append(m, "{sv}", key, "s", text),
                     after_string(aligned(after_key(*r, key, 1), 4), text));
}
static void add_u32(sd_bus_message *m, int *r, const char *key, uint32_t value) {
        if (*r >= 0)
                note(r, sd_bus_message_append(m, "{sv}", key, "u", value), aligned(after_key(*r, key, 1), 4) + 4);
}
static void add_u64(sd_bus_message *m, int *r, const char *key, uint64_t value) {
        if (*r >= 0)
                note(r, sd_bus_message_append(m, "{sv}", key, "t", value), aligned(after_key(*r, key, 1), 8) + 8);
}
static void add_i32(sd_bus_message *m, int *r, const char *key, int32_t value) {
        if (*r >= 0)
                note(r, sd_bus_message_append(m, "{sv}", key, "i", value), aligned(after_key(*r, key, 1), 4) + 4);
}
static void add_double(sd_bus_message *m, int *r, const char *key, double value) {
        if (*r >= 0)
                note(r, sd_bus_message_append(m, "{sv}", key, "d", value), aligned(after_key(*r, key, 1), 8) + 8);
}

static int opened(sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");
        return r < 0 ? r : 0;
}

static int closed(sd_bus_message *m, int r) {
        int x = r < 0 ? r : sd_bus_message_close_container(m);
        return x < 0 ? x : r;
}

static int append_strings(sd_bus_message *m, const char *key, char **words) {
        int r = sd_bus_message_open_container(m, 'e', "sv");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, words);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static void add_strings(sd_bus_message *m, int *r, const char *key, char **words) {
        if (*r < 0)
                return;
        int bytes = aligned(after_key(*r, key, 2), 4) + 4;
        for (char **w = words; *w; w++)
                bytes = after_string(aligned(bytes, 4), *w);
        note(r, append_strings(m, key, words), bytes);
}

/* "killed=12.500", seconds, of each class that cost any. */
static void add_lost(sd_bus_message *m, int *r, const struct job *job) {
        char texts[EXIT_CLASS_MAX][48];
        char *words[EXIT_CLASS_MAX + 1] = {};
        size_t n = 0;

        for (int c = 0; job->lost_usec && c < EXIT_CLASS_MAX; c++) {
                if (job->lost_usec[c] == 0)
                        continue;
                (void) snprintf(texts[n], sizeof(texts[n]), "%.16s=%.3f", exit_class_name(c),
                                (double) job->lost_usec[c] / (double) USEC_PER_SEC);
                words[n] = texts[n];
                n++;
        }
        add_strings(m, r, "lost_sec", words);
}

static void add_command(sd_bus_message *m, int *r, const struct jobview_command *command) {
        cleanup_free char **words = unpack_strings(command->words, command->size);

        if (!words && *r >= 0)
                *r = -ENOMEM;
        add_strings(m, r, "command", words);
}

/* Why GPUs that no job uses are not given to this one. */
static void add_gpu_reasons(const struct node *node, const struct job *job, char *text, size_t size) {
        for (uint32_t i = 0; job->wait.wait == WAIT_GPUS && i < node->options.gpus.n; i++) {
                const char *note = gpu_watch_note(node->gpu_watch, i);
                size_t length = strlen(text);
                if (note[0])
                        (void) snprintf(text + length, size - length, "; GPU %u: %s", i, note);
        }
}

/* Of a death the owner and root read more than others (struct job). A transition that is not on the disk yet says so. */
static void add_reason(sd_bus_message *m, int *r, const struct node *node, const struct job *job, bool owner) {
        char wait[512] = "", text[2048];

        if (job->state == JOB_QUEUED) {
                (void) reason_of_waiting(&job->wait, node_free_resources(node), wait, sizeof(wait));
                add_gpu_reasons(node, job, wait, sizeof(wait));
        }
        if (job->run && job->run->newer)
                (void) snprintf(wait, sizeof(wait),
                                "its shim is of bertd %s, newer than this bertd %s: it runs on, and is followed again "
                                "when that bertd is started",
                                job->run->newer, BERTD_VERSION);
        const char *own = owner ? job_private(job) : job->reason;
        if (!own)
                own = "";
        /* Nothing starts while a commit is outstanding. */
        const char *storage = job->dirty || job->state == JOB_QUEUED ? node->storage_error : "";
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
        add_lost(m, r, job);
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
        add_string(m, r, "first_cause", attempt_private(a));
}

/* The timer's clock decides, which no one sets; the wall clock's time is what it is by that. */
static void add_next_try(sd_bus_message *m, int *r, const struct job *job) {
        uint64_t now = loop_boottime(), left = 0;

        if (job->state == JOB_BACKOFF)
                left = job->wake_boottime > now ? job->wake_boottime - now : 1;
        add_u64(m, r, "not_before", left > 0 ? loop_realtime() + left : job->not_before);
        add_u64(m, r, "next_try_usec", left);
}

static void add_limits(sd_bus_message *m, int *r, const struct job *job) {
        add_u64(m, r, "memory", job->memory);
        add_double(m, r, "cpus", job->cpus);
        add_u64(m, r, "log_max_size", job->log_max_size);
        add_u32(m, r, "log_keep", job->log_keep);
        add_i32(m, r, "hang_sec", job->hang_sec);
        add_i32(m, r, "start_sec", job->start_sec);
        add_string(m, r, "on_nan", on_nan_name(job->on_nan));
        add_string(m, r, "ends_with", ends_with_name(job->ends_with));
        add_i32(m, r, "nice", job->nice);
}

/* Of a job that has lost its first process and runs on. */
static void add_running_on(sd_bus_message *m, int *r, const struct job *job) {
        if (!job->run || job->run->runs_on == 0)
                return;
        add_i32(m, r, "first_exit", job->run->first_exit);
        add_u32(m, r, "runs_on", job->run->runs_on);
}

static void add_paths(sd_bus_message *m, int *r, const struct node *node, const struct job *job) {
        cleanup_free char *run_dir = files_run_dir(node->options.state_dir, job);
        cleanup_free char *log = job->attempt.number ? files_attempt_path(node->options.state_dir, job, "log") : NULL;

        add_string(m, r, "run_dir", run_dir);
        add_string(m, r, "log", log);
        add_string(m, r, "cwd", job->cwd);
}

int jobview_job(sd_bus_message *m, const struct node *node, const struct job *job, bool owner,
                const struct jobview_command *command) {
        static const char *const launchers[] = LAUNCHER_NAMES;

        int r = opened(m);
        add_u64(m, &r, "id", job->id);
        add_string(m, &r, "name", job->name);
        add_string(m, &r, "user", job->user);
        add_u32(m, &r, "uid", job->uid);
        add_string(m, &r, "state", job_state_name(job->state));
        add_reason(m, &r, node, job, owner);
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
        add_next_try(m, &r, job);
        add_progress(m, &r, job);
        add_end(m, &r, job, owner);
        add_limits(m, &r, job);
        add_running_on(m, &r, job);
        add_paths(m, &r, node, job);
        add_u64(m, &r, "attempt_started", job->attempt.open ? job->attempt.started : 0);
        if (owner) {
                add_string(m, &r, "status", job->status ? job->status : "");
                if (command)
                        add_command(m, &r, command);
        }
        return closed(m, r);
}

const char *jobview_event_reason(const struct event_row *event, bool owner) {
        return owner ? event->private : event->reason;
}

int jobview_checkpoint(sd_bus_message *m, const struct checkpoint *c) {
        static const char *const states[] = CHECKPOINT_STATE_NAMES;
        static_assert(ELEMENTSOF(states) == CHECKPOINT_STATE_MAX, "checkpoint states");

        int r = opened(m);
        add_u64(m, &r, "step", c->step);
        add_string(m, &r, "path", c->path);
        add_u64(m, &r, "size", c->size);
        add_string(m, &r, "state", states[c->state]);
        add_u32(m, &r, "attempt", c->attempt);
        add_u32(m, &r, "restored", c->restored);
        add_u64(m, &r, "created", c->created);
        return closed(m, r);
}

static uint32_t count_gpus(const struct node *node, enum gpu_state state) {
        return (uint32_t) __builtin_popcountll(gpu_watch_in_state(node->gpu_watch, state));
}

/* GPUs that jobs hold, but that are not in today's list: they are not given to others when they come back. */
static size_t note_lost_gpus(const struct node *node, char texts[][GPU_NOTE_MAX + 16], size_t n) {
        char name[GPU_NAME_MAX];

        for (size_t i = 0; node->gpus_lost > 0 && i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                const char *names = state_holds_resources(job->state) ? job->attempt.gpus : NULL;
                while (n < GPU_NOTES_MAX && gpus_next_missing(&node->options.gpus, &names, name))
                        (void) snprintf(texts[n++], sizeof(texts[0]),
                                        "GPU %s: held by job %" PRIu64 ", but not listed any more", name, job->id);
        }
        return n;
}

static void add_gpu_notes(sd_bus_message *m, int *r, const struct node *node) {
        char texts[GPU_NOTES_MAX][GPU_NOTE_MAX + 16];
        char *notes[GPU_NOTES_MAX + 1] = {};
        size_t n = 0;

        gpu_watch_refresh(node->gpu_watch);
        for (uint32_t i = 0; i < node->options.gpus.n; i++) {
                const char *note = gpu_watch_note(node->gpu_watch, i);
                if (!note[0])
                        continue;
                (void) snprintf(texts[n++], sizeof(texts[0]), "GPU %u: %s", i, note);
        }
        n = note_lost_gpus(node, texts, n);
        for (size_t i = 0; i < n; i++)
                notes[i] = texts[i];
        add_strings(m, r, "gpu_notes", notes);
}

int jobview_daemon(sd_bus_message *m, const struct node *node) {
        uint64_t counts[JOB_STATE_MAX];
        struct queue_free free = node_free_resources(node);

        store_counts(node->store, counts);
        int r = opened(m);
        add_string(m, &r, "version", BERTD_VERSION);
        add_u32(m, &r, "protocol", BERTD_PROTOCOL);
        add_u32(m, &r, "pid", (uint32_t) getpid());
        add_string(m, &r, "state_dir", node->options.state_dir);
        add_string(m, &r, "launcher", node->launchers[node->options.launcher]->name);
        add_u32(m, &r, "slots", (uint32_t) free.slots_total);
        add_u32(m, &r, "slots_used", (uint32_t) node->slots_used);
        add_u32(m, &r, "gpus", free.gpus_total);
        add_u32(m, &r, "gpus_used", (uint32_t) __builtin_popcountll(node->gpus_used));
        add_u32(m, &r, "gpus_busy", count_gpus(node, GPU_BUSY) + count_gpus(node, GPU_UNKNOWN));
        add_u32(m, &r, "gpus_quarantined", count_gpus(node, GPU_QUARANTINED));
        add_gpu_notes(m, &r, node);
        add_string(m, &r, "storage_error", node->storage_error);
        add_u64(m, &r, "keep_ended", node->options.keep_ended);
        add_u64(m, &r, "held", store_held(node->store));
        for (int i = 0; i < JOB_STATE_MAX; i++)
                add_u32(m, &r, job_state_name((enum job_state) i), (uint32_t) counts[i]);
        return closed(m, r);
}
