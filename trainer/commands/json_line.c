/* See json_line.h. */
#include "trainer/commands/json_line.h"

#include <errno.h>

int json_line(json_t *owned, size_t flags, FILE *to) {
        if (!owned)
                return -ENOMEM;
        errno = EIO;
        int r = json_dumpf(owned, to, flags) < 0 || putc('\n', to) == EOF ? -errno : 0;
        json_decref(owned);
        return r;
}
