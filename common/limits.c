/* See limits.h. Owns nothing. */
#include "common/limits.h"

#include <errno.h>
#include <string.h>

#include "bertd/limits.h"
#include "common/cleanup.h"

size_t limits_words_size(char *const *words) {
        size_t size = 0;

        for (size_t i = 0; words && words[i]; i++)
                size += MAX(strlen(words[i]) + 1, (size_t) BERTD_WORD_MIN);
        return size;
}

static int check(const char *what, size_t size, size_t max, const char *cure, struct error *error) {
        if (size <= max)
                return 0;
        return error_set(error, EINVAL, "%s: %zu bytes, at most %zu are allowed; %s", what, size, max, cure);
}

int limits_check_name(const char *name, struct error *error) {
        return check("name", name ? strlen(name) : 0, BERTD_NAME_MAX, "give a shorter one", error);
}

/* Such a name would split a line or change a terminal's state. */
static int check_line(const char *key, const char *path, struct error *error) {
        for (const unsigned char *p = (const unsigned char *) path; p && *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return error_set(error, EINVAL, "%s: '%.200s' contains a %s; use a folder without", key, path,
                                         *p == '\n' ? "newline" : "control character");
        return 0;
}

int limits_check_path(const char *key, const char *path, struct error *error) {
        int r = check_line(key, path, error);
        return r < 0 ? r : check(key, path ? strlen(path) : 0, BERTD_PATH_MAX, "use a shorter path", error);
}

int limits_check_command(char *const *words, struct error *error) {
        return check("command", limits_words_size(words), BERTD_COMMAND_MAX,
                     "write it into a script and submit the script", error);
}

int limits_check_inputs(const char *spec, char *const *environment, struct error *error) {
        size_t size = spec ? strlen(spec) : 0;

        int r = check("spec", size, BERTD_SPEC_MAX, "shorten it", error);
        return r < 0 ? r
                     : check("environment and spec", size + limits_words_size(environment), BERTD_INPUTS_MAX,
                             "unset large variables, e.g. submit with env -u NAME", error);
}
