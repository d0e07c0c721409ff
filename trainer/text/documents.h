/* The formats of text: a block of it to sentences and the ends of documents. Stateless: any number of blocks at once. */
#ifndef TRAINER_TEXT_DOCUMENTS_H
#define TRAINER_TEXT_DOCUMENTS_H

#include <stddef.h>

#include "common/error.h"
#include "trainer/text/reader.h"

enum text_format {
        TEXT_LINES, /* one sentence a line, a blank line between documents */
        TEXT_PROSE, /* paragraphs between blank lines, split into sentences; two blank lines, a form feed or the
                        * file's end end a document; lines of punctuation alone (rules, underlines) are skipped */
        TEXT_WIKITEXT, /* WikiText: a paragraph a line; " = Title = " begins a document, headings are skipped, " @-@ " is "-" */
        TEXT_JSONL, /* an object a line, its "text" (prose) one document */
        TEXT_FORMAT_MAX,
};

/* From the argument of --format: "lines", "prose", "wikitext", "jsonl". */
int text_format_choose(const char *name, enum text_format *ret, struct error *error);
const char *text_format_name(enum text_format format);

/* How a reader must cut blocks for the format. */
enum reader_cut text_format_cut(enum text_format format);

struct document_sink {
        void *context;
        int (*sentence)(void *context, const char *text, size_t size); /* trimmed, not empty, may contain newlines */
        int (*end_document)(void *context);                            /* may come with no sentence before it */
};

/* Parses a block, which is changed in place. The end of a file ends a document too, but its block does not show it: the
 * caller sees the next block's begins_file. Errors: the sink's; in jsonl, file:line with BERTD_EXIT_DATA. */
int documents_parse(enum text_format format, struct block *block, const struct document_sink *sink,
                    struct error *error);

#endif
