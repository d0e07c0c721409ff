/* Clocks in microseconds. Timers use boot time (runs through suspend, never jumps); wall time is for showing (C4). */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define USEC_PER_SEC ((uint64_t) 1000000)
#define CLOCK_ISO8601_MAX sizeof("2026-01-31T12:34:56Z......")

uint64_t clock_boottime_usec(void);
uint64_t clock_monotonic_usec(void);
uint64_t clock_realtime_usec(void);

/* ISO 8601 in UTC, whole seconds, into `buffer` of CLOCK_ISO8601_MAX bytes; returns it. 0 gives "". */
char *clock_format_iso8601(uint64_t realtime_usec, char *buffer);

#endif
