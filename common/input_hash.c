/* See input_hash.h. Owns nothing. */
#include "common/input_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"

#define READ_BYTES ((size_t) 1 << 20)
#define PIECES 32 /* of READ_BYTES: what is hashed of a larger file */

static int hash_range(XXH64_state_t *hash, int fd, off_t from, off_t size) {
        cleanup_free char *buffer = malloc(READ_BYTES);

        if (!buffer)
                return -ENOMEM;
        for (off_t end = from + size; from < end;) {
                ssize_t n = pread(fd, buffer, MIN(READ_BYTES, (size_t) (end - from)), from);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                (void) XXH64_update(hash, buffer, (size_t) n);
                from += n;
        }
        return 0;
}

/* −errno; −EISDIR: a folder, which is fine. */
static int hash_file(XXH64_state_t *hash, const char *path, uint64_t *bytes) {
        struct stat st;
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        uint64_t size = (uint64_t) st.st_size;
        (void) XXH64_update(hash, &size, sizeof(size));
        *bytes += size;
        const off_t piece = (off_t) READ_BYTES;
        if (st.st_size <= PIECES * piece)
                return hash_range(hash, fd, 0, st.st_size);
        int r = 0;
        for (off_t i = 0, last = st.st_size - piece; r >= 0 && i < PIECES; i++)
                r = hash_range(hash, fd, i == PIECES - 1 ? last : last / (PIECES - 1) * i, piece);
        return r;
}

static int look(XXH64_state_t *hash, const char *path, struct input_hash *ret) {
        cleanup_free char *idx = format_string("%s.idx", path), *bin = format_string("%s.bin", path);

        if (!idx || !bin)
                return -ENOMEM;
        ret->corpus = file_is_there(idx) || file_is_there(bin);
        if (!ret->corpus)
                return hash_file(hash, path, &ret->bytes);
        int r = hash_file(hash, idx, &ret->bytes);
        return r < 0 ? r : hash_file(hash, bin, &ret->bytes);
}

void input_look(const char *path, struct input_hash *ret) {
        XXH64_state_t *hash = XXH64_createState();
        int r = -ENOMEM;

        *ret = (struct input_hash) {};
        if (hash) {
                (void) XXH64_reset(hash, 0);
                r = look(hash, path, ret);
        }
        if (r >= 0)
                hex_64(XXH64_digest(hash), ret->hash);
        else if (r == -ENOENT || r == -ENOTDIR)
                ret->state = INPUT_MISSING;
        else if (r != -EISDIR) {
                ret->state = INPUT_UNREADABLE;
                ret->code = -r;
        }
        (void) XXH64_freeState(hash);
}
