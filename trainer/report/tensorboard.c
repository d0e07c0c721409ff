/* See tensorboard.h. Owns the file. Invariant: records are written whole, those of a row by one write(); a crash leaves at most one partial
 * record at the end, which TensorBoard waits for. */
#include "trainer/report/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

#define TAG_MAX 120
#define EVENT_MAX 256
#define RECORDS_MAX 8192
#define CRC32C_POLYNOMIAL 0x82f63b78u /* Castagnoli, reflected */
#define CRC_MASK_DELTA 0xa282ead8u    /* tensorflow/core/lib/hash/crc32c.h */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { SESSION_START = 1 };

struct tensorboard {
        int fd;
        unsigned char records[RECORDS_MAX]; /* of the row that is being made */
        size_t size;
};

/* ---- protocol buffers ---- */

struct message {
        unsigned char data[EVENT_MAX];
        size_t size;
};

static void put_bytes(struct message *m, const void *data, size_t size) {
        memcpy(m->data + m->size, data, size);
        m->size += size;
}

static void put_varint(struct message *m, uint64_t value) {
        for (; value >= 128; value >>= 7)
                m->data[m->size++] = (unsigned char) (value | 128);
        m->data[m->size++] = (unsigned char) value;
}

static void put_key(struct message *m, unsigned field, unsigned wire) { put_varint(m, field << 3 | wire); }

static void put_submessage(struct message *m, unsigned field, const void *data, size_t size) {
        put_key(m, field, WIRE_BYTES);
        put_varint(m, size);
        put_bytes(m, data, size);
}

static struct message new_event(uint64_t step) {
        double seconds = (double) clock_realtime_usec() / 1e6;
        struct message m = {};

        put_key(&m, 1, WIRE_64);
        put_bytes(&m, &seconds, sizeof(seconds));
        put_key(&m, 2, WIRE_VARINT);
        put_varint(&m, step);
        return m;
}

/* ---- records ---- */

static uint32_t masked_crc(const void *data, size_t size) {
        const unsigned char *p = data;
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < size; i++) {
                crc ^= p[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        }
        crc = ~crc;
        return (crc >> 15 | crc << 17) + CRC_MASK_DELTA;
}

static void add_record(struct tensorboard *board, const struct message *event) {
        unsigned char *record = board->records + board->size;
        uint64_t length = event->size;
        uint32_t crc = masked_crc(&length, sizeof(length)), body = masked_crc(event->data, event->size);

        if (board->size + event->size + 16 > sizeof(board->records))
                return;
        memcpy(record, &length, 8);
        memcpy(record + 8, &crc, 4);
        memcpy(record + 12, event->data, event->size);
        memcpy(record + 12 + event->size, &body, 4);
        board->size += event->size + 16;
}

static int write_records(struct tensorboard *board) {
        int r = write_all(board->fd, board->records, board->size);

        board->size = 0;
        return r;
}

static int write_start(struct tensorboard *board, uint64_t step) {
        static const char version[] = "brain.Event:2";
        static const unsigned char start[] = { 1 << 3 | WIRE_VARINT, SESSION_START };
        struct message first = new_event(0), session = new_event(step + 1);

        put_submessage(&first, 3, version, sizeof(version) - 1);
        put_submessage(&session, 7, start, sizeof(start));
        add_record(board, &first);
        add_record(board, &session);
        return write_records(board);
}

int tensorboard_open(const char *folder, uint64_t step, struct tensorboard **ret, struct error *error) {
        char host[65] = "localhost";
        uint64_t now = clock_realtime_usec();

        (void) gethostname(host, sizeof(host) - 1);
        /* Readers take the files in the order of their names: a run may be resumed within a second. */
        cleanup_free char *path = format_string("%s/events.out.tfevents.%010" PRIu64 ".%06" PRIu64 ".%s.%d", folder,
                                                now / USEC_PER_SEC, now % USEC_PER_SEC, host, (int) getpid());
        struct tensorboard *board = path ? calloc(1, sizeof(*board)) : NULL;
        if (!board)
                return error_errno(error, ENOMEM, "%s", folder);
        int r = mkdir_parents(folder, 0777, error);
        board->fd = r < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (r >= 0 && board->fd < 0)
                r = error_output(error, errno, path);
        else if (r >= 0 && (r = write_start(board, step)) < 0)
                r = error_output(error, -r, path);
        if (r < 0) {
                tensorboard_close(board);
                return r;
        }
        *ret = board;
        return 0;
}

void tensorboard_close(struct tensorboard *board) {
        if (!board)
                return;
        if (board->fd >= 0)
                (void) close(board->fd);
        free(board);
}

void tensorboard_scalar(struct tensorboard *board, const char *tag, uint64_t step, double value) {
        struct message event = new_event(step), summary = {}, point = {};
        float single = (float) value;

        if (!board || !isfinite(value))
                return;
        put_submessage(&point, 1, tag, MIN(strlen(tag), (size_t) TAG_MAX));
        put_key(&point, 2, WIRE_32);
        put_bytes(&point, &single, sizeof(single));
        put_submessage(&summary, 1, point.data, point.size);
        put_submessage(&event, 5, summary.data, summary.size);
        add_record(board, &event);
}

void tensorboard_flush(struct tensorboard *board) { (void) write_records(board); }
