/*
 * See jobview.h. Owns nothing; reads memory only. Invariant: only the field's row (rules/job_fields.h) decides who may
 * see a field, and only this file what others see of a reason.
 */
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
#include "common/gpu_use.h"
#include "common/hosts.h"
#include "common/utf8.h"
#include "daemon/base/loop.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/folder.h"
#include "daemon/gpu/watch.h"
#include "daemon/launch/launcher.h"
#include "daemon/rules/reasons.h"

#define GPU_NOTES_MAX (2 * GPUS_MAX) /* those in the list, and as many that are no longer in it */

/* Aligned position of the next byte. */
static int aligned(int at, int to) { return (at + to - 1) / to * to; }

/* End of a string of `length` bytes at an aligned position. */
static int after_string(int at, const char *text) { return at + 4 + (int) strlen(text) + 1; }

/* The same for key and signature of an entry of a{sv}. */
static int after_key(int at, const char *key, int signature) {
        return after_string(aligned(at, 8), key) + 1 + signature + 1;
}

/* Each appends {key, variant}. *r is the number of bytes so far, or the first failure, which is kept. */
static void note(int *r, int appended, int bytes) { *r = appended < 0 ? appended : bytes; }

static void add_string(sd_bus_message *m, int *r, const char *key, const char *value) {
        /* A text cut within a character would invalidate the whole reply. */
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

/* ---- a job: computed keys ---- */

struct view {
        sd_bus_message *m;
        int r;
        const struct node *node;
        const struct job *job;
        bool owner;
        const struct jobview_command *command;
};

static void view_kind(struct view *v, const char *key) {
        add_string(v->m, &v->r, key, job_is_lease(v->job) ? JOB_KIND_LEASE : job_kind_name(v->job->kind));
}

static void view_id(struct view *v, const char *key) { add_u64(v->m, &v->r, key, v->job->id); }

/* Why free GPUs are not given to this job. */
static void add_gpu_reasons(const struct node *node, const struct job *job, char *text, size_t size) {
        for (uint32_t i = 0; job->wait.wait == WAIT_GPUS && i < node->options.gpus.n; i++) {
                const char *note = gpu_watch_note(node->gpu_watch, i);
                size_t length = strlen(text);
                if (note[0])
                        (void) snprintf(text + length, size - length, "; GPU %u: %s", i, note);
        }
}

static void add_drain(const struct node *node, char *text, size_t size) {
        size_t length = strlen(text);

        if (node->drain.since > 0)
                (void) snprintf(text + length, size - length, "%sthis host is drained: %s", length > 0 ? "; " : "",
                                node->drain.reason);
}

/* The owner and root see more of a death than others (struct job). Marks a transition that is not durable yet. */
static void view_reason(struct view *v, const char *key) {
        const struct job *job = v->job;
        char wait[512] = "", text[2048];

        if (job->state == JOB_QUEUED) {
                (void) reason_of_waiting(&job->wait, node_free_resources(v->node), wait, sizeof(wait));
                add_gpu_reasons(v->node, job, wait, sizeof(wait));
                add_drain(v->node, wait, sizeof(wait));
        }
        if (job->run && job->run->newer)
                (void) snprintf(wait, sizeof(wait),
                                "its shim is from bertd %s, newer than this bertd %s: it keeps running, and is "
                                "followed again when that bertd is started",
                                job->run->newer, BERTD_VERSION);
        const char *own = v->owner ? job_private(job) : job->reason;
        if (!own)
                own = "";
        /* No job starts while a commit is outstanding. */
        const char *storage = job->dirty || job->state == JOB_QUEUED ? v->node->storage_error : "";
        (void) snprintf(text, sizeof(text), "%s%s%s%s%s", wait, wait[0] && own[0] ? "; " : "", own,
                        storage[0] && (wait[0] || own[0]) ? "; " : "", storage);
        add_string(v->m, &v->r, key, text);
}

static void view_attempts(struct view *v, const char *key) { add_u32(v->m, &v->r, key, v->job->attempt.number); }

static void view_attempt_started(struct view *v, const char *key) {
        add_u64(v->m, &v->r, key, v->job->attempt.open ? v->job->attempt.started : 0);
}

/* On the timer's clock, which cannot be set. */
static uint64_t next_try(const struct job *job) {
        uint64_t now = loop_boottime();

        if (job->state != JOB_BACKOFF)
                return 0;
        return job->wake_boottime > now ? job->wake_boottime - now : 1;
}

/* Converted to wall-clock time. */
static void view_not_before(struct view *v, const char *key) {
        uint64_t left = next_try(v->job);

        add_u64(v->m, &v->r, key, left > 0 ? loop_realtime() + left : v->job->not_before);
}

static void view_next_try_usec(struct view *v, const char *key) { add_u64(v->m, &v->r, key, next_try(v->job)); }

static void view_rate(struct view *v, const char *key) {
        bool works = v->job->state == JOB_RUNNING || v->job->state == JOB_STOPPING;

        add_double(v->m, &v->r, key, works ? v->job->rate : (double) NAN);
}

static void view_eta_sec(struct view *v, const char *key) { add_u64(v->m, &v->r, key, attempt_eta_sec(v->job)); }

static void view_goodput(struct view *v, const char *key) { add_double(v->m, &v->r, key, attempt_goodput(v->job)); }

static void view_checkpoint_step(struct view *v, const char *key) {
        const struct checkpoint *c = job_newest_good(v->job);

        add_u64(v->m, &v->r, key, c ? c->step : 0);
}

static void view_checkpoint_path(struct view *v, const char *key) {
        const struct checkpoint *c = job_newest_good(v->job);

        add_string(v->m, &v->r, key, c ? c->path : "");
}

/* "killed=12.500" for each class with lost time, in seconds. */
static void view_lost_sec(struct view *v, const char *key) {
        const uint64_t *lost_usec = v->job->lost_usec;
        char texts[EXIT_CLASS_MAX][48];
        char *words[EXIT_CLASS_MAX + 1] = {};
        size_t n = 0;

        for (int c = 0; lost_usec && c < EXIT_CLASS_MAX; c++) {
                if (lost_usec[c] == 0)
                        continue;
                (void) snprintf(texts[n], sizeof(texts[n]), "%.16s=%.3f", exit_class_name(c),
                                (double) lost_usec[c] / (double) USEC_PER_SEC);
                words[n] = texts[n];
                n++;
        }
        add_strings(v->m, &v->r, key, words);
}

/* Result of the last ended attempt. First causes may quote the job's log. */
static const struct attempt *last_ended(const struct view *v) {
        static const struct attempt none = { .rank = -1 };
        const struct attempt *a = job_last_ended(v->job);

        return a ? a : &none;
}

static void view_exit_signal(struct view *v, const char *key) {
        int signal = last_ended(v)->signal;
        char name[16] = "";

        if (signal > 0 && sigabbrev_np(signal))
                (void) snprintf(name, sizeof(name), "SIG%.8s", sigabbrev_np(signal));
        else if (signal > 0)
                (void) snprintf(name, sizeof(name), "SIG%d", signal);
        add_string(v->m, &v->r, key, name);
}

static void view_exit_rank(struct view *v, const char *key) { add_i32(v->m, &v->r, key, last_ended(v)->rank); }

static void view_exit_host(struct view *v, const char *key) { add_string(v->m, &v->r, key, last_ended(v)->host); }

static void view_last_step(struct view *v, const char *key) { add_u64(v->m, &v->r, key, last_ended(v)->step); }

static void view_evidence(struct view *v, const char *key) { add_string(v->m, &v->r, key, last_ended(v)->evidence); }

static void view_first_cause(struct view *v, const char *key) {
        add_string(v->m, &v->r, key, attempt_private(last_ended(v)));
}

/* For a job that continues without its first process; likewise the next. */
static void view_first_exit(struct view *v, const char *key) {
        if (v->job->run && v->job->run->runs_on > 0)
                add_i32(v->m, &v->r, key, v->job->run->first_exit);
}

static void view_runs_on(struct view *v, const char *key) {
        if (v->job->run && v->job->run->runs_on > 0)
                add_u32(v->m, &v->r, key, v->job->run->runs_on);
}

static void view_run_dir(struct view *v, const char *key) {
        cleanup_free char *run_dir = files_run_dir(v->node->options.state_dir, v->job);

        add_string(v->m, &v->r, key, run_dir);
}

static void view_log(struct view *v, const char *key) {
        cleanup_free char *log =
                v->job->attempt.number ? files_attempt_path(v->node->options.state_dir, v->job, "log") : NULL;

        add_string(v->m, &v->r, key, log);
}

static void view_status(struct view *v, const char *key) { add_string(v->m, &v->r, key, v->job->status); }

static void view_command(struct view *v, const char *key) {
        if (!v->command)
                return;
        cleanup_free char **words = unpack_strings(v->command->words, v->command->size);
        if (!words && v->r >= 0)
                v->r = -ENOMEM;
        add_strings(v->m, &v->r, key, words);
}

/* A list that the job has as one text. */
static void add_names(struct view *v, const char *key, const char *text) {
        char *words[BERTD_HOSTS_MAX + 1] = {}, name[BERTD_HOST_MAX + 1];
        size_t n = 0;

        while (n < BERTD_HOSTS_MAX && hosts_next(&text, name) && (words[n] = strdup(name)))
                n++;
        add_strings(v->m, &v->r, key, words);
        for (size_t i = 0; i < n; i++)
                free(words[i]);
}

static void view_hosts(struct view *v, const char *key) { add_names(v, key, v->job->hosts); }

static void view_use(struct view *v, const char *key) { add_u32(v->m, &v->r, key, job_n_hosts(v->job)); }

/* Of the newest attempt, which may have been started with fewer hosts. */
static void view_world(struct view *v, const char *key) {
        uint32_t n = job_n_hosts(v->job);

        if (n > 1 && v->job->attempt.open && v->job->hosts_in_use)
                n = hosts_count(v->job->hosts_in_use);
        add_u32(v->m, &v->r, key, v->job->ranks * n);
}

static void view_hosts_in_use(struct view *v, const char *key) { add_names(v, key, v->job->hosts_in_use); }

static void view_slowest(struct view *v, const char *key) {
        add_string(v->m, &v->r, key, v->job->run ? v->job->run->slowest : NULL);
}

/* Holders change without a query: what the driver reported is looked up by the names that the attempt has. */
static void view_gpu_usage(struct view *v, const char *key) {
        const char *names = state_holds_resources(v->job->state) ? v->job->attempt.gpus : NULL;
        char texts[GPUS_MAX][GPU_USE_TEXT_MAX], name[GPU_NAME_MAX];
        char *words[GPUS_MAX + 1] = {};

        if (names && names[0])
                gpu_watch_refresh(v->node->gpu_watch);
        for (size_t n = 0; n < GPUS_MAX && gpus_next(&names, name); n++) {
                const struct nvml_gpu *gpu = gpu_watch_use(v->node->gpu_watch, name);
                struct gpu_use use = { .load = -1 };
                if (gpu && gpu->total > 0)
                        use = (struct gpu_use) {
                                .known = true, .used = gpu->used, .total = gpu->total, .load = gpu->load
                        };
                (void) snprintf(use.name, sizeof(use.name), "%s", name);
                (void) gpu_use_write(&use, texts[n]);
                words[n] = texts[n];
        }
        add_strings(v->m, &v->r, key, words);
}

static void view_gpu_usage_read(struct view *v, const char *key) {
        const char *names = state_holds_resources(v->job->state) ? v->job->attempt.gpus : NULL;
        uint64_t age = gpu_watch_age(v->node->gpu_watch);

        add_u64(v->m, &v->r, key, names && names[0] && age < UINT64_MAX ? loop_realtime() - age : 0);
}

static void view_slowest_since(struct view *v, const char *key) {
        add_u64(v->m, &v->r, key, v->job->run ? v->job->run->slowest_since : 0);
}

#define COMPUTED(key, signature, who) { #key, who, view_##key },
static const struct computed {
        const char *key;
        enum job_field_shown shown;
        void (*add)(struct view *view, const char *key);
} computed[] = { JOB_COMPUTED(COMPUTED) };

static void add_field(struct view *v, const struct job_field *field) {
        const void *at = (const char *) v->job + field->stored;
        const char *key = job_field_key(field);
        int64_t number = field->type <= FIELD_BOOL ? job_field_number(field, at) : 0;

        if (field->names)
                add_string(v->m, &v->r, key, number >= 0 ? field->names[number] : "");
        else if (job_field_is_text(field))
                add_string(v->m, &v->r, key, *(const char *const *) at);
        else if (field->type == FIELD_DOUBLE)
                add_double(v->m, &v->r, key, *(const double *) at);
        else if (field->type == FIELD_U64)
                add_u64(v->m, &v->r, key, *(const uint64_t *) at);
        else if (field->type == FIELD_U32)
                add_u32(v->m, &v->r, key, (uint32_t) number);
        else
                add_i32(v->m, &v->r, key, (int32_t) number);
}

static bool may_see(const struct view *v, enum job_field_shown shown) {
        return shown == SHOWN_TO_ALL || (shown == SHOWN_TO_OWNER && v->owner);
}

int jobview_job(sd_bus_message *m, const struct node *node, const struct job *job, bool owner,
                const struct jobview_command *command) {
        struct view v = { .m = m, .node = node, .job = job, .owner = owner, .command = command };

        v.r = opened(m); /* the id comes first */
        for (size_t i = 0; i < ELEMENTSOF(computed); i++)
                if (may_see(&v, computed[i].shown))
                        computed[i].add(&v, computed[i].key);
        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (may_see(&v, job_fields[i].shown))
                        add_field(&v, &job_fields[i]);
        return closed(m, v.r);
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

/* GPUs held by jobs but not in today's list: not given to others if they return. */
static size_t note_lost_gpus(const struct node *node, char texts[][GPU_NOTE_MAX + 16], size_t n) {
        char name[GPU_NAME_MAX];

        for (size_t i = 0; node->gpus_lost > 0 && i < store_count(node->store); i++) {
                const struct job *job = store_at(node->store, i);
                const char *names = state_holds_resources(job->state) ? job->attempt.gpus : NULL;
                while (n < GPU_NOTES_MAX && gpus_next_missing(&node->options.gpus, &names, name))
                        (void) snprintf(texts[n++], sizeof(texts[0]),
                                        "GPU %s: held by job %" PRIu64 ", but no longer listed", name, job->id);
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

/* "free GPU-...": what a head is shown before it asks for a lease. */
static void add_gpu_list(sd_bus_message *m, int *r, const struct node *node) {
        char texts[GPUS_MAX][GPU_NAME_MAX + 16];
        char *words[GPUS_MAX + 1] = {};

        for (uint32_t i = 0; i < node->options.gpus.n; i++) {
                const uint64_t bit = UINT64_C(1) << i;
                const char *state = node->gpus_used & bit                      ? "used"
                                    : gpu_watch_blocked(node->gpu_watch) & bit ? "blocked"
                                                                               : "free";
                (void) snprintf(texts[i], sizeof(texts[i]), "%s %.*s", state, GPU_NAME_MAX - 1,
                                node->options.gpus.names[i]);
                words[i] = texts[i];
        }
        add_strings(m, r, "gpu_list", words);
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
        add_string(m, &r, "draining", node->drain.since > 0 ? node->drain.reason : "");
        add_u64(m, &r, "draining_since", node->drain.since);
        add_u32(m, &r, "draining_move", node->drain.move);
        add_gpu_list(m, &r, node);
        add_u64(m, &r, "keep_ended", node->options.keep_ended);
        add_u64(m, &r, "held", store_held(node->store));
        for (int i = 0; i < JOB_STATE_MAX; i++)
                add_u32(m, &r, job_state_name((enum job_state) i), (uint32_t) counts[i]);
        return closed(m, r);
}
