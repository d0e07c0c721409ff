/*
 * See torchrun.h. The report is ChildFailedError's in torch/distributed/elastic/multiprocessing/errors/__init__.py, the
 * file that of error_handler.py: {"message": {"message": TEXT, ...}} or {"message": TEXT}. Owns nothing.
 */
#include "daemon/shim/torchrun.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define FILE_MAX (1 << 20)
#define REPORT_MAX 2048 /* from its headline to the root cause's exit code */
#define RANK_MAX 1000000
#define SIGNAL_MAX 64
#define EXIT_CODE_MAX 255

/* "KEY : NUMBER (pid: ...)" */
static bool read_number(const char *report, const char *key, long min, long max, int *ret) {
        const char *line = strstr(report, key), *digits = line ? line + strlen(key) : "";
        char *end;

        digits += strspn(digits, " ");
        if (*digits != ':')
                return false;
        long number = strtol(++digits, &end, 10);
        if (end == digits || number < min || number > max)
                return false;
        *ret = (int) number;
        return true;
}

static const char *find_last(const char *text, size_t size, const char *needle) {
        const char *found = NULL;

        for (const char *p = text; p && (p = memmem(p, size - (size_t) (p - text), needle, strlen(needle))); p++)
                found = p;
        return found;
}

bool torchrun_cause(const char *text, size_t size, struct torchrun_cause *ret) {
        const char *found = find_last(text, size, "Root Cause (first observed failure):");
        char report[REPORT_MAX];
        int rank, code;

        if (!found)
                return false;
        size_t n = MIN(size - (size_t) (found - text), sizeof(report) - 1);
        memcpy(report, found, n);
        report[n] = '\0';
        if (!read_number(report, "\n  rank", 0, RANK_MAX, &rank) ||
            !read_number(report, "\n  exitcode", -SIGNAL_MAX, EXIT_CODE_MAX, &code))
                return false;
        *ret = (struct torchrun_cause) { .rank = rank,
                                         .exit_code = code < 0 ? -1 : code,
                                         .signal = code < 0 ? -code : 0 };
        return true;
}

bool torchrun_child_code(const char *text, size_t size, int *ret) {
        static const char error[] = "subprocess.CalledProcessError: Command ",
                          status[] = " returned non-zero exit status ";
        char end[sizeof(status) + 4]; /* "...status 255." */

        while (size > 0 && strchr(" \r\n", text[size - 1]))
                size--;
        const char *before = size > 0 ? memrchr(text, '\n', size) : NULL, *line = before ? before + 1 : text;
        size_t n = size - (size_t) (line - text), n_end = MIN(n, sizeof(end) - 1);
        if (n < strlen(error) || memcmp(line, error, strlen(error)) != 0)
                return false;
        memcpy(end, line + n - n_end, n_end);
        end[n_end] = '\0';
        const char *found = strstr(end, status);
        char *after;
        long code = found ? strtol(found + strlen(status), &after, 10) : 0;
        if (code < 1 || code > EXIT_CODE_MAX || strcmp(after, ".") != 0)
                return false;
        *ret = (int) code;
        return true;
}

/* accelerate's launcher of one process ends with its own traceback. */
static size_t accelerate_traceback(const char *text, size_t size) {
        static const char own[] = "/accelerate/commands/launch.py\"";
        const char *found = find_last(text, size, "Traceback (most recent call last):");
        bool is_own = found && memmem(found, size - (size_t) (found - text), own, strlen(own));

        return is_own ? (size_t) (found - text) : size;
}

size_t torchrun_program_size(const char *text, size_t size) {
        static const char *const reports[] = { " closing signal SIG",
                                               "failed (exitcode: ", "resource_tracker: There appear to be ",
                                               ":sigkill_handler] ", /* DeepSpeed's */
                                               "ERROR conda.cli.main_run:execute(" };
        size_t end = accelerate_traceback(text, size);

        for (size_t i = 0; i < ELEMENTSOF(reports); i++) {
                const char *hit = end > 0 ? memmem(text, end, reports[i], strlen(reports[i])) : NULL;
                const char *before = hit ? memrchr(text, '\n', (size_t) (hit - text)) : NULL;
                if (hit)
                        end = before ? (size_t) (before - text) : 0;
        }
        return end;
}

static char *read_file(int dir_fd, size_t *ret_size) {
        cleanup_close int fd = openat(dir_fd, TORCHRUN_ERROR_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
                return NULL;
        char *text = malloc((size_t) st.st_size + 1);
        ssize_t n = text ? read(fd, text, (size_t) st.st_size) : 0;
        *ret_size = (size_t) MAX(n, 0);
        return text;
}

char *torchrun_exception(int dir_fd) {
        size_t size = 0;
        cleanup_free char *text = read_file(dir_fd, &size);
        json_t *root = text ? json_loadb(text, size, 0, NULL) : NULL;
        const json_t *message = json_object_get(root, "message");
        const char *line = json_string_value(json_is_object(message) ? json_object_get(message, "message") : message);
        char *copy = line && *line ? strdup(line) : NULL;

        json_decref(root);
        return copy;
}
