/* See proc_files.h. Owns nothing. */
#include "common/proc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/parse.h"

#define ENVIRON_MAX (2u << 20)

ssize_t proc_read_at(int dir, const char *path, size_t max, char **ret) {
        cleanup_free char *data = NULL;
        size_t size = 0, room = 0;
        ssize_t n = 1;

        cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        while (n != 0 && size < max) {
                if (array_reserve(&data, &room, size + 4096 + 1, 1) < 0) {
                        errno = ENOMEM;
                        return -1;
                }
                n = read(fd, data + size, MIN(room - 1, max) - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && size == 0)
                        return -1;
                if (n < 0)
                        break;
                size += (size_t) n;
        }
        if (!data)
                return -1;
        data[size] = '\0';
        *ret = steal_pointer(&data);
        return (ssize_t) size;
}

ssize_t proc_read_file(pid_t pid, const char *name, size_t max, char **ret) {
        char path[96];

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        return proc_read_at(AT_FDCWD, path, max, ret);
}

bool proc_read_text(pid_t pid, const char *name, char *buffer, size_t size) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);
        buffer[MAX(n, 0)] = '\0';
        return n > 0;
}

void proc_name(pid_t pid, char ret[static PROC_NAME_SIZE]) {
        (void) proc_read_text(pid, "comm", ret, PROC_NAME_SIZE);
        ret[strcspn(ret, "\n")] = '\0';
}

void proc_read_link(pid_t pid, const char *name, char *buffer, size_t size) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        ssize_t n = readlink(path, buffer, size - 1);
        buffer[MAX(n, 0)] = '\0';
}

const char *proc_variable(const char *text, ssize_t size, const char *name) {
        size_t n = strlen(name);

        for (const char *p = text; p && p < text + size; p += strlen(p) + 1)
                if (strncmp(p, name, n) == 0 && p[n] == '=')
                        return p + n + 1;
        return NULL;
}

uint64_t proc_pipe(pid_t pid, const char *name) {
        char link[64];
        uint64_t number;

        proc_read_link(pid, name, link, sizeof(link));
        return sscanf(link, "pipe:[%" SCNu64, &number) == 1 ? number : 0;
}

int proc_rank(pid_t pid) {
        static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "RANK" };

        cleanup_free char *text = NULL;
        ssize_t size = proc_read_file(pid, "environ", ENVIRON_MAX, &text);

        for (size_t i = 0; size > 0 && i < ELEMENTSOF(names); i++) {
                const char *value = proc_variable(text, size, names[i]);
                uint64_t rank;
                if (value && parse_u64(value, 0, INT32_MAX, &rank) == 0)
                        return (int) rank;
        }
        return -1;
}
