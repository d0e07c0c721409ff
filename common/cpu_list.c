/* See cpu_list.h. Owns nothing. */
#include "common/cpu_list.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"

#define BITS (8 * sizeof(unsigned long))

static bool has(const struct cpu_list *list, size_t cpu) { return list->bits[cpu / BITS] >> cpu % BITS & 1; }

/* A number without leading zeros; −EINVAL. */
static int read_number(const char **text, size_t *ret) {
        char *end;

        if (**text < '0' || **text > '9')
                return -EINVAL;
        unsigned long v = strtoul(*text, &end, 10);
        if (v >= CPU_LIST_CPUS)
                return -EINVAL;
        *text = end;
        *ret = v;
        return 0;
}

int cpu_list_read(const char *text, struct cpu_list *ret) {
        struct cpu_list list = {};
        size_t next = 0;

        for (;;) {
                size_t first, last;
                if (read_number(&text, &first) < 0 || first < next)
                        return -EINVAL;
                last = first;
                if (*text == '-' && (text++, read_number(&text, &last) < 0 || last < first))
                        return -EINVAL;
                for (size_t cpu = first; cpu <= last; cpu++)
                        list.bits[cpu / BITS] |= 1ul << cpu % BITS;
                next = last + 1;
                if (*text == '\0')
                        break;
                if (*text++ != ',')
                        return -EINVAL;
        }
        *ret = list;
        return 0;
}

const char *cpu_list_write(const struct cpu_list *list, char *buffer, size_t size) {
        size_t used = 0;

        buffer[0] = '\0';
        for (size_t first = 0, last; first < CPU_LIST_CPUS; first = last + 1) {
                last = first;
                if (!has(list, first))
                        continue;
                while (last + 1 < CPU_LIST_CPUS && has(list, last + 1))
                        last++;
                used += (size_t) snprintf(buffer + used, size - used, last > first ? "%s%zu-%zu" : "%s%zu",
                                          used ? "," : "", first, last);
                if (used >= size) {
                        buffer[0] = '\0';
                        break;
                }
        }
        return buffer;
}

int cpu_list_get(struct cpu_list *ret) {
        *ret = (struct cpu_list) {};
        return sched_getaffinity(0, sizeof(ret->bits), (cpu_set_t *) ret->bits) < 0 ? -errno : 0;
}

int cpu_list_set(const struct cpu_list *list) {
        return sched_setaffinity(0, sizeof(list->bits), (const cpu_set_t *) list->bits) < 0 ? -errno : 0;
}
