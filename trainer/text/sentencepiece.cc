/* See sentencepiece.h. The one C++ file: a thin cover over SentencePieceProcessor, with memory that C frees. */
#include "trainer/text/sentencepiece.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

#include "bertd/exit.h"

struct sentencepiece_model {
        sentencepiece::SentencePieceProcessor processor;
};

/* The library's message about a model, without its source file and condition: "./src/x.cc(7) [condition] text"; there is no other
 * if the file cannot be parsed. */
static std::string reason(const sentencepiece::util::Status &status) {
        const std::string text = status.error_message();
        const size_t end = text.rfind("] ");
        const std::string said = end == std::string::npos ? text : text.substr(end + 2);

        return said.empty() ? "cut short, damaged, or another file" : said;
}

int sentencepiece_new(const char *path, const char *data, size_t size, struct sentencepiece_model **ret,
                      struct error *error) {
        try {
                auto *model = new struct sentencepiece_model;
                const auto status = model->processor.LoadFromSerializedProto({ data, size });
                if (!status.ok()) {
                        delete model;
                        return error_input(error, BERTD_EXIT_DATA, "%s: not a readable SentencePiece model: %s", path,
                                           reason(status).c_str());
                }
                *ret = model;
                return 0;
        } catch (const std::exception &) {
                return error_errno(error, ENOMEM, "%s", path);
        }
}

void sentencepiece_free(struct sentencepiece_model *model) { delete model; }

uint32_t sentencepiece_size(const struct sentencepiece_model *model) {
        return uint32_t(model->processor.GetPieceSize());
}

const char *sentencepiece_piece(const struct sentencepiece_model *model, uint32_t id) {
        return model->processor.IdToPiece(int(id)).c_str();
}

int32_t sentencepiece_id(const struct sentencepiece_model *model, const char *piece) {
        const int id = model->processor.PieceToId(piece);
        return model->processor.IdToPiece(id) == piece ? id : -1;
}

int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size, int32_t **ret_ids,
                         size_t *ret_n) {
        try {
                std::vector<int> ids;
                if (!model->processor.Encode({ text, size }, &ids).ok())
                        return -ENOMEM;
                auto *copy = static_cast<int32_t *>(malloc((ids.size() + 1) * sizeof(int32_t)));
                if (!copy)
                        return -ENOMEM;
                for (size_t i = 0; i < ids.size(); i++)
                        copy[i] = ids[i];
                *ret_ids = copy;
                *ret_n = ids.size();
                return 0;
        } catch (const std::exception &) {
                return -ENOMEM;
        }
}

int sentencepiece_encode_pieces(const struct sentencepiece_model *model, const char *text, size_t size,
                                char **ret_pieces) {
        try {
                std::vector<std::string> pieces;
                std::string joined;
                if (!model->processor.Encode({ text, size }, &pieces).ok())
                        return -ENOMEM;
                for (const auto &piece : pieces)
                        joined += (joined.empty() ? "" : " ") + piece;
                *ret_pieces = strdup(joined.c_str());
                return *ret_pieces ? 0 : -ENOMEM;
        } catch (const std::exception &) {
                return -ENOMEM;
        }
}
