/*
 * Table `job` of state.db by the rows of rules/job_fields.h: its columns in SQL, and a job's values to and from a
 * statement. Columns are in the order of the rows, after id.
 */
#ifndef DAEMON_STORE_COLUMNS_H
#define DAEMON_STORE_COLUMNS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>

#include "daemon/rules/job.h"

#define COLUMNS_LISTED(since, type, member, ...) ", " #member
#define COLUMNS_INSERTED(since, type, member, ...) ", :" #member
#define COLUMNS_UPDATED(since, type, member, written, ...) COLUMNS_UPDATED_##written(member)
#define COLUMNS_UPDATED_FIXED(member)
#define COLUMNS_UPDATED_CHANGES(member) #member "=:" #member ", "

/* "id, name, ...": what columns_read reads. */
#define COLUMNS_JOB "id" JOB_STORED(COLUMNS_LISTED)
/* "NULL, :name, ..." and "state=:state, ": what columns_bind binds, of all fields and of those that change. */
#define COLUMNS_VALUES "NULL" JOB_STORED(COLUMNS_INSERTED)
#define COLUMNS_UPDATE JOB_STORED(COLUMNS_UPDATED)

/* Binds from parameter 1; returns the next parameter. The job must live until the statement is reset. */
int columns_bind(sqlite3_stmt *statement, const struct job *job, bool all);

/* A field's column in the form of schema.h: its type; whether it may be NULL; the replacement of an invalid value, "" =
 * none; the condition for a valid value, "" = any of that type. */
const char *columns_type(const struct job_field *field);
bool columns_may_be_null(const struct job_field *field);
void columns_write_otherwise(FILE *out, const struct job_field *field);
void columns_write_check(FILE *out, const struct job_field *field);

/* Into a job of job_new. False: the row is damaged; only the id may be used. */
bool columns_read(sqlite3_stmt *statement, struct job *job);

#endif
