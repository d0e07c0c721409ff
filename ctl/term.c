/*
 * See term.h. Width and classes of characters come from the C.UTF-8 locale whatever the user's is, since all our text
 * is UTF-8; the user's own locale only decides whether we draw with glyphs beyond ASCII.
 */
#include "ctl/term.h"

#include <assert.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

#define WIDTH_FALLBACK 80
#define WIDTH_MIN 20

static const char *const styles[] = {
        [STYLE_NONE] = "",          [STYLE_BOLD] = "\033[1m",    [STYLE_DIM] = "\033[2m",   [STYLE_RED] = "\033[31m",
        [STYLE_GREEN] = "\033[32m", [STYLE_YELLOW] = "\033[33m", [STYLE_BLUE] = "\033[34m", [STYLE_CYAN] = "\033[36m",
};
static_assert(ELEMENTSOF(styles) == STYLE_MAX, "a sequence for each style");

static bool locale_is_utf8(void) {
        bool utf8 = setlocale(LC_CTYPE, "") && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;

        if (!utf8)
                (void) setlocale(LC_CTYPE, "C.UTF-8");
        return utf8;
}

void term_init(struct term *term, int fd) {
        const char *no_color = getenv("NO_COLOR"), *name = getenv("TERM");
        bool dumb = !name || !name[0] || strcmp(name, "dumb") == 0;
        struct winsize size = {};

        *term = (struct term) { .utf8 = locale_is_utf8(), .tty = isatty(fd) == 1 };
        if (!term->tty)
                return;
        term->color = !dumb && !(no_color && no_color[0]);
        if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                size.ws_col = WIDTH_FALLBACK;
        term->width = MAX((unsigned) size.ws_col, (unsigned) WIDTH_MIN);
        term->height = size.ws_row;
}

void term_pause(unsigned milliseconds) {
        struct pollfd out = { .fd = STDOUT_FILENO };

        (void) fflush(stdout);
        if (poll(&out, 1, (int) milliseconds) <= 0 || !(out.revents & (POLLERR | POLLHUP)))
                return;
        (void) raise(SIGPIPE);
        _exit(BERTCTL_EXIT_FAILED); /* that signal is ignored */
}

const char *term_style(const struct term *term, enum style style) { return term->color ? styles[style] : ""; }
const char *term_plain(const struct term *term) { return term->color ? "\033[0m" : ""; }

/* Marks that turn the direction of what follows: a name could make a line read as another. */
static bool is_direction_mark(wchar_t c) {
        return c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* The next character: its bytes, columns, and whether it may be shown as it is. */
static size_t next_character(const char *p, mbstate_t *state, unsigned *ret_columns, bool *ret_shown) {
        wchar_t c;
        size_t n = mbrtowc(&c, p, strlen(p), state);

        *ret_columns = 1;
        *ret_shown = false;
        if (n == (size_t) -1 || n == (size_t) -2 || n == 0) {
                *state = (mbstate_t) {};
                return 1;
        }
        int columns = wcwidth(c);
        if (columns < 0 || is_direction_mark(c))
                return n;
        *ret_columns = (unsigned) columns;
        *ret_shown = true;
        return n;
}

size_t text_width(const char *text) {
        mbstate_t state = {};
        size_t width = 0;

        while (*text) {
                unsigned columns;
                bool shown;
                text += next_character(text, &state, &columns, &shown);
                width += columns;
        }
        return width;
}

size_t text_put(FILE *out, const struct term *term, const char *text, size_t width) {
        const char *ellipsis = term->utf8 ? "\u2026" : "...";
        size_t written = 0, keep = SIZE_MAX;
        mbstate_t state = {};

        if (width > 0 && text_width(text) > width) {
                if (text_width(ellipsis) > width)
                        ellipsis = "";
                keep = width - text_width(ellipsis);
        }
        while (*text) {
                unsigned columns;
                bool shown;
                size_t n = next_character(text, &state, &columns, &shown);
                if (written + columns > keep)
                        break;
                (void) (shown ? fwrite(text, 1, n, out) : fwrite("?", 1, 1, out));
                written += columns;
                text += n;
        }
        if (keep != SIZE_MAX) {
                (void) fputs(ellipsis, out);
                written += text_width(ellipsis);
        }
        return written;
}

void bar_put(FILE *out, const struct term *term, double fraction, unsigned width) {
        const char *full = term->utf8 ? "\u2588" : "#", *empty = term->utf8 ? "\u2591" : ".";
        double filled = MIN(MAX(fraction, 0.0), 1.0) * width;

        for (unsigned i = 0; i < width; i++)
                (void) fputs(i + 1 <= filled ? full : empty, out);
}
