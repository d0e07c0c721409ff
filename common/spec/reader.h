/*
 * A spec being read: values.c reads one key, spec.c all keys, stages.c the stages; check.c does the checks that involve
 * several keys. Only for these.
 */
#ifndef COMMON_SPEC_READER_H
#define COMMON_SPEC_READER_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/fields.h"
#include "common/spec/spec.h"

#define SPEC_IDLE_RULES 3

/* A key that may have no effect: number of stages that inherit it without effect, and with one. */
struct spec_idle {
        uint32_t idle, used;
};

/* One spec being read: the file, one of its stages, or a task of that. */
struct spec_reader {
        const char *path, *folder;
        const struct part *file;
        const struct part *stage;  /* NULL: the file is read */
        const struct given *given; /* (spec_n_fields) in effect here: the file's, overridden by stage and task */
        char prefix[64];           /* "stages[1]." or "stages[1].tasks[0].", prefix of keys that are not given */
        bool task;                 /* the latter, whose keys are those of data */
        struct spec_idle *idle;    /* (SPEC_IDLE_RULES), over all stages */
        struct error *error;
};

static inline const struct given *given_for(const struct spec_reader *reader, const char *key) {
        return &reader->given[field_of(key)];
}
static inline bool is_given(const struct spec_reader *reader, const char *key) { return given_for(reader, key)->name; }

/* "PATH:LINE: KEY: ", or "--OPTION: ", then the text, in reader->error. Returns its code. */
__attribute__((format(printf, 3, 4))) int spec_refuse(struct spec_reader *reader, const char *key, const char *format,
                                                      ...);

static inline int spec_no_memory(struct spec_reader *reader) {
        return error_errno(reader->error, ENOMEM, "%s", reader->path);
}

/* ---- values.c ---- */

/* The text as the field's type has it, into the field's place at `to`. */
int spec_read_value(struct spec_reader *reader, const struct field *field, const char *text, void *to);

/* The row's value: what is given, or its default. Requires spec->kind, except for the kind itself. */
int spec_read_field(struct spec_reader *reader, size_t row, struct spec *spec);

/* ---- names.c ---- */

/* A list of names (FIELD_NAMES). Requires resources.ranks, whose row comes before. */
int spec_read_names(struct spec_reader *reader, const struct field *field, const struct given *given,
                    struct spec *spec);

/* The keys of many hosts. Makes checkpoint.copy_to absolute. */
int spec_check_hosts(struct spec_reader *reader, struct spec *spec);

/* ---- spec.c ---- */

/* Reads and checks every key. */
int spec_read_values(struct spec_reader *reader, struct spec *spec);

/* ---- stages.c ---- */

/* Reads the stages, of which the file has at least one, then the file itself. */
int spec_read_stages(struct spec_reader *reader, struct spec *spec);

/* ---- check.c ---- */

/* Checks that involve several keys. May set defaults that depend on other keys. */
int spec_check(struct spec_reader *reader, struct spec *spec);

/* After all stages: refuses a key of the file without effect in any of them. */
int spec_check_stages(struct spec_reader *reader);

#endif
