/* The largest micro-batch that fits. */
#ifndef TRAINER_MODEL_ROOM_H
#define TRAINER_MODEL_ROOM_H

#include <stdint.h>

/* The largest n from 1 to `most` that takes at most `room` bytes; 0: none. `bytes` rises with n; UINT64_MAX: unknown. */
uint64_t room_largest(uint64_t (*bytes)(const void *context, uint64_t n), const void *context, uint64_t most,
                      uint64_t room);

#endif
