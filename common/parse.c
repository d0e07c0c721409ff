#include "common/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret) {
        char *end;

        if (!isdigit((unsigned char) text[0]))
                return -EINVAL;
        errno = 0;
        unsigned long long v = strtoull(text, &end, 10);
        if (*end)
                return -EINVAL;
        if (errno == ERANGE || v < min || v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

int parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret) {
        char *end;

        if (!isdigit((unsigned char) text[text[0] == '-']))
                return -EINVAL;
        errno = 0;
        long long v = strtoll(text, &end, 10);
        if (*end)
                return -EINVAL;
        if (errno == ERANGE || v < min || v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

int parse_double(const char *text, double min, double max, double *ret) {
        char *end;

        if (text[0] == '\0' || isspace((unsigned char) text[0]))
                return -EINVAL;
        double v = strtod(text, &end);
        if (*end || !isfinite(v))
                return -EINVAL;
        if (v < min || v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret) {
        static const char units[] = "KMGT";
        char digits[24];
        size_t n = strlen(text);
        const char *unit = n > 1 ? strchr(units, text[n - 1]) : NULL;
        unsigned shift = unit ? 10 * (unsigned) (unit - units + 1) : 0;
        uint64_t v;

        (void) snprintf(digits, sizeof(digits), "%.*s", (int) MIN(n - (unit ? 1 : 0), sizeof(digits) - 1), text);
        int r = parse_u64(digits, 0, INT64_MAX, &v);
        if (r < 0)
                return r;
        if (v > (uint64_t) INT64_MAX >> shift || v << shift < min || v << shift > max)
                return -ERANGE;
        *ret = v << shift;
        return 0;
}

int parse_choice(const char *text, const char *const *names, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                if (strcmp(text, names[i]) == 0)
                        return (int) i;
        return -EINVAL;
}

void join_choices(const char *const *names, unsigned n, char *buffer, size_t size) {
        size_t length = 0;

        buffer[0] = '\0';
        for (unsigned i = 0; i < n && length < size; i++)
                length += (size_t) snprintf(buffer + length, size - length, "%s%s",
                                            i == 0       ? ""
                                            : i + 1 == n ? " or "
                                                         : ", ",
                                            names[i]);
}

bool text_ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);
        return n >= m && strcmp(text + n - m, end) == 0;
}
