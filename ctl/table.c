/*
 * See table.h. Owns the cells' text. Invariants: cells are stored row by row, n_columns to a row; a column whose cells
 * are all empty is not printed at all.
 */
#include "ctl/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

#define GAP 2 /* columns between columns */

struct cell {
        char *text;
        enum style style;
};

struct table {
        const struct table_column *columns;
        size_t n_columns;
        struct cell *cells;
        size_t n_cells, allocated;
        bool failed;
};

struct layout {
        size_t width[TABLE_COLUMNS_MAX];
        bool shown[TABLE_COLUMNS_MAX];
};

struct table *table_new(const struct table_column *columns, size_t n_columns) {
        assert(n_columns > 0 && n_columns <= TABLE_COLUMNS_MAX);
        struct table *table = calloc(1, sizeof(*table));
        if (table) {
                table->columns = columns;
                table->n_columns = n_columns;
        }
        return table;
}

void table_free(struct table *table) {
        if (!table)
                return;
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i].text);
        free(table->cells);
        free(table);
}

size_t table_rows(const struct table *table) { return table ? table->n_cells / table->n_columns : 0; }

void table_cell(struct table *table, enum style style, const char *format, ...) {
        va_list ap;
        char *text;

        if (!table || table->failed)
                return;
        if (table->n_cells == table->allocated) {
                size_t allocated = table->allocated ? table->allocated * 2 : 64;
                struct cell *cells = reallocarray(table->cells, allocated, sizeof(*cells));
                if (!cells) {
                        table->failed = true;
                        return;
                }
                table->cells = cells;
                table->allocated = allocated;
        }
        va_start(ap, format);
        int r = vasprintf(&text, format, ap);
        va_end(ap);
        if (r < 0)
                table->failed = true;
        else
                table->cells[table->n_cells++] = (struct cell) { .text = text, .style = style };
}

static void natural_widths(const struct table *table, struct layout *layout) {
        for (size_t c = 0; c < table->n_columns; c++) {
                size_t content = 0;
                for (size_t i = c; i < table->n_cells; i += table->n_columns)
                        content = MAX(content, text_width(table->cells[i].text));
                layout->shown[c] = content > 0;
                layout->width[c] = MAX(content, table->columns[c].title ? text_width(table->columns[c].title) : 0);
        }
}

static size_t total_width(const struct table *table, const struct layout *layout) {
        size_t total = 0;

        for (size_t c = 0; c < table->n_columns; c++)
                if (layout->shown[c])
                        total += layout->width[c] + (total > 0 ? GAP : 0);
        return total;
}

static size_t minimum_width(const struct table_column *column) {
        return MAX((size_t) column->min_width, column->title ? text_width(column->title) : 1);
}

/* Takes columns from the widest flexible column until all fits or none can give. */
static void shrink(const struct table *table, struct layout *layout, size_t width) {
        size_t total = total_width(table, layout);

        while (total > width) {
                size_t widest = SIZE_MAX;
                for (size_t c = 0; c < table->n_columns; c++)
                        if (layout->shown[c] && (table->columns[c].flags & TABLE_FLEX) &&
                            layout->width[c] > minimum_width(&table->columns[c]) &&
                            (widest == SIZE_MAX || layout->width[c] > layout->width[widest]))
                                widest = c;
                if (widest == SIZE_MAX)
                        return;
                layout->width[widest]--;
                total--;
        }
}

static bool drop_one(const struct table *table, struct layout *layout) {
        size_t chosen = SIZE_MAX;

        for (size_t c = 0; c < table->n_columns; c++)
                if (layout->shown[c] && table->columns[c].drop > 0 &&
                    (chosen == SIZE_MAX || table->columns[c].drop > table->columns[chosen].drop))
                        chosen = c;
        if (chosen == SIZE_MAX)
                return false;
        layout->shown[chosen] = false;
        return true;
}

/* Least width that the shown columns can have. */
static size_t least_width(const struct table *table, const struct layout *layout) {
        struct layout least = *layout;

        for (size_t c = 0; c < table->n_columns; c++)
                if (table->columns[c].flags & TABLE_FLEX)
                        least.width[c] = MIN(least.width[c], minimum_width(&table->columns[c]));
        return total_width(table, &least);
}

static void fit(const struct table *table, struct layout *layout, size_t width) {
        if (width == 0)
                return;
        while (least_width(table, layout) > width && drop_one(table, layout))
                ;
        shrink(table, layout, width);
}

static void print_cell(FILE *out, const struct term *term, const struct table_column *column, const char *text,
                       size_t width, enum style style, bool last) {
        size_t columns = text_width(text);
        size_t padding = columns < width ? width - columns : 0;

        if (column->flags & TABLE_RIGHT)
                (void) fprintf(out, "%*s", (int) padding, "");
        (void) fputs(term_style(term, style), out);
        (void) text_put(out, term, text, width);
        if (style != STYLE_NONE)
                (void) fputs(term_plain(term), out);
        if (!(column->flags & TABLE_RIGHT) && !last)
                (void) fprintf(out, "%*s", (int) padding, "");
}

static void print_row(const struct table *table, const struct layout *layout, FILE *out, const struct term *term,
                      unsigned indent, const struct cell *cells) {
        size_t last = 0;
        bool first = true;

        for (size_t c = 0; c < table->n_columns; c++)
                if (layout->shown[c] && cells[c].text[0])
                        last = c;
        (void) fprintf(out, "%*s", (int) indent, "");
        /* No blanks at the end of a line. */
        for (size_t c = 0; c <= last; c++) {
                if (!layout->shown[c])
                        continue;
                (void) fprintf(out, "%*s", first ? 0 : GAP, "");
                first = false;
                print_cell(out, term, &table->columns[c], cells[c].text, layout->width[c], cells[c].style, c == last);
        }
        (void) fputc('\n', out);
}

static void print_heading(const struct table *table, const struct layout *layout, FILE *out, const struct term *term,
                          unsigned indent) {
        struct cell cells[TABLE_COLUMNS_MAX];
        char empty[] = "";

        for (size_t c = 0; c < table->n_columns; c++) {
                cells[c].text = table->columns[c].title ? (char *) table->columns[c].title : empty;
                cells[c].style = STYLE_DIM;
        }
        if (table->columns[0].title)
                print_row(table, layout, out, term, indent, cells);
}

int table_print(const struct table *table, FILE *out, const struct term *term, unsigned indent, struct error *error) {
        struct layout layout = {};

        if (!table || table->failed)
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        assert(table->n_cells % table->n_columns == 0);
        natural_widths(table, &layout);
        fit(table, &layout, term->width > indent ? term->width - indent : 0);
        if (table->n_cells > 0)
                print_heading(table, &layout, out, term, indent);
        for (size_t i = 0; i < table->n_cells; i += table->n_columns)
                print_row(table, &layout, out, term, indent, table->cells + i);
        return 0;
}
