/* The table's memory entries of backends that compute in the host's memory. */
#ifndef TRAINER_OPS_CPU_HOST_H
#define TRAINER_OPS_CPU_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *host_allocate(size_t size);
void host_release(void *data, size_t size);
void host_copy(void *to, const void *from, size_t size);
void *host_allocate_spare(size_t size);
void host_mark(void);
bool host_fetch(void *to, const void *from, size_t size);
uint64_t host_hash(const void *data, size_t size);

#endif
