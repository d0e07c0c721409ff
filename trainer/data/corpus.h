/*
 * Corpora on disk: Megatron-LM's indexed dataset, version 1, one sentence a sequence.
 *
 * PREFIX.bin  the ids of all sentences, one after the other
 * PREFIX.idx  "MMIDIDX\0\0", u64 version 1, u8 dtype code, u64 sentences n, u64 documents + 1, int32 lengths[n],
 *             int64 offsets[n] in bytes of .bin, int64 first_sentence[documents + 1]; all little-endian
 * PREFIX.json bertd's own sidecar: what prepared it (corpus_sidecar.h). Megatron's corpora have none.
 */
#ifndef TRAINER_DATA_CORPUS_H
#define TRAINER_DATA_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/hex.h"
#include "trainer/text/unicode.h"

#define CORPUS_HASH_MAX HEX_128_SIZE

struct corpus; /* read only, memory mapped, thread safe for reads */

/* Maps PREFIX.bin and PREFIX.idx and validates one against the other completely: magic, version, dtype, sizes, offsets without
 * gap, documents in order. Errors name the file and what was expected; error->exit is BERTD_EXIT_INPUT where a file is missing,
 * BERTD_EXIT_DATA where it is wrong or has no sentence. Ids are not read (corpus_check_ids). A sentence or a document of a
 * foreign corpus may be empty. The caller closes. */
int corpus_open(const char *prefix, struct corpus **ret, struct error *error);
void corpus_close(struct corpus *corpus);
static inline void cleanup_corpus_p(struct corpus **corpus) { corpus_close(*corpus); }
#define cleanup_corpus cleanup(cleanup_corpus_p)

const char *corpus_prefix(const struct corpus *corpus);
uint64_t corpus_n_sentences(const struct corpus *corpus);
uint64_t corpus_n_documents(const struct corpus *corpus);
uint64_t corpus_n_tokens(const struct corpus *corpus);

/* First sentence of a document; document == corpus_n_documents gives corpus_n_sentences. */
uint64_t corpus_document_begin(const struct corpus *corpus, uint64_t document);

/* In tokens. */
uint32_t corpus_sentence_length(const struct corpus *corpus, uint64_t sentence);

/* Copies tokens [from, from + n) of a sentence, widened to int32; from + n <= corpus_sentence_length. */
void corpus_sentence_copy(const struct corpus *corpus, uint64_t sentence, uint32_t from, uint32_t n, int32_t *ids);

/* Reads every id. The first that is negative or not below vocab_size is refused (BERTD_EXIT_DATA) with its sentence. */
int corpus_check_ids(const struct corpus *corpus, uint32_t vocab_size, struct error *error);

/* What corpus_check_ids read, as a hash of the index, the vocabulary's size and what the file system reports of .bin
 * (size, inode, times): as long as it is the same, so is the answer. False: the file was written so lately that a
 * change would not show. */
bool corpus_state(const struct corpus *corpus, uint32_t vocab_size, char hex[CORPUS_HASH_MAX]);

/* The vocabulary's hash (vocab_hash) from the sidecar, borrowed; NULL without a sidecar. */
const char *corpus_vocab_hash(const struct corpus *corpus);

/* How its text was prepared, borrowed; NULL without a sidecar. */
const struct text_options *corpus_text_options(const struct corpus *corpus);

/* XXH3-128 over the .idx file, seeded with the size of the .bin file: identifies the corpus without reading its ids. */
void corpus_hash(const struct corpus *corpus, char hex[CORPUS_HASH_MAX]);

/* As the files are now, of .idx all, of a large .bin some ids (content.h). */
void corpus_content_hash(const struct corpus *corpus, char hex[CORPUS_HASH_MAX]);

#endif
