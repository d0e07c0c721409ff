/* See loss_scale.h. */
#include "trainer/model/loss_scale.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/cleanup.h"

struct loss_scale loss_scale_new(bool dynamic) {
        return (struct loss_scale) { .value = dynamic ? LOSS_SCALE_START : 1, .dynamic = dynamic };
}

void loss_scale_clean(struct loss_scale *scale) {
        if (!scale->dynamic || ++scale->clean < LOSS_SCALE_GROWTH)
                return;
        scale->value = MIN(scale->value * 2, LOSS_SCALE_MAX);
        scale->clean = 0;
}

bool loss_scale_overflow(struct loss_scale *scale) {
        if (!scale->dynamic || scale->value <= LOSS_SCALE_MIN)
                return false;
        scale->value = MAX(scale->value / 2, LOSS_SCALE_MIN);
        scale->clean = 0;
        return true;
}

void loss_scale_format(const struct loss_scale *scale, char *buffer, size_t size) {
        (void) snprintf(buffer, size, "%.17g %" PRIu64, scale->value, scale->clean);
}

bool loss_scale_parse(struct loss_scale *scale, const char *text) {
        double value;
        uint64_t clean = 0;
        int n = 0, end = 0;

        if (sscanf(text, "%lf%n %" SCNu64 "%n", &value, &n, &clean, &end) < 1 || text[MAX(n, end)])
                return false;
        if (!scale->dynamic)
                return true;
        if (!(value >= LOSS_SCALE_MIN && value <= LOSS_SCALE_MAX) || clean >= LOSS_SCALE_GROWTH)
                return false;
        scale->value = value;
        scale->clean = clean;
        return true;
}
