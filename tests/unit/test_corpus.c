/* Corpora: writer to reader, the bytes that Megatron reads, and every way in which the two files can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "trainer/data/corpus.h"
#include "trainer/data/corpus_format.h"
#include "trainer/data/corpus_writer.h"
#include "trainer/text/content.h"

static char folder[] = "/tmp/test_corpus.XXXXXX", prefix[64];

static char *name(const char *suffix) {
        static char buffer[128];
        (void) snprintf(buffer, sizeof(buffer), "%s%s", prefix, suffix);
        return buffer;
}

static void write_corpus(uint32_t vocab_size) {
        static const int32_t ids[] = { 5, 6, 7, 8, 9, 10 };
        static const uint32_t lengths[] = { 2, 1, 3 };
        struct corpus_sidecar sidecar = { .vocab_hash = "00112233445566778899aabbccddeeff",
                                          .vocab_size = vocab_size,
                                          .format = "lines" };
        cleanup_corpus_writer struct corpus_writer *writer = NULL;
        struct error error = {};

        assert_int_equal(corpus_writer_open(prefix, vocab_size, &writer, &error), 0);
        assert_int_equal(corpus_writer_add(writer, ids, lengths, 2, &error), 0);
        assert_int_equal(corpus_writer_end_document(writer, &error), 0);
        assert_int_equal(corpus_writer_end_document(writer, &error), 0);
        assert_int_equal(corpus_writer_add(writer, ids + 3, lengths + 2, 1, &error), 0);
        assert_int_equal(corpus_writer_finish(writer, &error), 0);
        assert_int_equal(corpus_writer_commit(writer, &sidecar, &error), 0);
}

static void test_round_trip(void **state) {
        for (uint32_t vocab_size = 100; vocab_size <= 70000; vocab_size += 69900) {
                cleanup_corpus struct corpus *corpus = NULL;
                struct error error = {};
                int32_t ids[3];
                char hash[CORPUS_HASH_MAX];
                write_corpus(vocab_size);
                assert_int_equal(corpus_open(prefix, &corpus, &error), 0);
                assert_int_equal(corpus_n_sentences(corpus), 3);
                assert_int_equal(corpus_n_documents(corpus), 2);
                assert_int_equal(corpus_n_tokens(corpus), 6);
                assert_int_equal(corpus_document_begin(corpus, 1), 2);
                assert_int_equal(corpus_document_begin(corpus, 2), 3);
                assert_int_equal(corpus_sentence_length(corpus, 2), 3);
                corpus_sentence_copy(corpus, 2, 1, 2, ids);
                assert_int_equal(ids[0], 9);
                assert_int_equal(ids[1], 10);
                assert_string_equal(corpus_vocab_hash(corpus), "00112233445566778899aabbccddeeff");
                corpus_hash(corpus, hash);
                assert_int_equal(strlen(hash), 32);
        }
}

static void test_bytes(void **state) {
        static const unsigned char expected[] = { 'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 3,
                                                  0,   0,   0,   0,   0,   0,   0,   3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0,
                                                  1,   0,   0,   0,   3,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
                                                  0,   0,   0,   0,   0,   6,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                  0,   0,   2,   0,   0,   0,   0,   0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0 };
        cleanup_free char *data = NULL;
        struct error error = {};
        size_t size;
        write_corpus(100);
        assert_int_equal(file_read(name(".idx"), 1000, &data, &size, &error), 0);
        assert_int_equal(size, sizeof(expected));
        assert_memory_equal(data, expected, size);
}

static void test_ids_beyond_the_vocabulary(void **state) {
        cleanup_corpus struct corpus *corpus = NULL;
        struct error error = {};
        write_corpus(100);
        assert_int_equal(corpus_open(prefix, &corpus, &error), 0);
        assert_int_equal(corpus_check_ids(corpus, 11, &error), 0);
        assert_true(corpus_check_ids(corpus, 9, &error) < 0);
        assert_int_equal(error.exit, BERTD_EXIT_DATA);
        assert_non_null(strstr(error.text, "sentence 2, token 1: id 9, expected 0 to 8"));
}

static void overwrite(const char *path, off_t offset, const void *data, size_t size) {
        cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, data, size, offset), size);
}

static bool state_of(uint32_t vocab_size, char hex[CORPUS_HASH_MAX]) {
        cleanup_corpus struct corpus *corpus = NULL;
        assert_int_equal(corpus_open(prefix, &corpus, NULL), 0);
        return corpus_state(corpus, vocab_size, hex);
}

/* What was read once need not be read again as long as its state is the same: nothing that changes the ids leaves it
 * so. */
static void test_state(void **state) {
        char first[CORPUS_HASH_MAX], again[CORPUS_HASH_MAX], other[CORPUS_HASH_MAX];
        struct stat before;
        write_corpus(100);
        assert_false(state_of(100, first)); /* a write within the same tick of the clock would not show */
        (void) usleep(100000);
        assert_true(state_of(100, first));
        assert_true(state_of(100, again));
        assert_string_equal(first, again);
        assert_true(state_of(99, other));
        assert_string_not_equal(first, other);

        assert_int_equal(stat(name(".bin"), &before), 0);
        overwrite(name(".bin"), 0, "\377", 1);
        assert_int_equal(utimensat(AT_FDCWD, name(".bin"), (struct timespec[]) { before.st_atim, before.st_mtim }, 0),
                         0);
        (void) state_of(100, other);
        assert_string_not_equal(first, other);
}

static void test_content(void **state) {
        size_t size = CONTENT_WHOLE + 5000;
        char *data = calloc(1, size), hex[CONTENT_HASH_MAX], other[CONTENT_HASH_MAX];
        assert_non_null(data);
        content_hash(data, size, hex);
        for (size_t at = 0; at < size; at += 4096 * 8) { /* as a file that was not made alike */
                data[at] = 1;
                data[MIN(at + 5000, size - 1)] = 1;
        }
        content_hash(data, size, other);
        assert_string_not_equal(hex, other);
        memset(data, 0, size);
        data[size - 1] = 1;
        content_hash(data, size, other);
        assert_string_not_equal(hex, other); /* the last byte counts, too */
        data[size - 1] = 0;
        content_hash(data, size - 1, other);
        assert_string_not_equal(hex, other);
        content_hash(data, 100, hex);
        data[50] = 1;
        content_hash(data, 100, other);
        assert_string_not_equal(hex, other);
        free(data);
        assert_true(content_hash_file("/dev/null", hex) < 0);
}

static void assert_refused(int exit_code, const char *says) {
        struct corpus *corpus = NULL;
        struct error error = {};
        assert_true(corpus_open(prefix, &corpus, &error) < 0);
        assert_int_equal(error.exit, exit_code);
        if (!strstr(error.text, says) || !strstr(error.text, prefix))
                fail_msg("expected \"%s\", said: %s", says, error.text);
}

/* One field of the index made wrong at a time. */
static void test_wrong_index(void **state) {
        static const struct {
                off_t offset;
                size_t size;
                int64_t value;
                const char *says;
        } cells[] = {
                { 0, 1, 'X', "not a Megatron index" },
                { 9, 8, 2, "version 2, expected 1" },
                { 17, 1, 6, "dtype code 6" },
                { 18, 8, 4, "expected another size" },
                { 18, 8, INT64_MAX, "expected another size" },
                { 18, 8, 0, "empty corpus" },
                { 26, 8, 2, "expected another size" },
                { 34, 4, -1, "sentence 0 has length -1" },
                { 42, 4, 9, "bytes, expected 24 by its index" },
                { 54, 8, 6, "sentence 1 begins at byte 6, expected 4" },
                { 70, 8, 1, "document 0 begins at sentence 1, expected 0" },
                { 78, 8, 9, "document 2 begins at sentence 3, expected at least 9" },
                { 86, 8, 2, "documents end at sentence 2, expected 3" },
        };
        for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
                write_corpus(100);
                overwrite(name(".idx"), cells[i].offset, &cells[i].value, cells[i].size);
                assert_refused(BERTD_EXIT_DATA, cells[i].says);
        }
}

static void test_cut_and_missing(void **state) {
        for (off_t size = 0; size < 94; size++) {
                write_corpus(100);
                assert_int_equal(truncate(name(".idx"), size), 0);
                assert_refused(BERTD_EXIT_DATA, ".idx");
        }
        write_corpus(100);
        static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        overwrite(name(".idx"), 0, pointer, sizeof(pointer) - 1);
        assert_refused(BERTD_EXIT_DATA, ".idx: a Git LFS pointer");
        write_corpus(100);
        assert_int_equal(truncate(name(".bin"), 11), 0);
        assert_refused(BERTD_EXIT_DATA, "11 bytes, expected 12");
        assert_int_equal(unlink(name(".bin")), 0);
        assert_refused(BERTD_EXIT_INPUT, ".bin");
        assert_int_equal(unlink(name(".idx")), 0);
        assert_refused(BERTD_EXIT_INPUT, ".idx");
}

static void test_sidecar(void **state) {
        cleanup_corpus struct corpus *corpus = NULL;
        struct error error = {};
        write_corpus(100);
        assert_int_equal(file_write_atomic(name(".json"), "{\"version\": 1}", 14, 0600, &error), 0);
        assert_refused(BERTD_EXIT_DATA, ".json");
        assert_int_equal(unlink(name(".json")), 0);
        assert_int_equal(corpus_open(prefix, &corpus, &error), 0);
        assert_null(corpus_vocab_hash(corpus));
}

static void test_writer_leaves_nothing(void **state) {
        struct corpus_writer *writer = NULL, *second = NULL;
        struct error error = {};
        write_corpus(100);
        assert_int_equal(corpus_writer_open(prefix, 100, &writer, &error), 0);
        assert_true(corpus_writer_open(prefix, 100, &second, &error) < 0);
        assert_non_null(strstr(error.text, "another prepare"));
        corpus_writer_free(writer);
        assert_int_equal(access(name(".bin.tmp"), F_OK), -1);
        assert_int_equal(access(name(".idx.tmp"), F_OK), -1);
        assert_int_equal(access(name(".idx"), F_OK), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_ids_beyond_the_vocabulary),
                cmocka_unit_test(test_state),
                cmocka_unit_test(test_content),
                cmocka_unit_test(test_wrong_index),
                cmocka_unit_test(test_cut_and_missing),
                cmocka_unit_test(test_sidecar),
                cmocka_unit_test(test_writer_leaves_nothing),
        };
        if (!mkdtemp(folder))
                return 1;
        (void) snprintf(prefix, sizeof(prefix), "%s/c", folder);
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        for (const char *const *suffix = (const char *const[]) { ".bin", ".idx", ".json", NULL }; *suffix; suffix++)
                (void) unlink(name(*suffix));
        (void) rmdir(folder);
        return failed;
}
