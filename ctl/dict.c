/*
 * See dict.h. Owns nothing: strings go to the caller's struct. Numbers are converted by value and clamped, so that a
 * field whose width a later protocol changes is still read.
 */
#include "ctl/dict.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

/* One basic D-Bus value that is a number. */
struct number {
        bool is_double, negative;
        uint64_t u;
        int64_t i;
        double d;
};

void strings_free(char **strings) {
        for (char **s = strings; s && *s; s++)
                free(*s);
        free(strings);
}

static void number_from_signed(struct number *n, int64_t i) {
        n->i = i;
        n->negative = i < 0;
        n->u = i < 0 ? 0 : (uint64_t) i;
        n->d = (double) i;
}

static void number_from_unsigned(struct number *n, uint64_t u) {
        n->u = u;
        n->i = u > INT64_MAX ? INT64_MAX : (int64_t) u;
        n->d = (double) u;
}

static void number_from_double(struct number *n, double d) {
        n->is_double = true;
        n->d = d;
        n->u = d >= 1 && d < 0x1p64 ? (uint64_t) d : 0;
        n->i = d > -0x1p63 && d < 0x1p63 ? (int64_t) d : 0;
}

static int read_number(sd_bus_message *m, char type, struct number *ret) {
        union {
                uint8_t y;
                int b;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
        } v;

        int r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;
        *ret = (struct number) {};
        switch (type) {
        case 'y':
                number_from_unsigned(ret, v.y);
                return 1;
        case 'b':
                number_from_unsigned(ret, v.b != 0);
                return 1;
        case 'n':
                number_from_signed(ret, v.n);
                return 1;
        case 'q':
                number_from_unsigned(ret, v.q);
                return 1;
        case 'i':
                number_from_signed(ret, v.i);
                return 1;
        case 'u':
                number_from_unsigned(ret, v.u);
                return 1;
        case 'x':
                number_from_signed(ret, v.x);
                return 1;
        case 't':
                number_from_unsigned(ret, v.t);
                return 1;
        case 'd':
                number_from_double(ret, v.d);
                return 1;
        default:
                return -EBADMSG;
        }
}

static void store_number(const struct number *n, enum dict_kind kind, void *at) {
        if (kind == DICT_U64)
                *(uint64_t *) at = n->u;
        else if (kind == DICT_I64)
                *(int64_t *) at = n->i;
        else
                *(double *) at = n->d;
}

static int read_string(sd_bus_message *m, char type, char **at) {
        const char *text;
        int r = sd_bus_message_read_basic(m, type, &text);
        if (r < 0)
                return r;
        char *copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 1;
}

/* The variant's contents (its container already entered) into one field; a type that does not fit is skipped. */
static int read_field(sd_bus_message *m, const char *type, const struct dict_field *field, void *into) {
        void *at = (char *) into + field->offset;

        if (field->kind == DICT_STRINGS && strcmp(type, "as") == 0) {
                char **strings = NULL;
                int r = sd_bus_message_read_strv(m, &strings);
                if (r >= 0) {
                        strings_free(*(char ***) at);
                        *(char ***) at = strings;
                }
                return r;
        }
        if (field->kind == DICT_STRING && strchr("sog", type[0]) && !type[1])
                return read_string(m, type[0], at);
        if (field->kind <= DICT_DOUBLE && strchr("ybnqiuxtd", type[0]) && !type[1]) {
                struct number number;
                int r = read_number(m, type[0], &number);
                if (r >= 0)
                        store_number(&number, field->kind, at);
                return r;
        }
        return sd_bus_message_skip(m, type);
}

/* −1: no kind has it. */
static int kind_of(const char *type) {
        if (strcmp(type, "as") == 0)
                return DICT_STRINGS;
        if (!type[0] || type[1])
                return -1;
        return strchr("sog", type[0])     ? DICT_STRING
               : type[0] == 'd'           ? DICT_DOUBLE
               : strchr("nix", type[0])   ? DICT_I64
               : strchr("ybqut", type[0]) ? DICT_U64
                                          : -1;
}

/* The same as read_field, of a key that the table lacks. */
static int read_other(sd_bus_message *m, const char *key, const char *type, struct dict_others *into) {
        int kind = kind_of(type);

        if (kind < 0 || into->n >= DICT_OTHERS_MAX)
                return sd_bus_message_skip(m, type);
        struct dict_other *grown = reallocarray(into->items, into->n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        into->items = grown;
        struct dict_other *other = &grown[into->n];
        *other = (struct dict_other) { .key = strdup(key), .kind = (enum dict_kind) kind };
        if (!other->key)
                return -ENOMEM;
        into->n++;
        return read_field(m, type, &(struct dict_field) { key, other->kind, offsetof(struct dict_other, u64) }, other);
}

/* The row of a key; that of all others. */
static const struct dict_field *find_field(const char *key, const struct dict_field *fields, size_t n_fields) {
        const struct dict_field *others = NULL;

        for (size_t i = 0; i < n_fields; i++)
                if (!fields[i].key)
                        others = &fields[i];
                else if (strcmp(fields[i].key, key) == 0)
                        return &fields[i];
        return others;
}

static int read_entry(sd_bus_message *m, const struct dict_field *fields, size_t n_fields, void *into) {
        const char *key, *type;
        char kind;

        int r = sd_bus_message_read_basic(m, 's', &key);
        if (r < 0)
                return r;
        const struct dict_field *field = find_field(key, fields, n_fields);
        if (!field)
                return sd_bus_message_skip(m, "v");
        r = sd_bus_message_peek_type(m, &kind, &type);
        if (r < 0)
                return r;
        if (kind != 'v')
                return -EBADMSG;
        r = sd_bus_message_enter_container(m, 'v', type);
        if (r > 0)
                r = field->kind == DICT_OTHERS ? read_other(m, key, type, (void *) ((char *) into + field->offset))
                                               : read_field(m, type, field, into);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int dict_read(sd_bus_message *message, const struct dict_field *fields, size_t n_fields, void *into) {
        int r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r <= 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = read_entry(message, fields, n_fields, into);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(message);
        return r < 0 ? r : 1;
}

static void clear_others(struct dict_others *others) {
        for (size_t i = 0; i < others->n; i++) {
                struct dict_other *other = &others->items[i];
                free(other->key);
                if (other->kind == DICT_STRING)
                        free(other->string);
                else if (other->kind == DICT_STRINGS)
                        strings_free(other->strings);
        }
        free(others->items);
        *others = (struct dict_others) {};
}

void dict_clear(const struct dict_field *fields, size_t n_fields, void *of) {
        for (size_t i = 0; i < n_fields; i++) {
                void *at = (char *) of + fields[i].offset;
                if (fields[i].kind == DICT_STRING)
                        free(steal_pointer((char **) at));
                else if (fields[i].kind == DICT_STRINGS)
                        strings_free(steal_pointer((char ***) at));
                else if (fields[i].kind == DICT_OTHERS)
                        clear_others(at);
        }
}
