/* See sentencepiece.h: what stands in where the program is built without libsentencepiece. There never is a model. */
#include "trainer/text/sentencepiece.h"

#include <errno.h>

#include "bertd/exit.h"

int sentencepiece_new(const char *path, const char *data, size_t size, struct sentencepiece_model **ret,
                      struct error *error) {
        return error_input(error, BERTD_EXIT_INPUT,
                           "%s: a SentencePiece model, and this bert-trainer is built without libsentencepiece", path);
}

void sentencepiece_free(struct sentencepiece_model *model) {}
uint32_t sentencepiece_size(const struct sentencepiece_model *model) { return 0; }
const char *sentencepiece_piece(const struct sentencepiece_model *model, uint32_t id) { return ""; }
int32_t sentencepiece_id(const struct sentencepiece_model *model, const char *piece) { return -1; }

int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size, int32_t **ret_ids,
                         size_t *ret_n) {
        return -ENOSYS;
}

int sentencepiece_encode_pieces(const struct sentencepiece_model *model, const char *text, size_t size,
                                char **ret_pieces) {
        return -ENOSYS;
}
