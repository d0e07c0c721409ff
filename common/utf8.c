/* See utf8.h. Owns nothing. */
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Length from a lead byte; 0: not one. */
static size_t length_by_lead(unsigned char lead) {
        return lead < 0x80                   ? 1
               : lead >= 0xc2 && lead < 0xe0 ? 2
               : (lead & 0xf0) == 0xe0       ? 3
               : lead >= 0xf0 && lead < 0xf5 ? 4
                                             : 0;
}

static bool is_noncharacter(const unsigned char *p, size_t n) {
        bool last_two = n >= 3 && (p[n - 3] & 0x0f) == 0x0f && p[n - 2] == 0xbf && p[n - 1] >= 0xbe;
        return last_two || (n == 3 && p[0] == 0xef && p[1] == 0xb7 && p[2] >= 0x90 && p[2] <= 0xaf);
}

size_t utf8_character(const char *text, size_t size) {
        const unsigned char *p = (const unsigned char *) text;
        size_t n = size > 0 ? length_by_lead(*p) : 0;

        if (n == 0 || n > size)
                return 0;
        for (size_t i = 1; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
        bool outside = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
        return overlong || outside || is_noncharacter(p, n) ? 0 : n;
}

bool text_is_utf8(const char *text) {
        for (size_t left = strlen(text), n; left > 0; text += n, left -= n)
                if ((n = utf8_character(text, left)) == 0)
                        return false;
        return true;
}

bool text_is_line(const char *text) {
        for (const char *p = text; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return false;
        return text_is_utf8(text);
}

char *text_as_utf8(const char *text) {
        char *copy = text && !text_is_utf8(text) ? strdup(text) : NULL;

        for (char *p = copy, *end = copy ? copy + strlen(copy) : NULL; p < end;) {
                size_t n = utf8_character(p, (size_t) (end - p));
                if (n == 0)
                        *p = '?';
                p += n > 0 ? n : 1;
        }
        return copy;
}
