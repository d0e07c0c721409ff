/* See content.h. */
#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include "trainer/text/content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/hex.h"

enum { PIECES = 1024, PIECE = 4096 };

static XXH128_hash_t hash_pieces(const char *data, size_t size) {
        XXH3_state_t state;

        XXH3_INITSTATE(&state);
        (void) XXH3_128bits_reset_withSeed(&state, size);
        for (size_t i = 0; i < PIECES; i++)
                (void) XXH3_128bits_update(&state, data + (size - PIECE) * i / (PIECES - 1), PIECE);
        return XXH3_128bits_digest(&state);
}

void content_hash(const void *data, size_t size, char hex[CONTENT_HASH_MAX]) {
        XXH128_hash_t h = size <= CONTENT_WHOLE ? XXH3_128bits(data, size) : hash_pieces(data, size);

        hex_128(h.high64, h.low64, hex);
}

int content_hash_file(const char *path, char hex[CONTENT_HASH_MAX]) {
        struct stat st;
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if (st.st_size == 0) {
                content_hash("", 0, hex);
                return 0;
        }
        void *data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
                return -errno;
        content_hash(data, (size_t) st.st_size, hex);
        (void) munmap(data, (size_t) st.st_size);
        return 0;
}
