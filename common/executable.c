/* See executable.h. Owns nothing. */
#include "common/executable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

#define PATH_OF_A_LOGIN \
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /* as set by bertd if there is none */

static bool is_file(const char *path) {
        struct stat st;
        return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool executable_is(const char *path) { return access(path, X_OK) == 0 && is_file(path); }

int executable_find(const char *name, char **ret_path) {
        const char *path = getenv("PATH");
        int r = -ENOENT;

        if (strchr(name, '/')) {
                *ret_path = strdup(name);
                return *ret_path ? 0 : -ENOMEM;
        }
        for (const char *p = path ? path : PATH_OF_A_LOGIN; p && name[0];) {
                int length = (int) strcspn(p, ":");
                cleanup_free char *file = format_string("%.*s%s%s", length, p, length > 0 ? "/" : "./", name);
                if (!file)
                        return -ENOMEM;
                if (executable_is(file)) {
                        *ret_path = steal_pointer(&file);
                        return 0;
                }
                if (is_file(file))
                        r = -EACCES;
                p = p[length] ? p + length + 1 : NULL;
        }
        return r;
}

void executable_self(char *buffer, size_t size) {
        ssize_t n = readlink("/proc/self/exe", buffer, size - 1);

        buffer[MAX(n, 0)] = '\0';
}

char *executable_beside(const char *beside, const char *installed) {
        char self[PATH_MAX];

        executable_self(self, sizeof(self));
        char *slash = strrchr(self, '/');
        if (slash)
                slash[1] = '\0';
        cleanup_free char *path = slash ? format_string("%s%s", self, beside) : NULL;
        char *real = path ? realpath(path, NULL) : NULL;
        return real ? real : strdup(installed);
}

size_t executable_head(const char *path, char head[EXECUTABLE_HEAD_MAX + 1]) {
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        ssize_t n = fd < 0 ? -1 : read(fd, head, EXECUTABLE_HEAD_MAX);

        head[MAX(n, 0)] = '\0';
        return (size_t) MAX(n, 0);
}

void executable_script_line(const char *path, char line[EXECUTABLE_HEAD_MAX + 1]) {
        char head[EXECUTABLE_HEAD_MAX + 1];

        line[0] = '\0';
        if (executable_head(path, head) < 3 || strncmp(head, "#!", 2) != 0)
                return;
        const char *p = head + 2 + strspn(head + 2, " \t");
        (void) snprintf(line, EXECUTABLE_HEAD_MAX + 1, "%.*s", (int) strcspn(p, "\n"), p);
}
