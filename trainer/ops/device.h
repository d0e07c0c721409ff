/*
 * Which backend a run computes on. The CUDA one is a module (contract T11) that is looked for beside the program, in cuda/ there
 * (a build folder), then in the installed library folder; a host without it, or without its libraries, still runs on the CPU.
 *
 *   device_open → device_ops … → device_close
 */
#ifndef TRAINER_OPS_DEVICE_H
#define TRAINER_OPS_DEVICE_H

#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"

struct ops;
struct device;

extern const char *const precision_names[PRECISION_MAX];

/* `local_rank`: of the ranks on this host, which takes the GPU of that index. Errors: exit 78 where spec or build cannot have
 * what is asked for, 1 where this host lacks the driver or a GPU (it may come back). One device a process.
 * PRECISION_AUTO: fp16 on a GPU that has no bf16 (V100, T4), else fp32. */
int device_open(enum device_kind kind, enum precision precision, uint32_t local_rank, struct device **ret,
                struct error *error);
/* Of a GPU on which nothing is allocated. */
int device_change_precision(struct device *device, enum precision precision, struct error *error);
void device_close(struct device *device); /* after everything that the operations allocated was released */
const struct ops *device_ops(const struct device *device);
enum precision device_precision(const struct device *device); /* that it computes in: never PRECISION_AUTO */

#endif
