/* See plan.h. Owns nothing. */
#include "daemon/gang/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/json_read.h"

#define WORDS_MAX 65536

/* Appends the strings of an array to a NULL-terminated list. */
static int add_strings(const json_t *array, char ***list, size_t *n) {
        size_t size = MIN(json_array_size(array), (size_t) WORDS_MAX);
        char **grown = realloc(*list, (*n + size + 1) * sizeof(*grown));

        if (!grown)
                return -ENOMEM;
        *list = grown;
        for (size_t i = 0; i < size; i++) {
                const char *text = json_plain_string(json_array_get(array, i));
                if (text && !(grown[(*n)++] = strdup(text)))
                        return -ENOMEM;
        }
        grown[*n] = NULL;
        return 0;
}

/* The head is not among the others. */
static int add_hosts(const json_t *array, const char *head, struct gang_plan *plan) {
        size_t size = json_array_size(array);
        char **grown = realloc(plan->hosts, (plan->n_hosts + size + 1) * sizeof(*grown));

        if (!grown)
                return -ENOMEM;
        plan->hosts = grown;
        for (size_t i = 0; i < size; i++) {
                const json_t *entry = json_array_get(array, i);
                const char *name = json_is_string(entry) ? json_plain_string(entry) : json_text_at(entry, "name");
                char *copy = name ? strdup(name) : NULL;
                if (!copy)
                        return name ? -ENOMEM : -EINVAL;
                if (head && strcmp(name, head) == 0 && !plan->self)
                        plan->self = copy;
                else
                        plan->hosts[plan->n_hosts++] = copy;
        }
        plan->hosts[plan->n_hosts] = NULL;
        return 0;
}

static char *copy_text(const json_t *root, const char *key) {
        const char *text = json_text_at(root, key);

        return text && text[0] ? strdup(text) : NULL;
}

static uint64_t number(const json_t *root, const char *key, uint64_t otherwise) {
        const json_t *value = json_object_get(root, key);

        return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t) json_integer_value(value)
                                                                        : otherwise;
}

static int read_plan(const json_t *root, struct gang_plan *p) {
        const char *kind = json_text_at(root, "kind");
        size_t words = 0, travels = 0;

        *p = (struct gang_plan) { .job = number(root, "job", 0),
                                  .attempt = (unsigned) number(root, "attempt", 0),
                                  .name = copy_text(root, "name"),
                                  .command = kind && strcmp(kind, "command") == 0,
                                  .ranks = (unsigned) number(root, "ranks", 1),
                                  .gpus = (unsigned) number(root, "gpus", 0),
                                  .threads = (unsigned) number(root, "threads", 0),
                                  .host_timeout_sec = (unsigned) number(root, "host_timeout_sec", 20),
                                  .memory = number(root, "memory", 0),
                                  .network = copy_text(root, "network"),
                                  .unmanaged = json_is_true(json_object_get(root, "unmanaged")),
                                  .shrink = json_is_true(json_object_get(root, "shrink")),
                                  .ran = json_is_true(json_object_get(root, "ran")),
                                  .private_shm = json_is_true(json_object_get(root, "private_shm")),
                                  .scratch = copy_text(root, "scratch"),
                                  .cwd = getcwd(NULL, 0) };
        int r = add_hosts(json_object_get(root, "hosts"), json_text_at(root, "head"), p);
        p->n_first = p->n_hosts;
        if (r >= 0)
                r = add_hosts(json_object_get(root, "spares"), NULL, p);
        if (r >= 0)
                r = add_strings(json_object_get(root, "travels"), &p->travels, &travels);
        if (r >= 0)
                r = add_strings(json_object_get(root, "argv"), &p->argv, &words);
        return r < 0 ? r : words > 0 && p->self && p->ranks > 0 && p->cwd ? 0 : -EINVAL;
}

int plan_read(const char *dir, struct gang_plan *ret, struct error *error) {
        json_t *root = NULL;
        int r = json_read_file(dir, "gang.json", 0, &root, error);

        if (r < 0)
                return r;
        if (!root)
                return error_set(error, ENOENT, "%s/gang.json: not found", dir);
        r = read_plan(root, ret);
        json_decref(root);
        if (r == -EINVAL)
                return error_input(error, BERTD_EXIT_DATA, "%s/gang.json: not a plan of a gang", dir);
        return r < 0 ? error_errno(error, -r, "%s/gang.json", dir) : 0;
}

static void free_list(char **list) {
        for (char **p = list; p && *p; p++)
                free(*p);
        free(list);
}

void plan_free(struct gang_plan *p) {
        free_list(p->hosts);
        free_list(p->travels);
        free_list(p->argv);
        free(p->name);
        free(p->self);
        free(p->network);
        free(p->scratch);
        free(p->cwd);
        *p = (struct gang_plan) {};
}
