/* See hosts.h. Owns nothing. Invariant: every name in a list satisfies host_is_name. */
#include "common/hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/parse.h"

#define DIGITS_MAX 9 /* of a number in a node list */

void hosts_clear(struct host_list *list) {
        for (uint32_t i = 0; i < list->n; i++)
                free(list->names[i]);
        *list = (struct host_list) {};
}

static bool is_letter_or_digit(char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }

bool host_is_name(const char *text) {
        size_t n = 0;

        for (; text[n]; n++)
                if (!is_letter_or_digit(text[n]) && (n == 0 || !strchr(".-_", text[n])))
                        return false;
        return n > 0 && n <= BERTD_HOST_MAX;
}

bool host_is(const char *a, const char *b) { return strcasecmp(a, b) == 0; }

/* Printable ASCII alone: the word goes into a message. */
static const char *shown(const char *word, size_t n, char buffer[64]) {
        size_t k = 0;

        for (; k < n && k < 63; k++)
                buffer[k] = word[k] > ' ' && word[k] < 0x7f ? word[k] : '?';
        buffer[k] = '\0';
        return buffer;
}

/* "5" and "10.1", which ssh takes for 0.0.0.5 and 10.0.0.1. */
static bool is_cut_address(const char *text) {
        struct in_addr address;

        return text[strspn(text, "0123456789.")] == '\0' && inet_pton(AF_INET, text, &address) != 1;
}

static int add_name(struct host_list *list, const char *name, struct error *error) {
        char text[64];

        if (!host_is_name(name) || is_cut_address(name))
                return error_set(error, EINVAL,
                                 "'%s': not a host name; expected letters, digits, '.', '-' or '_', at most %d",
                                 shown(name, strlen(name), text), BERTD_HOST_MAX);
        for (uint32_t i = 0; i < list->n; i++)
                if (host_is(list->names[i], name))
                        return error_set(error, EINVAL, "'%.64s': given twice", name);
        if (list->n == BERTD_HOSTS_MAX)
                return error_set(error, EINVAL, "'%.64s': more than %d hosts", name, BERTD_HOSTS_MAX);
        list->names[list->n] = strdup(name);
        if (!list->names[list->n])
                return error_errno(error, ENOMEM, "hosts");
        list->n++;
        return 0;
}

/* ---- node lists ---- */

static int expand(struct host_list *list, const char *before, const char *word, struct error *error);

static int bad_range(const char *word, struct error *error) {
        char text[64];

        return error_set(error, EINVAL, "'%s': not a node list; expected e.g. gpu[01-04,07]",
                         shown(word, strlen(word), text));
}

/* "01-04" or "07": the numbers, and the width of the first. */
static int read_range(const char *text, size_t n, uint64_t *ret_first, uint64_t *ret_last, int *ret_width) {
        char copy[2 * DIGITS_MAX + 2];

        if (n >= sizeof(copy))
                return -EINVAL;
        (void) snprintf(copy, sizeof(copy), "%.*s", (int) n, text);
        char *dash = strchr(copy, '-');
        if (dash)
                *dash = '\0';
        *ret_width = (int) strlen(copy);
        if (strspn(copy, "0123456789") != strlen(copy) || strlen(copy) > DIGITS_MAX ||
            parse_u64(copy, 0, UINT32_MAX, ret_first) < 0)
                return -EINVAL;
        *ret_last = *ret_first;
        return dash ? parse_u64(dash + 1, *ret_first, UINT32_MAX, ret_last) : 0;
}

/* One number or range of a bracket; `after` is what follows the bracket. */
static int expand_range(struct host_list *list, const char *before, const char *text, size_t n, const char *after,
                        struct error *error) {
        uint64_t first = 0, last = 0;
        char name[BERTD_HOST_MAX + 2];
        int width = 0, r = 0;

        if (read_range(text, n, &first, &last, &width) < 0)
                return bad_range(text, error);
        for (uint64_t i = first; r == 0 && i <= last; i++) {
                if (snprintf(name, sizeof(name), "%s%0*llu", before, width, (unsigned long long) i) >=
                    (int) sizeof(name))
                        return bad_range(text, error);
                r = expand(list, name, after, error); /* ends at BERTD_HOSTS_MAX names */
        }
        return r;
}

/* `word` with `before` in front, its first bracket expanded. */
static int expand(struct host_list *list, const char *before, const char *word, struct error *error) {
        size_t plain = strcspn(word, "[]");
        const char *end = word[plain] == '[' ? strchr(word + plain, ']') : NULL;
        char name[BERTD_HOST_MAX + 2];
        int r = 0;

        if (snprintf(name, sizeof(name), "%s%.*s", before, (int) MIN(plain, sizeof(name)), word) >= (int) sizeof(name))
                return error_set(error, EINVAL, "'%.64s': longer than %d bytes", word, BERTD_HOST_MAX);
        if (word[plain] == '\0')
                return add_name(list, name, error);
        if (!end)
                return bad_range(word, error);
        for (const char *p = word + plain + 1; r == 0 && p < end + 1;) {
                size_t n = strcspn(p, ",]");
                r = expand_range(list, name, p, n, end + 1, error);
                p += n + 1;
        }
        return r;
}

/* The length of a list's first word: commas in brackets do not end it. */
static size_t word_length(const char *text) {
        bool inside = false;
        size_t n = 0;

        for (; text[n] && (inside || text[n] != ','); n++)
                inside = text[n] == '[' || (inside && text[n] != ']');
        return n;
}

int hosts_add(struct host_list *list, const char *text, struct error *error) {
        for (;;) {
                size_t n = word_length(text), lead = strspn(text, " \t");
                size_t end = n;
                while (end > lead && strchr(" \t", text[end - 1]))
                        end--;
                cleanup_free char *word = strndup(text + MIN(lead, end), end - MIN(lead, end));
                if (!word)
                        return error_errno(error, ENOMEM, "hosts");
                int r = expand(list, "", word, error);
                if (r < 0 || text[n] == '\0')
                        return r;
                text += n + 1;
        }
}

/* ---- a file ---- */

static int add_slots(struct host_list *list, uint32_t row, const char *word, struct error *error) {
        uint64_t slots;

        if (strncmp(word, "slots=", 6) != 0 || parse_u64(word + 6, 1, BERTD_RANKS_MAX, &slots) < 0)
                return error_set(error, EINVAL, "'%.64s': expected NAME [slots=N]", word);
        if (list->slots == 0 || slots < list->slots) {
                list->slots = (uint32_t) slots;
                list->slots_row = row;
        }
        return 0;
}

static int add_line(struct host_list *list, char *line, struct error *error) {
        char *rest = NULL, *name = strtok_r(line, " \t\r", &rest), *word;
        uint32_t row = list->n;

        int r = name ? hosts_add(list, name, error) : 0;
        while (r == 0 && name && (word = strtok_r(NULL, " \t\r", &rest)))
                r = add_slots(list, row, word, error);
        return r;
}

int hosts_add_file(struct host_list *list, const char *path, const char *text, struct error *error) {
        cleanup_free char *copy = strdup(text);
        char *rest = copy;

        if (!copy)
                return error_errno(error, ENOMEM, "%s", path);
        for (unsigned number = 1; rest; number++) {
                struct error own = {};
                char *line = strsep(&rest, "\n");
                line[strcspn(line, "#")] = '\0';
                int r = add_line(list, line, &own);
                if (r < 0)
                        return error_set(error, -r, "%s:%u: %s", path, number, own.text);
        }
        return list->n > 0 ? 0 : error_set(error, EINVAL, "%s: no hosts; expected a name on each line", path);
}

/* ---- in one text ---- */

bool hosts_next(const char **at, char name[BERTD_HOST_MAX + 1]) {
        const char *text = *at;
        size_t n = text ? strcspn(text, ",") : 0;

        if (n == 0 || n > BERTD_HOST_MAX)
                return false;
        memcpy(name, text, n);
        name[n] = '\0';
        *at = text + n + (text[n] == ',');
        return true;
}

uint32_t hosts_count(const char *text) {
        uint32_t n = text && text[0];

        for (; text && *text; text++)
                n += *text == ',';
        return n;
}

bool hosts_contain(const char *text, const char *name) {
        char each[BERTD_HOST_MAX + 1];

        while (hosts_next(&text, each))
                if (host_is(each, name))
                        return true;
        return false;
}

char *hosts_join(char *const *names, uint32_t n) {
        size_t size = 0, used = 0;

        for (uint32_t i = 0; i < n; i++)
                size += strlen(names[i]) + 1;
        char *text = size > 0 ? malloc(size) : NULL;
        for (uint32_t i = 0; text && i < n; i++)
                used += (size_t) snprintf(text + used, size - used, "%s%s", i > 0 ? "," : "", names[i]);
        return text;
}
