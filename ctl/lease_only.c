/* See lease.h. No shell ever sees the line: what needs one is refused. */
#include "ctl/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

#define WORDS_MAX 256

/* Copies a word to *to, whose room is that of the line. The rest of the line, or NULL: not plain. */
static const char *take_word(const char *line, char **to) {
        char quote = '\0';

        for (; *line && (quote || *line != ' '); line++)
                if (quote && *line == quote)
                        quote = '\0';
                else if (!quote && (*line == '\'' || *line == '"'))
                        quote = *line;
                else if (quote != '\'' && strchr(quote ? "\\$`" : "\\$`;&|<>(){}*?[]~#!\t\n", *line))
                        return NULL;
                else
                        *(*to)++ = *line;
        *(*to)++ = '\0';
        return quote ? NULL : line;
}

char **lease_words(const char *line) {
        cleanup_free char **words = calloc(1, (WORDS_MAX + 1) * sizeof(char *) + strlen(line) + 1);
        char *to = words ? (char *) (words + WORDS_MAX + 1) : NULL;

        if (!words)
                return NULL;
        for (size_t n = 0;; n++) {
                line += strspn(line, " ");
                if (!*line)
                        return steal_pointer(&words);
                if (n == WORDS_MAX)
                        return NULL;
                words[n] = to;
                line = take_word(line, &to);
                if (!line)
                        return NULL;
        }
}

static bool may_run(char *const *words) {
        static const char *const commands[] = { "lease", "list", "status", "receive" };
        const char *slash = words[0] ? strrchr(words[0], '/') : NULL, *name = slash ? slash + 1 : words[0];

        if (!name || strcmp(name, "bertctl") != 0 || !words[1])
                return false;
        for (char *const *w = words + 2; *w; w++)
                if (strcmp(*w, "--only") == 0)
                        return false; /* it would come here again and again */
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(words[1], commands[i]) == 0)
                        return true;
        return false;
}

int lease_only(struct error *error) {
        const char *line = getenv("SSH_ORIGINAL_COMMAND");
        cleanup_free char **words = lease_words(line ? line : "");

        if (!words || !may_run(words))
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "this key runs bertctl lease, list, status and receive alone; use another key for "
                                   "other commands");
        (void) unsetenv("SSH_ORIGINAL_COMMAND");
        (void) execv("/proc/self/exe", words);
        return error_input(error, BERTCTL_EXIT_FAILED, "bertctl: %s", strerror(errno));
}
