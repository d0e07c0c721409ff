/*
 * Which CPUs a rank runs on: those next to its GPU, of those that it may use. Ranks of a host that have some in common divide them. Pure
 * but for the functions that read files below `root` (/sys), and affinity_set.
 */
#ifndef TRAINER_RUN_AFFINITY_H
#define TRAINER_RUN_AFFINITY_H

#include <stdint.h>

#include "common/cpu_list.h"

#define AFFINITY_RANKS_MAX 64 /* of a host: each has a GPU */

/* The lowest CPU of each CPU's core. */
struct affinity_cores {
        uint16_t of[CPU_LIST_CPUS];
};

/* The CPUs next to the GPU at a PCI address such as 0000:3b:00.0. −errno: unknown, or there are none. */
int affinity_near(const char *root, const char *pci, struct cpu_list *ret);

/* Cores of these CPUs; a CPU that the kernel does not describe is its own core. */
void affinity_read_cores(const char *root, const struct cpu_list *cpus, struct affinity_cores *ret);

/* Rank `own`'s CPUs, of those that each of n ranks of a host could use: those that no other could, and an equal part of those that it has in
 * common with others: whole cores; CPUs, if there are fewer cores than ranks; all of them, if there are fewer CPUs than ranks. */
void affinity_share(const struct cpu_list *const could[], uint32_t n, uint32_t own, const struct affinity_cores *cores,
                    struct cpu_list *ret);

/* Restricts each thread of this process to these CPUs; a thread that may use none of them is left as it is. 0 or −errno. */
int affinity_set(const struct cpu_list *cpus);

#endif
