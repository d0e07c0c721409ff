/* See documents.h. Sentences are handed out in place, from the block; only jsonl allocates a text while a line is parsed. */
#include "trainer/text/documents.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/json_read.h"
#include "common/usage.h"
#include "trainer/text/sentences.h"

static const char *const format_names[TEXT_FORMAT_MAX] = {
        [TEXT_LINES] = "lines",
        [TEXT_PROSE] = "prose",
        [TEXT_WIKITEXT] = "wikitext",
        [TEXT_JSONL] = "jsonl",
};

int text_format_choose(const char *name, enum text_format *ret, struct error *error) {
        int format = usage_choice("--format", name, format_names, TEXT_FORMAT_MAX, error);

        if (format < 0)
                return format;
        *ret = (enum text_format) format;
        return 0;
}

const char *text_format_name(enum text_format format) { return format_names[format]; }

enum reader_cut text_format_cut(enum text_format format) {
        return format == TEXT_PROSE ? READER_PARAGRAPHS : READER_LINES;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

struct span {
        char *begin, *end;
};

static struct span trim(char *begin, char *end) {
        while (begin < end && is_space(*begin))
                begin++;
        while (end > begin && is_space(end[-1]))
                end--;
        return (struct span) { begin, end };
}

/* The next line without its newline; false at the end of the text. */
static bool next_line(char **cursor, char *end, struct span *ret) {
        if (*cursor >= end)
                return false;
        char *newline = memchr(*cursor, '\n', (size_t) (end - *cursor));
        *ret = (struct span) { *cursor, newline ? newline : end };
        *cursor = newline ? newline + 1 : end;
        return true;
}

static int parse_lines(struct block *block, const struct document_sink *sink) {
        char *cursor = block->text, *end = block->text + block->size;
        struct span line;
        int r = 0;

        while (r == 0 && next_line(&cursor, end, &line)) {
                struct span text = trim(line.begin, line.end);
                r = text.begin == text.end
                            ? sink->end_document(sink->context)
                            : sink->sentence(sink->context, text.begin, (size_t) (text.end - text.begin));
        }
        return r;
}

static int split_sentences(char *begin, char *end, const struct document_sink *sink) {
        int r = 0;

        while (r == 0 && begin < end) {
                size_t n = sentence_length(begin, (size_t) (end - begin));
                struct span text = trim(begin, begin + n);
                if (text.begin < text.end)
                        r = sink->sentence(sink->context, text.begin, (size_t) (text.end - text.begin));
                begin += n;
        }
        return r;
}

/* Nothing but punctuation: a rule or an underline. */
static bool is_decoration(struct span text) {
        for (const char *p = text.begin; p < text.end; p++)
                if ((unsigned char) *p >= 0x80 || (*p >= '0' && *p <= '9') ||
                    ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
                        return false;
        return true;
}

static int parse_prose(char *cursor, char *end, const struct document_sink *sink) {
        struct span line;
        char *paragraph = cursor;
        unsigned n_blank = 0;
        int r = 0;

        while (r == 0 && next_line(&cursor, end, &line)) {
                struct span text = trim(line.begin, line.end);
                bool blank = text.begin == text.end, form_feed = line.begin < line.end && *line.begin == '\f';
                n_blank = blank ? n_blank + 1 : 0;
                if (!form_feed && !blank && !is_decoration(text))
                        continue;
                r = split_sentences(paragraph, line.begin, sink);
                paragraph = form_feed && !blank ? text.begin : cursor;
                if (r == 0 && (n_blank == 2 || form_feed))
                        r = sink->end_document(sink->context);
        }
        return r ? r : split_sentences(paragraph, end, sink);
}

/* " @-@ " to "-", " @,@ " to ",", " @.@ " to ".": WikiText's marks of what it took apart. Returns the new end. */
static char *join_wikitext(char *begin, char *end) {
        char *to = begin;

        for (char *from = begin; from < end;) {
                if (*from == ' ' && end - from >= 5 && from[1] == '@' && from[3] == '@' && from[4] == ' ' &&
                    memchr("-,.", from[2], 3)) {
                        *to++ = from[2];
                        from += 5;
                } else {
                        *to++ = *from++;
                }
        }
        return to;
}

static int parse_wikitext(struct block *block, const struct document_sink *sink) {
        char *cursor = block->text, *end = block->text + block->size;
        struct span line;
        int r = 0;

        while (r == 0 && next_line(&cursor, end, &line)) {
                struct span text = trim(line.begin, line.end);
                size_t n = (size_t) (text.end - text.begin);
                bool heading = n >= 5 && memcmp(text.begin, "= ", 2) == 0 && memcmp(text.end - 2, " =", 2) == 0;
                if (heading && text.begin[2] != '=')
                        r = sink->end_document(sink->context);
                else if (!heading)
                        r = split_sentences(text.begin, join_wikitext(text.begin, text.end), sink);
        }
        return r;
}

static void cleanup_json_p(json_t **json) { json_decref(*json); }

static int no_end(void *context) { return 0; }

static int parse_json(struct span line, const char *path, uint64_t number, const struct document_sink *sink,
                      struct error *error) {
        json_error_t json_error;

        cleanup(cleanup_json_p) json_t *json = json_read(line.begin, (size_t) (line.end - line.begin), 0, &json_error);
        if (!json)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": %s at byte %d, expected a JSON object",
                                   path, number, json_error.text, json_error.position);
        json_t *text = json_object_get(json, "text");
        if (!json_is_string(text))
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": no string \"text\" in the JSON object",
                                   path, number);
        char *begin = (char *) json_string_value(text);
        struct document_sink whole = { .context = sink->context, .sentence = sink->sentence, .end_document = no_end };
        int r = parse_prose(begin, begin + json_string_length(text), &whole);
        return r ? r : sink->end_document(sink->context);
}

static int parse_jsonl(struct block *block, const struct document_sink *sink, struct error *error) {
        char *cursor = block->text, *end = block->text + block->size;
        uint64_t number = block->line;
        struct span line;
        int r = 0;

        for (; r == 0 && next_line(&cursor, end, &line); number++) {
                struct span text = trim(line.begin, line.end);
                if (text.begin < text.end)
                        r = parse_json(text, block->path, number, sink, error);
        }
        return r;
}

int documents_parse(enum text_format format, struct block *block, const struct document_sink *sink,
                    struct error *error) {
        switch (format) {
        case TEXT_LINES:
                return parse_lines(block, sink);
        case TEXT_PROSE:
                return parse_prose(block->text, block->text + block->size, sink);
        case TEXT_WIKITEXT:
                return parse_wikitext(block, sink);
        case TEXT_JSONL:
                return parse_jsonl(block, sink, error);
        case TEXT_FORMAT_MAX:
        default:
                return error_set(error, EINVAL, "unknown text format");
        }
}
