/* See vocab_file.h. */
#include "trainer/text/vocab_file.h"

#include <errno.h>
#include <stdint.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/text/unicode.h"

int vocab_read(const char *path, char **ret_text, size_t *ret_size, struct error *error) {
        if (file_is_sqlite(path)) /* it holds a vocabulary */
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s: a checkpoint, expected a vocabulary; tokenize and prepare take one by --checkpoint, "
                        "a spec by model.init",
                        path);
        bool json = text_ends_with(path, ".json"); /* holds more than the vocabulary */
        int r = file_read(path, json ? JSON_FILE_BYTES_MAX : VOCAB_FILE_BYTES_MAX, ret_text, ret_size, error);

        if (r < 0 && error && !error->exit)
                error->exit = r == -ENOENT || r == -EACCES || r == -ENOTDIR ? BERTD_EXIT_INPUT
                              : r == -EFBIG || r == -EINVAL                 ? BERTD_EXIT_DATA
                                                                            : 0;
        return r;
}

/* A protobuf message whose first field, a piece, begins with another field; a vocabulary of lines has no empty line. */
bool vocab_is_sentencepiece(const char *text, size_t size) { return size > 2 && text[0] == '\n' && text[2] == '\n'; }

size_t vocab_trimmed_size(const char *token, size_t size) {
        while (size > 0) {
                size_t last = size - 1;
                int32_t c;
                while (last > 0 && size - last < 4 && ((unsigned char) token[last] & 0xC0) == 0x80)
                        last--;
                if (utf8_decode(token + last, size - last, &c) != size - last || !unicode_is_space(c))
                        break;
                size = last;
        }
        return size;
}
