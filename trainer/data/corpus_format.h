/* What reader and writer of the on-disk format share. */
#ifndef TRAINER_DATA_CORPUS_FORMAT_H
#define TRAINER_DATA_CORPUS_FORMAT_H

#include <stdint.h>

#define CORPUS_MAGIC "MMIDIDX\0\0" /* 9 bytes, both NULs included */
#define CORPUS_MAGIC_BYTES 9
#define CORPUS_VERSION 1
#define CORPUS_UINT16_VOCAB_MAX 65500 /* Megatron's limit for two bytes an id */

enum corpus_dtype {
        CORPUS_UINT8 = 1,
        CORPUS_INT8 = 2,
        CORPUS_INT16 = 3,
        CORPUS_INT32 = 4,
        CORPUS_INT64 = 5,
        CORPUS_UINT16 = 8,
};

/* 34 bytes, unaligned, little-endian as every host that this is built for. */
struct corpus_header {
        char magic[CORPUS_MAGIC_BYTES];
        uint64_t version;
        uint8_t dtype;
        uint64_t n_sentences;
        uint64_t n_document_marks; /* documents + 1: the first is 0, the last n_sentences */
} __attribute__((packed));

#endif
