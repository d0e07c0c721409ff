/* See columns.h. Owns nothing. Invariant: bound values satisfy their column's CHECK, or no commit would succeed. */
#include "daemon/store/columns.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const void *at_const(const struct job *job, const struct job_field *field) {
        return (const char *) job + field->stored;
}

static void bind_number(sqlite3_stmt *s, int i, const struct job_field *field, int64_t number) {
        if (field->by_name)
                (void) sqlite3_bind_text(s, i, field->names[number], -1, SQLITE_STATIC);
        else
                (void) sqlite3_bind_int64(s, i, number);
}

static void bind_field(sqlite3_stmt *s, int i, const struct job_field *field, const struct job *job) {
        const void *at = at_const(job, field);

        switch (field->type) {
        case FIELD_DOUBLE: /* SQLite stores NaN as NULL */
                (void) sqlite3_bind_double(s, i, *(const double *) at);
                break;
        case FIELD_TEXT:
        case FIELD_SHARED:
                (void) sqlite3_bind_text(s, i, *(const char *const *) at, -1, SQLITE_STATIC);
                break;
        case FIELD_LOST: {
                char *text = job_lost_text(job);
                (void) sqlite3_bind_text(s, i, text ? text : "", -1, text ? free : SQLITE_STATIC);
                break;
        }
        default:
                bind_number(s, i, field, job_field_number(field, at));
        }
}

int columns_bind(sqlite3_stmt *s, const struct job *job, bool all) {
        int i = 1;

        for (size_t f = 0; f < JOB_N_STORED; f++)
                if (all || job_fields[f].changes)
                        bind_field(s, i++, &job_fields[f], job);
        return i;
}

static bool read_number(sqlite3_stmt *s, int i, const struct job_field *field, void *at) {
        const char *word = field->by_name ? (const char *) sqlite3_column_text(s, i) : "";
        int64_t min, max, number;

        number = field->by_name ? job_field_from_name(field, word ? word : "") : sqlite3_column_int64(s, i);
        job_field_limits(field, &min, &max);
        if (number < min || number > max)
                return false;
        job_field_set_number(field, at, number);
        return true;
}

static bool read_text(sqlite3_stmt *s, int i, const struct job_field *field, void *at) {
        const char *text = (const char *) sqlite3_column_text(s, i);

        if (field->type == FIELD_SHARED)
                *(const char **) at = text_shared(text);
        else if (field->sentence)
                job_set_text(at, text);
        else
                *(char **) at = text ? strdup(text) : NULL;
        return !field->required || *(char **) at;
}

static bool read_field(sqlite3_stmt *s, int i, const struct job_field *field, struct job *job) {
        void *at = (char *) job + field->stored;

        switch (field->type) {
        case FIELD_DOUBLE:
                *(double *) at = field->unknown && sqlite3_column_type(s, i) == SQLITE_NULL
                                         ? (double) NAN
                                         : sqlite3_column_double(s, i);
                return true;
        case FIELD_TEXT:
        case FIELD_SHARED:
                return read_text(s, i, field, at);
        case FIELD_LOST:
                job_set_lost(job, (const char *) sqlite3_column_text(s, i));
                return true;
        default:
                return read_number(s, i, field, at);
        }
}

bool columns_read(sqlite3_stmt *s, struct job *job) {
        bool sane = true;

        job->id = (uint64_t) sqlite3_column_int64(s, 0);
        for (size_t f = 0; f < JOB_N_STORED; f++)
                sane = read_field(s, (int) f + 1, &job_fields[f], job) && sane;
        return sane;
}

/* ---- the table ---- */

const char *columns_type(const struct job_field *field) {
        static const char *const types[] = {
                [FIELD_U32] = "INTEGER", [FIELD_U64] = "INTEGER", [FIELD_I32] = "INTEGER", [FIELD_BOOL] = "INTEGER",
                [FIELD_DOUBLE] = "REAL", [FIELD_TEXT] = "TEXT",   [FIELD_SHARED] = "TEXT", [FIELD_LOST] = "TEXT",
        };

        return field->by_name ? "TEXT" : types[field->type];
}

bool columns_may_be_null(const struct job_field *field) {
        return !field->required && (job_field_is_text(field) || field->unknown);
}

/* For a text that must not be NULL: the empty one. */
void columns_write_otherwise(FILE *out, const struct job_field *field) {
        if (field->required)
                return;
        if (columns_may_be_null(field))
                (void) fputs("NULL", out);
        else if (field->type == FIELD_LOST)
                (void) fputs("''", out);
        else
                (void) fprintf(out, "%" PRIi64, field->initial);
}

void columns_write_check(FILE *out, const struct job_field *field) {
        int64_t min, max;

        if (field->by_name) {
                (void) fprintf(out, "%s IN (", field->name);
                for (int i = 0; i < field->n_names; i++)
                        (void) fprintf(out, "%s'%s'", i > 0 ? ", " : "", field->names[i]);
                (void) fputs(")", out);
        } else if (field->type <= FIELD_BOOL) {
                job_field_limits(field, &min, &max);
                (void) fprintf(out, "%s BETWEEN %" PRIi64 " AND %" PRIi64, field->name, min, max);
        }
}
