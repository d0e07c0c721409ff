/*
 * The table of a spec's keys, one row each, and the texts that a file, a stage or an option gives for them. Only for
 * common/spec/.
 */
#ifndef COMMON_SPEC_FIELDS_H
#define COMMON_SPEC_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/spec/spec.h"

enum field_type {
        FIELD_TEXT,
        FIELD_PATH,
        FIELD_PROGRAM,
        FIELD_LIST,  /* of texts */
        FIELD_NAMES, /* a list of names, or one text with commas; see names.c */
        FIELD_PATHS, /* a list of paths */
        FIELD_I32,
        FIELD_U32,
        FIELD_U64,
        FIELD_SIZE,
        FIELD_DOUBLE,
        FIELD_ENUM,
        FIELD_BOOL,
        FIELD_TYPE_MAX
};
enum { COMMAND = 1 << JOB_COMMAND, FINETUNE = 1 << JOB_FINETUNE };
enum { TRAINING = (1 << JOB_PRETRAIN) | FINETUNE, ALL = TRAINING | COMMAND };
#define STAGE_PREFIX "stages." /* of the keys that only a stage has */
#define SEED_MAX 0x1p63        /* INT64_MAX as parse_integer takes it */

/* One key of a spec. A number or enum without a default is required in its kinds; an absent text stays NULL. */
struct field {
        const char *key;      /* "optimizer.schedule" */
        enum field_type type; /* of its value, or of a list's entries */
        int kinds;            /* bit set of job kinds in which the key may appear */
        size_t offset, count; /* in struct spec: of the value; of a list's number of entries */
        const char *fallback; /* default, as text */
        double min, max; /* numbers; whole ones are below 2^53, or SEED_MAX. Texts: at most `max` bytes on one line; 0:
                            any */
        const char *const *names; /* enums only */
        size_t n_names;
        bool hosts;       /* FIELD_NAMES: of hosts; may be {file: FILE}. Else of variables */
        bool required;    /* lists only */
        const char *word; /* lists only: in place of a list, this word, which sets the bool at word_at; NULL: none */
        size_t word_at;
        bool optional; /* numbers only: without a text, the value is `absent` and is not written back */
        int absent;
        unsigned entry; /* a number in a list of two: 1 the first, whose row is followed by the second's, 2; 0: not in a
                           list */
        const char *wire; /* key of Submit (include/bertd/bus.h) that has this value; NULL: bertd is not sent it */
        bool sparse;      /* sent only if it is not the default: older daemons do not know the key */
};

#define SPEC_FIELDS_MAX 128
extern const struct field spec_fields[];
extern const size_t spec_n_fields; /* at most SPEC_FIELDS_MAX */

#define AT(base, offset, type) ((type *) (void *) ((char *) (base) + (offset)))

static inline bool is_list(const struct field *field) {
        return field->type == FIELD_LIST || field->type == FIELD_NAMES || field->type == FIELD_PATHS;
}
static inline bool is_text(const struct field *field) { return field->type <= FIELD_PROGRAM; }
static inline bool is_of_kind(const struct field *field, enum job_kind kind) { return field->kinds & (1 << kind); }

/* Whether a stage may override it. */
bool is_staged(const struct field *field);

/* The row of a key that is in the table. */
size_t field_of(const char *key);

bool is_absent(const struct field *field, const void *from);

/* The text given for a key. */
struct given {
        char *text;     /* of a scalar; of a list: the file that has its names, or the word in its place */
        char **entries; /* of a list, which may be empty: NULL-terminated */
        uint32_t n;
        char *name;  /* as messages name it: "stages[1].data.train", "--ranks"; NULL: not given */
        size_t line; /* of the file; 0: of an option */
};

/* The keys given in a file, in one of its stages, or in a task of a stage. */
struct part {
        struct given given[SPEC_FIELDS_MAX]; /* in the order of the rows */
        struct part *parts;                  /* a file's stages, a stage's tasks */
        uint32_t n_parts;
        size_t line; /* of the key "stages" or "tasks" */
};

/* Frees the text; the key is not given any more. */
void given_clear(struct given *given);
void part_free(struct part *part);

/* settings.c: an option overrides the file's key. `path` is for messages. */
int spec_apply_setting(struct part *file, const char *path, const struct spec_setting *setting, struct error *error);

#endif
