/* Numbers and choices from text, whole string or nothing. Return 0, −EINVAL (not a number) or −ERANGE (outside
 * min..max). */
#ifndef COMMON_PARSE_H
#define COMMON_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
int parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret);
/* Bytes, with an optional K, M, G or T (powers of 1024). */
int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
int parse_double(const char *text, double min, double max, double *ret); /* refuses NaN and infinity */

/* Which of n names a text is; −EINVAL: none. */
int parse_choice(const char *text, const char *const *names, unsigned n);

/* "auto, cpu or cuda"; cut if it does not fit. */
void join_choices(const char *const *names, unsigned n, char *buffer, size_t size);

/* Whether a text ends so. */
bool text_ends_with(const char *text, const char *end);

#endif
