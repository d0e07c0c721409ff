/*
 * See cgroup.h. Owns nothing between calls. Invariant: kills only processes found in the cgroup after their handle was
 * opened.
 */
#include "daemon/launch/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/proc_files.h"

#define FILE_MAX (1u << 20) /* of cgroup.procs; the rest follows in a later pass */

/* NULL: cannot be read. The caller frees. */
static char *read_file(int dir, const char *name) {
        char *text = NULL;

        return proc_read_at(dir, name, FILE_MAX, &text) < 0 ? NULL : text;
}

/* The path, if it ends so, of the line "0::PATH" or "N:name=systemd:PATH". NULL: there is none. The caller frees. */
static char *path_that_ends(pid_t pid, const char *end) {
        static const char *const hierarchies[] = { "::/", ":name=systemd:/" };
        cleanup_free char *text = NULL;

        (void) proc_read_file(pid, "cgroup", FILE_MAX, &text);
        for (char *save = NULL, *line = text ? strtok_r(text, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save))
                for (size_t i = 0; i < ELEMENTSOF(hierarchies); i++) {
                        const char *rest = strchr(line, ':');
                        size_t length = strlen(hierarchies[i]);
                        if (!rest || strncmp(rest, hierarchies[i], length) != 0)
                                continue;
                        const char *path = rest + length - 1;
                        if (text_ends_with(path, end))
                                return strdup(path);
                }
        return NULL;
}

char *cgroup_of(pid_t pid, const char *unit) {
        cleanup_free char *end = format_string("/%s", unit);

        return end ? path_that_ends(pid, end) : NULL;
}

char *cgroup_expected(const char *slice, const char *unit) {
        cleanup_free char *root = path_that_ends(1, "/init.scope");

        if (!root)
                return NULL;
        *strrchr(root, '/') = '\0';
        return format_string("%s/%s/%s", root, slice, unit);
}

int cgroup_open(const char *path) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd" };

        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                cleanup_free char *folder = format_string("%s%s", roots[i], path);
                cleanup_close int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
                if (!folder)
                        return -ENOMEM;
                if (fd >= 0 && faccessat(fd, "cgroup.procs", F_OK, 0) == 0)
                        return steal_fd(&fd);
                if (fd < 0 && errno != ENOENT)
                        return -errno;
        }
        return -ENOENT;
}

static bool write_one(int cgroup, const char *name) {
        cleanup_close int fd = openat(cgroup, name, O_WRONLY | O_CLOEXEC);

        return fd >= 0 && write_all(fd, "1", 1) >= 0;
}

static void kill_member(pid_t pid, const char *path) {
        cleanup_close int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        cleanup_free char *now = fd < 0 ? NULL : path_that_ends(pid, path);

        if (now)
                (void) syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

void cgroup_kill_each(int cgroup, const char *path) {
        uint64_t pid;

        (void) write_one(cgroup,
                         "cgroup.freeze"); /* v1 has no freezer here; then the next pass finds forked processes */
        cleanup_free char *pids = read_file(cgroup, "cgroup.procs");
        for (char *save = NULL, *word = pids ? strtok_r(pids, "\n", &save) : NULL; word;
             word = strtok_r(NULL, "\n", &save))
                if (parse_u64(word, 1, INT32_MAX, &pid) == 0)
                        kill_member((pid_t) pid, path);
}

void cgroup_kill(int cgroup, const char *path) {
        if (!write_one(cgroup, "cgroup.kill"))
                cgroup_kill_each(cgroup, path);
}

bool cgroup_is_populated(int cgroup) {
        cleanup_free char *events = read_file(cgroup, "cgroup.events");
        cleanup_free char *pids = events ? NULL : read_file(cgroup, "cgroup.procs");

        return events ? strstr(events, "populated 1") != NULL : pids && pids[0];
}
