/*
 * The tables of state.db as data, from which CREATE TABLE, the copy of an older database and the added columns are
 * generated (migrate.c). For daemon/store/ and tests only.
 */
#ifndef DAEMON_STORE_SCHEMA_H
#define DAEMON_STORE_SCHEMA_H

#include <stddef.h>
#include <stdio.h>

#include "daemon/rules/job_fields.h"

/* A value of an older bertd that violates `type` or `check` is replaced with `otherwise`. */
struct store_column {
        const char *name;
        const char *type;      /* of a STRICT table; a key's or a reference's clauses follow it */
        const char *otherwise; /* SQL, the default too: "NULL" = may be NULL; NULL = required: a row without it is moved
                                  to `refused` */
        const char *check;     /* SQL condition for a valid value; NULL = any of that type */
        int since;             /* schema version that added it; 0 = that of its table */
        const struct job_field *field; /* of table job: its row gives type, otherwise and check; else NULL */
};

struct store_table {
        const char *name;
        const struct store_column *columns;
        size_t n_columns;
        const char *job;  /* which column names the job; NULL = none */
        const char *key;  /* SQL: rows `o` and `n` are the same row */
        const char *tail; /* of CREATE TABLE, after the columns */
        int since;        /* the schema whose CHECKs and constraints these are: the table of an older one is rebuilt */
};

extern const struct store_table store_tables[];
extern const size_t store_n_tables;
extern const char *const store_indices[]; /* ends with NULL */

/* The newest schema version of all tables and columns. */
int store_version(void);

/* Writes "name TYPE NOT NULL DEFAULT otherwise CHECK(check)"; "CREATE TABLE name(…) …"; the SQL condition for a valid
 * value. */
void store_declare_column(FILE *out, const struct store_column *column);
void store_declare_table(FILE *out, const struct store_table *table);
void store_declare_good(FILE *out, const struct store_column *column);
void store_declare_otherwise(FILE *out, const struct store_column *column); /* also "NULL" if there is no replacement */

#endif
