/* See leash.h: what all its parts do to it. */
#include "daemon/leash/leash.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void leash_end(struct leash *leash, bool failed, bool report, const char *format, ...) {
        va_list args;

        if (leash->over)
                return;
        leash->over = true;
        leash->failed = failed;
        va_start(args, format);
        (void) vsnprintf(leash->reason, sizeof(leash->reason), format, args);
        va_end(args);
        if (report)
                (void) leash_writer_add(&leash->writer, leash_ending(leash->reason));
}

void leash_send(struct leash *leash, json_t *line) {
        int r = leash_writer_add(&leash->writer, line);

        if (r < 0)
                leash_end(leash, true, false, "the head does not read: %s", strerror(-r));
}
