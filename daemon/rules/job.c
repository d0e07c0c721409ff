/*
 * See job.h. Role: the memory of one job. Invariants: the ledger is sorted by step with one row per step; ledger and
 * history stay within their bounds; a shared text lives as long as its holders.
 */
#include "daemon/rules/job.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/hosts.h"
#include "common/utf8.h"
#include "daemon/rules/states.h"

#define SHORT_TEXT_MAX 128 /* bytes per text if its user's share of memory is used up */

/* ---- shared texts ---- */

struct shared {
        struct shared *next;
        size_t holders;
        char text[];
};
#define SHARED_BUCKETS 256
static struct shared *shared_texts[SHARED_BUCKETS];

static struct shared **bucket_of(const char *text) {
        uint32_t hash = 2166136261u; /* FNV-1a */

        for (; *text; text++)
                hash = (hash ^ (unsigned char) *text) * 16777619u;
        return &shared_texts[hash % SHARED_BUCKETS];
}

const char *text_shared(const char *text) {
        if (!text)
                return NULL;
        struct shared **bucket = bucket_of(text);
        struct shared *s = *bucket;
        while (s && strcmp(s->text, text) != 0)
                s = s->next;
        if (!s) {
                size_t size = strlen(text) + 1;
                s = malloc(sizeof(*s) + size);
                if (!s)
                        return NULL;
                *s = (struct shared) { .next = *bucket };
                memcpy(s->text, text, size);
                *bucket = s;
        }
        s->holders++;
        return s->text;
}

void text_unshare(const char *text) {
        if (!text)
                return;
        struct shared **at = bucket_of(text);
        while ((*at)->text != text)
                at = &(*at)->next;
        struct shared *s = *at;
        if (--s->holders > 0)
                return;
        *at = s->next;
        free(s);
}

/* Length of the longest prefix within `max` bytes that ends at a character. */
static size_t length_within(const char *text, size_t max) {
        size_t n = strnlen(text, max + 1);

        if (n > max)
                for (n = max; n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80;)
                        n--;
        return n;
}

void job_set_text(char **to, const char *text) {
        cleanup_free char *clean = text_as_utf8(text);
        const char *from = clean ? clean : text;
        char *copy = from && from[0] ? strndup(from, length_within(from, BERTD_REASON_MAX)) : NULL;

        free(*to);
        *to = copy;
}

static void set_reasons(char **to, char **to_private, const char *reason, const char *private) {
        job_set_text(to, reason);
        job_set_text(to_private, private && strcmp(private, reason ? reason : "") != 0 ? private : NULL);
}

void job_set_reason(struct job *job, const char *reason, const char *private) {
        set_reasons(&job->reason, &job->private, reason, private);
}

void attempt_set_reason(struct attempt *attempt, const char *reason, const char *private) {
        set_reasons(&attempt->reason, &attempt->private, reason, private);
}

uint32_t job_n_hosts(const struct job *job) {
        uint32_t n = hosts_count(job->hosts);

        return n <= 1 ? 1 : job->use == 0 ? n : MIN(job->use, n);
}

void attempt_clear(struct attempt *attempt) {
        free(attempt->gpus);
        free(attempt->host);
        free(attempt->reason);
        free(attempt->private);
        free(attempt->more);
        free(attempt->more_private);
        free(attempt->evidence);
        *attempt = (struct attempt) { .exit_code = -1, .exit_class = -1, .rank = -1 };
}

void job_push_attempt(struct job *job) {
        if (job->attempt.number == 0) {
                attempt_clear(&job->attempt);
                return;
        }
        if (job->previous)
                attempt_clear(job->previous);
        else
                job->previous = malloc(sizeof(*job->previous));
        if (job->previous) {
                *job->previous = job->attempt;
                job->attempt = (struct attempt) {};
        }
        attempt_clear(&job->attempt);
}

const struct attempt *job_last_ended(const struct job *job) {
        if (job->attempt.open)
                return job->previous;
        return job->attempt.number > 0 ? &job->attempt : NULL;
}

static size_t size_of(const char *text) { return text ? strlen(text) + 1 : 0; }

static size_t attempt_texts(const struct attempt *a) {
        return size_of(a->host) + size_of(a->reason) + size_of(a->private) + size_of(a->more) +
               size_of(a->more_private) + size_of(a->evidence);
}

/* Its length is up to the user. */
static bool is_users(const struct job_field *field) { return field->asked != NO_OFFSET || field->sentence; }

size_t job_texts(const struct job *job) {
        size_t size = attempt_texts(&job->attempt);

        for (size_t i = 0; i < JOB_N_STORED; i++)
                if (job_field_is_text(&job_fields[i]) && is_users(&job_fields[i]))
                        size += size_of(*(const char *const *) ((const char *) job + job_fields[i].stored));
        if (job->previous)
                size += attempt_texts(job->previous);
        for (size_t i = 0; i < job->n_ledger; i++)
                size += size_of(job->ledger[i].path);
        return size;
}

static void cut(char *text) {
        if (text)
                text[length_within(text, SHORT_TEXT_MAX)] = '\0';
}

void job_shrink(struct job *job) {
        cut(job->reason);
        cut(job->private);
        cut(job->attempt.reason);
        cut(job->attempt.private);
        job_set_text(&job->attempt.evidence, NULL);
        if (job->previous)
                attempt_clear(job->previous);
        free(job->previous);
        job->previous = NULL;
}

/* Index of the first row of a step >= the given one. */
static size_t ledger_bound(const struct job *job, uint64_t step) {
        size_t low = 0, high = job->n_ledger;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (job->ledger[middle].step < step)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

struct checkpoint *job_checkpoint(const struct job *job, uint64_t step) {
        size_t i = ledger_bound(job, step);

        return i < job->n_ledger && job->ledger[i].step == step ? &job->ledger[i] : NULL;
}

bool checkpoint_is_usable(const struct checkpoint *c) {
        return c->state == CHECKPOINT_GOOD || c->state == CHECKPOINT_UNCONFIRMED;
}

struct checkpoint *job_newest_until(const struct job *job, uint64_t step) {
        struct checkpoint *unconfirmed = NULL;

        for (size_t i = job->n_ledger; i-- > 0;) {
                struct checkpoint *c = &job->ledger[i];
                if (c->step > step)
                        continue;
                if (c->state == CHECKPOINT_GOOD)
                        return c;
                if (c->state == CHECKPOINT_UNCONFIRMED && !unconfirmed)
                        unconfirmed = c;
        }
        return unconfirmed;
}

const struct checkpoint *job_newest_good(const struct job *job) { return job_newest_until(job, UINT64_MAX); }

static void ledger_drop(struct job *job, size_t i) {
        free(job->ledger[i].path);
        job->n_ledger--;
        memmove(&job->ledger[i], &job->ledger[i + 1], (job->n_ledger - i) * sizeof(*job->ledger));
}

/* Drops the oldest row without a file, else the oldest row. False: that would be the new row. */
static bool ledger_make_room(struct job *job, uint64_t step) {
        size_t i = 0;

        while (i < job->n_ledger && job->ledger[i].state != CHECKPOINT_DELETED)
                i++;
        if (i == job->n_ledger && step < job->ledger[0].step)
                return false;
        ledger_drop(job, i == job->n_ledger ? 0 : i);
        return true;
}

void job_ledger_trim(struct job *job) {
        const struct checkpoint *newest = job_newest_good(job);
        uint64_t kept = newest ? newest->step : 0;
        size_t n = 0;

        for (size_t i = 0; i < job->n_ledger; i++)
                if (job->ledger[i].dirty || (newest && job->ledger[i].step == kept))
                        job->ledger[n++] = job->ledger[i];
                else
                        free(job->ledger[i].path);
        if (n < job->n_ledger)
                job->ledger_whole = false;
        job->n_ledger = n;
        if (n == 0) {
                free(job->ledger);
                job->ledger = NULL;
        } else
                (void) array_resize(&job->ledger, n, sizeof(*job->ledger)); /* it may stay as large */
}

int job_checkpoint_add(struct job *job, const struct checkpoint *row) {
        char *path = strdup(row->path);
        if (!path)
                return -ENOMEM;

        struct checkpoint *old = job_checkpoint(job, row->step);
        if (old) {
                free(old->path);
                *old = *row;
                old->path = path;
                return 0;
        }
        if (job->n_ledger >= LEDGER_MAX && !ledger_make_room(job, row->step)) {
                free(path);
                return -ENOSPC;
        }
        if (array_resize(&job->ledger, job->n_ledger + 1, sizeof(*job->ledger)) < 0) {
                free(path);
                return -ENOMEM;
        }
        size_t i = ledger_bound(job, row->step);
        memmove(&job->ledger[i + 1], &job->ledger[i], (job->n_ledger++ - i) * sizeof(*job->ledger));
        job->ledger[i] = *row;
        job->ledger[i].path = path;
        return 0;
}

int job_history_add(struct job *job, const struct policy_death *death) {
        if (job->n_history >= POLICY_HISTORY_MAX) {
                memmove(job->history, job->history + 1, (job->n_history - 1) * sizeof(*job->history));
                job->n_history--;
        } else if (array_resize(&job->history, job->n_history + 1, sizeof(*job->history)) < 0)
                return -ENOMEM;
        job->history[job->n_history++] = *death;
        return 0;
}

/* A failed start without a report of the shim is the host's fault; a reported one has an exit code. */
struct policy_death job_death(const struct attempt *a) {
        return (struct policy_death) { .exit_class = (enum exit_class) a->exit_class,
                                       .resumed = a->resumed,
                                       .first_step = a->first_step,
                                       .step = a->step,
                                       .checkpoint_step = a->checkpoint_step,
                                       .host = (a->exit_class == EXIT_CLASS_LAUNCH ||
                                                a->exit_class == EXIT_CLASS_DISK_FULL) &&
                                               a->exit_code < 0 && a->signal == 0 };
}

bool job_has_stepped(const struct job *job) {
        return job->run_steps > 0 || job->attempt.step > 0 || job_newest_good(job);
}

bool job_reports(const struct job *job) {
        return job->kind != JOB_COMMAND || job_has_stepped(job) || job->steps > 0 || !isnan(job->loss);
}

void job_lose(struct job *job, enum exit_class exit_class, uint64_t usec) {
        if (usec > 0 && !job->lost_usec)
                job->lost_usec = calloc(EXIT_CLASS_MAX, sizeof(*job->lost_usec));
        if (usec > 0 && job->lost_usec)
                job->lost_usec[exit_class] += usec;
}

char *job_lost_text(const struct job *job) {
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        for (int c = 0, n = 0; job->lost_usec && c < EXIT_CLASS_MAX; c++)
                if (job->lost_usec[c] > 0)
                        (void) fprintf(stream, "%s%s=%" PRIu64, n++ > 0 ? " " : "", exit_class_name(c),
                                       job->lost_usec[c]);
        (void) fclose(stream);
        return text;
}

void job_set_lost(struct job *job, const char *text) {
        char name[32];
        uint64_t usec;
        int n;

        for (; text && sscanf(text, "%31[a-z-]=%" SCNu64 " %n", name, &usec, &n) == 2; text += n) {
                int class = exit_class_from_name(name);
                if (class >= 0)
                        job_lose(job, (enum exit_class) class, usec);
        }
}

static void ledger_free(struct job *job) {
        for (size_t i = 0; i < job->n_ledger; i++)
                free(job->ledger[i].path);
        free(job->ledger);
}

void job_set_counters(struct job *job, struct policy_counters counters) {
        job->deaths = (int32_t) MIN(counters.costing, (uint32_t) INT32_MAX);
        job->free_deaths = (int32_t) MIN(counters.free, (uint32_t) INT32_MAX);
}

struct job *job_new(void) {
        struct job *job = calloc(1, sizeof(*job));

        for (size_t i = 0; job && i < JOB_N_STORED; i++) {
                const struct job_field *field = &job_fields[i];
                if (field->type <= FIELD_BOOL)
                        job_field_set_number(field, (char *) job + field->stored, field->initial);
                else if (field->type == FIELD_DOUBLE)
                        *(double *) ((char *) job + field->stored) =
                                field->unknown ? (double) NAN : (double) field->initial;
        }
        if (job)
                attempt_clear(&job->attempt);
        return job;
}

static void free_field(const struct job_field *field, void *at) {
        if (field->type == FIELD_SHARED)
                text_unshare(*(const char **) at);
        else if (field->type == FIELD_TEXT || field->type == FIELD_LOST)
                free(*(void **) at);
}

void job_free(struct job *job) {
        if (!job)
                return;
        for (size_t i = 0; i < JOB_N_STORED; i++)
                free_field(&job_fields[i], (char *) job + job_fields[i].stored);
        ledger_free(job);
        free(job->history);
        free(job->status);
        attempt_clear(&job->attempt);
        if (job->previous)
                attempt_clear(job->previous);
        free(job->previous);
        free(job);
}

int job_save(const struct job *job, struct job_saved *ret) {
        struct checkpoint *ledger = job->n_ledger > 0 ? calloc(job->n_ledger, sizeof(*ledger)) : NULL;
        bool copied = job->n_ledger == 0 || ledger;

        for (size_t i = 0; ledger && i < job->n_ledger; i++) {
                ledger[i] = job->ledger[i];
                ledger[i].path = strdup(job->ledger[i].path);
                copied = copied && ledger[i].path;
        }
        *ret = (struct job_saved) { .job = *job };
        ret->job.ledger = ledger;
        ret->job.n_ledger = ledger ? job->n_ledger : 0;
        ret->job.reason = job->reason ? strdup(job->reason) : NULL;
        ret->job.private = job->private ? strdup(job->private) : NULL;
        if (copied && !job->reason == !ret->job.reason && !job->private == !ret->job.private)
                return 0;
        job_saved_free(ret);
        return -ENOMEM;
}

/* Keeps `texts`, which the store has counted since. */
void job_restore(struct job *job, struct job_saved *saved) {
        size_t texts = job->texts;

        free(job->reason);
        free(job->private);
        ledger_free(job);
        *job = saved->job;
        job->texts = texts;
        *saved = (struct job_saved) {};
}

void job_saved_free(struct job_saved *saved) {
        free(saved->job.reason);
        free(saved->job.private);
        ledger_free(&saved->job);
        *saved = (struct job_saved) {};
}

char *pack_strings(char *const *words, size_t *ret_size) {
        size_t size = 0, at = 0;

        for (size_t i = 0; words && words[i]; i++)
                size += strlen(words[i]) + 1;
        *ret_size = 0;
        char *block = size ? malloc(size) : NULL;
        if (!block)
                return NULL;
        for (size_t i = 0; words[i]; i++) {
                size_t n = strlen(words[i]) + 1;
                memcpy(block + at, words[i], n);
                at += n;
        }
        *ret_size = size;
        return block;
}

const char *packed_next(const char *block, size_t size, const char *word) {
        if (!block || size == 0)
                return NULL;
        if (!word)
                return block;
        word += strlen(word) + 1;
        return word < block + size ? word : NULL;
}

char **unpack_strings(const char *block, size_t size) {
        size_t n = 0;

        for (const char *w = packed_next(block, size, NULL); w; w = packed_next(block, size, w))
                n++;
        char **words = calloc(n + 1, sizeof(*words));
        if (!words)
                return NULL;
        n = 0;
        for (const char *w = packed_next(block, size, NULL); w; w = packed_next(block, size, w))
                words[n++] = (char *) w;
        return words;
}
