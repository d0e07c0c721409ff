/* The prefix that names a corpus, PREFIX of PREFIX.idx and PREFIX.bin, and common mistakes in it. */
#ifndef COMMON_CORPUS_PREFIX_H
#define COMMON_CORPUS_PREFIX_H

#include <stdbool.h>
#include <stddef.h>

/* For a `path` without an .idx: true if it names something else that exists: a file of a corpus, a text file, a folder.
 * Then `ret` gets what was expected instead. */
bool corpus_prefix_mistaken(const char *path, char *ret, size_t size);

/* The length of the prefix in a name of one of its files (.bin, .idx) or one that ends with a dot; else 0. */
size_t corpus_prefix_length(const char *path);

#endif
