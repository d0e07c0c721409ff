/* A set of CPUs as text, "0-3,8", and as a cpu_set_t. */
#ifndef COMMON_CPU_LIST_H
#define COMMON_CPU_LIST_H

#include <stddef.h>

#define CPU_LIST_CPUS 8192 /* numbered from 0 */

struct cpu_list {
        unsigned long bits[CPU_LIST_CPUS / (8 * sizeof(unsigned long))];
};

/* 0, or −EINVAL: not a list of ascending numbers and ranges below CPU_LIST_CPUS, or an empty one. */
int cpu_list_read(const char *text, struct cpu_list *ret);

/* Returns the buffer, which is empty if the text does not fit. */
const char *cpu_list_write(const struct cpu_list *list, char *buffer, size_t size);

/* Gets and sets the CPUs that the calling process may use. 0 or −errno. */
int cpu_list_get(struct cpu_list *ret);
int cpu_list_set(const struct cpu_list *list);

#endif
