/* What the output can show: size, colour, glyphs. Text of others is made harmless before it reaches a terminal. */
#ifndef CTL_TERM_H
#define CTL_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum style {
        STYLE_NONE,
        STYLE_BOLD,
        STYLE_DIM,
        STYLE_RED,
        STYLE_GREEN,
        STYLE_YELLOW,
        STYLE_BLUE,
        STYLE_CYAN,
        STYLE_MAX
};

struct term {
        bool tty;
        bool color;      /* a terminal, not TERM=dumb, and NO_COLOR unset or empty */
        bool utf8;       /* glyphs beyond ASCII may be used */
        unsigned width;  /* columns; 0 = lines may be as long as they are */
        unsigned height; /* rows; 0 = unknown */
};

/* Looks at `fd`, the environment and the locale; call it again when the window may have changed. */
void term_init(struct term *term, int fd);

/* Sleeps, and ends the program, as a write to a closed pipe does, where nobody reads stdout any more: a follower of
 * something silent would not notice else. */
void term_pause(unsigned milliseconds);

/* Escape sequence that begins a style, or "". */
const char *term_style(const struct term *term, enum style style);
/* And ends any. */
const char *term_plain(const struct term *term);

/* Columns that a UTF-8 text takes as text_put shows it. */
size_t text_width(const char *text);

/* Writes `text` with control characters, invalid UTF-8 and direction overrides as '?', cut to `width` columns with an
 * ellipsis at the end where it is longer (width 0: never cut). Returns the columns written. */
size_t text_put(FILE *out, const struct term *term, const char *text, size_t width);

/* A bar of `width` columns, `fraction` (0..1) of it full. */
void bar_put(FILE *out, const struct term *term, double fraction, unsigned width);

#endif
