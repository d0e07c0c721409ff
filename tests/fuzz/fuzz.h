/*
 * What the fuzzers share. Each fuzz_<target>.c is one LLVMFuzzerTestOneInput over the project's own code, which reads
 * files: an input is written into a folder of the process's own, in $TMPDIR. Whoever starts a fuzzer removes that
 * folder (scripts/fuzz does).
 *
 * A wrong answer is as much a find as a crash: what must hold after an input is asserted.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls it with each input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The absolute path of `name` in the process's own folder, whose parents are made; the caller frees. */
char *fuzz_path(const char *name);

/* Makes the file's contents these bytes. */
void fuzz_write(const char *path, const void *data, size_t size);

/* The bytes of an input, taken from the front; what is not there is 0. */
struct fuzz_input {
        const uint8_t *data;
        size_t size;
};
uint8_t fuzz_u8(struct fuzz_input *input);
uint32_t fuzz_u32(struct fuzz_input *input); /* little-endian */
uint64_t fuzz_u64(struct fuzz_input *input);

/* The next `size` bytes, or what is left, as an input of their own. */
struct fuzz_input fuzz_take(struct fuzz_input *input, size_t size);

/* A copy of its own with a NUL behind, so that a byte read beyond it is seen; the caller frees. */
char *fuzz_copy(struct fuzz_input input);

#endif
