/* See tokenizer_json.h. */
#include "trainer/text/tokenizer_json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/json_read.h"
#include "trainer/text/vocab_file.h"

static int refuse_part(const char *path, const char *part, const json_t *object, const char *expected,
                       struct error *error) {
        const char *type = json_text_at(object, "type");

        return error_input(error, BERTD_EXIT_DATA, "%s: %s is %.64s; only %s is supported", path, part,
                           type ? type : "missing", expected);
}

/* [CLS] A [SEP], written in either of two ways. */
static bool is_bert_template(const json_t *post) {
        const char *type = json_text_at(post, "type");
        const json_t *single = json_object_get(post, "single");

        if (type && strcmp(type, "BertProcessing") == 0)
                return true;
        return type && strcmp(type, "TemplateProcessing") == 0 && json_array_size(single) == 3 &&
               json_object_get(json_array_get(single, 0), "SpecialToken") &&
               json_object_get(json_array_get(single, 1), "Sequence") &&
               json_object_get(json_array_get(single, 2), "SpecialToken");
}

static int check_parts(const char *path, const json_t *root, struct error *error) {
        static const struct {
                const char *part, *type;
        } parts[] = { { "normalizer", "BertNormalizer" }, { "pre_tokenizer", "BertPreTokenizer" } };
        const json_t *model = json_object_get(root, "model");
        const char *prefix = json_text_at(model, "continuing_subword_prefix");
        const json_t *longest = json_object_get(model, "max_input_chars_per_word");

        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                const json_t *part = json_object_get(root, parts[i].part);
                const char *type = json_text_at(part, "type");
                if (!type || strcmp(type, parts[i].type) != 0)
                        return refuse_part(path, parts[i].part, part, parts[i].type, error);
        }
        if (json_is_false(json_object_get(json_object_get(root, "normalizer"), "clean_text")))
                return error_input(error, BERTD_EXIT_DATA, "%s: normalizer.clean_text is false; only true is supported",
                                   path);
        if (!is_bert_template(json_object_get(root, "post_processor")))
                return refuse_part(path, "post_processor", json_object_get(root, "post_processor"), "[CLS] A [SEP]",
                                   error);
        if (prefix && strcmp(prefix, "##") != 0)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: model.continuing_subword_prefix is '%.16s'; only '##' is supported", path,
                                   prefix);
        if (longest && json_integer_value(longest) != 100)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: model.max_input_chars_per_word is not 100, which alone is supported", path);
        return 0;
}

/* Which token has which id; NULL if none has. The caller frees the array. */
static int index_tokens(const char *path, json_t *vocab, const char ***ret, size_t *ret_n, struct error *error) {
        size_t n = 0, bytes = 0;
        const char *token;
        json_t *id;

        json_object_foreach(vocab, token, id) {
                if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > ADDED_ID_MAX ||
                    strchr(token, '\n'))
                        return error_input(error, BERTD_EXIT_DATA, "%s: model.vocab: '%.64s' has no valid id", path,
                                           token);
                n = MAX(n, (size_t) json_integer_value(id) + 1);
                bytes += strlen(token);
        }
        if (n + bytes > VOCAB_FILE_BYTES_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s: model.vocab takes more than %zu bytes", path,
                                   VOCAB_FILE_BYTES_MAX);
        const char **tokens = calloc(n + 1, sizeof(*tokens));
        if (!tokens)
                return error_errno(error, ENOMEM, "%s", path);
        json_object_foreach(vocab, token, id) tokens[json_integer_value(id)] = token;
        *ret = tokens;
        *ret_n = n;
        return 0;
}

/* A token that ends in whitespace, which no word does. As a line of vocab.txt it would lose that and be another token: it is skipped,
 * unless no other token has that text and the line keeps its text (U+2028 and its like, which published vocabularies have). */
static bool is_left_out(const json_t *vocab, const char *token) {
        size_t size = strlen(token), trimmed = vocab_trimmed_size(token, size);
        cleanup_free char *rest = trimmed < size ? strndup(token, trimmed) : NULL;

        return trimmed < size && ((unsigned char) token[size - 1] < 0x80 || !rest || json_object_get(vocab, rest));
}

static int take_vocabulary(const char *path, json_t *vocab, struct tokenizer_files *files, struct error *error) {
        cleanup_free const char **tokens = NULL;
        size_t n = 0, size = 0;

        int r = index_tokens(path, vocab, &tokens, &n, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                size += (tokens[i] ? strlen(tokens[i]) : 0) + 1;
        char *to = files->text = malloc(size + 1);
        if (!to)
                return error_errno(error, ENOMEM, "%s", path);
        for (size_t i = 0; i < n; i++) {
                if (tokens[i] && !is_left_out(vocab, tokens[i]))
                        to = stpcpy(to, tokens[i]);
                *to++ = '\n';
        }
        *to = '\0';
        files->size = (size_t) (to - files->text);
        files->listed = true;
        return 0;
}

static bool is_wordpiece(const json_t *model) {
        const char *type = json_text_at(model, "type");

        return type ? strcmp(type, "WordPiece") == 0
                    : json_object_get(model, "max_input_chars_per_word") != NULL; /* before the type was written */
}

int tokenizer_json_read(const char *path, const json_t *root, struct tokenizer_files *files, struct error *error) {
        json_t *model = json_object_get(root, "model");

        if (!is_wordpiece(model))
                return refuse_part(path, "model.type", model, "WordPiece", error);
        int r = check_parts(path, root, error);
        return r < 0 ? r : take_vocabulary(path, json_object_get(model, "vocab"), files, error);
}
