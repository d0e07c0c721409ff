/* Which bytes are text that may be shown and sent: D-Bus takes less than UTF-8 allows. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed UTF-8 character at `p`, of which at most `size` bytes are there; 0: none. Surrogates and the noncharacters
 * (U+FDD0 to U+FDEF, and the last two of each plane) are none: sd-bus refuses a message with one. */
size_t utf8_character(const char *p, size_t size);

/* Nothing but such characters? What is not can be no string of a message: the protocol's, a spec's and a job's texts are all held to it. */
bool text_is_utf8(const char *text);

/* And no control character. */
bool text_is_line(const char *text);

/* NULL where text_is_utf8 (or without memory, or for NULL), else a copy with "?" for each byte that is of no character, as where a text was
 * cut within one; the caller frees. */
char *text_as_utf8(const char *text);

#endif
