/* See cpu_list.h. Owns nothing. */
#include "common/cpu_list.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define BITS (8 * sizeof(unsigned long))

bool cpu_list_has(const struct cpu_list *list, size_t cpu) { return list->bits[cpu / BITS] >> cpu % BITS & 1; }
void cpu_list_add(struct cpu_list *list, size_t cpu) { list->bits[cpu / BITS] |= 1ul << cpu % BITS; }

size_t cpu_list_first(const struct cpu_list *list) {
        size_t cpu = 0;

        while (cpu < CPU_LIST_CPUS && !cpu_list_has(list, cpu))
                cpu++;
        return cpu;
}

bool cpu_list_equal(const struct cpu_list *a, const struct cpu_list *b) { return memcmp(a, b, sizeof(*a)) == 0; }

void cpu_list_and(struct cpu_list *list, const struct cpu_list *other) {
        for (size_t i = 0; i < ELEMENTSOF(list->bits); i++)
                list->bits[i] &= other->bits[i];
}

void cpu_list_or(struct cpu_list *list, const struct cpu_list *other) {
        for (size_t i = 0; i < ELEMENTSOF(list->bits); i++)
                list->bits[i] |= other->bits[i];
}

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
                        cpu_list_add(&list, cpu);
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
                if (!cpu_list_has(list, first))
                        continue;
                while (last + 1 < CPU_LIST_CPUS && cpu_list_has(list, last + 1))
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

int cpu_list_get(pid_t thread, struct cpu_list *ret) {
        *ret = (struct cpu_list) {};
        return sched_getaffinity(thread, sizeof(ret->bits), (cpu_set_t *) ret->bits) < 0 ? -errno : 0;
}

int cpu_list_set(pid_t thread, const struct cpu_list *list) {
        return sched_setaffinity(thread, sizeof(list->bits), (const cpu_set_t *) list->bits) < 0 ? -errno : 0;
}
