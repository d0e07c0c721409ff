/* A set of CPUs as text, "0-3,8", and as a cpu_set_t. */
#ifndef COMMON_CPU_LIST_H
#define COMMON_CPU_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CPU_LIST_CPUS 8192 /* numbered from 0 */

struct cpu_list {
        unsigned long bits[CPU_LIST_CPUS / (8 * sizeof(unsigned long))];
};

/* 0, or −EINVAL: not a list of ascending numbers and ranges below CPU_LIST_CPUS, or an empty one. */
int cpu_list_read(const char *text, struct cpu_list *ret);

/* Returns the buffer, which is empty if the text does not fit. */
const char *cpu_list_write(const struct cpu_list *list, char *buffer, size_t size);

/* Gets and sets the CPUs that a thread may use; 0: the calling one. 0 or −errno. */
int cpu_list_get(pid_t thread, struct cpu_list *ret);
int cpu_list_set(pid_t thread, const struct cpu_list *list);

bool cpu_list_has(const struct cpu_list *list, size_t cpu);
void cpu_list_add(struct cpu_list *list, size_t cpu);
size_t cpu_list_first(const struct cpu_list *list); /* CPU_LIST_CPUS: it is empty */
bool cpu_list_equal(const struct cpu_list *a, const struct cpu_list *b);
void cpu_list_and(struct cpu_list *list, const struct cpu_list *other); /* leaves those that both have */
void cpu_list_or(struct cpu_list *list, const struct cpu_list *other);

#endif
