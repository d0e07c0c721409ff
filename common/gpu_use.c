/* See gpu_use.h. Owns nothing. */
#include "common/gpu_use.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"

const char *gpu_use_write(const struct gpu_use *use, char text[GPU_USE_TEXT_MAX]) {
        char load[16] = "-";

        if (use->known && use->load >= 0)
                (void) snprintf(load, sizeof(load), "%" PRId32, use->load);
        if (use->known)
                (void) snprintf(text, GPU_USE_TEXT_MAX, "%" PRIu64 " %" PRIu64 " %s %s", use->used, use->total, load,
                                use->name);
        else
                (void) snprintf(text, GPU_USE_TEXT_MAX, "- - - %s", use->name);
        return text;
}

bool gpu_use_read(const char *text, struct gpu_use *ret) {
        char used[24], total[24], load[24];
        uint64_t percent = 0;
        int name = 0;

        *ret = (struct gpu_use) { .load = -1 };
        if (sscanf(text, "%23[0-9-] %23[0-9-] %23[0-9-] %n", used, total, load, &name) != 3 || name == 0 ||
            !text[name] || strlen(text + name) >= GPU_USE_NAME_MAX)
                return false;
        (void) snprintf(ret->name, sizeof(ret->name), "%s", text + name);
        if (strcmp(used, "-") == 0 && strcmp(total, "-") == 0 && strcmp(load, "-") == 0)
                return true;
        ret->known =
                parse_u64(used, 0, UINT64_MAX, &ret->used) >= 0 && parse_u64(total, 0, UINT64_MAX, &ret->total) >= 0;
        if (strcmp(load, "-") != 0)
                ret->load = parse_u64(load, 0, 100, &percent) >= 0 ? (int32_t) percent : -2;
        return ret->known && ret->load >= -1;
}
