/* Hashes, and other numbers of 64 or 128 bits, as lower-case hex digits of a fixed length. */
#ifndef COMMON_HEX_H
#define COMMON_HEX_H

#include <stdint.h>

#define HEX_64_SIZE 17 /* with the NUL */
#define HEX_128_SIZE 33

void hex_64(uint64_t value, char ret[static HEX_64_SIZE]);
void hex_128(uint64_t high, uint64_t low, char ret[static HEX_128_SIZE]);

#endif
