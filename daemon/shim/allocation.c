/* See allocation.h. Pure. */
#include "daemon/shim/allocation.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/hosts.h"

/* How a message begins, and what stands before the host's name in it. */
static const struct {
        const char *begin, *before;
} messages[] = {
        { "lost communication with a remote daemon", "Remote daemon:" }, /* Open MPI 4 and 5 */
        { "srun: error: Node failure on ", "" },
};

static const char *find(const char *text, const char *end, const char *word) {
        return memmem(text, (size_t) (end - text), word, strlen(word));
}

/* The name that begins there. */
static bool read_name(const char *at, const char *end, char name[EXIT_RECORD_HOST_MAX]) {
        size_t n = 0;

        while (at + n < end && n < EXIT_RECORD_HOST_MAX - 1 && !strchr(" :,\r\n", at[n]))
                n++;
        (void) snprintf(name, EXIT_RECORD_HOST_MAX, "%.*s", (int) n, at);
        return host_is_name(name);
}

bool allocation_lost(const char *text, size_t size, struct exit_verdict *ret) {
        const char *end = text + size;

        for (size_t i = 0; i < ELEMENTSOF(messages); i++) {
                const char *at = find(text, end, messages[i].begin);
                at = at ? find(at + strlen(messages[i].begin), end, messages[i].before) : NULL;
                if (at && messages[i].before[0]) {
                        at = find(at, end, "on node ");
                        at = at ? at + strlen("on node ") : NULL;
                }
                *ret = (struct exit_verdict) { .exit_class = EXIT_CLASS_HOST_LOST, .exit_code = -1, .first_rank = -1 };
                if (!at || !read_name(at, end, ret->host))
                        continue;
                (void) snprintf(ret->reason, sizeof(ret->reason), "%s: lost from the allocation", ret->host);
                return true;
        }
        return false;
}
