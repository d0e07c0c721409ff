/*
 * Copies of state.db beside it, made before a migration: PATH.schema-N, N being the schema; if that name is taken,
 * PATH.schema-N.2, and so on. An older bertd can be started on one again. Only the store's files include it.
 */
#ifndef DAEMON_STORE_COPIES_H
#define DAEMON_STORE_COPIES_H

#include <sqlite3.h>
#include <stdint.h>

#include "common/error.h"

/* Makes a durable copy with mode 0600. An existing copy is never replaced; an identical copy is not kept twice. */
int store_copy(sqlite3 *db, const char *path, int64_t version, struct error *error);

/* The newest copy of the newest schema up to `version`; NULL: none. The caller frees. */
char *store_find_copy(const char *path, int64_t version, int64_t *ret_version);

#endif
