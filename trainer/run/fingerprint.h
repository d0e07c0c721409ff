/*
 * What ranks compare before they train together (contract C11): a list of named values, in an order
 * in which the first difference explains most. Only a digest of it is exchanged; if digests differ, rank 0's list
 * is sent, and each rank names the first of its values that differs.
 *
 *   fingerprint_add … → fingerprint_compare (collective) → fingerprint_free
 */
#ifndef TRAINER_RUN_FINGERPRINT_H
#define TRAINER_RUN_FINGERPRINT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "trainer/run/exchange.h"

#define FINGERPRINT_CONFIG "model.config " /* begins the name of a value that is the model's, not the spec's */
#define FINGERPRINT_BACKEND "backend"

struct fingerprint {
        char *values; /* name, value, name, value …, each with its NUL: what is compared */
        size_t size, capacity;
        char *notes; /* one for each value: what a message adds to the name, as a path; may differ */
        size_t notes_size, notes_capacity;
        bool no_memory;
};

/* A value that may be shown. NULL: it has none. */
void fingerprint_add(struct fingerprint *fingerprint, const char *name, const char *value);

/* What is in a file, as a hash of it, which is not shown; NULL: not to be known on this rank, which differs from nothing. */
void fingerprint_add_content(struct fingerprint *fingerprint, const char *name, const char *path, const char *hash);

/* 0: all ranks have the same. Else exit 65 on all, with the rank, its host and the first difference. */
int fingerprint_compare(const struct fingerprint *fingerprint, struct exchange *exchange, struct error *error);

void fingerprint_free(struct fingerprint *fingerprint);

#endif
