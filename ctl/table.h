/*
 * Aligned columns that fit the terminal: first flexible columns shrink (to at least their title or minimum), then
 * columns are dropped by their `drop` rank. Output that is not for a terminal (width 0) is never cut.
 *
 *   cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));
 *   table_cell(table, STYLE_NONE, "%llu", id); ...      one call a column, row after row
 *   table_print(table, stdout, &term, 0, &error);
 *
 * Without memory the calls do nothing and table_print fails.
 */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "ctl/term.h"

#define TABLE_COLUMNS_MAX 16

enum table_flag {
        TABLE_RIGHT = 1 << 0, /* aligned to the right */
        TABLE_FLEX = 1 << 1,  /* may shrink */
};

struct table_column {
        const char *title; /* NULL in all columns: no heading */
        unsigned flags;
        unsigned min_width; /* of a flexible column */
        unsigned drop;      /* left out where lines are too long: highest first; 0 = never */
};

struct table;

struct table *table_new(const struct table_column *columns,
                        size_t n_columns); /* borrows the columns; NULL: no memory */
void table_free(struct table *table);
static inline void cleanup_table_p(struct table **table) { table_free(*table); }
#define cleanup_table cleanup(cleanup_table_p)

void table_cell(struct table *table, enum style style, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t table_rows(const struct table *table);

/* Writes heading and rows, each indented by `indent` columns. */
int table_print(const struct table *table, FILE *out, const struct term *term, unsigned indent, struct error *error);

#endif
