/*
 * See tokenizer_files.h. Which file wins where two differ, and which id an added token gets, was tried with transformers 4.57 and 5.24;
 * what differs is reported in `notes`. Ids in the files of added tokens only order them: transformers' fast tokenizers number them again
 * (vocab_parse).
 */
#include "trainer/text/tokenizer_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/parse.h"
#include "trainer/text/tokenizer_json.h"
#include "trainer/text/vocab.h"
#include "trainer/text/vocab_file.h"

#define ADDED_MAX 32768
#define BOM "\xEF\xBB\xBF"

/* A folder's JSON files while it is read; NULL: not there. */
struct folder {
        const char *path, *file; /* file: of a vocabulary that stands for its own; NULL: none */
        json_t *tokenizer, *config, *special_tokens, *added;
        struct tokenizer_files *files;
};

void tokenizer_files_free(struct tokenizer_files *files) {
        free(files->text);
        free(files->vocab_path);
        added_free(&files->added);
        free(files->notes);
        *files = (struct tokenizer_files) {};
}

void tokenizer_note(struct tokenizer_files *files, const char *format, ...) {
        cleanup_free char *line = NULL, *before = files->notes;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&line, format, arguments) < 0)
                line = NULL;
        va_end(arguments);
        files->notes = format_string("%s%s%s", before ? before : "", before ? "\n" : "", line ? line : "");
}

/* A vocabulary of lines without a byte order mark and, where CR alone ends them, with LF. */
static void tidy_lines(char *text, size_t *size) {
        if (vocab_is_sentencepiece(text, *size))
                return;
        if (*size >= strlen(BOM) && memcmp(text, BOM, strlen(BOM)) == 0) {
                *size -= strlen(BOM);
                memmove(text, text + strlen(BOM), *size + 1);
        }
        for (char *cr = memchr(text, '\n', *size) ? NULL : text;
             cr && (cr = memchr(cr, '\r', *size - (size_t) (cr - text)));)
                *cr++ = '\n';
}

/* ---- added tokens ---- */

static struct added_token default_token(const char *content, bool special) {
        return (struct added_token) {
                .id = ADDED_ID_NEXT, .content = (char *) content, .normalized = !special, .special = special
        };
}

/* [PAD] and its like are special tokens in any case, whatever the files have; a SentencePiece model has <pad> and <unk>. */
static bool is_default_special(const struct folder *f, const char *content) {
        bool unigram = f && f->files->text && vocab_is_sentencepiece(f->files->text, f->files->size);

        return added_role(content) || (unigram && (strcmp(content, "<pad>") == 0 || strcmp(content, "<unk>") == 0));
}

static bool flag(const json_t *object, const char *key, bool otherwise) {
        const json_t *value = json_object_get(object, key);

        return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* A token as a string or an object {content, lstrip, …}, as tokenizers' AddedToken. `special` is what it is otherwise. */
static int put_token(const char *path, const struct folder *f, struct added_tokens *added, const json_t *value,
                     bool special, const char *role, struct error *error) {
        const char *content = json_is_object(value) ? json_text_at(value, "content") : json_plain_string(value);

        if (!content)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: an added token is not a text and not an object with a content", path);
        if (role && is_default_special(f, content) && strcmp(content, role) != 0 && added_role(content))
                return error_input(error, BERTD_EXIT_DATA, "%s: %s is the token of another role, %s", path, content,
                                   role);
        if (!content[0] || is_default_special(f, content))
                return 0;
        struct added_token token = default_token(content, flag(value, "special", special));
        const struct added_token *known = added_find(added, content);
        if (known && json_is_string(value))
                token = *known;
        token.lstrip = flag(value, "lstrip", token.lstrip);
        token.rstrip = flag(value, "rstrip", token.rstrip);
        token.normalized = flag(value, "normalized", token.normalized);
        token.single_word = flag(value, "single_word", token.single_word);
        token.role = role ? role : known ? known->role : NULL;
        if (!known && added->n >= ADDED_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s: more than %d added tokens", path, ADDED_MAX);
        return added_put(added, &token) < 0 ? error_errno(error, ENOMEM, "%s", path) : 0;
}

/* The id that the files give it: see vocab_load. */
static void set_id(struct added_tokens *added, const char *content, json_int_t id) {
        struct added_token *token = added_find(added, content);

        if (token && id >= 0 && id <= ADDED_ID_MAX)
                token->id = (int32_t) id;
}

static int take_added_tokens(const char *path, const struct folder *f, const json_t *root, struct added_tokens *added,
                             struct error *error) {
        const json_t *list = json_object_get(root, "added_tokens");
        int r = 0;

        for (size_t i = 0; r >= 0 && i < json_array_size(list); i++) {
                const json_t *token = json_array_get(list, i);
                const char *content = json_text_at(token, "content");
                r = put_token(path, f, added, token, false, NULL, error);
                if (r >= 0 && json_is_integer(json_object_get(token, "id")))
                        set_id(added, content, json_integer_value(json_object_get(token, "id")));
        }
        return r;
}

static int take_unknown(const char *path, const json_t *root, struct added_tokens *added, struct error *error) {
        const json_t *unknown = json_object_get(json_object_get(root, "model"), "unk_token");

        return json_is_string(unknown) && strcmp(json_string_value(unknown), "[UNK]") != 0
                       ? put_token(path, NULL, added, unknown, true, added_role("[UNK]"), error)
                       : 0;
}

/* Accents follow lowercasing unless they are set. */
static struct text_options options_of(const json_t *object, const char *lower, const char *chinese) {
        bool lowercase = flag(object, lower, true);

        return (struct text_options) { .lowercase = lowercase,
                                       .strip_accents = flag(object, "strip_accents", lowercase),
                                       .chinese = flag(object, chinese, true),
                                       .quotes = true,
                                       .nfkd = true };
}

static struct text_options normalizer_options(const json_t *root) {
        return options_of(json_object_get(root, "normalizer"), "lowercase", "handle_chinese_chars");
}

/* ---- a file ---- */

/* NULL: not a tokenizer.json. A vocab.txt may begin with the token "{". */
static json_t *as_tokenizer_json(const char *text, size_t size) {
        json_error_t why;
        const char *brace = memchr(text, '{', MIN(size, (size_t) 16));
        json_t *root = brace ? json_read(text, size, 0, &why) : NULL;

        if (json_is_object(json_object_get(root, "model")))
                return root;
        json_decref(root);
        return NULL;
}

static int read_plain(const char *path, struct tokenizer_files *files, struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        int r = vocab_read(path, &text, &size, error);
        if (r >= 0)
                r = file_refuse_pointer(path, text, size, error);
        if (r < 0)
                return r;
        json_t *root = as_tokenizer_json(text, size);
        if (!root && text_ends_with(path, ".json"))
                return error_input(error, BERTD_EXIT_DATA, "%s: not a tokenizer.json: no JSON object with a model",
                                   path);
        if (!root) {
                tidy_lines(text, &size);
                files->text = steal_pointer(&text);
                files->size = size;
                return 0;
        }
        r = tokenizer_json_read(path, root, files, error);
        if (r >= 0)
                r = take_added_tokens(path, NULL, root, &files->added, error);
        if (r >= 0)
                r = take_unknown(path, root, &files->added, error);
        files->options = normalizer_options(root);
        files->has_options = true;
        json_decref(root);
        return r;
}

/* ---- a folder ---- */

/* 1: it is present. */
static int read_file(const char *folder, const char *name, char **ret_path, char **ret, size_t *ret_size,
                     struct error *error) {
        cleanup_free char *path = format_string("%s/%s", folder, name);

        if (!path)
                return error_errno(error, ENOMEM, "%s", folder);
        if (!file_is_there(path))
                return 0;
        int r = file_read(path, VOCAB_FILE_BYTES_MAX, ret, ret_size, error);
        if (r >= 0)
                r = file_refuse_pointer(path, *ret, *ret_size, error);
        if (r < 0)
                return r;
        *ret_path = steal_pointer(&path);
        return 1;
}

static int read_vocab(struct folder *f, const char *name, struct error *error) {
        int r = read_file(f->path, name, &f->files->vocab_path, &f->files->text, &f->files->size, error);
        if (r > 0)
                tidy_lines(f->files->text, &f->files->size);
        return r;
}

/* The first line that differs, once both are read as vocabularies are, or why vocab.txt is none. */
static void compare_vocab_txt(struct folder *f) {
        cleanup_free char *path = NULL, *text = NULL;
        cleanup_vocab struct vocab *a = NULL, *b = NULL;
        struct error why = {};
        uint32_t id = 0;
        size_t size;

        int r = read_file(f->path, "vocab.txt", &path, &text, &size, &why);
        if (r > 0 && vocab_parse(path, f->files->text, f->files->size, NULL, &b, NULL) < 0)
                return; /* special tokens of other names */
        if (r > 0) {
                tidy_lines(text, &size);
                r = vocab_parse(path, text, size, NULL, &a, &why) < 0 ? -EINVAL : 1;
        }
        if (r < 0)
                tokenizer_note(f->files, "%s; tokenizer.json is used", why.text);
        if (r <= 0)
                return;
        while (id < vocab_size(a) && id < vocab_size(b) &&
               strcmp(vocab_token(a, (int32_t) id), vocab_token(b, (int32_t) id)) == 0)
                id++;
        if (id < vocab_size(a) || id < vocab_size(b))
                tokenizer_note(f->files,
                               "%s and tokenizer.json differ from id %u on; tokenizer.json is used, as in transformers",
                               path, id);
}

/* tokenizer.json's list of pieces must be spiece.model's. */
static int check_pieces(const struct folder *f, struct error *error) {
        const json_t *pieces = json_object_get(json_object_get(f->tokenizer, "model"), "vocab");
        cleanup_vocab struct vocab *vocab = NULL;
        uint32_t id = 0;

        int r = vocab_parse(f->files->vocab_path, f->files->text, f->files->size, NULL, &vocab, error);
        if (r < 0)
                return r;
        for (; id < vocab_size(vocab); id++) {
                const char *piece = json_plain_string(json_array_get(json_array_get(pieces, id), 0));
                if (!piece || strcmp(piece, vocab_token(vocab, (int32_t) id)) != 0)
                        break;
        }
        return id == vocab_size(vocab) && json_array_size(pieces) == id
                       ? 0
                       : error_input(error, BERTD_EXIT_DATA,
                                     "%s/tokenizer.json and spiece.model differ from id %u on: they are not of one "
                                     "model; take away the one that is not this model's",
                                     f->path, id);
}

static int read_unigram(struct folder *f, struct error *error) {
        int r = read_vocab(f, "spiece.model", error);

        if (r != 0)
                return r < 0 ? r : check_pieces(f, error);
        return error_input(
                error, BERTD_EXIT_INPUT,
                "%s/tokenizer.json holds a Unigram model, which is read from spiece.model, and that is missing; "
                "copy spiece.model from the folder of the model that this one was trained from",
                f->path);
}

static int read_tokenizer_json(struct folder *f, struct error *error) {
        cleanup_free char *path = format_string("%s/tokenizer.json", f->path);
        const char *type = json_text_at(json_object_get(f->tokenizer, "model"), "type");

        if (!path)
                return error_errno(error, ENOMEM, "%s", f->path);
        int r = type && strcmp(type, "Unigram") == 0 ? read_unigram(f, error)
                                                     : tokenizer_json_read(path, f->tokenizer, f->files, error);
        if (r >= 0)
                r = take_added_tokens(path, f, f->tokenizer, &f->files->added, error);
        if (r >= 0)
                r = take_unknown(path, f->tokenizer, &f->files->added, error);
        if (r >= 0 && !f->files->vocab_path) {
                compare_vocab_txt(f);
                f->files->vocab_path = steal_pointer(&path);
        }
        return r;
}

static int read_given(struct folder *f, struct error *error) {
        int r = read_plain(f->file, f->files, error);

        f->files->vocab_path = r >= 0 ? strdup(f->file) : NULL;
        return r < 0 || !f->tokenizer ? r : take_added_tokens(f->path, f, f->tokenizer, &f->files->added, error);
}

static int read_vocabulary(struct folder *f, struct error *error) {
        if (f->file)
                return read_given(f, error);
        if (f->tokenizer)
                return read_tokenizer_json(f, error);
        int r = read_vocab(f, "vocab.txt", error);
        if (r == 0)
                r = read_vocab(f, "spiece.model", error);
        return r != 0 ? r
                      : error_input(error, BERTD_EXIT_INPUT,
                                    "%s: has no vocab.txt, no tokenizer.json and no spiece.model", f->path);
}

/* Entries of an object in the order of their ids: keys of added_tokens_decoder, values of added_tokens.json. */
struct entry {
        json_int_t id;
        const char *content;
        const json_t *value;
};

static int compare_entries(const void *a, const void *b) {
        const struct entry *x = a, *y = b;

        return (x->id > y->id) - (x->id < y->id);
}

static int sort_entries(json_t *object, bool id_is_key, struct entry **ret) {
        struct entry *entries = calloc(json_object_size(object) + 1, sizeof(*entries));
        const char *key;
        json_t *value;
        size_t n = 0;

        if (!entries)
                return -ENOMEM;
        json_object_foreach(object, key, value) entries[n++] =
                (struct entry) { .id = id_is_key ? strtol(key, NULL, 10) : json_integer_value(value),
                                 .content = id_is_key ? json_text_at(value, "content") : key,
                                 .value = value };
        qsort(entries, n, sizeof(*entries), compare_entries);
        *ret = entries;
        return 0;
}

static bool is_in(const json_t *value, const char *content) {
        const char *text = json_is_object(value) ? json_text_at(value, "content") : json_plain_string(value);

        if (text && strcmp(text, content) == 0)
                return true;
        for (size_t i = 0; i < json_array_size(value); i++)
                if (is_in(json_array_get(value, i), content))
                        return true;
        return false;
}

/* Whether a file that lists special tokens names it, as any of its values. */
static bool is_named_special(const struct folder *f, const char *content) {
        json_t *const files[] = { f->config, f->special_tokens };
        const char *key;
        json_t *value;

        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                json_object_foreach(files[i], key,
                                    value) if ((strstr(key, "_token") && is_in(value, content))) return true;
        return false;
}

/* added_tokens_decoder; without it, added_tokens.json, which gives ids and no flags. */
static int take_numbered(struct folder *f, struct error *error) {
        json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
        json_t *object = json_is_object(decoder) ? decoder : f->added;
        cleanup_free struct entry *entries = NULL;
        int r = sort_entries(object, object == decoder, &entries);

        if (r < 0)
                return error_errno(error, ENOMEM, "%s", f->path);
        for (size_t i = 0; r >= 0 && i < json_object_size(object); i++) {
                const struct entry *e = &entries[i];
                json_t *token = object == decoder ? json_incref((json_t *) e->value) : json_string(e->content);
                r = put_token(f->path, f, &f->files->added, token, object != decoder && is_named_special(f, e->content),
                              NULL, error);
                if (r >= 0 && e->content)
                        set_id(&f->files->added, e->content, e->id);
                json_decref(token);
        }
        return r;
}

/* A list or an object of tokens that are special and have no role. */
static int take_specials(struct folder *f, const char *path, json_t *value, struct error *error) {
        const char *key;
        json_t *item;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < json_array_size(value); i++)
                r = put_token(path, f, &f->files->added, json_array_get(value, i), true, NULL, error);
        json_object_foreach(value, key, item) if (r >= 0) r =
                put_token(path, f, &f->files->added, item, true, NULL, error);
        return r;
}

static int take_roles(struct folder *f, const char *name, const json_t *object, struct error *error) {
        static const struct {
                const char *key, *role;
        } keys[] = { { "bos_token", NULL },     { "eos_token", NULL },    { "unk_token", "[UNK]" },
                     { "sep_token", "[SEP]" },  { "pad_token", "[PAD]" }, { "cls_token", "[CLS]" },
                     { "mask_token", "[MASK]" } };
        static const char *const more[] = { "additional_special_tokens", "extra_special_tokens",
                                            "model_specific_special_tokens" };
        cleanup_free char *path = format_string("%s/%s", f->path, name);
        int r = path ? 0 : error_errno(error, ENOMEM, "%s", f->path);

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(keys); i++) {
                const json_t *value = json_object_get(object, keys[i].key);
                if (value && !json_is_null(value))
                        r = put_token(path, f, &f->files->added, value, true, added_role(keys[i].role), error);
        }
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(more); i++)
                r = take_specials(f, path, json_object_get(object, more[i]), error);
        return r;
}

static bool has_step(const json_t *sequence, const char *type) {
        const json_t *steps = json_object_get(sequence, "normalizers");

        for (size_t i = 0; i < json_array_size(steps); i++) {
                const char *step = json_text_at(json_array_get(steps, i), "type");
                if (step && strcmp(step, type) == 0)
                        return true;
        }
        return false;
}

/* What tokenizer.json's normalizer does, AlbertTokenizer's being a sequence of steps. */
static struct text_options told_options(const struct folder *f, bool unigram) {
        const json_t *normalizer = json_object_get(f->tokenizer, "normalizer");

        if (!unigram)
                return normalizer_options(f->tokenizer);
        return (struct text_options) { .lowercase = has_step(normalizer, "Lowercase"),
                                       .strip_accents = has_step(normalizer, "StripAccents"),
                                       .chinese = true,
                                       .quotes = has_step(normalizer, "Replace"),
                                       .nfkd = has_step(normalizer, "NFKD") };
}

static struct text_options config_options(const struct folder *f, bool unigram) {
        struct text_options own = options_of(f->config, "do_lower_case", "tokenize_chinese_chars");

        if (unigram) {
                own.strip_accents = own.nfkd = !flag(f->config, "keep_accents", false);
                own.chinese = true;
        }
        return own;
}

/* tokenizer_config.json counts for transformers' BertTokenizer and its like, whatever tokenizer.json's normalizer has; a class that
 * is not BERT's leaves that to tokenizer.json. */
static void take_options(struct folder *f) {
        const char *class = json_text_at(f->config, "tokenizer_class");
        bool generic =
                class && (strcmp(class, "PreTrainedTokenizerFast") == 0 || strcmp(class, "TokenizersBackend") == 0);
        bool unigram = vocab_is_sentencepiece(f->files->text, f->files->size),
             said = json_is_object(json_object_get(f->tokenizer, "normalizer"));
        struct text_options told = told_options(f, unigram), own = config_options(f, unigram);

        f->files->options = said && generic ? told : own;
        f->files->has_options = true;
        if (said && !generic &&
            (told.lowercase != own.lowercase || told.strip_accents != own.strip_accents || told.chinese != own.chinese))
                tokenizer_note(f->files,
                               "%s: tokenizer.json's normalizer (lowercase %d, strip_accents %d, handle_chinese_chars "
                               "%d) is not "
                               "tokenizer_config.json's (%d, %d, %d), which is used, as in transformers",
                               f->path, told.lowercase, told.strip_accents, told.chinese, own.lowercase,
                               own.strip_accents, own.chinese);
}

/* A switch that is neither true nor false means something else than we think. */
static int check_switches(const struct folder *f, struct error *error) {
        static const char *const keys[] = { "do_lower_case", "tokenize_chinese_chars", "strip_accents",
                                            "keep_accents" };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                const json_t *value = json_object_get(f->config, keys[i]);
                if (value && !json_is_null(value) && !json_is_boolean(value))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s/tokenizer_config.json: %s: expected true or false", f->path, keys[i]);
        }
        return 0;
}

static int check_class(const struct folder *f, struct error *error) {
        static const char *const others[] = { "Japanese", "Roberta", "XLM", "Bart", "GPT2", "Deberta" };
        const char *class = json_text_at(f->config, "tokenizer_class");

        for (size_t i = 0; class && i < ELEMENTSOF(others); i++)
                if (strstr(class, others[i]))
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s/tokenizer_config.json: tokenizer_class %.64s is not supported; expected "
                                           "BertTokenizer or AlbertTokenizer",
                                           f->path, class);
        return 0;
}

static int read_folder_files(struct folder *f, struct error *error) {
        int r = json_read_file(f->path, "tokenizer.json", 0, &f->tokenizer, error);

        if (r >= 0)
                r = json_read_file(f->path, "tokenizer_config.json", 0, &f->config, error);
        if (r >= 0 && !json_is_object(json_object_get(f->config, "added_tokens_decoder")))
                r = json_read_file(f->path, "special_tokens_map.json", 0, &f->special_tokens, error);
        if (r >= 0 && !json_is_object(json_object_get(f->config, "added_tokens_decoder")))
                r = json_read_file(f->path, "added_tokens.json", 0, &f->added, error);
        if (r >= 0)
                r = check_class(f, error);
        if (r >= 0)
                r = check_switches(f, error);
        if (r >= 0)
                r = read_vocabulary(f, error);
        return r;
}

static int read_folder(struct folder *f, struct error *error) {
        int r = read_folder_files(f, error);

        if (r >= 0)
                r = take_numbered(f, error);
        if (r >= 0)
                r = take_roles(f, "special_tokens_map.json", f->special_tokens, error);
        if (r >= 0)
                r = take_roles(f, "tokenizer_config.json", f->config, error);
        if (r >= 0)
                take_options(f);
        json_decref(f->tokenizer);
        json_decref(f->config);
        json_decref(f->special_tokens);
        json_decref(f->added);
        return r < 0 ? r : 0;
}

/* ---- a path ---- */

int tokenizer_read(const char *path, struct tokenizer_files *ret, struct error *error) {
        struct folder folder = { .path = path, .files = ret };
        struct stat st;

        return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? read_folder(&folder, error) : read_plain(path, ret, error);
}

int tokenizer_read_beside(const char *folder, const char *file, struct tokenizer_files *ret, struct error *error) {
        struct folder f = { .path = folder, .file = file, .files = ret };

        return read_folder(&f, error);
}

bool tokenizer_in_folder(const char *folder) {
        static const char *const names[] = { "tokenizer.json", "vocab.txt", "spiece.model" };
        bool found = false;

        for (size_t i = 0; i < ELEMENTSOF(names) && !found; i++) {
                cleanup_free char *path = format_string("%s/%s", folder, names[i]);
                found = path && file_is_there(path);
        }
        return found;
}
