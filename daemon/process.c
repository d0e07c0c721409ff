/*
 * See process.h. Owns nothing between calls.
 * Invariants: every read of /proc is bounded; no signal is sent by a number alone where a pidfd can be had.
 */
#include "daemon/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define ENVIRON_READ_MAX ((size_t) 4 << 20)

/* Files of /proc have no size: reads until the end or `max` bytes. NUL-terminated, caller frees. */
static char *read_proc(int dirfd, const char *path, size_t max, size_t *ret_size) {
        cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
        size_t size = 0, room = 4096;
        char *data = fd < 0 ? NULL : malloc(room + 1);

        while (data) {
                ssize_t n = read(fd, data + size, room - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                size += (size_t) n;
                if (size < room)
                        continue;
                if (room >= max)
                        break;
                room *= 2;
                char *grown = realloc(data, room + 1);
                if (!grown)
                        break;
                data = grown;
        }
        if (data) {
                data[size] = '\0';
                *ret_size = size;
        }
        return data;
}

int process_start_time(pid_t pid, uint64_t *ret_ticks) {
        char path[64], state;
        unsigned long long ticks;
        size_t size;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        cleanup_free char *text = read_proc(AT_FDCWD, path, 4096, &size);
        const char *p = text ? strrchr(text, ')') : NULL;
        if (!p || sscanf(p + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
                         &state, &ticks) != 2)
                return -ESRCH;
        if (state == 'Z' || state == 'X')
                return -ESRCH;
        *ret_ticks = ticks;
        return 0;
}

int process_pidfd(pid_t pid) {
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        return fd < 0 ? -errno : fd;
}

int process_pidfd_checked(pid_t pid, uint64_t start) {
        uint64_t ticks;

        if (pid <= 0)
                return -ESRCH;
        /* First the handle, then the check: so the number cannot change hands in between. */
        cleanup_close int fd = process_pidfd(pid);
        if (fd < 0)
                return fd;
        if (process_start_time(pid, &ticks) < 0 || ticks != start)
                return -ESRCH;
        return steal_fd(&fd);
}

void process_boot_id(char *buffer, size_t size) {
        size_t n;
        cleanup_free char *text = read_proc(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 4096, &n);

        (void) snprintf(buffer, size, "%.36s", text && n >= 36 ? text : "unknown");
}

static bool has_uid(const char *status, uid_t uid) {
        unsigned real, effective;
        const char *line = strstr(status, "\nUid:");

        return line && sscanf(line, " Uid: %u %u", &real, &effective) == 2 && effective == uid;
}

/* "Max cpu time  unlimited  unlimited  seconds": in the order of the resources' numbers, the values from column 26 on. */
static bool read_limit(const char *line, struct rlimit *ret) {
        char soft[24], hard[24];
        uint64_t values[2] = { UINT64_MAX, UINT64_MAX };

        if (strcspn(line, "\n") < 26 || sscanf(line + 26, "%23s %23s", soft, hard) != 2)
                return false;
        if ((strcmp(soft, "unlimited") != 0 && parse_u64(soft, 0, UINT64_MAX, &values[0]) < 0) ||
            (strcmp(hard, "unlimited") != 0 && parse_u64(hard, 0, UINT64_MAX, &values[1]) < 0))
                return false;
        *ret = (struct rlimit) { values[0], values[1] };
        return true;
}

int process_limits(pid_t pid, uid_t uid, struct rlimit ret[RLIM_NLIMITS]) {
        cleanup_free char *folder = format_string("/proc/%d", (int) pid);
        cleanup_close int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        size_t size;

        if (fd < 0)
                return -ESRCH;
        cleanup_free char *limits = read_proc(fd, "limits", 4096, &size),
                          *status = read_proc(fd, "status", 4096, &size);
        const char *line = limits;

        if (!limits || !status || !has_uid(status, uid))
                return -ESRCH;
        for (int i = 0; i < RLIM_NLIMITS; i++) {
                line = strchr(line, '\n');
                if (!line || !read_limit(++line, &ret[i]))
                        return -EBADMSG;
        }
        return 0;
}

char *process_cgroup(pid_t pid) {
        char path[64];
        size_t size;

        (void) snprintf(path, sizeof(path), "/proc/%d/cgroup", (int) pid);
        cleanup_free char *text = read_proc(AT_FDCWD, path, 65536, &size);
        for (char *save = NULL, *line = text ? strtok_r(text, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save))
                if (strncmp(line, "0::/", 4) == 0)
                        return strdup(line + 3);
        return NULL;
}

void process_kill_cgroup(const char *cgroup) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                cleanup_free char *path = format_string("%s%s/cgroup.kill", roots[i], cgroup);
                cleanup_close int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
                if (fd >= 0)
                        (void) write_all(fd, "1", 1);
        }
}

static bool has_nonce(int proc, const char *pid, const char *mark) {
        char path[64];
        size_t size = 0, length = strlen(mark);

        (void) snprintf(path, sizeof(path), "%.32s/environ", pid);
        cleanup_free char *text = read_proc(proc, path, ENVIRON_READ_MAX, &size);
        for (const char *p = text; p && p < text + size; p += strlen(p) + 1)
                if (strncmp(p, mark, length) == 0 && p[length] == '\0')
                        return true;
        return false;
}

/* 1 where a live process was found (and killed), else 0. */
static int sweep_one(int proc, const char *name, uid_t uid, const char *mark) {
        struct stat st;
        uint64_t start, number;

        if (parse_u64(name, 2, INT32_MAX, &number) < 0)
                return 0;
        pid_t pid = (pid_t) number;
        if (pid == getpid() || fstatat(proc, name, &st, 0) < 0 || st.st_uid != uid)
                return 0;
        cleanup_close int fd = process_pidfd(pid);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
                return 1; /* not known: to be looked at again */
        if (fd < 0 || !has_nonce(proc, name, mark) || process_start_time(pid, &start) < 0)
                return 0;
        (void) syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        return 1;
}

int process_sweep(uid_t uid, const char *nonce) {
        cleanup_closedir DIR *proc = opendir("/proc");
        cleanup_free char *mark = format_string("%s=%s", BERTD_ENV_NONCE, nonce);
        int found = 0;

        if (!proc || !mark)
                return proc ? -ENOMEM : -errno;
        for (struct dirent *entry; (entry = readdir(proc));)
                if (isdigit((unsigned char) entry->d_name[0]))
                        found += sweep_one(dirfd(proc), entry->d_name, uid, mark);
        return found;
}
