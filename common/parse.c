#include "common/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

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
