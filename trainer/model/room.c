/* See room.h. Owns nothing. */
#include "trainer/model/room.h"

uint64_t room_largest(uint64_t (*bytes)(const void *context, uint64_t n), const void *context, uint64_t most,
                      uint64_t room) {
        uint64_t fits = 0, above = most + 1;

        while (fits + 1 < above) {
                uint64_t n = fits + (above - fits) / 2;
                if (bytes(context, n) <= room)
                        fits = n;
                else
                        above = n;
        }
        return fits;
}
