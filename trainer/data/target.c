/* See target.h. strtod alone would take hexadecimal numbers, infinity and NaN, too. */
#include "trainer/data/target.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SPACES " \t"

int target_parse(const char *text, double *ret) {
        const char *number = text + strspn(text, SPACES);
        size_t n = strspn(number, "+-.0123456789eE");
        char *end;

        double v = strtod(number, &end);
        if (n == 0 || end != number + n || end[strspn(end, SPACES)] != '\0')
                return -EINVAL;
        if (!(fabs(v) <= (double) FLT_MAX))
                return -ERANGE;
        *ret = v;
        return 0;
}
