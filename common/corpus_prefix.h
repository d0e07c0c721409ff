/* The prefix that names a corpus, PREFIX of PREFIX.idx and PREFIX.bin, and what people write in its place. */
#ifndef COMMON_CORPUS_PREFIX_H
#define COMMON_CORPUS_PREFIX_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `path`, which has no .idx beside it, is something else that is there: one of a corpus' own files, a file of texts, a folder.
 * Then `ret` says what was expected in its place. */
bool corpus_prefix_mistaken(const char *path, char *ret, size_t size);

/* The length of the prefix in what is named like one of its files (.bin, .idx) or ends with a dot; 0 where it is not. */
size_t corpus_prefix_length(const char *path);

#endif
