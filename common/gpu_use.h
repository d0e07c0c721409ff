/* "USED TOTAL LOAD NAME": what the driver reports of a GPU; bytes, and percent or "-". "- - - NAME": it reports
 * nothing. */
#ifndef COMMON_GPU_USE_H
#define COMMON_GPU_USE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GPU_USE_NAME_MAX 64
#define GPU_USE_TEXT_MAX (GPU_USE_NAME_MAX + 64)

struct gpu_use {
        bool known;
        uint64_t used, total; /* bytes */
        int32_t load;         /* percent; −1: unknown */
        char name[GPU_USE_NAME_MAX];
};

const char *gpu_use_write(const struct gpu_use *use, char text[GPU_USE_TEXT_MAX]);
bool gpu_use_read(const char *text, struct gpu_use *ret); /* false: not such a text */

#endif
