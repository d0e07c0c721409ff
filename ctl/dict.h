/*
 * a{sv} into a struct, by a table of keys. Keys that the table lacks go to its DICT_OTHERS row, without one they are
 * skipped (a newer daemon may send more); a key that the message lacks keeps the struct's value; any D-Bus number fits
 * any number field.
 *
 *   static const struct dict_field fields[] = { { "step", DICT_U64, offsetof(struct x, step) }, ... };
 *   dict_read(message, fields, ELEMENTSOF(fields), &x), then dict_clear(fields, ELEMENTSOF(fields), &x) when done with
 * it
 */
#ifndef CTL_DICT_H
#define CTL_DICT_H

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

enum dict_kind {
        DICT_U64,     /* uint64_t */
        DICT_I64,     /* int64_t */
        DICT_DOUBLE,  /* double */
        DICT_STRING,  /* char *, owned by the struct */
        DICT_STRINGS, /* char **, NULL-terminated, owned by the struct */
        DICT_OTHERS   /* struct dict_others; the row's key is NULL */
};

/* A key that the table does not have, and its value. */
struct dict_other {
        char *key;
        enum dict_kind kind; /* which member is set */
        union {
                uint64_t u64;
                int64_t i64;
                double number;
                char *string;
                char **strings;
        };
};
#define DICT_OTHERS_MAX 64 /* more are skipped */
struct dict_others {
        struct dict_other *items;
        size_t n;
};

struct dict_field {
        const char *key;
        enum dict_kind kind;
        size_t offset;
};

/* Reads one a{sv} at the message's position. Returns 1, 0 at the end of the enclosing array, or −errno. */
int dict_read(sd_bus_message *message, const struct dict_field *fields, size_t n_fields, void *into);

/* Frees the strings. */
void dict_clear(const struct dict_field *fields, size_t n_fields, void *of);

void strings_free(char **strings);

#endif
