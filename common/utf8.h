/* Which bytes are text that may be shown and sent: D-Bus takes less than UTF-8 allows. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stddef.h>

/* Bytes of the well-formed UTF-8 character at `p`, of which at most `size` bytes are there; 0: none. Surrogates and the noncharacters
 * (U+FDD0 to U+FDEF, and the last two of each plane) are none: sd-bus refuses a message with one. */
size_t utf8_character(const char *p, size_t size);

#endif
