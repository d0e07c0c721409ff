/* See vocab.h: the vocabulary of a file or of a folder of tokenizer files, with what those set beside the tokens. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "trainer/text/tokenizer_files.h"
#include "trainer/text/vocab_file.h"
#include "trainer/text/vocab_internal.h"

/* In a text for a SentencePiece model, special tokens are plain text to spm_encode; to transformers' AlbertTokenizer they are tokens. */
static int add_special_pieces(struct vocab *vocab) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < VOCAB_SPECIALS; i++) {
                int32_t id = vocab_special(vocab, vocab_specials[i]);
                if (!added_find(&vocab->added, vocab->tokens[id]))
                        r = vocab_add(vocab,
                                      &(struct added_token) { .id = id,
                                                              .content = (char *) vocab->tokens[id],
                                                              .role = added_role(vocab_specials[i]),
                                                              .lstrip = strcmp(vocab_specials[i], "[MASK]") == 0,
                                                              .special = true },
                                      false);
        }
        return r;
}

/* transformers' fast tokenizers take the ids in the files of added tokens for an order only. */
static void tell_ids(struct tokenizer_files *files, const struct vocab *vocab) {
        const struct added_token *first = NULL;
        uint32_t n = 0;

        for (uint32_t i = 0; i < files->added.n; i++) {
                const struct added_token *said = &files->added.item[i];
                if (said->id == ADDED_ID_NEXT || said->id == vocab->added.item[i].id)
                        continue;
                first = first ? first : said;
                n++;
        }
        if (first)
                tokenizer_note(files,
                               "added token '%.64s' has id %d in its file; as in transformers, it is %d (%u such)",
                               first->content, first->id, vocab_id(vocab, first->content), n);
}

/* A sign of a file that something happened to. */
static void tell_lines(struct tokenizer_files *files, const struct vocab *vocab, const char *path) {
        uint32_t n = vocab->size - (vocab->n_distinct - vocab->has_empty);

        if (!vocab->model && !files->listed && n > 0)
                tokenizer_note(files,
                               "%s: %u lines are empty or hold a token that is given again later: ids without a token, "
                               "as in transformers",
                               path, n);
}

int vocab_of_files(const char *path, struct tokenizer_files *files, struct vocab **ret, struct error *error) {
        cleanup_vocab struct vocab *vocab = NULL;
        char *copy = malloc(files->size + 1);

        if (!copy)
                return error_errno(error, ENOMEM, "%s", path);
        memcpy(copy, files->text, files->size + 1);
        int r = vocab_take(files->vocab_path ? files->vocab_path : path, copy, files->size, &files->added, true,
                           files->listed, &vocab, error);
        if (r < 0)
                return r;
        tell_lines(files, vocab, files->vocab_path ? files->vocab_path : path);
        tell_ids(files, vocab);
        if (vocab->model && files->has_options && add_special_pieces(vocab) < 0)
                return error_errno(error, ENOMEM, "%s", path);
        vocab->options = files->options;
        vocab->has_options = files->has_options;
        vocab->notes = steal_pointer(&files->notes);
        *ret = steal_pointer(&vocab);
        return 0;
}

int vocab_load(const char *path, struct vocab **ret, struct error *error) {
        cleanup_tokenizer struct tokenizer_files files = {};
        int r = tokenizer_read(path, &files, error);

        return r < 0 ? r : vocab_of_files(path, &files, ret, error);
}
