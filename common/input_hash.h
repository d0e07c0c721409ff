/*
 * What an input of a job is on this host, to be compared with another host's: a corpus' prefix (PREFIX.idx and .bin), a
 * file, or a folder. Bounded: of a large file its size and pieces are hashed, from its begin to its end. Ranks compare
 * what they read themselves; this finds a wrong copy before a start.
 */
#ifndef COMMON_INPUT_HASH_H
#define COMMON_INPUT_HASH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/hex.h"

enum input_state { INPUT_OK, INPUT_MISSING, INPUT_UNREADABLE, INPUT_STATE_MAX };
#define INPUT_STATE_NAMES \
        { "ok", "missing", "unreadable" }

struct input_hash {
        enum input_state state;
        char hash[HEX_64_SIZE]; /* XXH64, hex digits; of a corpus: of its index, then of its .bin; "" for a folder */
        bool corpus;            /* PREFIX.idx and PREFIX.bin */
        uint64_t bytes;         /* of all its files; of a folder 0 */
        int code;               /* errno of INPUT_UNREADABLE */
};

/* May wait as long as the file system does. */
void input_look(const char *path, struct input_hash *ret);

#endif
