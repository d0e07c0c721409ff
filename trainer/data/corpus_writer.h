/*
 * Writes a corpus (corpus.h) as a stream, in memory that does not grow with it.
 *
 *   corpus_writer_open(prefix, vocab_size, &writer, &error)     PREFIX.{bin,idx,json}.tmp; refused where another writes them
 *   corpus_writer_add(...), corpus_writer_end_document(...)     as often as there are
 *   corpus_writer_finish(writer, &error)                        everything on disk, still under the temporary names
 *   corpus_writer_commit(writer, &sidecar, &error)              the old .idx goes, then all are renamed, .idx last: a corpus
 *                                                              exists whole or not at all
 *   corpus_writer_free(writer)                                  drops what was not committed, on errors too
 */
#ifndef TRAINER_DATA_CORPUS_WRITER_H
#define TRAINER_DATA_CORPUS_WRITER_H

#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "trainer/data/corpus_sidecar.h"

struct corpus_writer;

/* Ids take two bytes where vocab_size is below Megatron's limit, else four. */
int corpus_writer_open(const char *prefix, uint32_t vocab_size, struct corpus_writer **ret, struct error *error);
void corpus_writer_free(struct corpus_writer *writer);
static inline void cleanup_corpus_writer_p(struct corpus_writer **writer) { corpus_writer_free(*writer); }
#define cleanup_corpus_writer cleanup(cleanup_corpus_writer_p)

/* Appends n_sentences sentences to the open document; lengths in tokens, none 0, ids one after the other. */
int corpus_writer_add(struct corpus_writer *writer, const int32_t *ids, const uint32_t *lengths, size_t n_sentences,
                      struct error *error);

/* Closes the open document; nothing where it has no sentence. */
int corpus_writer_end_document(struct corpus_writer *writer, struct error *error);

uint64_t corpus_writer_documents(const struct corpus_writer *writer); /* closed ones */
uint64_t corpus_writer_sentences(const struct corpus_writer *writer);
uint64_t corpus_writer_tokens(const struct corpus_writer *writer);

int corpus_writer_finish(struct corpus_writer *writer, struct error *error);

/* `sidecar`: the counts are filled in here. */
int corpus_writer_commit(struct corpus_writer *writer, struct corpus_sidecar *sidecar, struct error *error);

#endif
