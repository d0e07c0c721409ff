/* The table `outcomes`: its reader, and which of its lines match a combination. */
#ifndef TESTS_UNIT_OUTCOME_TABLE_H
#define TESTS_UNIT_OUTCOME_TABLE_H

#include "common/file.h"
#include "tests/unit/outcome_fixture.h"

#define NAMES_MAX 24
#define LINES_MAX 96
#define TEXT_MAX 32

struct condition {
        uint32_t masks[KEY_MAX]; /* values that are fine */
        uint32_t all, none;      /* bits of `names` that have to hold, that must not */
};

enum line_kind { LINE_NEVER, LINE_CLASS, LINE_COUNT, LINE_EVENT, LINE_KIND_MAX };
static const char *const line_kinds[] = { "never", "class", "count", "event" };

static struct table {
        char names[NAMES_MAX][TEXT_MAX];
        size_t n_names;
        struct where {
                size_t name;
                struct condition condition;
        } wheres[NAMES_MAX];
        size_t n_wheres;
        struct group {
                char name[TEXT_MAX];
                uint32_t mask;
        } groups[NAMES_MAX];
        size_t n_groups;
        struct line {
                enum line_kind kind;
                unsigned number; /* in the file */
                struct condition condition;
                char results[3][TEXT_MAX];
                unsigned long matched;
        } lines[LINES_MAX];
        size_t n_lines;
} table;

#define check_line(ok, number, text)                                                           \
        do {                                                                                   \
                if (!(ok))                                                                     \
                        fail_msg("outcomes, line %u: \"%s\" is not understood", number, text); \
        } while (0)

static uint32_t value_mask(enum key key, const char *value, unsigned number) {
        for (size_t i = 0; value[0] == '@' && i < table.n_groups; i++)
                if (strcmp(table.groups[i].name, value + 1) == 0)
                        return table.groups[i].mask;
        for (size_t i = 0; value_name(key, i); i++)
                if (strcmp(value_name(key, i), value) == 0)
                        return UINT32_C(1) << i;
        check_line(false, number, value);
        return 0;
}

static size_t find_name(const char *name) {
        size_t i = 0;

        while (i < table.n_names && strcmp(table.names[i], name) != 0)
                i++;
        return i;
}

static void read_key(struct condition *c, char *word, char *equals, unsigned number) {
        bool not = equals[1] == '!';
        uint32_t mask = 0;
        size_t key = 0;

        *equals = '\0';
        while (key < KEY_MAX && strcmp(keys[key].name, word) != 0)
                key++;
        check_line(key < KEY_MAX, number, word);
        for (char *rest = equals + 1 + not, *value; (value = strsep(&rest, ","));)
                mask |= value_mask((enum key) key, value, number);
        c->masks[key] &= not ? ~mask : mask;
}

static void read_word(struct condition *c, char *word, unsigned number) {
        char *equals = strchr(word, '=');

        if (equals) {
                read_key(c, word, equals, number);
                return;
        }
        size_t name = find_name(word + (word[0] == '!'));
        check_line(name < table.n_names, number, word);
        *(word[0] == '!' ? &c->none : &c->all) |= UINT32_C(1) << name;
}

/* Up to "->" or the end of the line. */
static void read_condition(struct condition *c, char **words, unsigned number) {
        *c = (struct condition) {};
        memset(c->masks, 0xff, sizeof(c->masks));
        for (char *word; (word = strtok_r(NULL, " ", words)) && strcmp(word, "->") != 0;)
                read_word(c, word, number);
}

static void read_group(char **words, unsigned number) {
        struct group *g = &table.groups[table.n_groups];
        char *name = strtok_r(NULL, " ", words);

        assert_true(table.n_groups < NAMES_MAX && name);
        (void) snprintf(g->name, sizeof(g->name), "%s", name);
        for (char *word; (word = strtok_r(NULL, " ", words));)
                g->mask |= value_mask(RECORD, word, number);
        table.n_groups++;
}

static void read_where(char **words, unsigned number) {
        char *name = strtok_r(NULL, " ", words);
        struct condition condition;

        assert_true(table.n_wheres < NAMES_MAX && table.n_names < NAMES_MAX && name);
        read_condition(&condition, words, number);
        size_t i = find_name(name);
        if (i == table.n_names)
                (void) snprintf(table.names[table.n_names++], TEXT_MAX, "%s", name);
        table.wheres[table.n_wheres++] = (struct where) { i, condition };
}

static void read_line(const char *kind, char **words, unsigned number) {
        struct line *line = &table.lines[table.n_lines];
        size_t k = 0;

        while (k < LINE_KIND_MAX && strcmp(line_kinds[k], kind) != 0)
                k++;
        check_line(k < LINE_KIND_MAX && table.n_lines < LINES_MAX, number, kind);
        *line = (struct line) { .kind = (enum line_kind) k, .number = number };
        read_condition(&line->condition, words, number);
        for (size_t i = 0; i < ELEMENTSOF(line->results); i++) {
                char *word = strtok_r(NULL, " ", words);
                (void) snprintf(line->results[i], TEXT_MAX, "%s", word ? word : "");
        }
        table.n_lines++;
}

static int read_table(void **state) {
        const char *source = getenv("SOURCE_DIR");
        cleanup_free char *path = format_string("%s/tests/unit/outcomes", source ? source : ".");
        FILE *file = fopen(path, "r");
        char text[256];

        if (!file)
                return -1;
        for (unsigned number = 1; fgets(text, sizeof(text), file); number++) {
                char *words = NULL, *kind;
                text[strcspn(text, "#\n")] = '\0';
                kind = strtok_r(text, " ", &words);
                if (!kind)
                        continue;
                if (strcmp(kind, "group") == 0)
                        read_group(&words, number);
                else if (strcmp(kind, "where") == 0)
                        read_where(&words, number);
                else
                        read_line(kind, &words, number);
        }
        return fclose(file);
}

/* ---- a combination against it ---- */

static bool holds(const struct condition *condition, const struct combination *c, uint32_t names) {
        for (size_t key = 0; key < KEY_MAX; key++)
                if (!(condition->masks[key] >> c->of[key] & 1))
                        return false;
        return (condition->all & ~names) == 0 && (condition->none & names) == 0;
}

/* Bits of the names that hold. A name uses those above it alone. */
static uint32_t names_of(const struct combination *c) {
        uint32_t names = 0;

        for (size_t i = 0; i < table.n_wheres; i++)
                if (holds(&table.wheres[i].condition, c, names))
                        names |= UINT32_C(1) << table.wheres[i].name;
        return names;
}

/* How many lines of the kind hold, and the last of them. */
static size_t find_lines(enum line_kind kind, const struct combination *c, const struct line **ret) {
        uint32_t names = names_of(c);
        size_t n = 0;

        for (size_t i = 0; i < table.n_lines; i++)
                if (table.lines[i].kind == kind && holds(&table.lines[i].condition, c, names)) {
                        table.lines[i].matched++;
                        *ret = &table.lines[i];
                        n++;
                }
        return n;
}

#endif
