/*
 * A spec while it is read from a file or options: values.c reads one key, spec.c all of them, stages.c those of a
 * stage, check.c checks across keys. For common/spec/ only.
 */
#ifndef COMMON_SPEC_READER_H
#define COMMON_SPEC_READER_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/fields.h"
#include "common/spec/spec.h"

#define SPEC_IDLE_RULES 2

/* Of a key that may do nothing: in how many stages that inherit it, and in how many it does something. */
struct spec_idle {
        uint32_t idle, used;
};

/* One spec being read: the file, one of its stages, or a task of that. */
struct spec_reader {
        const char *path, *folder;
        const struct part *file;
        const struct part *stage; /* NULL: the file is read */
        const struct said *said;  /* (spec_n_fields) what counts: the stage's, or the task's, in place of the file's */
        char prefix[64];          /* "stages[1]." or "stages[1].tasks[0].", prefix for keys that it does not set */
        bool task;                /* the latter, whose keys are those of data */
        struct spec_idle *idle;   /* (SPEC_IDLE_RULES), over all stages */
        struct error *error;
};

static inline const struct said *said_of(const struct spec_reader *reader, const char *key) {
        return &reader->said[field_of(key)];
}
static inline bool is_said(const struct spec_reader *reader, const char *key) { return said_of(reader, key)->name; }

/* "PATH:LINE: KEY: ", or "--OPTION: ", then the text, in reader->error. Returns its code. */
__attribute__((format(printf, 3, 4))) int spec_refuse(struct spec_reader *reader, const char *key, const char *format,
                                                      ...);

static inline int spec_no_memory(struct spec_reader *reader) {
        return error_errno(reader->error, ENOMEM, "%s", reader->path);
}

static inline const char *kind_name(enum job_kind kind) {
        static const char *const names[] = JOB_KIND_NAMES;
        return names[kind];
}

/* ---- values.c ---- */

/* The text as the field's type has it, into the field's place at `to`. */
int spec_read_value(struct spec_reader *reader, const struct field *field, const char *text, void *to);

/* Reads the row's text, or its default. Needs spec->kind, except for the kind itself. */
int spec_read_field(struct spec_reader *reader, size_t row, struct spec *spec);

/* ---- spec.c ---- */

/* Every key, and what they are together. */
int spec_read_values(struct spec_reader *reader, struct spec *spec);

/* ---- stages.c ---- */

/* The stages of a file that has some, and then the file itself. */
int spec_read_stages(struct spec_reader *reader, struct spec *spec);

/* ---- check.c ---- */

/* Checks across keys. May set defaults that depend on other keys. */
int spec_check(struct spec_reader *reader, struct spec *spec);

/* After the stages: keys of the file without effect in any stage. */
int spec_check_stages(struct spec_reader *reader);

#endif
