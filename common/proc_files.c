/* See proc_files.h. Owns nothing. */
#include "common/proc_files.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define ENVIRON_MAX (2u << 20)

ssize_t proc_read_file(pid_t pid, const char *name, size_t max, char **ret) {
        char path[96];
        size_t size = 0, room = 0;
        cleanup_free char *data = NULL;

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        while (size < max) {
                if (size == room) {
                        char *more = realloc(data, (room = MAX(room * 2, (size_t) 4096)) + 1);
                        if (!more)
                                return -1;
                        data = more;
                }
                ssize_t n = read(fd, data + size, MIN(room, max) - size);
                if (n < 0)
                        return -1;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        if (!data)
                return -1;
        data[size] = '\0';
        *ret = steal_pointer(&data);
        return (ssize_t) size;
}

void proc_read_link(pid_t pid, const char *name, char *buffer, size_t size) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        ssize_t n = readlink(path, buffer, size - 1);
        buffer[MAX(n, 0)] = '\0';
}

/* The value of a variable in the initial environment of the process; NULL: none. Caller frees. */
static char *get_variable(pid_t pid, const char *name) {
        cleanup_free char *text = NULL;
        size_t n = strlen(name);

        ssize_t size = proc_read_file(pid, "environ", ENVIRON_MAX, &text);
        if (size < 0)
                return NULL;
        for (const char *p = text, *end = text + size; p < end; p += strlen(p) + 1)
                if (strncmp(p, name, n) == 0 && p[n] == '=')
                        return strdup(p + n + 1);
        return NULL;
}

int proc_rank(pid_t pid) {
        static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "RANK" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                cleanup_free char *value = get_variable(pid, names[i]);
                uint64_t rank;
                if (value && parse_u64(value, 0, INT32_MAX, &rank) == 0)
                        return (int) rank;
        }
        return -1;
}
