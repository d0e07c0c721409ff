/* "HOST,RANK,RATIO": the rank that takes RATIO times the median rank's time for a step (X_BERTD_SLOWEST). */
#ifndef COMMON_PACE_H
#define COMMON_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "bertd/limits.h"

#define PACE_TEXT_MAX (BERTD_HOST_MAX + 40)

struct pace {
        char host[BERTD_HOST_MAX + 1];
        uint32_t rank;
        double ratio;
};

/* False: not such a text. */
bool pace_read(const char *text, struct pace *ret);

#endif
