/* Lines of a leash as either end reads them: another host may send anything, in pieces of any size. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/leash.h"
#include "common/utf8.h"
#include "tests/fuzz/fuzz.h"

#define PIECE_MAX 4096

/* Output comes back as it was read. */
static void check_output(const json_t *line) {
        uint64_t id, again_id;
        int stream, again_stream;
        cleanup_free char *data = NULL, *again = NULL;
        size_t size, again_size;

        if (!leash_read_output(line, &id, &stream, &data, &size) || size > LEASH_OUTPUT_MAX)
                return;
        json_t *copy = leash_output(id, stream, data, size);
        assert(leash_read_output(copy, &again_id, &again_stream, &again, &again_size));
        assert(again_id == id && again_stream == stream && again_size == size && memcmp(data, again, size) == 0);
        json_decref(copy);
}

static void check_line(const json_t *line) {
        static const char *const keys[] = { "type", "reason", "text", "line", "host", "class" };
        struct leash_writer writer = {};
        uint64_t id, number;
        int code, signal;

        assert(leash_type_of(line) <= LEASH_TYPE_MAX && leash_class_of(line) <= LEASH_CLASS_MAX);
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                cleanup_free char *text = leash_text(line, keys[i]);
                assert(text_is_line(text) && strlen(text) <= LEASH_REASON_MAX);
        }
        if (leash_read_exited(line, &id, &code, &signal))
                assert(id <= INT64_MAX && code >= 0 && code <= 255 && signal >= 0 && signal <= 127);
        if (leash_number(line, "id", 5, &number))
                assert(number <= 5);
        check_output(line);
        int r = leash_writer_add(&writer, json_incref((json_t *) line));
        assert(r == 0 || r == -EMSGSIZE);
        leash_writer_free(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct fuzz_input input = { data, size };
        struct leash_reader reader = {};
        size_t piece = 1 + fuzz_u32(&input) % PIECE_MAX;
        int fds[2], r = 0;

        assert(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
        while (r >= 0 && input.size > 0) {
                struct fuzz_input part = fuzz_take(&input, piece);
                json_t *line;
                assert(write(fds[1], part.data, part.size) == (ssize_t) part.size);
                assert(leash_reader_fill(&reader, fds[0]) == (ssize_t) part.size);
                while ((r = leash_reader_next(&reader, &line)) > 0) {
                        check_line(line);
                        json_decref(line);
                }
                assert(r == 0 || r == -EBADMSG);
        }
        leash_reader_free(&reader);
        (void) close(fds[0]);
        (void) close(fds[1]);
        return 0;
}
