/* See error.h. The text is a fixed buffer, so that an out-of-memory error can be reported. */
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/space.h"

/* Control characters from hostile file names and logs must not reach a terminal. */
static void make_one_line(char *text) {
        for (unsigned char *p = (unsigned char *) text; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        *p = ' ';
}

__attribute__((format(printf, 4, 0))) static int set(struct error *error, int code, int exit_code, const char *format,
                                                     va_list ap) {
        if (code <= 0)
                code = EIO;
        if (error && !error->code) {
                error->code = code;
                error->exit = exit_code;
                (void) vsnprintf(error->text, sizeof(error->text), format, ap);
                make_one_line(error->text);
        }
        return -code;
}

int error_set(struct error *error, int code, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        int r = set(error, code, 0, format, ap);
        va_end(ap);
        return r;
}

/* For ENOSPC the path of the text is checked, if it is one: up to a colon, or all of it. */
static const char *reason_of(int code, const char *text) {
        char path[896];

        if (code != ENOSPC)
                return strerror(code);
        (void) snprintf(path, sizeof(path), "%s", text);
        char *colon = strstr(path, ": ");
        if (colon)
                *colon = '\0';
        return strchr(path, '/') || !strchr(path, ' ') ? space_text(code, path) : strerror(code);
}

int error_errno(struct error *error, int code, const char *format, ...) {
        va_list ap;
        char text[896];

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        return error_set(error, code, "%s: %s", text, reason_of(code > 0 ? code : EIO, text));
}

int error_output(struct error *error, int code, const char *path) {
        int r = code == ENOENT ? error_set(error, code, "%s: cannot be written: no such folder", path)
                               : error_errno(error, code, "%s: cannot be written", path);

        if (error && code != ENOMEM && error->exit == 0)
                error->exit = BERTD_EXIT_IO;
        return r;
}

int error_input(struct error *error, int exit_code, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        int r = set(error, EINVAL, exit_code, format, ap);
        va_end(ap);
        return r;
}

int error_prefix(struct error *error, const char *format, ...) {
        va_list ap;
        char context[512], old[sizeof(error->text)];

        if (!error)
                return -EIO;
        va_start(ap, format);
        (void) vsnprintf(context, sizeof(context), format, ap);
        va_end(ap);
        memcpy(old, error->text, sizeof(old));
        int length = snprintf(error->text, sizeof(error->text), "%s: ", context);
        if (length >= 0 && (size_t) length < sizeof(error->text))
                (void) snprintf(error->text + length, sizeof(error->text) - (size_t) length, "%s", old);
        make_one_line(error->text);
        return -(error->code > 0 ? error->code : EIO);
}

int error_report(const struct error *error) {
        (void) fprintf(stderr, "%s: %s\n", program_invocation_short_name, error->text);
        if (error->exit)
                return error->exit;
        switch (error->code) {
        case EIO:
        case ENOSPC:
        case EDQUOT:
                return BERTD_EXIT_IO;
        case ENOMEM:
                return BERTD_EXIT_OSERR;
        case ENOENT:
        case EACCES:
        case EPERM:
        case ENOTDIR:
        case EISDIR:
        case EROFS:
        case ESTALE:
        case ENOTCONN:
        case EHOSTDOWN:
                return BERTD_EXIT_INPUT;
        default:
                return BERTD_EXIT_FAILURE;
        }
}
