/* See pace.h. Owns nothing. */
#include "common/pace.h"

#include <stdio.h>
#include <string.h>

#include "common/hosts.h"
#include "common/parse.h"

#define RATIO_MAX 1e6

bool pace_read(const char *text, struct pace *ret) {
        char rank[12], ratio[24];
        uint64_t number;
        int end = 0;

        if (sscanf(text, "%253[^,],%11[0-9],%23[0-9.]%n", ret->host, rank, ratio, &end) != 3 || text[end] != '\0' ||
            !host_is_name(ret->host) || parse_u64(rank, 0, UINT32_MAX, &number) < 0 ||
            parse_double(ratio, 0, RATIO_MAX, &ret->ratio) < 0)
                return false;
        ret->rank = (uint32_t) number;
        return true;
}
