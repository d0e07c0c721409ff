/*
 * Calls that fail. EMULATED_FAIL=CALL:N:STATUS: the N-th call of CALL from when it was set on returns STATUS, once, and
 * sets EMULATED_FAILED; with N+ every one from it on. Each emulated library has its own count; all read the
 * environment, so a test sets it for all of them, a shell test for a whole run. Statuses are numbers, NVIDIA's own.
 */
#ifndef EMULATION_FAIL_H
#define EMULATION_FAIL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mutex>

/* The status that this call returns; 0: it works. */
static inline int emulated_fails_here(const char *call) {
        static std::mutex lock;
        static char current[64];
        static unsigned seen;
        const char *spec = getenv("EMULATED_FAIL");
        size_t n = strlen(call);

        if (!spec || strncmp(spec, call, n) != 0 || spec[n] != ':')
                return 0;
        const std::lock_guard<std::mutex> guard(lock);
        if (strcmp(spec, current) != 0) {
                (void) snprintf(current, sizeof(current), "%s", spec);
                seen = 0;
        }
        char *end;
        unsigned wanted = (unsigned) strtoul(spec + n + 1, &end, 10);
        bool on = *end == '+';
        seen++;
        if (seen < wanted || (seen > wanted && !on))
                return 0;
        (void) setenv("EMULATED_FAILED", "1", 1);
        return atoi(end + on + 1);
}

#endif
