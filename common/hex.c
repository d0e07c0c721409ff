/* See hex.h. */
#include "common/hex.h"

void hex_64(uint64_t value, char ret[static HEX_64_SIZE]) {
        for (int i = 0; i < HEX_64_SIZE - 1; i++)
                ret[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
        ret[HEX_64_SIZE - 1] = '\0';
}

void hex_128(uint64_t high, uint64_t low, char ret[static HEX_128_SIZE]) {
        hex_64(high, ret);
        hex_64(low, ret + HEX_64_SIZE - 1);
}
