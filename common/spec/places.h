/* Where keys stand: which of the table's rows have a name in a mapping of the file. For common/spec/yaml*.c only. */
#ifndef COMMON_SPEC_PLACES_H
#define COMMON_SPEC_PLACES_H

#include <stddef.h>
#include <stdint.h>

#include "common/spec/fields.h"

#define NAME_SIZE 160 /* "stages[15].tasks[31].sequence_length" */

/* A mapping: the keys of the rows that begin with `section`, and its list of parts, which are mappings. */
struct place {
        const char *name;    /* in messages; NULL: the file */
        const char *section; /* "", "resources.", of a stage STAGE_PREFIX, of a task "data." */
        const char *parts;   /* the list's key, or NULL */
        uint32_t parts_max;
};
extern const struct place file_place, stage_place, task_place;

/* The place of each of its parts. */
const struct place *place_of_parts(const struct place *place);

/* The name that a row gives to the place: its key's or, in the buffer, its section's if it is the first row of that; NULL: none. After all
 * rows, at spec_n_fields: the list of parts. */
const char *place_name(const struct place *place, size_t row, char buffer[NAME_SIZE]);

/* The row of a word, spec_n_fields of the list of parts; more: it has none. */
size_t place_find(const struct place *place, const char *word);

/* "unknown key 'x' in log: did you mean log.keep?; expected max_size, keep" */
void place_describe_unknown(const struct place *place, const char *word, char *buffer, size_t size);

#endif
