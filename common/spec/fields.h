/*
 * What reading and writing a spec share: a table row for each scalar key and each list, and how to reach a row's value in struct
 * raw and in struct spec. For spec*.c only.
 */
#ifndef COMMON_SPEC_FIELDS_H
#define COMMON_SPEC_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/spec/spec.h"
#include "common/spec/yaml.h"

enum field_type {
        FIELD_TEXT,
        FIELD_PATH,
        FIELD_PROGRAM,
        FIELD_I32,
        FIELD_U32,
        FIELD_U64,
        FIELD_SIZE,
        FIELD_DOUBLE,
        FIELD_ENUM,
        FIELD_BOOL
};
enum { FINETUNE = 1 << JOB_FINETUNE };
enum { TRAINING = (1 << JOB_PRETRAIN) | (1 << JOB_FINETUNE), ALL = TRAINING | (1 << JOB_COMMAND) };
#define NO_SECTION SIZE_MAX
#define SEED_MAX 0x1p63 /* INT64_MAX as parse_integer takes it */

/* One scalar of a spec. A number or enum without a default is required in its kinds; an absent text stays NULL. */
struct field {
        const char *key;           /* as messages name it */
        size_t section, raw, spec; /* offsets: of the section's pointer in struct raw, in the section, in struct spec */
        enum field_type type;
        int kinds;                /* bit set of job kinds in which the key may appear */
        const char *fallback;     /* default, as text */
        double min, max;          /* numbers only; whole ones are below 2^53, or SEED_MAX */
        const char *const *names; /* enums only */
        size_t n_names;
        bool optional; /* numbers only: where there is no text, the value is `absent` and is not written back */
        int absent;
        const char *wire; /* key of Submit (include/bertd/bus.h) that has this value; NULL: bertd is not sent it */
        bool sparse;      /* sent only if it is not the default: older daemons do not know the key */
};

/* A list of texts. `backoff_sec` is the one of numbers and is not among them. */
struct list {
        const char *key;
        size_t section, raw, raw_count, spec, spec_count;
        int kinds;
        bool paths, required;
        const char *wire;
};

extern const struct field spec_fields[];
extern const size_t spec_n_fields;
extern const struct list spec_lists[];
extern const size_t spec_n_lists;

/* settings.c: "optimizer.learning_rate=2e-5" takes the place of what `raw` says; `path` is for messages. */
int spec_apply_setting(struct raw *raw, const char *path, const char *setting, struct error *error);

#define AT(base, offset, type) ((type *) (void *) ((char *) (base) + (offset)))

static inline void *section_of(const struct raw *raw, size_t section) {
        return section == NO_SECTION ? (void *) raw : *AT(raw, section, void *);
}

static inline const char *text_of(const struct raw *raw, const struct field *field) {
        void *section = section_of(raw, field->section);
        return section ? *AT(section, field->raw, char *) : NULL;
}

static inline bool is_absent(const struct field *field, const void *from) {
        if (!field->optional)
                return false;
        if (field->type == FIELD_I32)
                return *(const int32_t *) from == field->absent;
        if (field->type == FIELD_U32)
                return *(const uint32_t *) from == (uint32_t) field->absent;
        if (field->type == FIELD_DOUBLE)
                return *(const double *) from <= field->absent;
        return *(const uint64_t *) from == (uint64_t) field->absent;
}

#endif
