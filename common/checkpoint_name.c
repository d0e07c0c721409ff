#include "common/checkpoint_name.h"

#include <stdio.h>
#include <string.h>

#include "common/parse.h"

#define DIGITS_MAX 19 /* of the largest step: no longer number is read, which would set errno */

bool checkpoint_name_read(const char *name, uint64_t *ret_step) {
        char digits[DIGITS_MAX + 1], again[64];
        uint64_t step;

        size_t n = strncmp(name, "step-", 5) == 0 ? strspn(name + 5, "0123456789") : 0;
        if (n == 0 || n > DIGITS_MAX)
                return false;
        (void) snprintf(digits, sizeof(digits), "%.*s", (int) n, name + 5);
        if (parse_u64(digits, 0, INT64_MAX, &step) < 0)
                return false;
        (void) snprintf(again, sizeof(again), CHECKPOINT_NAME, step);
        if (strcmp(name, again) != 0)
                return false;
        *ret_step = step;
        return true;
}
