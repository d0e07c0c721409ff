/* See pairs.h. Owns the texts, one pair at a time. */
#include "trainer/commands/pairs.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/commands/json_line.h"
#include "trainer/data/records.h"
#include "trainer/text/encoder.h"

static int print_pair(const struct pairs_options *options, const struct texts *texts, struct error *error) {
        uint32_t n, second;
        const int32_t *ids = texts_ids(texts, 0, &n, &second);
        json_t *tokens = json_array(), *types = json_array();

        for (uint32_t i = 0; i < n; i++) {
                (void) json_array_append_new(tokens, options->ids ? json_integer(ids[i])
                                                                  : json_string(vocab_token(options->vocab, ids[i])));
                (void) json_array_append_new(types, json_integer(i >= second));
        }
        json_t *line = json_pack("{s:o, s:o}", options->ids ? "input_ids" : "tokens", tokens, "token_type_ids", types);
        int r = json_line(line, JSON_COMPACT, stdout);
        return r < 0 ? error_errno(error, -r, "standard output") : 0;
}

static int take_record(const struct pairs_options *options, struct texts *texts, const char *path,
                       const struct record *record, struct error *error) {
        texts_clear(texts);
        int r = texts_take(texts, path, record, NULL, false, error);
        if (r == 0)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s:%" PRIu64 ": an empty text; expected two with a tab between them", path,
                                   record->line);
        return r < 0 ? r : print_pair(options, texts, error);
}

static int print_file(const struct pairs_options *options, struct texts *texts, const char *path, struct error *error) {
        const struct records_options how = { .format = FORMAT_LINES, .encoding = options->encoding, .pair = true };
        cleanup_records struct records *records = NULL;
        struct text_findings findings = {};
        struct record record;

        int r = records_open(path, &how, &records, error);
        while (r >= 0 && (r = records_next(records, &record, error)) > 0)
                r = take_record(options, texts, strcmp(path, SPEC_STDIN) == 0 ? "standard input" : path, &record,
                                error);
        if (r >= 0)
                r = records_finish(records, &findings, error);
        if (r >= 0)
                text_findings_print(&findings, stderr);
        return r;
}

int pairs_print(const struct pairs_options *options, char *const *files, int n_files, struct error *error) {
        struct texts_options lengths = options->lengths;
        struct encoder *encoder = NULL;
        struct texts *texts = NULL;

        lengths.cls = vocab_special(options->vocab, "[CLS]");
        lengths.sep = vocab_special(options->vocab, "[SEP]");
        if (lengths.truncation != TRUNCATION_TAIL)
                lengths.truncation = TRUNCATION_HEAD;
        lengths.max_segments = 1;
        int r = encoder_new(options->vocab, &options->text, 1, &encoder) < 0
                        ? error_errno(error, ENOMEM, "tokenize")
                        : texts_new(encoder, &lengths, &texts, error);
        for (int i = 0; r >= 0 && i < n_files; i++)
                r = print_file(options, texts, files[i], error);
        if (r >= 0 && n_files == 0)
                r = print_file(options, texts, SPEC_STDIN, error);
        if (r >= 0 && fflush(stdout) == EOF)
                r = error_errno(error, errno, "standard output");
        if (texts)
                texts_print_unknown(texts, "the text", stderr);
        texts_free(texts);
        encoder_free(encoder);
        return r;
}
