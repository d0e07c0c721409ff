/* See options.h. Owns nothing; values point into argv. */
#include "ctl/options.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/nearest.h"
#include "common/parse.h"

#define NAMES_MAX 32
#define WORD_MAX 32
#define WIDTH 79 /* of --help */
#define HELP_COLUMN 27

static int unknown_option(const struct option_spec *options, size_t n_options, const char *name, struct error *error) {
        const char *names[NAMES_MAX];
        assert(n_options < NAMES_MAX);

        for (size_t i = 0; i < n_options; i++)
                names[i] = options[i].name;
        names[n_options] = "help";
        const char *nearest = nearest_of(name, names, n_options + 1);
        if (nearest)
                return error_input(error, BERTCTL_EXIT_USAGE, "unknown option '--%s': did you mean --%s?", name,
                                   nearest);
        return error_input(error, BERTCTL_EXIT_USAGE, "unknown option '--%s'; see --help", name);
}

static int add_item(const struct option_spec *option, const char *text, struct error *error) {
        struct option_list *list = option->value;

        if (list->n == OPTION_LIST_MAX)
                return error_input(error, BERTCTL_EXIT_USAGE, "--%s: given more than %d times", option->name,
                                   OPTION_LIST_MAX);
        list->options[list->n] = option;
        list->items[list->n++] = text;
        return 0;
}

static int set_value(const struct option_spec *option, const char *text, struct error *error) {
        int r;

        switch (option->kind) {
        case OPTION_FLAG:
                *(bool *) option->value = true;
                return 0;
        case OPTION_STRING:
                if (!text[0])
                        return error_input(error, BERTCTL_EXIT_USAGE, "--%s: empty, expected %s", option->name,
                                           option->argument);
                *(const char **) option->value = text;
                return 0;
        case OPTION_LIST:
        case OPTION_KEY:
                return add_item(option, text, error);
        case OPTION_U64:
                r = parse_u64(text, (uint64_t) option->min, (uint64_t) option->max, option->value);
                break;
        default:
                r = parse_i64(text, option->min, option->max, option->value);
                break;
        }
        if (r < 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "--%s: '%s' is not a whole number from %lld to %lld",
                                   option->name, text, (long long) option->min, (long long) option->max);
        return 0;
}

/* "--name", "--name=value" or "--name value"; *i is at the option and moves to the last word used. */
static int parse_long(const struct option_spec *options, size_t n_options, int argc, char **argv, int *i,
                      struct error *error) {
        const char *name = argv[*i] + 2, *equals = strchr(name, '=');
        size_t length = equals ? (size_t) (equals - name) : strlen(name);

        for (size_t k = 0; k < n_options; k++) {
                const struct option_spec *option = &options[k];
                if (strlen(option->name) != length || strncmp(option->name, name, length) != 0)
                        continue;
                if (option->kind == OPTION_FLAG)
                        return equals ? error_input(error, BERTCTL_EXIT_USAGE, "--%s takes no value", option->name)
                                      : set_value(option, NULL, error);
                if (equals)
                        return set_value(option, equals + 1, error);
                if (*i + 1 >= argc || strcmp(argv[*i + 1], "--") == 0)
                        return error_input(error, BERTCTL_EXIT_USAGE, "--%s: %s is missing", option->name,
                                           option->argument);
                return set_value(option, argv[++*i], error);
        }
        char word[WORD_MAX + 1];
        (void) snprintf(word, sizeof(word), "%.*s", (int) MIN(length, (size_t) WORD_MAX), name);
        return unknown_option(options, n_options, word, error);
}

/* "-f", "-fn 5", "-n5". */
static int parse_letters(const struct option_spec *options, size_t n_options, int argc, char **argv, int *i,
                         struct error *error) {
        for (const char *p = argv[*i] + 1; *p; p++) {
                const struct option_spec *option = NULL;
                for (size_t k = 0; k < n_options && !option; k++)
                        if (options[k].letter == *p)
                                option = &options[k];
                if (!option)
                        return error_input(error, BERTCTL_EXIT_USAGE, "unknown option '-%c'; see --help", *p);
                if (option->kind != OPTION_FLAG) {
                        if (!p[1] && (*i + 1 >= argc || strcmp(argv[*i + 1], "--") == 0))
                                return error_input(error, BERTCTL_EXIT_USAGE, "-%c: %s is missing", *p,
                                                   option->argument);
                        return set_value(option, p[1] ? p + 1 : argv[++*i], error);
                }
                int r = set_value(option, NULL, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool wants_help(int argc, char **argv) {
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return true;
        return false;
}

int options_parse(const struct option_spec *options, size_t n_options, int argc, char **argv, bool stop_at_dashes,
                  struct arguments *ret, struct error *error) {
        int n = 0, r = 0;

        *ret = (struct arguments) { .words = argv + 1, .help = wants_help(argc, argv) };
        for (int i = 1; i < argc && r == 0 && !ret->help; i++) {
                if (strcmp(argv[i], "--") == 0) {
                        if (stop_at_dashes) {
                                ret->rest = argv + i + 1;
                                ret->n_rest = argc - i - 1;
                                break;
                        }
                        while (++i < argc)
                                ret->words[n++] = argv[i];
                } else if (strncmp(argv[i], "--", 2) == 0)
                        r = parse_long(options, n_options, argc, argv, &i, error);
                else if (argv[i][0] == '-' && argv[i][1])
                        r = parse_letters(options, n_options, argc, argv, &i, error);
                else
                        ret->words[n++] = argv[i];
        }
        ret->n = n;
        return r;
}

int options_check_count(const struct arguments *arguments, int min_words, int max_words, const char *name,
                        const char *usage, struct error *error) {
        if (arguments->n >= min_words && arguments->n <= max_words)
                return 0;
        if (arguments->n > max_words)
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: '%s' is one argument too many: usage: bertctl %s %s",
                                   name, arguments->words[max_words], name, usage);
        return error_input(error, BERTCTL_EXIT_USAGE, "%s: an argument is missing: usage: bertctl %s %s", name, name,
                           usage);
}

/* The column there. */
static unsigned new_line(void) {
        (void) putchar('\n');
        return 0;
}

void print_wrapped(const char *text, unsigned indent, unsigned column) {
        for (const char *word = text; *word;) {
                unsigned n = (unsigned) strcspn(word, " \n");
                if (column > indent && column + 1 + n > WIDTH)
                        column = new_line();
                if (column < indent)
                        column += (unsigned) printf("%*s", (int) (indent - column), "");
                column += (unsigned) printf("%s%.*s", column > indent ? " " : "", (int) n, word);
                word += n;
                if (*word == '\n')
                        column = new_line();
                word += *word != '\0';
        }
        (void) putchar('\n');
}

static void print_option(const struct option_spec *option) {
        char head[64], letter[8] = "    ";

        if (option->letter)
                (void) snprintf(letter, sizeof(letter), "-%c, ", option->letter);
        (void) snprintf(head, sizeof(head), "%s--%s%s%s", letter, option->name, option->argument ? " " : "",
                        option->argument ? option->argument : "");
        unsigned column = (unsigned) printf("  %-*s", HELP_COLUMN - 2, head);
        print_wrapped(option->help, HELP_COLUMN, column > HELP_COLUMN ? new_line() : column);
}

void options_print(const struct option_spec *options, size_t n_options) {
        static const struct option_spec help = { .name = "help", .letter = 'h', .help = "print this help" };
        size_t i = 0;

        (void) printf("Options:\n");
        for (; i < n_options && !options[i].section; i++)
                print_option(&options[i]);
        print_option(&help);
        for (; i < n_options; i++) {
                if (i == 0 || options[i].section != options[i - 1].section)
                        (void) printf("\n%s:\n", options[i].section);
                print_option(&options[i]);
        }
}
