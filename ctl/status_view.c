/* See status_view.h. Two drawings: the block of one job and the overview. No line is wider than the terminal. */
#include "ctl/status_view.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "bertd/logs.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/gpu_use.h"
#include "common/pace.h"
#include "ctl/format.h"
#include "ctl/table.h"

#define LABEL_WIDTH 12 /* of the block's left column */
#define BAR_WIDTH 24
#define BAR_WIDTH_MIN 6
#define SHORT_BAR_WIDTH 12

void overview_clear(struct overview *overview) {
        daemon_info_clear(&overview->daemon);
        job_list_clear(&overview->active);
        job_list_clear(&overview->ended);
}

enum overview_section overview_section_of(const struct job_info *job) {
        switch (job_state_from_name(job->state)) {
        case JOB_QUEUED:
        case JOB_BACKOFF:
                return SECTION_WAITING;
        case JOB_PAUSED:
                return SECTION_PAUSED;
        default:
                return SECTION_RUNNING;
        }
}

/* How many bytes of `text` fit a line of `width` columns: up to the last space that fits, else as many as fit. */
static size_t line_length(const char *text, size_t width) {
        size_t best = 0, length = strlen(text);

        if (width == 0 || text_width(text) <= width)
                return length;
        for (size_t i = 1; i < length; i++) {
                cleanup_free char *head = (text[i] & 0xc0) == 0x80 ? NULL : strndup(text, i);
                if (!head)
                        continue;
                if (text_width(head) > width)
                        break;
                if (text[i] == ' ')
                        best = i;
                else if (best == 0 || text[best] != ' ')
                        best = i;
        }
        return MAX(best, (size_t) 1);
}

/* "label   text", continued under itself where it is too long: reasons and paths are never cut. */
static void line(FILE *out, const struct term *term, const char *label, enum style style, const char *text) {
        const size_t room = term->width > LABEL_WIDTH + 4 ? term->width - LABEL_WIDTH - 2 : 0;

        if (!text[0])
                return;
        do {
                size_t n = line_length(text, room);
                cleanup_free char *part = strndup(text, n);
                if (!part)
                        return;
                (void) fprintf(out, "  %s%-*s%s%s", term_style(term, STYLE_DIM), LABEL_WIDTH, label, term_plain(term),
                               term_style(term, style));
                (void) text_put(out, term, part, 0);
                (void) fprintf(out, "%s\n", style == STYLE_NONE ? "" : term_plain(term));
                text += n;
                text += strspn(text, " ");
                label = "";
        } while (text[0]);
}

__attribute__((format(printf, 5, 6))) static void line_format(FILE *out, const struct term *term, const char *label,
                                                              enum style style, const char *format, ...) {
        cleanup_free char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        if (text)
                line(out, term, label, style, text);
}

/* "; its first process ended with exit code 0, 2 of its processes run on" */
static const char *running_on(const struct job_info *job, char *buffer, size_t size) {
        const char *by = job->first_exit < 0 ? "signal" : "exit code";

        buffer[0] = '\0';
        if (job->runs_on > 0)
                (void) snprintf(buffer, size, "; its first process ended with %s %" PRId64 ", %" PRIu64 " of its %s on",
                                by, job->first_exit < 0 ? -job->first_exit : job->first_exit, job->runs_on,
                                job->runs_on == 1 ? "processes runs" : "processes run");
        return buffer;
}

static void draw_state(FILE *out, const struct term *term, const struct job_info *job) {
        char age[FORMAT_MAX], attempt[FORMAT_MAX] = "", exit_code[FORMAT_MAX] = "", on[128];
        int state = job_state_from_name(job->state);
        uint64_t since = job_has_ended(job) && job->ended ? job->ended : job->attempt_started;

        if (job->attempts > 0)
                (void) snprintf(attempt, sizeof(attempt), ", attempt %" PRIu64, job->attempts);
        if (job_has_ended(job) && job->exit >= 0)
                (void) snprintf(exit_code, sizeof(exit_code), ", exit code %" PRId64, job->exit);
        (void) format_age(since, age);
        if (state == JOB_RUNNING && age[0])
                line_format(out, term, "state", job_style(job), "running for %s%s%s", age, attempt,
                            running_on(job, on, sizeof(on)));
        else if (job_has_ended(job) && age[0])
                line_format(out, term, "state", job_style(job), "%s %s ago%s%s", job->state, age, attempt, exit_code);
        else
                line_format(out, term, "state", job_style(job), "%s%s", text_of(job->state), attempt);
        line(out, term, "reason", STYLE_NONE, text_of(job->reason));
        if (state == JOB_BACKOFF && job->next_try_usec > 0)
                line_format(out, term, "next try", STYLE_NONE, "in %s",
                            format_duration((job->next_try_usec + USEC_PER_SEC - 1) / USEC_PER_SEC, age));
}

/* The bar takes what the figures beside it leave. */
static void draw_bar(FILE *out, const struct term *term, const struct job_info *job, double fraction) {
        char steps[FORMAT_MAX], percent[FORMAT_MAX], figures[3 * FORMAT_MAX];
        size_t room = term->width > LABEL_WIDTH + 2 ? term->width - LABEL_WIDTH - 2 : 0;

        (void) snprintf(figures, sizeof(figures), "%4s  step %s", format_percent(job, percent),
                        format_steps(job, steps));
        size_t bar = !term->tty ? 0 : room > text_width(figures) + 1 ? room - text_width(figures) - 1 : 0;
        (void) fprintf(out, "  %s%-*s%s", term_style(term, STYLE_DIM), LABEL_WIDTH, "progress", term_plain(term));
        if (bar >= BAR_WIDTH_MIN) {
                (void) fputs(term_style(term, job_style(job)), out);
                bar_put(out, term, fraction, (unsigned) MIN(bar, (size_t) BAR_WIDTH));
                (void) fprintf(out, "%s ", term_plain(term));
        }
        (void) text_put(out, term, figures, room);
        (void) fputc('\n', out);
}

static void draw_progress(FILE *out, const struct term *term, const struct job_info *job) {
        char buffer[FORMAT_MAX];
        double fraction;
        uint64_t eta;

        if (job_fraction(job, &fraction))
                draw_bar(out, term, job, fraction);
        else
                line(out, term, "step", STYLE_NONE, format_steps(job, buffer));
        line(out, term, "loss", STYLE_NONE, format_loss(job->loss, buffer));
        if (format_rate(job->rate, buffer)[0])
                line_format(out, term, "speed", STYLE_NONE, "%.*s samples/s", (int) (strlen(buffer) - 2), buffer);
        if (job_eta(job, &eta)) {
                char at[FORMAT_MAX];
                line_format(out, term, "ETA", STYLE_NONE, "%s (%s)", format_duration(eta, buffer),
                            format_local_time(clock_realtime_usec() + eta * USEC_PER_SEC, at));
        }
}

/* "h3 rank 17 is 1.4 × the median since 14:05" */
static void draw_slowest(FILE *out, const struct term *term, const struct job_info *job) {
        time_t since = (time_t) (job->slowest_since / USEC_PER_SEC);
        struct pace pace;
        struct tm tm = {};

        if (!job->slowest || !pace_read(job->slowest, &pace) || !localtime_r(&since, &tm))
                return;
        line_format(out, term, "slow", STYLE_YELLOW, "%s rank %u is %.1f × the median since %02d:%02d", pace.host,
                    pace.rank, pace.ratio, tm.tm_hour, tm.tm_min);
}

static void draw_checkpoint(FILE *out, const struct term *term, const struct job_info *job, uint64_t created) {
        char age[FORMAT_MAX];

        if (!job->checkpoint_path || !job->checkpoint_path[0])
                return;
        (void) format_age(created, age);
        line_format(out, term, "checkpoint", STYLE_NONE, "step %" PRIu64 "%s%s%s", job->checkpoint_step,
                    age[0] ? ", " : "", age, age[0] ? " ago" : "");
        line(out, term, "", STYLE_NONE, job->checkpoint_path);
        if (isfinite(job->checkpoint_stall_sec))
                line_format(out, term, "", STYLE_NONE, "stalled training for %.2f s", job->checkpoint_stall_sec);
        if (isfinite(job->checkpoint_write_sec))
                line_format(out, term, "", STYLE_NONE, "written in %.2f s", job->checkpoint_write_sec);
}

/* How the last attempt ended, and since when the job has been losing steps. */
static void draw_death(FILE *out, const struct term *term, const struct job_info *job) {
        char rank[FORMAT_MAX] = "", last[FORMAT_MAX] = "", host[96] = "";
        const char *class = text_of(job->exit_class);

        if (class[0] && strcmp(class, "finished") != 0) {
                if (job->exit_rank >= 0)
                        (void) snprintf(rank, sizeof(rank), ", rank %" PRId64, job->exit_rank);
                if (text_of(job->exit_host)[0])
                        (void) snprintf(host, sizeof(host), " on %.80s", job->exit_host);
                if (job->last_step > 0)
                        (void) snprintf(last, sizeof(last), ", at step %" PRIu64, job->last_step);
                line_format(out, term, "last end", STYLE_NONE, "%s%s%s%s%s%s", class,
                            text_of(job->exit_signal)[0] ? ", " : "", text_of(job->exit_signal), rank, host, last);
                if (!job->reason || !strstr(job->reason, text_of(job->first_cause)))
                        line(out, term, "first cause", STYLE_NONE, text_of(job->first_cause));
        }
        line(out, term, "evidence", STYLE_NONE, text_of(job->evidence));
}

static void draw_goodput(FILE *out, const struct term *term, const struct job_info *job) {
        if (isfinite(job->goodput))
                line_format(out, term, "goodput", STYLE_NONE, "%.1f %% of the wall time, %" PRIu64 " step%s lost",
                            100 * job->goodput, job->lost_steps, job->lost_steps == 1 ? "" : "s");
        else if (job->lost_steps > 0)
                line_format(out, term, "lost", STYLE_NONE, "%" PRIu64 " step%s", job->lost_steps,
                            job->lost_steps == 1 ? "" : "s");
}

/* "12 s killed, 3 min oom" */
static void draw_lost(FILE *out, const struct term *term, const struct job_info *job) {
        char text[1024] = "", duration[FORMAT_MAX];
        size_t n = 0;

        for (char *const *l = job->lost_sec; l && *l && n < sizeof(text) - 96; l++) {
                const char *equals = strchr(*l, '=');
                double seconds = equals ? strtod(equals + 1, NULL) : 0;
                if (seconds >= 0.5 && seconds < 1e12)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s %.*s", n > 0 ? ", " : "",
                                               format_duration((uint64_t) (seconds + 0.5), duration),
                                               (int) MIN(equals - *l, 32), *l);
        }
        line(out, term, "lost time", STYLE_NONE, text);
}

static void draw_limits(FILE *out, const struct term *term, const struct job_info *job) {
        char memory[FORMAT_MAX], bytes[FORMAT_MAX], cpus[FORMAT_MAX];

        (void) snprintf(memory, sizeof(memory), "%s memory", format_bytes(job->memory, bytes));
        (void) snprintf(cpus, sizeof(cpus), "%g CPUs", job->cpus);
        if (job->memory > 0 || job->cpus > 0)
                line_format(out, term, "limits", STYLE_NONE, "%s%s%s", job->memory > 0 ? memory : "",
                            job->memory > 0 && job->cpus > 0 ? ", " : "", job->cpus > 0 ? cpus : "");
}

static char *join_words(char *const *words) {
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        for (char *const *w = words; w && *w; w++)
                (void) fprintf(stream, "%s%s", w == words ? "" : " ", *w);
        (void) fclose(stream);
        return text;
}

static void draw_resources(FILE *out, const struct term *term, const struct job_info *job) {
        char gpus[FORMAT_MAX] = "";

        if (job->gpus > 0)
                (void) snprintf(gpus, sizeof(gpus), ", %" PRIu64 " GPU%s", job->gpus, job->gpus == 1 ? "" : "s");
        line_format(out, term, "resources", STYLE_NONE,
                    "%" PRIu64 " rank%s of %" PRIu64 " thread%s%s, priority %" PRId64, job->ranks,
                    job->ranks == 1 ? "" : "s", job->threads, job->threads == 1 ? "" : "s", gpus, job->priority);
}

/* "9.0 GiB of 79.1 GiB, 87 % busy: GPU-8f2c..." for each, or that the driver has not answered lately. */
static void draw_gpus(FILE *out, const struct term *term, const struct job_info *job) {
        const char *label = "GPU memory";
        struct gpu_use use;

        for (char *const *text = job->gpu_usage; text && *text; text++, label = "") {
                char used[FORMAT_MAX], total[FORMAT_MAX], load[FORMAT_MAX] = "";
                if (!gpu_use_read(*text, &use))
                        continue;
                if (use.load >= 0)
                        (void) snprintf(load, sizeof(load), ", %" PRId32 " %% busy", use.load);
                if (use.known)
                        line_format(out, term, label, STYLE_NONE, "%s of %s%s: %s", format_bytes(use.used, used),
                                    format_bytes(use.total, total), load, use.name);
                else
                        line_format(out, term, label, STYLE_NONE, "unknown: %s", use.name);
        }
}

/* "2 of 3, 16 ranks in all"; their names, those in use and the others. */
static void draw_hosts(FILE *out, const struct term *term, const struct job_info *job) {
        cleanup_free char *all = join_words(job->hosts), *used = join_words(job->hosts_in_use);
        size_t n = 0;

        while (job->hosts && job->hosts[n])
                n++;
        if (n < 2)
                return;
        line_format(out, term, "hosts", STYLE_NONE, "%" PRIu64 " of %zu, %" PRIu64 " ranks in all: %s", job->use, n,
                    job->world, text_of(all));
        if (text_of(used)[0] && !job_has_ended(job))
                line_format(out, term, "", STYLE_NONE, "in use: %s", used);
        line(out, term, "network", STYLE_NONE, text_of(job->network));
}

/* Fields without a separate line: their name, as a label if it fits. */
static void draw_others(FILE *out, const struct term *term, const struct dict_others *others) {
        for (size_t i = 0; i < others->n; i++) {
                const struct dict_other *other = &others->items[i];
                cleanup_free char *words = other->kind == DICT_STRINGS ? join_words(other->strings) : NULL;
                const char *text = other->kind == DICT_STRING ? text_of(other->string) : text_of(words);
                if (strlen(other->key) < LABEL_WIDTH)
                        line(out, term, other->key, STYLE_NONE, text);
                else if (text[0])
                        line_format(out, term, "", STYLE_NONE, "%s: %s", other->key, text);
        }
}

/* What the user may want next, by state. */
static void draw_hint(FILE *out, const struct term *term, const struct job_info *job) {
        switch (job_state_from_name(job->state)) {
        case JOB_PAUSED:
                line_format(out, term, "hint", STYLE_DIM, "resume it with: bertctl resume %" PRIu64, job->id);
                break;
        case JOB_FAILED:
                line_format(out, term, "hint", STYLE_DIM,
                            "its output: bertctl logs %" PRIu64 "; try again: bertctl resume %" PRIu64, job->id,
                            job->id);
                break;
        case JOB_CANCELLED:
                line_format(out, term, "hint", STYLE_DIM, "resume it anyway with: bertctl resume %" PRIu64, job->id);
                break;
        default:
                break;
        }
}

/* And its bound, where the user chose one. */
static void draw_log(FILE *out, const struct term *term, const struct job_info *job) {
        char bytes[FORMAT_MAX];

        line(out, term, "log", STYLE_NONE, text_of(job->log));
        if (job->log_max_size > 0 &&
            (job->log_max_size != BERTD_LOG_SIZE_DEFAULT || job->log_keep != BERTD_LOG_KEEP_DEFAULT))
                line_format(out, term, "", STYLE_NONE,
                            "keeps the first 1 MB of an attempt and its last %s, in %" PRIu64 " file%s",
                            format_bytes(job->log_max_size, bytes), job->log_keep, job->log_keep == 1 ? "" : "s");
}

int status_draw_job(FILE *out, const struct term *term, const struct job_info *job, uint64_t checkpoint_created,
                    struct error *error) {
        char when[FORMAT_MAX], title[2 * BERTD_NAME_MAX];
        cleanup_free char *command = join_words(job->command);

        (void) snprintf(title, sizeof(title), "%" PRIu64 " %s", job->id, text_of(job->name));
        (void) fprintf(out, "%sjob ", term_style(term, STYLE_BOLD));
        (void) text_put(out, term, title, term->width > 4 ? term->width - 4 : 0);
        (void) fprintf(out, "%s\n", term_plain(term));
        draw_state(out, term, job);
        draw_death(out, term, job);
        if (strcmp(text_of(job->kind), "command") == 0) /* a trainer's status repeats its progress */
                line(out, term, "status", STYLE_NONE, text_of(job->status));
        draw_progress(out, term, job);
        draw_slowest(out, term, job);
        draw_goodput(out, term, job);
        draw_lost(out, term, job);
        draw_checkpoint(out, term, job, checkpoint_created);
        line_format(out, term, "kind", STYLE_NONE, "%s of user %s", text_of(job->kind), text_of(job->user));
        line(out, term, "command", STYLE_NONE, text_of(command));
        draw_resources(out, term, job);
        draw_gpus(out, term, job);
        draw_hosts(out, term, job);
        line(out, term, "copies to", STYLE_NONE, text_of(job->copy_to));
        draw_limits(out, term, job);
        if (job->nice != 0)
                line_format(out, term, "nice", STYLE_NONE, "%" PRId64, job->nice);
        draw_others(out, term, &job->others);
        line(out, term, "launcher", STYLE_NONE, text_of(job->launcher));
        line(out, term, "submitted", STYLE_NONE, format_local_time(job->submitted, when));
        line(out, term, "started", STYLE_NONE, format_local_time(job->started, when));
        line(out, term, "ended", STYLE_NONE, format_local_time(job->ended, when));
        line(out, term, "run folder", STYLE_NONE, text_of(job->run_dir));
        draw_log(out, term, job);
        draw_hint(out, term, job);
        return ferror(out) ? -EIO : 0; /* main reports the output's error */
}

static void draw_drain(FILE *out, const struct term *term, const struct daemon_info *d) {
        char age[FORMAT_MAX];
        cleanup_free char *text = text_of(d->draining)[0]
                                          ? format_string("drained for %s: %s; nothing new starts",
                                                          format_age(d->draining_since, age), d->draining)
                                          : NULL;

        if (!text)
                return;
        (void) fputs(term_style(term, STYLE_YELLOW), out);
        (void) text_put(out, term, text, term->width);
        (void) fprintf(out, "%s\n", term_plain(term));
}

static void draw_daemon(FILE *out, const struct term *term, const struct overview *overview) {
        const struct daemon_info *d = &overview->daemon;
        cleanup_free char *text = NULL;
        char gpus[FORMAT_MAX] = "";

        if (d->gpus > 0)
                (void) snprintf(gpus, sizeof(gpus), ", %" PRIu64 " of %" PRIu64 " GPUs", d->gpus_used, d->gpus);
        if (asprintf(&text,
                     "bertd %s (pid %" PRIu64 ")  %" PRIu64 " of %" PRIu64 " slots%s in use  %" PRIu64 " done, %" PRIu64
                     " failed",
                     text_of(d->version), d->pid, d->slots_used, d->slots, gpus, d->counts[JOB_DONE],
                     d->counts[JOB_FAILED]) < 0)
                return;
        (void) text_put(out, term, text, term->width);
        (void) fputc('\n', out);
        if (text_of(d->storage_error)[0]) {
                cleanup_free char *trouble =
                        format_string("%s: no job starts until it can be written again", d->storage_error);
                (void) fputs(term_style(term, STYLE_RED), out);
                (void) text_put(out, term, text_of(trouble), term->width);
                (void) fprintf(out, "%s\n", term_plain(term));
        }
        draw_drain(out, term, d);
        for (char *const *note = d->gpu_notes; note && *note; note++) {
                (void) fputs(term_style(term, STYLE_YELLOW), out);
                (void) text_put(out, term, *note, term->width);
                (void) fprintf(out, "%s\n", term_plain(term));
        }
}

static char *bar_text(const struct term *term, const struct job_info *job) {
        char *text = NULL;
        size_t size;
        double fraction;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        if (term->tty && job_fraction(job, &fraction))
                bar_put(stream, term, fraction, SHORT_BAR_WIDTH);
        (void) fclose(stream);
        return text;
}

static const struct table_column running_columns[] = {
        { .flags = TABLE_RIGHT },                            /* id */
        { .flags = TABLE_FLEX, .min_width = 14 },            /* name */
        { .flags = TABLE_FLEX, .min_width = 4, .drop = 3 },  /* user */
        { .min_width = 0 },                                  /* state */
        { .drop = 1 },                                       /* bar */
        { .flags = TABLE_RIGHT },                            /* percent */
        { .flags = TABLE_RIGHT, .drop = 4 },                 /* steps */
        { .drop = 2 },                                       /* loss */
        { .flags = TABLE_RIGHT, .drop = 5 },                 /* rate */
        { .drop = 1 },                                       /* ETA, or for how long */
        { .flags = TABLE_FLEX, .min_width = 10, .drop = 6 }, /* reason, of those that do not simply run */
};

static void running_row(struct table *table, const struct term *term, const struct overview *overview,
                        const struct job_info *job) {
        char buffer[FORMAT_MAX], age[FORMAT_MAX];
        cleanup_free char *bar = bar_text(term, job);
        uint64_t eta;
        bool runs = job_state_from_name(job->state) == JOB_RUNNING;

        table_cell(table, STYLE_BOLD, "%" PRIu64, job->id);
        table_cell(table, STYLE_NONE, "%s", text_of(job->name));
        table_cell(table, STYLE_NONE, "%s", job->uid == overview->uid ? "" : text_of(job->user));
        table_cell(table, job_style(job), "%s", text_of(job->state));
        table_cell(table, job_style(job), "%s", text_of(bar));
        table_cell(table, STYLE_NONE, "%s", format_percent(job, buffer));
        table_cell(table, STYLE_NONE, "%s", format_steps(job, buffer));
        (void) format_loss(job->loss, buffer);
        table_cell(table, STYLE_NONE, "%s%s", buffer[0] ? "loss " : "", buffer);
        table_cell(table, STYLE_NONE, "%s", format_rate(job->rate, buffer));
        if (job_eta(job, &eta))
                table_cell(table, STYLE_NONE, "ETA %s", format_short_duration(eta, buffer));
        else
                table_cell(table, STYLE_NONE, "%s%s", runs && job->attempt_started ? "for " : "",
                           runs ? format_age(job->attempt_started, age) : "");
        table_cell(table, STYLE_DIM, "%s", runs ? "" : text_of(job->reason));
}

static const struct table_column resting_columns[] = {
        { .flags = TABLE_RIGHT },                            /* id */
        { .flags = TABLE_FLEX, .min_width = 8 },             /* name */
        { .flags = TABLE_FLEX, .min_width = 4, .drop = 2 },  /* user */
        { .min_width = 0 },                                  /* state */
        { .drop = 1 },                                       /* since when */
        { .flags = TABLE_FLEX, .min_width = 10, .drop = 3 }, /* reason */
};

static void resting_row(struct table *table, const struct overview *overview, const struct job_info *job) {
        char age[FORMAT_MAX];

        table_cell(table, STYLE_BOLD, "%" PRIu64, job->id);
        table_cell(table, STYLE_NONE, "%s", text_of(job->name));
        table_cell(table, STYLE_NONE, "%s", job->uid == overview->uid ? "" : text_of(job->user));
        table_cell(table, job_style(job), "%s", text_of(job->state));
        if (job_has_ended(job))
                table_cell(table, STYLE_NONE, "%s%s", format_age(job->ended, age), job->ended ? " ago" : "");
        else
                table_cell(table, STYLE_NONE, "%s", format_age(job->submitted, age));
        table_cell(table, STYLE_NONE, "%s", text_of(job->reason));
}

/* Adds a section's rows to the table, at most OVERVIEW_ROWS_MAX, and returns how many there are in all. */
static size_t section_rows(struct table *table, const struct term *term, const struct overview *overview,
                           enum overview_section section) {
        size_t n = 0;

        for (size_t i = 0; i < overview->active.n; i++) {
                const struct job_info *job = &overview->active.jobs[i];
                if (overview_section_of(job) != section || n++ >= OVERVIEW_ROWS_MAX)
                        continue;
                if (section == SECTION_RUNNING)
                        running_row(table, term, overview, job);
                else
                        resting_row(table, overview, job);
        }
        return n;
}

static int draw_section(FILE *out, const struct term *term, const struct overview *overview,
                        enum overview_section section, struct error *error) {
        static const char *const titles[] = { "running", "waiting", "paused" };
        cleanup_table struct table *table = section == SECTION_RUNNING
                                                    ? table_new(running_columns, ELEMENTSOF(running_columns))
                                                    : table_new(resting_columns, ELEMENTSOF(resting_columns));

        size_t n = section_rows(table, term, overview, section);
        if (n == 0)
                return 0;
        (void) fprintf(out, "\n%s%s%s\n", term_style(term, STYLE_BOLD), titles[section], term_plain(term));
        int r = table_print(table, out, term, 2, error);
        if (n > OVERVIEW_ROWS_MAX)
                (void) fprintf(out, "  %sand %zu more: bertctl list%s\n", term_style(term, STYLE_DIM),
                               n - OVERVIEW_ROWS_MAX, term_plain(term));
        return r;
}

static int draw_ended(FILE *out, const struct term *term, const struct overview *overview, struct error *error) {
        cleanup_table struct table *table = table_new(resting_columns, ELEMENTSOF(resting_columns));

        for (size_t i = 0; i < overview->ended.n; i++)
                resting_row(table, overview, &overview->ended.jobs[i]);
        if (overview->ended.n == 0)
                return 0;
        (void) fprintf(out, "\n%sended%s\n", term_style(term, STYLE_BOLD), term_plain(term));
        return table_print(table, out, term, 2, error);
}

int status_draw_overview(FILE *out, const struct term *term, const struct overview *overview, struct error *error) {
        int r = 0;

        draw_daemon(out, term, overview);
        for (int s = 0; s < SECTION_MAX && r == 0; s++)
                r = draw_section(out, term, overview, s, error);
        if (r == 0)
                r = draw_ended(out, term, overview, error);
        (void) fprintf(out, "\n%s", term_style(term, STYLE_DIM));
        if (overview->active.n == 0 && overview->ended.n == 0)
                (void) text_put(out, term,
                                "no jobs yet; submit one: bertctl submit SPEC.yaml, or bertctl submit -- COMMAND",
                                term->width);
        else
                (void) text_put(out, term, "one job: bertctl status JOB; its output: bertctl logs -f JOB", term->width);
        (void) fprintf(out, "%s\n", term_plain(term));
        return r;
}
