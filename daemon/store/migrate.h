/* Migrates the state.db of an older bertd, or creates an empty one. For daemon/store/ only. */
#ifndef DAEMON_STORE_MIGRATE_H
#define DAEMON_STORE_MIGRATE_H

#include <sqlite3.h>
#include <stdint.h>

#include "common/error.h"

/* Creates the tables of schema.h in an empty database. */
int store_create(sqlite3 *db, struct error *error);

/* Whether the database of that version matches schema.h: 0 or 1. */
int store_is_current(sqlite3 *db, int64_t version, struct error *error);

/* In one transaction, whatever the shape of that version is. Rows that the tables' CHECKs refuse are corrected or set
 * aside in table `refused`; `log` gets a line for each job. */
int store_migrate(sqlite3 *db, int64_t version, void (*log)(const char *text), struct error *error);

/* legacy.c */
struct legacy_step {
        int until;                  /* the last schema that may need it */
        const char *table, *column; /* no column: always */
        const char *sql;
};
extern const struct legacy_step store_legacy_steps[]; /* ends with an empty one */

#endif
