/* Lines of the leash: what is sent comes back, whatever the bytes, in pieces of any size; what is refused; bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/leash.h"

struct channel {
        int fds[2];
        struct leash_reader reader;
        struct leash_writer writer;
};

static int open_channel(void **state) {
        struct channel *c = calloc(1, sizeof(*c));

        assert_int_equal(pipe2(c->fds, O_NONBLOCK | O_CLOEXEC), 0);
        *state = c;
        return 0;
}

static int close_channel(void **state) {
        struct channel *c = *state;

        leash_reader_free(&c->reader);
        leash_writer_free(&c->writer);
        close(c->fds[0]);
        close(c->fds[1]);
        free(c);
        return 0;
}

/* The next object, after as much transport as it takes; NULL: there is none. */
static json_t *receive(struct channel *c) {
        json_t *line = NULL;

        for (;;) {
                int r = leash_reader_next(&c->reader, &line);
                assert_true(r >= 0);
                if (r > 0)
                        return line;
                assert_true(leash_writer_push(&c->writer, c->fds[1]) >= 0);
                ssize_t n = leash_reader_fill(&c->reader, c->fds[0]);
                if (n == -EAGAIN)
                        return NULL;
                assert_true(n > 0);
        }
}

static void send_raw(struct channel *c, const char *text, size_t size) {
        assert_int_equal(write(c->fds[1], text, size), size);
        assert_int_equal(leash_reader_fill(&c->reader, c->fds[0]), size);
}

static int next(struct channel *c) {
        json_t *line = NULL;
        int r = leash_reader_next(&c->reader, &line);

        json_decref(line);
        return r;
}

static void test_output_has_any_bytes(void **state) {
        struct channel *c = *state;
        cleanup_free char *sent = malloc(3 * LEASH_OUTPUT_MAX + 5), *got = malloc(3 * LEASH_OUTPUT_MAX + 5);
        size_t size = 3 * LEASH_OUTPUT_MAX + 5, n = 0;

        for (size_t i = 0; i < size; i++)
                sent[i] = (char) (i * 7 + i / 256);
        assert_int_equal(leash_writer_output(&c->writer, 7, 2, sent, size), 0);
        for (json_t *line; (line = receive(c));) {
                uint64_t id;
                int stream;
                size_t part;
                cleanup_free char *data = NULL;
                assert_int_equal(leash_type_of(line), LEASH_OUTPUT);
                assert_true(leash_read_output(line, &id, &stream, &data, &part));
                assert_int_equal(id, 7);
                assert_int_equal(stream, 2);
                assert_true(n + part <= size);
                memcpy(got + n, data, part);
                n += part;
                json_decref(line);
        }
        assert_int_equal(n, size);
        assert_memory_equal(sent, got, size);
}

static void test_output_that_is_not_bytes_is_refused(void **state) {
        static const char *const bad[] = { "{\"type\":\"output\",\"id\":1,\"stream\":1,\"text\":\"\\u0100\"}",
                                           "{\"type\":\"output\",\"id\":1,\"stream\":3,\"text\":\"a\"}",
                                           "{\"type\":\"output\",\"id\":1,\"stream\":0,\"text\":\"a\"}",
                                           "{\"type\":\"output\",\"id\":-1,\"stream\":1,\"text\":\"a\"}",
                                           "{\"type\":\"output\",\"id\":1,\"stream\":1,\"text\":4}" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                json_t *line = json_loads(bad[i], 0, NULL);
                uint64_t id;
                int stream;
                char *data;
                size_t size;
                assert_non_null(line);
                assert_false(leash_read_output(line, &id, &stream, &data, &size));
                json_decref(line);
        }
}

static void test_ends_of_commands(void **state) {
        struct channel *c = *state;
        static const struct {
                int status, code, signal;
        } ends[] = { { 0, 0, 0 }, { 75 << 8, 75, 0 }, { 9, 0, 9 }, { 11 | 0x80, 0, 11 } };

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                uint64_t id;
                int code, signal;
                assert_int_equal(leash_writer_add(&c->writer, leash_exited(i, ends[i].status)), 0);
                json_t *line = receive(c);
                assert_int_equal(leash_type_of(line), LEASH_EXITED);
                assert_true(leash_read_exited(line, &id, &code, &signal));
                assert_int_equal(id, i);
                assert_int_equal(code, ends[i].code);
                assert_int_equal(signal, ends[i].signal);
                json_decref(line);
        }
}

static void test_texts_of_others_are_one_line(void **state) {
        json_t *line = json_pack("{ssss}", "type", "ending", "reason",
                                 "a\x1b[2J\nb\xc2\x9b"
                                 "c\x7f\xc3\xa9");
        cleanup_free char *text = leash_text(line, "reason"), *none = leash_text(line, "missing");

        assert_string_equal(text, "a?[2J?b??c?\xc3\xa9");
        assert_string_equal(none, "");
        json_decref(line);
}

static void test_own_texts_are_valid_and_bounded(void **state) {
        cleanup_free char *large = malloc(2 * LEASH_STACKS_MAX + 1);

        memset(large, 1, 2 * LEASH_STACKS_MAX);
        large[2 * LEASH_STACKS_MAX] = '\0';
        json_t *refused = leash_refused(LEASH_CLASS_BUSY, "h2: \xff busy"), *stacks = leash_stacks(large),
               *ending = leash_ending(large);
        assert_int_equal(leash_class_of(refused), LEASH_CLASS_BUSY);
        assert_string_equal(json_string_value(json_object_get(refused, "reason")), "h2: ? busy");
        assert_int_equal(json_string_length(json_object_get(stacks, "text")), LEASH_STACKS_MAX);
        assert_int_equal(json_string_length(json_object_get(ending, "reason")), LEASH_REASON_MAX);
        struct leash_writer writer = {};
        assert_int_equal(leash_writer_add(&writer, stacks), 0);
        leash_writer_free(&writer);
        json_decref(refused);
        json_decref(ending);
}

static void test_noise_before_the_first_object_is_skipped(void **state) {
        struct channel *c = *state;

        const char *text = "Welcome\n\n[1]\n{\"a\":1}\n{\"type\":\"beat\"}\n";
        send_raw(c, text, strlen(text));
        json_t *line = receive(c);
        assert_int_equal(leash_type_of(line), LEASH_BEAT);
        json_decref(line);
        send_raw(c, "Welcome\n", 8);
        assert_int_equal(next(c), -EBADMSG);
}

static void test_noise_has_a_bound(void **state) {
        struct channel *c = *state;
        int r = 0;

        for (unsigned i = 0; i <= LEASH_NOISE_MAX; i++) {
                assert_int_equal(r, 0);
                send_raw(c, "x\n", 2);
                r = next(c);
        }
        assert_int_equal(r, -EBADMSG);
}

static void test_a_line_comes_in_pieces(void **state) {
        struct channel *c = *state;
        const char *text = "{\"type\":\"quit\"}\n{\"type\":\"unheard-of\"}\n";

        for (size_t i = 0; i < 15; i++) {
                send_raw(c, text + i, 1);
                assert_int_equal(next(c), 0);
        }
        send_raw(c, text + 15, strlen(text) - 15);
        json_t *line = receive(c);
        assert_int_equal(leash_type_of(line), LEASH_QUIT);
        json_decref(line);
        line = receive(c);
        assert_int_equal(leash_type_of(line), LEASH_TYPE_MAX);
        json_decref(line);
        assert_int_equal(next(c), 0);
}

static void test_a_line_has_a_bound(void **state) {
        struct channel *c = *state;
        static char block[32 << 10];
        int r = 0;

        memset(block, 'x', sizeof(block));
        for (size_t n = 0; r == 0; n += sizeof(block)) {
                assert_true(n < LEASH_LINE_MAX + sizeof(block));
                send_raw(c, block, sizeof(block));
                r = next(c);
        }
        assert_int_equal(r, -EBADMSG);
}

static void test_a_slow_peer_costs_a_bounded_queue(void **state) {
        struct channel *c = *state;
        static char block[LEASH_OUTPUT_MAX];
        unsigned long long notes = 0, received = 0, sent = 200ull * sizeof(block);

        memset(block, 'x', sizeof(block));
        for (unsigned i = 0; i < 200; i++)
                assert_int_equal(leash_writer_output(&c->writer, 1, 1, block, sizeof(block)), 0);
        assert_true(leash_writer_left(&c->writer) <= LEASH_QUEUE_MAX);
        assert_true(c->writer.dropped > 0);
        assert_int_equal(leash_writer_add(&c->writer, leash_exited(1, 0)), 0);
        for (json_t *line; (line = receive(c)); json_decref(line)) {
                if (leash_type_of(line) == LEASH_OUTPUT)
                        received += json_string_length(json_object_get(line, "text"));
        }
        assert_int_equal(received + c->writer.dropped, sent);
        assert_int_equal(leash_writer_output(&c->writer, 1, 1, "y", 1), 0);
        json_t *line = receive(c);
        assert_int_equal(sscanf(json_string_value(json_object_get(line, "text")), "bertd: %llu bytes", &notes), 1);
        assert_int_equal(received + notes, sent);
        json_decref(line);
}

static void test_lines_beyond_the_last_bound_are_refused(void **state) {
        struct channel *c = *state;
        int r = 0;

        for (size_t i = 0; r == 0; i++) {
                assert_true(i < 2 * LEASH_QUEUE_HARD);
                r = leash_writer_add(&c->writer, leash_exited(i, 0));
        }
        assert_int_equal(r, -ENOBUFS);
        assert_true(leash_writer_left(&c->writer) <= LEASH_QUEUE_HARD);
}

static void test_a_beat_is_sent_only_when_nothing_else_is(void **state) {
        struct channel *c = *state;

        assert_int_equal(leash_writer_add(&c->writer, leash_line(LEASH_BEAT)), 0);
        size_t one = leash_writer_left(&c->writer);
        assert_true(one > 0);
        assert_int_equal(leash_writer_add(&c->writer, leash_line(LEASH_BEAT)), 0);
        assert_int_equal(leash_writer_left(&c->writer), one);
}

#define CHANNEL_TEST(function) cmocka_unit_test_setup_teardown(function, open_channel, close_channel)

int main(void) {
        const struct CMUnitTest tests[] = {
                CHANNEL_TEST(test_output_has_any_bytes),
                cmocka_unit_test(test_output_that_is_not_bytes_is_refused),
                CHANNEL_TEST(test_ends_of_commands),
                cmocka_unit_test(test_texts_of_others_are_one_line),
                cmocka_unit_test(test_own_texts_are_valid_and_bounded),
                CHANNEL_TEST(test_noise_before_the_first_object_is_skipped),
                CHANNEL_TEST(test_noise_has_a_bound),
                CHANNEL_TEST(test_a_line_comes_in_pieces),
                CHANNEL_TEST(test_a_line_has_a_bound),
                CHANNEL_TEST(test_a_slow_peer_costs_a_bounded_queue),
                CHANNEL_TEST(test_lines_beyond_the_last_bound_are_refused),
                CHANNEL_TEST(test_a_beat_is_sent_only_when_nothing_else_is),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
