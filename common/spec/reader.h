/*
 * A spec while it is read: what spec.c, which reads it, and check.c, which looks at keys together, share. Nobody else includes this.
 */
#ifndef COMMON_SPEC_READER_H
#define COMMON_SPEC_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/fields.h"
#include "common/spec/spec.h"
#include "common/spec/yaml.h"

#define SPEC_IDLE_RULES 2

/* Of a key that may do nothing: in how many stages that inherit it, and in how many it does something. */
struct spec_idle {
        uint32_t idle, used;
};

/* One spec being read. */
struct spec_reader {
        struct spec_text file;
        char *folder;
        struct raw *raw;
        char key[160];
        char stage[64];         /* "stages[1]." or "stages[1].tasks[0]." in front of keys in messages */
        bool task;              /* the latter, whose keys are those of data */
        struct spec_idle *idle; /* (SPEC_IDLE_RULES), over all stages */
        struct error *error;
};

/* A key as messages name it: valid until the next call. */
const char *spec_name_of(struct spec_reader *reader, const char *key);

/* "PATH:LINE: KEY: ", then the text, in reader->error. Returns its code. */
__attribute__((format(printf, 3, 4))) int spec_refuse(struct spec_reader *reader, const char *key, const char *format,
                                                      ...);

/* The text as the field's type has it, into the field's place at `to`. */
int spec_read_value(struct spec_reader *reader, const struct field *field, const char *text, void *to);

/* What one key alone cannot tell. May complete what the spec leaves out. */
int spec_check(struct spec_reader *reader, struct spec *spec);

/* After the stages: what the file says and no stage makes anything of. */
int spec_check_stages(struct spec_reader *reader);

#endif
