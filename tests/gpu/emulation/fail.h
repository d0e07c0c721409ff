/*
 * Calls that fail. EMULATED_FAIL=CALL:N:STATUS: the N-th call of CALL since it was set returns STATUS, once, and sets
 * EMULATED_FAILED; with N+ every one from it on; with @N the first from the N-th place in the program that calls it.
 * Each emulated library has its own count; all read the environment, so a test sets it for all of them, a shell test
 * for a whole run. Statuses are numbers, NVIDIA's own. EMULATED_FAIL=count: none fails; EMULATED_CALLS_CALL and
 * EMULATED_PLACES_CALL become how many calls there were, and from how many places.
 */
#ifndef EMULATION_FAIL_H
#define EMULATION_FAIL_H

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <array>
#include <map>
#include <mutex>
#include <set>
#include <string>

/* What has called a call so far. */
struct emulated_callers {
        typedef std::array<void *, 2> place; /* return addresses: in the module, but for what is inline */

        unsigned calls;
        std::set<place> places;

        /* Whether it is the first from its place. */
        bool take(void) {
                void *frames[8] = {};
                place at;

                (void) backtrace(frames, 8);
                memcpy(&at, frames + 3, sizeof(at));
                calls++;
                return places.insert(at).second;
        }
};

static inline void emulated_export(const char *what, const char *call, size_t n) {
        (void) setenv((std::string(what) + call).c_str(), std::to_string(n).c_str(), 1);
}

/* The status that this call returns; 0: it works. */
static inline int emulated_fails_here(const char *call) {
        static std::mutex lock;
        static std::string current;
        static std::map<std::string, struct emulated_callers> callers;
        const char *spec = getenv("EMULATED_FAIL");
        size_t n = strlen(call);
        bool count = spec && strcmp(spec, "count") == 0;

        if (!spec || (!count && (strncmp(spec, call, n) != 0 || spec[n] != ':')))
                return 0;
        const std::lock_guard<std::mutex> guard(lock);
        if (current != spec)
                callers.clear();
        current = spec;
        struct emulated_callers *c = &callers[call];
        bool is_new = c->take();
        if (count) {
                emulated_export("EMULATED_CALLS_", call, c->calls);
                emulated_export("EMULATED_PLACES_", call, c->places.size());
                return 0;
        }
        char *end;
        bool by_place = spec[n + 1] == '@';
        unsigned wanted = (unsigned) strtoul(spec + n + 1 + by_place, &end, 10);
        bool on = *end == '+', hit = by_place ? is_new && c->places.size() == wanted : c->calls == wanted;
        if (!hit && !(on && c->calls > wanted))
                return 0;
        (void) setenv("EMULATED_FAILED", "1", 1);
        return atoi(end + on + 1);
}

#endif
