/* See verdict.h: the last line of a job's output. Owns nothing. Invariant: the result is one line of valid UTF-8. */
#include <string.h>

#include "common/cleanup.h"
#include "daemon/shim/verdict.h"

#define RAW_BYTES 1024 /* of a line without its escape sequences; there may be many leading blanks */
#define ESCAPE '\x1b'

/* Length of the escape sequence at p: colours, cursor movements, a terminal's title. */
static size_t escape_length(const char *p, size_t n) {
        size_t i = 2;

        if (n < 2)
                return n;
        if (p[1] == '[')
                for (; i < n && (p[i] < '@' || p[i] > '~'); i++)
                        ;
        else if (p[1] == ']')
                for (; i < n && p[i] != '\a' && p[i] != ESCAPE; i++)
                        ;
        else
                for (i = 1; i < n && p[i] >= ' ' && p[i] <= '/'; i++)
                        ;
        return MIN(i + 1, n);
}

static bool is_blank(char c) { return (c >= 0 && c <= ' ') || c == 0x7f; }

/* Letters, digits, or non-ASCII: rules and empty boxes do not count. */
static bool says_something(const char *text) {
        for (; *text; text++)
                if ((*text >= '0' && *text <= '9') || ((*text | 0x20) >= 'a' && (*text | 0x20) <= 'z') || *text < 0)
                        return true;
        return false;
}

/* Lines that come after the one with the cause. */
static bool is_beside_the_point(const char *line) {
        static const char *const begins[] = { "bertd: ", "/usr/bin/env: use -" };

        if (strstr(line, "plm:rsh: Warning: setpgid(")) /* Open MPI's, which does no harm */
                return true;
        for (size_t i = 0; i < ELEMENTSOF(begins); i++)
                if (strncmp(line, begins[i], strlen(begins[i])) == 0)
                        return true;
        return false;
}

/* The visible line: without escape sequences and surrounding blanks. */
static void clean_line(const char *p, size_t n, char ret[SHIM_LINE_MAX + 1]) {
        char raw[RAW_BYTES];
        size_t used = 0;

        for (size_t i = 0; i < n && used < sizeof(raw);) {
                size_t skip = p[i] == ESCAPE ? escape_length(p + i, n - i) : 0;
                if (skip == 0 && (used > 0 || !is_blank(p[i])))
                        raw[used++] = p[i];
                i += MAX(skip, (size_t) 1);
        }
        while (used > 0 && is_blank(raw[used - 1]))
                used--;
        (void) shim_clean_text(ret, SHIM_LINE_MAX + 1, raw, used);
        for (size_t end = strlen(ret); end > 0 && ret[end - 1] == ' ';)
                ret[--end] = '\0';
}

/* "torch.OutOfMemoryError: ..." */
static bool is_exception(const char *line) {
        static const char *const ends[] = { "Error", "Exception", "Interrupt", "Exit" };
        size_t n = 0;

        while ((line[n] >= '0' && line[n] <= '9') || ((line[n] | 0x20) >= 'a' && (line[n] | 0x20) <= 'z') ||
               line[n] == '_' || line[n] == '.')
                n++;
        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                size_t length = strlen(ends[i]);
                if (n >= length && (line[n] == ':' || line[n] == '\0') &&
                    strncmp(line + n - length, ends[i], length) == 0)
                        return true;
        }
        return false;
}

/* An open progress bar is drawn once more after a traceback: then the traceback has the cause. */
void shim_last_line(const char *text, size_t size, char ret[SHIM_LINE_MAX + 1]) {
        char line[SHIM_LINE_MAX + 1];
        size_t end = size;

        ret[0] = '\0';
        while (end > 0) {
                size_t begin = end;
                while (begin > 0 && text[begin - 1] != '\n' && text[begin - 1] != '\r')
                        begin--;
                clean_line(text + begin, end - begin, line);
                bool bar = begin > 0 && text[begin - 1] == '\r';
                if (says_something(line) && !is_beside_the_point(line)) {
                        if (!ret[0] || (!bar && is_exception(line)))
                                memcpy(ret, line, sizeof(line));
                        if (!bar)
                                return;
                }
                end = begin > 0 ? begin - 1 : 0;
        }
}
