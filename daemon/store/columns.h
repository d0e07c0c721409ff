/*
 * Table `job` of state.db by the rows of rules/job_fields.h: its columns in SQL, and a job's values to and from a
 * statement. Columns stand in the rows' order, after id.
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

/* Binds from parameter 1 on; returns the parameter after them. The job stays until the statement is reset. */
int columns_bind(sqlite3_stmt *statement, const struct job *job, bool all);

/* A field's column as schema.h states others: its type; whether it may be NULL; what stands in place of a value that is
 * not good, "" = nothing can; what is true of a good value, "" = any of that type. */
const char *columns_type(const struct job_field *field);
bool columns_may_be_null(const struct job_field *field);
void columns_write_otherwise(FILE *out, const struct job_field *field);
void columns_write_check(FILE *out, const struct job_field *field);

/* Into a job of job_new. False: the row is damaged, and nothing of it is to be used but the id. */
bool columns_read(sqlite3_stmt *statement, struct job *job);

#endif
