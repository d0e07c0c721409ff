/* A corpus that somebody brought: flags, sizes of .idx and sidecar, then .idx, sidecar and .bin. What is accepted is
 * read whole. */
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/corpus.h"

static char *prefix, *idx, *sidecar, *bin;

static void write_corpus(struct fuzz_input input) {
        uint32_t flags = fuzz_u8(&input), sizes = fuzz_u32(&input);
        struct fuzz_input first = fuzz_take(&input, sizes & 0xffff), second = fuzz_take(&input, sizes >> 16);

        fuzz_write(idx, first.data, first.size);
        (void) unlink(sidecar);
        if (flags & 1)
                fuzz_write(sidecar, second.data, second.size);
        fuzz_write(bin, input.data, input.size);
}

static void read_sentence(const struct corpus *c, uint64_t sentence) {
        uint32_t n = corpus_sentence_length(c, sentence);
        cleanup_free int32_t *ids = malloc(n * sizeof(*ids));

        corpus_sentence_copy(c, sentence, 0, n, ids);
        if (n > 0)
                corpus_sentence_copy(c, sentence, n - 1, 1, ids);
}

static void read_all(const struct corpus *c) {
        char hash[CORPUS_HASH_MAX];
        struct error error = {};
        uint64_t tokens = 0, begin = 0;

        for (uint64_t s = 0; s < corpus_n_sentences(c); s++) {
                read_sentence(c, s);
                tokens += corpus_sentence_length(c, s);
        }
        assert(tokens == corpus_n_tokens(c));
        for (uint64_t d = 0; d <= corpus_n_documents(c); d++) {
                assert(corpus_document_begin(c, d) >= begin);
                begin = corpus_document_begin(c, d);
        }
        assert(begin == corpus_n_sentences(c));
        assert(corpus_check_ids(c, 100, &error) == 0 || error.exit == BERTD_EXIT_DATA);
        corpus_hash(c, hash);
        (void) corpus_vocab_hash(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        cleanup_corpus struct corpus *c = NULL;
        struct error error = {};

        if (!prefix) {
                prefix = fuzz_path("corpus");
                idx = fuzz_path("corpus.idx");
                sidecar = fuzz_path("corpus.json");
                bin = fuzz_path("corpus.bin");
        }
        write_corpus((struct fuzz_input) { data, size });
        if (corpus_open(prefix, &c, &error) == 0)
                read_all(c);
        else
                assert(error.exit == BERTD_EXIT_DATA && strstr(error.text, prefix));
        return 0;
}
