#include "common/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id) {
        struct timespec ts;
        (void) clock_gettime(id, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t clock_boottime_usec(void) { return read_clock(CLOCK_BOOTTIME); }
uint64_t clock_monotonic_usec(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t clock_realtime_usec(void) { return read_clock(CLOCK_REALTIME); }

char *clock_format_iso8601(uint64_t realtime_usec, char *buffer) {
        time_t seconds = (time_t) (realtime_usec / USEC_PER_SEC);
        struct tm tm;

        buffer[0] = '\0';
        if (realtime_usec > 0 && gmtime_r(&seconds, &tm))
                (void) strftime(buffer, CLOCK_ISO8601_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
        return buffer;
}
