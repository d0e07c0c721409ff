/*
 * See metrics.h. Owns the file, written a whole line at a time; a line that was written in part is taken back, so that
 * the next row starts on a new line.
 */
#include "trainer/report/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "trainer/report/tensorboard.h"

struct metrics {
        int fd;
        char *path;
        const char *sentence_name;
        bool warned, classifies, regresses;
        uint32_t stage;
        struct tensorboard *board;
};

static bool row_step(const char *line, uint64_t *ret_step) {
        return sscanf(line, "{\"step\": %" SCNu64, ret_step) == 1;
}

/* Offset behind the last whole row that is at or before `step`: rows are in order, but for a test's, which is made again. */
static int find_cut(struct metrics *metrics, uint64_t step, bool validate, off_t *ret_cut, struct error *error) {
        cleanup_fclose FILE *file = fopen(metrics->path, "re");
        cleanup_free char *line = NULL;
        size_t room = 0;
        off_t cut = 0;

        if (!file)
                return error_errno(error, errno, "%s", metrics->path);
        for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
                uint64_t at;
                if (line[n - 1] != '\n' || !row_step(line, &at) || at > step || strstr(line, "\"test\": {") ||
                    (validate && at == step && strstr(line, "\"validation\": {")))
                        break;
                cut += n;
        }
        if (ferror(file))
                return error_errno(error, errno, "%s", metrics->path);
        *ret_cut = cut;
        return 0;
}

int metrics_open(const char *run_dir, uint64_t step, bool validate, struct metrics **ret, struct error *error) {
        cleanup_free char *events = format_string("%s/tensorboard", run_dir);
        char *path = format_string("%s/metrics.jsonl", run_dir);
        struct metrics *metrics = calloc(1, sizeof(*metrics));
        off_t cut = 0;
        if (!metrics || !path || !events) {
                free(path);
                free(metrics);
                return error_errno(error, ENOMEM, "%s", run_dir);
        }

        metrics->sentence_name = "nsp";
        metrics->path = path;
        metrics->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        int r = metrics->fd >= 0 ? 0 : error_output(error, errno, path);
        if (r >= 0)
                r = find_cut(metrics, step, validate, &cut, error);
        if (r >= 0 && ftruncate(metrics->fd, cut) < 0)
                r = error_output(error, errno, path);
        if (r >= 0)
                r = tensorboard_open(events, step, &metrics->board, error);
        if (r < 0) {
                metrics_close(metrics);
                return r;
        }
        *ret = metrics;
        return 0;
}

void metrics_set_stage(struct metrics *metrics, uint32_t stage, const struct spec_data *data) {
        metrics->stage = stage;
        metrics->sentence_name = data->objective == OBJECTIVE_MLM_SOP ? "sop" : "nsp";
        metrics->classifies = data->objective == OBJECTIVE_CLASSIFY;
        metrics->regresses = metrics->classifies && data->numbers;
}

void metrics_close(struct metrics *metrics) {
        if (!metrics)
                return;
        if (metrics->fd >= 0)
                (void) close(metrics->fd);
        tensorboard_close(metrics->board);
        free(metrics->path);
        free(metrics);
}

static void append(struct metrics *metrics, const char *line, size_t size) {
        off_t before = lseek(metrics->fd, 0, SEEK_END);
        int r = write_all(metrics->fd, line, size);

        if (r >= 0)
                return;
        if (before >= 0 && ftruncate(metrics->fd, before) < 0)
                r = -errno;
        if (!metrics->warned)
                (void) fprintf(stderr, "bert-trainer: %s: %s: rows are lost, training continues\n", metrics->path,
                               strerror(-r));
        metrics->warned = true;
}

/* JSON has no NaN. */
static const char *number(double value, char *buffer, size_t size) {
        if (!isfinite(value))
                return "null";
        (void) snprintf(buffer, size, "%.9g", value);
        return buffer;
}

static int format_losses(const struct metrics *metrics, const struct metrics_losses *l, char *text, size_t size) {
        char a[5][32];

        if (metrics->regresses)
                return snprintf(text, size, "\"loss\": %s", number(l->loss, a[0], 32));
        if (metrics->classifies)
                return snprintf(text, size, "\"loss\": %s, \"accuracy\": %s", number(l->loss, a[0], 32),
                                number(l->sentence_accuracy, a[1], 32));
        return snprintf(text, size,
                        "\"loss\": %s, \"mlm_loss\": %s, \"mlm_accuracy\": %s, \"%s_loss\": %s, \"%s_accuracy\": %s",
                        number(l->loss, a[0], 32), number(l->mlm_loss, a[1], 32), number(l->mlm_accuracy, a[2], 32),
                        metrics->sentence_name, number(l->sentence_loss, a[3], 32), metrics->sentence_name,
                        number(l->sentence_accuracy, a[4], 32));
}

static void board_losses(const struct metrics *metrics, const char *group, uint64_t step,
                         const struct metrics_losses *l) {
        const struct curve {
                const char *prefix, *name;
                double value;
        } curves[] = {
                { "", "loss", l->loss },
                { "", "mlm_loss", l->mlm_loss },
                { "", "mlm_accuracy", l->mlm_accuracy },
                { metrics->sentence_name, "_loss", l->sentence_loss },
                { metrics->sentence_name, "_accuracy", l->sentence_accuracy },
        };
        const struct curve classified[] = { { "", "loss", l->loss }, { "", "accuracy", l->sentence_accuracy } };
        char tag[64];

        size_t n = metrics->classifies ? ELEMENTSOF(classified) : ELEMENTSOF(curves);
        for (size_t i = 0; i < n; i++) {
                const struct curve *c = metrics->classifies ? &classified[i] : &curves[i];
                (void) snprintf(tag, sizeof(tag), "%s/%s%s", group, c->prefix, c->name);
                tensorboard_scalar(metrics->board, tag, step, c->value);
        }
}

/* A host's name is of letters, digits and few others (exchange.h). */
static const char *format_pace(const struct metrics_row *row, char *text, size_t size) {
        text[0] = '\0';
        if (row->slowest_host)
                (void) snprintf(text, size,
                                ", \"compute_min\": %.6f, \"compute_median\": %.6f, \"compute_max\": %.6f, "
                                "\"slowest\": {\"rank\": %u, \"host\": \"%s\"}",
                                row->pace.min, row->pace.median, row->pace.max, row->pace.slowest, row->slowest_host);
        return text;
}

void metrics_step(struct metrics *metrics, const struct metrics_row *row) {
        char line[1792], losses[512], pace[256], sample_hash[HEX_64_SIZE], a[6][32];

        (void) format_losses(metrics, &row->losses, losses, sizeof(losses));
        hex_64(row->sample_hash, sample_hash);
        int n = snprintf(
                line, sizeof(line),
                "{\"step\": %" PRIu64
                ", %s, \"stage\": %u, \"learning_rate\": %.9g, \"gradient_norm\": %s, \"steps_per_sec\": %s, "
                "\"samples_per_sec\": %s, \"tokens_per_sec\": %s, \"flops_per_sec\": %s, \"mfu\": %s, \"first_k\": "
                "%" PRIu64 ", \"last_k\": %" PRIu64 ", \"sample_hash\": \"%s\", \"data_sec\": %.6f, \"forward_sec\": "
                "%.6f, \"backward_sec\": %.6f, \"exchange_sec\": %.6f, "
                "\"update_sec\": %.6f, \"checkpoint_sec\": %.6f%s}\n",
                row->step, losses, row->stage, row->learning_rate, number(row->gradient_norm, a[0], 32),
                number(row->steps_per_sec, a[1], 32), number(row->samples_per_sec, a[2], 32),
                number(row->tokens_per_sec, a[3], 32), number(row->flops_per_sec, a[4], 32), number(row->mfu, a[5], 32),
                row->first_k, row->last_k, sample_hash, row->data_sec, row->forward_sec, row->backward_sec,
                row->exchange_sec, row->update_sec, row->checkpoint_sec, format_pace(row, pace, sizeof(pace)));
        append(metrics, line, (size_t) n);
        board_losses(metrics, "train", row->step, &row->losses);
        tensorboard_scalar(metrics->board, "train/learning_rate", row->step, row->learning_rate);
        tensorboard_scalar(metrics->board, "train/gradient_norm", row->step, row->gradient_norm);
        tensorboard_scalar(metrics->board, "speed/samples_per_sec", row->step, row->samples_per_sec);
        tensorboard_scalar(metrics->board, "speed/tokens_per_sec", row->step, row->tokens_per_sec);
        tensorboard_scalar(metrics->board, "speed/mfu", row->step, row->mfu);
        tensorboard_flush(metrics->board);
}

void metrics_validation(struct metrics *metrics, const char *part, uint64_t step, uint64_t samples,
                        const struct metrics_losses *l, const char *checkpoint) {
        char line[1024], losses[512], of[32] = "";

        (void) format_losses(metrics, l, losses, sizeof(losses));
        if (checkpoint)
                (void) snprintf(of, sizeof(of), ", \"checkpoint\": \"%s\"", checkpoint);
        int n = snprintf(line, sizeof(line),
                         "{\"step\": %" PRIu64 ", \"stage\": %u, \"%s\": {\"samples\": %" PRIu64 ", %s%s}}\n", step,
                         metrics->stage, part, samples, losses, of);
        append(metrics, line, (size_t) n);
        board_losses(metrics, part, step, l);
        tensorboard_flush(metrics->board);
}

void metrics_sync(struct metrics *metrics) { (void) fdatasync(metrics->fd); }
