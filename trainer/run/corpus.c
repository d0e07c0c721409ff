/*
 * Further pretraining on the texts that a classifier is trained on: a corpus made of them in the run folder, each text a document,
 * cut into sentences as `prepare --format prose` does. See run.h. Made again at every start: the files decide what is in it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/data/corpus_writer.h"
#include "trainer/run/run.h"
#include "trainer/text/content.h"
#include "trainer/text/sentences.h"
#include "trainer/text/unknown.h"

static int add_text(struct run *run, const struct record *record, struct ids *ids, struct unknown *unknown,
                    struct corpus_writer *writer, struct error *error) {
        const char *at = record->text, *end = at + record->size;

        while (at < end) {
                size_t size = sentence_length(at, (size_t) (end - at));
                ids->n = 0;
                if (encoder_encode(run->job->encoder, 0, at, size, ids) < 0 ||
                    unknown_take(unknown, run->job->encoder, 0, at, size, ids->data, ids->n) < 0)
                        return error_errno(error, ENOMEM, "corpus");
                uint32_t n = (uint32_t) ids->n;
                int r = n > 0 ? corpus_writer_add(writer, ids->data, &n, 1, error) : 0;
                if (r < 0)
                        return r;
                at += MAX(size, (size_t) 1);
        }
        return corpus_writer_end_document(writer, error);
}

static int add_file(struct run *run, const char *path, const struct records_options *options, struct ids *ids,
                    struct unknown *unknown, struct corpus_writer *writer, struct texts_found *found,
                    struct error *error) {
        cleanup_records struct records *records = NULL;
        struct record record;

        int r = records_open(path, options, &records, error);
        while (r >= 0 && (r = records_next(records, &record, error)) > 0) {
                if (record.size > 0)
                        r = add_text(run, &record, ids, unknown, writer, error);
                else
                        texts_note_empty(found, path, &record);
        }
        return r < 0 ? r : records_finish(records, &found->bytes, error);
}

static int commit(struct run *run, const char *prefix, struct corpus_writer *writer, struct error *error) {
        struct corpus_sidecar sidecar = { .vocab_size = run->job->samples_vocab.size,
                                          .options = run->job->text,
                                          .format = "texts" };

        vocab_hash(run->job->vocab, sidecar.vocab_hash);
        if (corpus_writer_documents(writer) == 0)
                return error_input(error, BERTD_EXIT_DATA, "%s: no token in the texts", prefix);
        int r = corpus_writer_finish(writer, error);
        if (r < 0)
                return r;
        if (run->ranks.own == 0)
                (void) fprintf(stderr, "%s: %" PRIu64 " texts, %" PRIu64 " sentences, %" PRIu64 " tokens\n", prefix,
                               corpus_writer_documents(writer), corpus_writer_sentences(writer),
                               corpus_writer_tokens(writer));
        return corpus_writer_commit(writer, &sidecar, error);
}

int run_make_corpus(struct run *run, const struct spec_data *data, char *const *files, uint32_t n, const char *prefix,
                    struct error *error) {
        cleanup_corpus_writer struct corpus_writer *writer = NULL;
        struct records_options options = run_records_of(data);
        struct texts_found found = {};
        struct unknown unknown = {};
        struct ids ids = {};

        options.label = NULL;
        options.pair = false;
        int r = corpus_writer_open(prefix, run->job->samples_vocab.size, &writer, error);
        for (uint32_t i = 0; r >= 0 && i < n; i++)
                r = add_file(run, files[i], &options, &ids, &unknown, writer, &found, error);
        free(ids.data);
        if (r >= 0)
                r = texts_check_empty(&found, data->empty, RUN_SKIP_EMPTY, error);
        if (r >= 0 && run->ranks.own == 0) {
                texts_print_found(&found, stderr);
                unknown_print(&unknown, run->job->encoder, prefix, stderr);
        }
        unknown_free(&unknown);
        return r < 0 ? r : commit(run, prefix, writer, error);
}

static const char *const suffixes[] = { ".idx", ".bin", ".json" };

/* What rank 0 has made, on all ranks; empty where a file cannot be read. */
static void hash_files(const char *prefix, char hex[2][CONTENT_HASH_MAX]) {
        for (size_t i = 0; i < 2; i++) {
                cleanup_free char *path = format_string("%s%s", prefix, suffixes[i]);
                if (!path || content_hash_file(path, hex[i]) < 0)
                        hex[i][0] = '\0';
        }
}

/* In a separate folder; *prefix leads there once it is made. */
static int move_elsewhere(char **prefix, struct error *error) {
        const char *temporary = getenv("TMPDIR");
        cleanup_free char *folder = format_string("%s/bert-trainer.XXXXXX", temporary ? temporary : "/tmp");
        char *other = folder && mkdtemp(folder) ? format_string("%s/texts", folder) : NULL;

        if (!other)
                return error_errno(error, errno, "%s", folder ? folder : "corpus");
        free(*prefix);
        *prefix = other;
        return 0;
}

int run_share_corpus(struct run *run, const struct spec_data *data, char *const *files, uint32_t n, char **prefix,
                     bool *ret_elsewhere, struct error *error) {
        char its[2][CONTENT_HASH_MAX] = {}, own[2][CONTENT_HASH_MAX] = {};
        int r = 0;

        hash_files(*prefix, own);
        memcpy(its, own, sizeof(its));
        exchange_broadcast(run->ranks.exchange, its, sizeof(its));
        if (strcmp(own[0], its[0]) != 0 || strcmp(own[1], its[1]) != 0) {
                r = move_elsewhere(prefix, error);
                *ret_elsewhere = r >= 0;
                if (r >= 0)
                        r = run_make_corpus(run, data, files, n, *prefix, error);
        }
        return exchange_agree(run->ranks.exchange, r, error);
}

void run_remove_corpus(const char *prefix) {
        cleanup_free char *folder = strndup(prefix, (size_t) (strrchr(prefix, '/') - prefix));

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                cleanup_free char *path = format_string("%s%s", prefix, suffixes[i]);
                if (path)
                        (void) unlink(path);
        }
        if (folder)
                (void) rmdir(folder);
}
