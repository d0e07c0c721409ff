/* See own_cgroup.h. The unified hierarchy, alone or beside the old ones. Owns nothing. */
#include "common/own_cgroup.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"

static FILE *open_own(const char *name) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        cleanup_fclose FILE *own = fopen("/proc/self/cgroup", "re");
        char line[PATH_MAX] = "";

        while (own && fgets(line, sizeof(line), own) && strncmp(line, "0::", 3) != 0)
                ;
        if (strncmp(line, "0::", 3) != 0)
                return NULL;
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                cleanup_free char *path = format_string("%s%s/%s", roots[i], line + 3, name);
                FILE *found = path ? fopen(path, "re") : NULL;
                if (found)
                        return found;
        }
        return NULL;
}

uint64_t memory_oom_kills(void) {
        cleanup_fclose FILE *events = open_own("memory.events");
        char key[64];
        uint64_t n;

        while (events && fscanf(events, "%63s %" SCNu64, key, &n) == 2)
                if (strcmp(key, "oom_kill") == 0)
                        return n;
        return 0;
}

uint64_t memory_limit(void) {
        cleanup_fclose FILE *f = open_own("memory.max");
        uint64_t n;

        return f && fscanf(f, "%" SCNu64, &n) == 1 ? n : 0;
}
