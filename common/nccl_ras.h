/* NCCL's RAS service (2.28.7 and later), which the ranks of a host run on localhost: which of them it misses. Evidence
 * of a hang, not its judge. */
#ifndef COMMON_NCCL_RAS_H
#define COMMON_NCCL_RAS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NCCL_RAS_PORT 28028

/* Its status as JSON, at most `size` bytes, within `limit_usec`. The bytes; −errno: nothing answers (−ECONNREFUSED: no
 * rank has the service). */
ssize_t nccl_ras_status(char *buffer, size_t size, uint16_t port, uint64_t limit_usec);

#endif
