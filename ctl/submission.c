/* See submission.h. Invariant: nothing is sent that the protocol cannot carry (its strings are UTF-8). */
#include "ctl/submission.h"

#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/limits.h"
#include "common/utf8.h"
#include "ctl/surroundings.h"

int submission_check_words(char *const *words, size_t n, struct error *error) {
        for (size_t i = 0; i < n; i++) {
                cleanup_free char *clean = text_as_utf8(words[i]);
                if (clean)
                        return error_input(error, BERTCTL_EXIT_USAGE,
                                           "word %zu of the command, \"%.200s\": not UTF-8; give a file another "
                                           "name, or put the command into a script",
                                           i + 1, clean);
        }
        return 0;
}

static int append_strings(sd_bus_message *m, const char *key, char *const *strings, size_t n) {
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append_basic(m, 's', strings[i]);
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_text(sd_bus_message *m, const char *key, const char *text) {
        return text ? sd_bus_message_append(m, "{sv}", key, "s", text) : 0;
}

static int append_value(void *userdata, const char *key, char type, const void *value) {
        sd_bus_message *m = userdata;
        const char contents[] = { type, '\0' };
        size_t n = 0;

        if (type == 'a') {
                while (((char *const *) value)[n])
                        n++;
                return append_strings(m, key, value, n);
        }
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', contents);
        if (r >= 0)
                r = sd_bus_message_append_basic(m, type, value);
        for (int i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* The typed values of the spec, and its text. */
static int append_spec(sd_bus_message *m, const struct spec *spec, const char *text) {
        int r = spec_each_sent(spec, append_value, m);
        return r < 0 ? r : append_text(m, "spec", text);
}

/* What the shell had. */
static int append_surroundings(sd_bus_message *m, const char *cwd, char *const *environment) {
        size_t n = 0;

        while (environment[n])
                n++;
        int r = append_text(m, "cwd", cwd);
        if (r >= 0)
                r = append_strings(m, "environment", environment, n);
        if (r >= 0)
                r = surroundings_append(m);
        return r;
}

static int send_submit(struct client *client, const struct spec *spec, const struct past *past, const char *text,
                       const char *cwd, char *const *environment, uint64_t *ret_id, struct error *error) {
        cleanup_message sd_bus_message *message = NULL, *reply = NULL;

        int r = client_new_call(client, "Submit", &message, error);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(message, 'a', "{sv}");
        if (r >= 0)
                r = append_spec(message, spec, text);
        if (r >= 0)
                r = append_surroundings(message, cwd, environment);
        if (r >= 0 && past)
                r = past_append(message, past);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        if (r < 0)
                return client_bad_message(error, r, "Submit");
        r = client_send(client, message, &reply, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "t", ret_id);
        return r <= 0 ? client_bad_message(error, r, "Submit") : 0;
}

/* What bertd would refuse. */
static int check_limits(const struct spec *spec, const char *text, const char *cwd, char *const *environment,
                        struct error *error) {
        int r = limits_check_name(spec->name, error);

        if (r == 0)
                r = limits_check_path("run_dir", spec->run_dir, error);
        if (r == 0)
                r = limits_check_path("on_exit", spec->on_exit, error);
        if (r == 0)
                r = limits_check_path("cwd", cwd, error);
        if (r == 0)
                r = limits_check_command(spec->command, error);
        if (r == 0)
                r = limits_check_inputs(text, environment, error);
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        return r;
}

int submission_send(struct client *client, const struct spec *spec, const struct past *past, uint64_t *ret_id,
                    struct error *error) {
        cleanup_free char *text = NULL, *cwd = NULL;
        cleanup_free char **environment = NULL;

        int r = submission_check_words(spec->command, spec->n_command, error);
        if (r == 0)
                r = spec_format(spec, &text, error);
        if (r < 0)
                error->exit = BERTCTL_EXIT_USAGE;
        if (r == 0)
                r = surroundings_folder(&cwd, error);
        if (r == 0)
                r = surroundings_environment(&environment, error);
        if (r == 0)
                r = check_limits(spec, text, cwd, environment, error);
        return r < 0 ? r : send_submit(client, spec, past, text, cwd, environment, ret_id, error);
}
