/*
 * bertctl metrics: the rows of a run folder's metrics.jsonl, read with the caller's own rights. Rows are read from the
 * file's end and printed one by one: memory does not grow with the run.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"

#define BLOCK 65536
#define ROW_MAX 65536 /* bytes of a row; a longer line is not a row of the trainer */
#define ROWS_DEFAULT 20
#define ROWS_MAX 10000000
#define POLL_SEC 1

struct rows {
        FILE *file;
        off_t offset; /* behind the last whole row that was printed */
        bool json, follow, first, classifies;
};

/* The offset of the file's last `n` whole lines. */
static off_t find_last(int fd, off_t size, uint64_t n) {
        static char block[BLOCK];
        uint64_t newlines = 0;

        for (off_t end = size; end > 0;) {
                off_t begin = end > BLOCK ? end - BLOCK : 0;
                ssize_t got = pread(fd, block, (size_t) (end - begin), begin);
                for (ssize_t i = got - 1; i >= 0; i--)
                        if (block[i] == '\n' && newlines++ == n)
                                return begin + i + 1;
                if (got <= 0)
                        break;
                end = begin;
        }
        return 0;
}

static double number_of(const json_t *row, const char *key) {
        const json_t *value = json_object_get(row, key);
        return json_is_number(value) ? json_number_value(value) : (double) NAN;
}

/* Next-sentence or sentence-order prediction, whichever the run has. */
static double sentence(const json_t *losses, const char *nsp, const char *sop) {
        double value = number_of(losses, nsp);
        return isnan(value) ? number_of(losses, sop) : value;
}

static void print_cell(double value, int width, int digits) {
        if (isfinite(value))
                (void) printf(" %*.*f", width, digits, value);
        else
                (void) printf(" %*s", width, "-");
}

static void print_losses(const json_t *losses, bool classifies) {
        print_cell(number_of(losses, "loss"), 8, 4);
        if (classifies) {
                print_cell(100 * number_of(losses, "accuracy"), 6, 1);
                return;
        }
        print_cell(number_of(losses, "mlm_loss"), 8, 4);
        print_cell(100 * number_of(losses, "mlm_accuracy"), 6, 1);
        print_cell(sentence(losses, "nsp_loss", "sop_loss"), 8, 4);
        print_cell(100 * sentence(losses, "nsp_accuracy", "sop_accuracy"), 6, 1);
}

static void print_times(const json_t *row) {
        static const char *const keys[] = { "data_sec",     "forward_sec", "backward_sec",
                                            "exchange_sec", "update_sec",  "checkpoint_sec" };
        double sum = 0;

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                sum += fmax(number_of(row, keys[i]), 0);
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                print_cell(sum > 0 ? 100 * number_of(row, keys[i]) / sum : (double) NAN, 4, 0);
}

static void print_heading(const struct term *term, bool classifies) {
        (void) printf("%s%9s %8s %s %8s %4s %4s %4s %4s %4s %4s%s\n", term_style(term, STYLE_BOLD), "STEP", "LOSS",
                      classifies ? "  ACC%" : "     MLM   MLM%      NSP   NSP%", "SAMPLE/S", "DAT%", "FWD%", "BWD%",
                      "EXC%", "UPD%", "CKP%", term_plain(term));
}

static void print_row(const json_t *row, bool classifies) {
        const json_t *held_out = json_object_get(row, "validation"), *test = json_object_get(row, "test");
        const json_t *losses = json_is_object(held_out) ? held_out : json_is_object(test) ? test : row;

        print_cell(number_of(row, "step"), 8, 0);
        print_losses(losses, classifies);
        if (losses != row) {
                (void) printf(" %8s\n", losses == test ? "test" : "held out");
                return;
        }
        print_cell(number_of(row, "samples_per_sec"), 8, 1);
        print_times(row);
        (void) putchar('\n');
}

/* A line that is not a row (a crash in the middle of a write, or a file of another program) is reported and skipped. */
static void take_line(struct rows *rows, const char *line, size_t size) {
        cleanup_json json_t *row = json_loadb(line, size, 0, NULL);

        if (!json_is_object(row)) {
                (void) fprintf(stderr, "bertctl: metrics.jsonl: skipping a line that is not JSON\n");
                return;
        }
        if (!rows->json) {
                print_row(row, rows->classifies);
                return;
        }
        (void) fputs(rows->first ? "\n" : ",\n", stdout);
        (void) json_dumpf(row, stdout, JSON_REAL_PRECISION(9));
        rows->first = false;
}

/* Prints the whole lines from the offset on. */
static int take_lines(struct rows *rows, struct error *error) {
        static char line[ROW_MAX];

        if (fseeko(rows->file, rows->offset, SEEK_SET) < 0)
                return error_input(error, BERTCTL_EXIT_FAILED, "metrics.jsonl: %s", strerror(errno));
        clearerr(rows->file);
        while (fgets(line, sizeof(line), rows->file)) {
                size_t size = strlen(line);
                if (size == 0 || line[size - 1] != '\n') {
                        if (size + 1 < sizeof(line))
                                break; /* the trainer is in the middle of it */
                        rows->offset = ftello(rows->file);
                        continue;
                }
                take_line(rows, line, size);
                rows->offset = ftello(rows->file);
        }
        if (ferror(rows->file))
                return error_input(error, BERTCTL_EXIT_FAILED, "metrics.jsonl: %s", strerror(errno));
        return fflush(stdout) == EOF ? -EIO : 0; /* main reports the output's error */
}

static int open_rows(const struct job_info *job, uint64_t n, struct rows *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/metrics.jsonl", text_of(job->run_dir));
        struct stat st;

        if (!path)
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
                return error_input(error, BERTCTL_EXIT_FAILED, "job %" PRIu64 " has written no metrics yet (%s)",
                                   job->id, path);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: %s", path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: not a regular file", path);
        ret->offset = find_last(fd, st.st_size, n);
        ret->file = fdopen(fd, "r");
        if (!ret->file)
                return error_input(error, BERTCTL_EXIT_FAILED, "%s: %s", path, strerror(errno));
        (void) steal_fd(&fd);
        return 0;
}

/* Until the job is at rest. Rows that a new attempt took back are read again from where the file ends now. */
static int follow(struct client *client, uint64_t id, struct rows *rows, struct error *error) {
        for (bool over = false; !over;) {
                cleanup_job_info struct job_info job = {};
                struct stat st;

                int r = client_get_job(client, id, &job, error);
                if (r < 0 && error->exit == BERTCTL_EXIT_NO_DAEMON && !client_is_silent(client)) {
                        *error = (struct error) {};
                        r = client_reconnect(client, CLIENT_PATIENCE_USEC, error);
                } else
                        over = r == 0 && job_is_at_rest(&job);
                if (r == 0 && fstat(fileno(rows->file), &st) == 0 && st.st_size < rows->offset) {
                        (void) printf("==> resumed from an earlier step <==\n");
                        rows->offset = st.st_size;
                }
                if (r == 0)
                        r = take_lines(rows, error);
                if (r < 0)
                        return r;
                if (!over)
                        term_pause(POLL_SEC * 1000);
        }
        return 0;
}

static int show(struct ctl *ctl, struct client *client, uint64_t id, uint64_t n, struct rows *rows) {
        cleanup_job_info struct job_info job = {};

        int r = client_get_job(client, id, &job, &ctl->error);
        if (r == 0)
                r = open_rows(&job, n, rows, &ctl->error);
        if (r < 0)
                return r;
        rows->classifies = strcmp(text_of(job.kind), "finetune") == 0;
        if (rows->json)
                (void) putchar('[');
        else
                print_heading(&ctl->term, rows->classifies);
        r = take_lines(rows, &ctl->error);
        if (r == 0 && rows->follow)
                r = follow(client, id, rows, &ctl->error);
        if (rows->json)
                (void) fputs(rows->first ? "]\n" : "\n]\n", stdout);
        (void) fclose(rows->file);
        return r;
}

int command_metrics(struct ctl *ctl, int argc, char **argv) {
        struct rows rows = { .first = true };
        uint64_t n = ROWS_DEFAULT, id;
        const struct option_spec options[] = {
                { .name = "lines",
                  .letter = 'n',
                  .kind = OPTION_U64,
                  .value = &n,
                  .min = 1,
                  .max = ROWS_MAX,
                  .argument = "N",
                  .help = "print the last N rows (default: 20)" },
                { .name = "follow",
                  .letter = 'f',
                  .kind = OPTION_FLAG,
                  .value = &rows.follow,
                  .help = "continue with new rows until the job has ended or is paused" },
                OPTION_JSON(rows.json),
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 1, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (rows.json && rows.follow)
                return command_exit(ctl, error_input(&ctl->error, BERTCTL_EXIT_USAGE,
                                                     "metrics: --follow and --json cannot be combined"));
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (r == 0)
                r = show(ctl, client, id, n, &rows);
        return command_exit(ctl, r);
}
