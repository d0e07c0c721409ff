/* Valid text for display and messages: D-Bus accepts only a subset of UTF-8. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed UTF-8 character at `p`, within `size` bytes; 0: not one. Surrogates and noncharacters
 * (U+FDD0 to U+FDEF, and the last two of each plane) are invalid: sd-bus refuses a message with one. */
size_t utf8_character(const char *p, size_t size);

/* Whether it consists only of such characters. Required of all texts in messages, specs and jobs. */
bool text_is_utf8(const char *text);

/* The same, and no control character. */
bool text_is_line(const char *text);

/* NULL if text_is_utf8 (or for NULL, or without memory), else a copy with "?" for each byte that is not part of a
 * character, e.g. in a text cut within one; the caller frees. */
char *text_as_utf8(const char *text);

#endif
