/*
 * What is in a file, as a hash that costs little whatever its size: of all of it up to CONTENT_WHOLE bytes, of a larger one its size and a
 * thousand pieces from its begin to its end. Two files that were not made alike differ in some of them; one flipped byte may not show.
 */
#ifndef TRAINER_TEXT_CONTENT_H
#define TRAINER_TEXT_CONTENT_H

#include <stddef.h>

#include "common/hex.h"

#define CONTENT_WHOLE ((size_t) 16 << 20)
#define CONTENT_HASH_MAX HEX_128_SIZE

void content_hash(const void *data, size_t size, char hex[CONTENT_HASH_MAX]);

/* Of a regular file; its name does not count. 0, or −errno where it is none or cannot be read. */
int content_hash_file(const char *path, char hex[CONTENT_HASH_MAX]);

#endif
