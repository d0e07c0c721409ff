/*
 * The checksum of a whole checkpoint file, kept inside it: that of table file is a marker and 32 hex digits, which
 * count as zeros while the file is hashed. Checksums of tensors name what broke; this one also sees a flipped byte in
 * a page's unused part. See format.h.
 */
#include "common/hex.h"
#include "trainer/checkpoint/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack */
#include <xxhash.h>

#define PIECE_BYTES ((size_t) 1 << 20) /* the marker is in the first piece: its table is the first, of one page */
enum { DIGITS = 32 };

static ssize_t read_piece(int fd, char *buffer) {
        size_t got = 0;

        while (got < PIECE_BYTES) {
                ssize_t n = read(fd, buffer + got, PIECE_BYTES - got);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                got += (size_t) n;
        }
        return (ssize_t) got;
}

/* Offset of the digits, with their text in hex; −EBADMSG without a marker. */
static int take_digits(char *piece, size_t size, char hex[HEX_128_SIZE], off_t *ret_at) {
        char *at = memmem(piece, size, CHECKPOINT_FILE_MARKER, strlen(CHECKPOINT_FILE_MARKER));

        if (!at)
                return -EBADMSG;
        at += strlen(CHECKPOINT_FILE_MARKER);
        if ((size_t) (piece + size - at) < DIGITS)
                return -EBADMSG;
        memcpy(hex, at, DIGITS);
        hex[DIGITS] = '\0';
        memset(at, '0', DIGITS);
        *ret_at = at - piece;
        return 0;
}

int checkpoint_file_checksum(int fd, char ret_hex[HEX_128_SIZE], char ret_said[HEX_128_SIZE], off_t *ret_at) {
        cleanup_free char *piece = malloc(PIECE_BYTES);
        XXH3_state_t state;
        ssize_t n;
        if (!piece)
                return -ENOMEM;

        XXH3_INITSTATE(&state);
        (void) XXH3_128bits_reset(&state);
        for (int i = 0; (n = read_piece(fd, piece)) > 0; i++) {
                int r = i == 0 ? take_digits(piece, (size_t) n, ret_said, ret_at) : 0;
                if (r < 0)
                        return r;
                (void) XXH3_128bits_update(&state, piece, (size_t) n);
        }
        if (n < 0)
                return (int) n;
        XXH128_hash_t h = XXH3_128bits_digest(&state);
        hex_128(h.high64, h.low64, ret_hex);
        return 0;
}
