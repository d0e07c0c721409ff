/* Memory of this process's cgroup: under systemd that of the attempt. */
#ifndef COMMON_OWN_CGROUP_H
#define COMMON_OWN_CGROUP_H

#include <stdint.h>

/* oom_kill of memory.events: processes killed so far; 0 if it cannot be read. */
uint64_t memory_oom_kills(void);

/* memory.max in bytes; 0: no limit, or it cannot be read. */
uint64_t memory_limit(void);

#endif
