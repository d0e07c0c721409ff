/* Which rows of the table can appear in which mapping of the file. Only for common/spec/yaml*.c. */
#ifndef COMMON_SPEC_PLACES_H
#define COMMON_SPEC_PLACES_H

#include <stddef.h>
#include <stdint.h>

#include "common/spec/fields.h"

#define NAME_SIZE 160 /* "stages[15].tasks[31].sequence_length" */

/* A mapping: the rows whose keys begin with `section`, and a list of parts, each a mapping in turn. */
struct place {
        const char *name;    /* in messages; NULL: the file */
        const char *section; /* "", "resources.", of a stage STAGE_PREFIX, of a task "data." */
        const char *parts;   /* the list's key, or NULL */
        uint32_t parts_max;
};
extern const struct place file_place;

/* The place of each part. */
const struct place *place_of_parts(const struct place *place);

/* The name that a row has in the place: its key's or, in the buffer, its section's if it is the section's first row;
 * else NULL. Row spec_n_fields is the list of parts. */
const char *place_name(const struct place *place, size_t row, char buffer[NAME_SIZE]);

/* The row that a word names; spec_n_fields: the list of parts; greater: not a key here. */
size_t place_find(const struct place *place, const char *word);

/* "unknown key 'x' in log: did you mean log.keep?; expected max_size, keep" */
void place_describe_unknown(const struct place *place, const char *word, char *buffer, size_t size);

#endif
