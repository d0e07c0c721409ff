/*
 * See reader.h: keys that are lists of names. Those of hosts are expanded ("gpu[01-04]") or read from a file when the
 * spec is read, and kept as a list, so that a job's hosts do not change with the file. Owns nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/hosts.h"
#include "common/network.h"
#include "common/paths.h"
#include "common/spec/reader.h"

#define HOSTS_FILE_MAX (64u << 10)

static int take_names(struct spec_reader *reader, const struct field *field, char **names, uint32_t n,
                      struct spec *spec) {
        char **to = calloc(n + 1, sizeof(char *));

        if (!to)
                return spec_no_memory(reader);
        memcpy(to, names, n * sizeof(char *));
        *AT(spec, field->offset, char **) = to;
        *AT(spec, field->count, uint32_t) = n;
        return 0;
}

/* ---- hosts ---- */

static int add_file(struct spec_reader *reader, const struct field *field, const char *name, struct host_list *list) {
        cleanup_free char *path = NULL, *text = NULL;
        struct error error = {};
        size_t size;

        if (paths_expand(reader->folder, name, &path, &error) < 0 ||
            file_read(path, HOSTS_FILE_MAX, &text, &size, &error) < 0 || hosts_add_file(list, path, text, &error) < 0)
                return spec_refuse(reader, field->key, "%.400s", error.text);
        return 0;
}

static int read_hosts(struct spec_reader *reader, const struct field *field, const struct given *given,
                      struct spec *spec) {
        cleanup_hosts struct host_list list = {};
        struct error error = {};
        int r = given->text ? add_file(reader, field, given->text, &list) : 0;

        for (uint32_t i = 0; r == 0 && i < given->n; i++)
                if (hosts_add(&list, given->entries[i], &error) < 0)
                        r = spec_refuse(reader, field->key, "%s", error.text);
        if (r < 0)
                return r;
        if (list.slots > 0 && list.slots < spec->resources.ranks)
                return spec_refuse(reader, field->key, "%s has slots=%u, but resources.ranks is %u, for each host",
                                   list.names[list.slots_row], list.slots, spec->resources.ranks);
        r = take_names(reader, field, list.names, list.n, spec);
        if (r == 0)
                list = (struct host_list) {};
        return r;
}

/* ---- variables ---- */

/* "NCCL_DEBUG", "MY_*" */
static bool is_variable(const char *text) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
        size_t n = text[0] && strchr(letters, text[0]) ? strlen(text) : 0;

        for (size_t i = 0; i < n; i++)
                if (!strchr(letters, text[i]) && !strchr("0123456789", text[i]) && (text[i] != '*' || i + 1 < n))
                        return false;
        return n > 0;
}

/* What belongs to one host or one session. */
static bool stays(const char *name) {
        static const char *const own[] = { "CUDA_VISIBLE_DEVICES", "NOTIFY_SOCKET", "TMPDIR", "SSH_", "XDG_" };

        for (size_t i = 0; i < ELEMENTSOF(own); i++)
                if (strncmp(name, own[i], strlen(own[i])) == 0)
                        return true;
        return false;
}

static int read_variables(struct spec_reader *reader, const struct field *field, const struct given *given,
                          struct spec *spec) {
        size_t size = 0;

        if (given->text)
                return spec_refuse(reader, field->key, "expected a list of names, not a file");
        char **to = calloc(given->n + 1, sizeof(char *));
        if (!to)
                return spec_no_memory(reader);
        *AT(spec, field->offset, char **) = to;
        for (uint32_t i = 0; i < given->n; i++) {
                const char *name = given->entries[i];
                size += strlen(name) + 1;
                if (!is_variable(name))
                        return spec_refuse(reader, field->key, "'%.64s' is not the name of a variable", name);
                if (stays(name))
                        return spec_refuse(reader, field->key, "%.64s belongs to one host; leave it out", name);
                if (size > BERTD_TRAVELS_MAX)
                        return spec_refuse(reader, field->key, "more than %d bytes", BERTD_TRAVELS_MAX);
                to[i] = strdup(name);
                if (!to[i])
                        return spec_no_memory(reader);
                *AT(spec, field->count, uint32_t) = i + 1;
        }
        return 0;
}

int spec_read_names(struct spec_reader *reader, const struct field *field, const struct given *given,
                    struct spec *spec) {
        return field->hosts ? read_hosts(reader, field, given, spec) : read_variables(reader, field, given, spec);
}

/* ---- checks ---- */

/* "HOST:DIR" stays; a folder becomes absolute. */
static int resolve_copy(struct spec_reader *reader, struct spec *spec) {
        static const char key[] = "checkpoint.copy_to";
        char *text = spec->checkpoint.copy_to, *colon = text ? strchr(text, ':') : NULL;
        cleanup_free char *path = NULL;
        struct error error = {};

        if (!text)
                return 0;
        if (colon && !memchr(text, '/', (size_t) (colon - text))) {
                cleanup_free char *host = strndup(text, (size_t) (colon - text));
                if (!host)
                        return spec_no_memory(reader);
                return host_is_name(host) && colon[1] == '/'
                               ? 0
                               : spec_refuse(reader, key, "'%.64s': expected DIR, or HOST:DIR with an absolute DIR",
                                             text);
        }
        if (paths_expand(reader->folder, text, &path, &error) < 0)
                return spec_refuse(reader, key, "%s", error.text);
        if (strlen(path) > BERTD_PATH_MAX)
                return spec_refuse(reader, key, "%zu bytes, at most %d are allowed", strlen(path), BERTD_PATH_MAX);
        free(text);
        spec->checkpoint.copy_to = steal_pointer(&path);
        return 0;
}

/* A program, with or without its folder. */
static const char *find_name(const char *program, const char *const *names, size_t n_names) {
        const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

        for (size_t i = 0; i < n_names; i++)
                if (strcmp(names[i], name) == 0)
                        return names[i];
        return NULL;
}

/* A job of many hosts is started by mpirun, or by Slurm, already. Behind "env A=1" and its like, too: the first word
 * that is neither one of these, nor an option, a variable or a number, is the program. Debian's mpirun is
 * mpirun.openmpi. */
static const char *find_starter(char *const *command) {
        static const char *const starters[] = { "mpirun",        "mpiexec",      "orterun",
                                                "prterun",       "srun",         "mpirun.openmpi",
                                                "mpirun.mpich",  "mpirun.hydra", "mpiexec.openmpi",
                                                "mpiexec.mpich", "mpiexec.hydra" };
        static const char *const before[] = { "env",    "nice",   "nohup",   "time",   "stdbuf",
                                              "setsid", "ionice", "timeout", "taskset" };

        for (; *command; command++) {
                const char *word = *command, *starter = find_name(word, starters, ELEMENTSOF(starters));
                if (starter)
                        return starter;
                bool passed = *word == '-' || (*word >= '0' && *word <= '9') || strchr(word, '=');
                if (!passed && !find_name(word, before, ELEMENTSOF(before)))
                        return NULL;
        }
        return NULL;
}

/* Each host is that for itself. */
static const char *find_loopback(char *const *hosts, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                if (strcasecmp(hosts[i], "localhost") == 0 || strncmp(hosts[i], "127.", 4) == 0)
                        return hosts[i];
        return NULL;
}

int spec_check_hosts(struct spec_reader *reader, struct spec *spec) {
        const struct spec_resources *r = &spec->resources;
        static const char *const keys[] = { "resources.use", "resources.network", "resources.environment",
                                            "resources.unmanaged" };

        for (size_t i = 0; r->n_hosts == 0 && i < ELEMENTSOF(keys); i++)
                if (is_given(reader, keys[i]) && !(i == 3 && !r->unmanaged))
                        return spec_refuse(reader, keys[i],
                                           "has no effect without resources.hosts; set that or leave "
                                           "this out");
        if (r->use > r->n_hosts)
                return spec_refuse(reader, "resources.use", "%u, but resources.hosts has %u", r->use, r->n_hosts);
        const char *loopback = r->n_hosts > 1 ? find_loopback(r->hosts, r->n_hosts) : NULL;
        if (loopback)
                return spec_refuse(reader, "resources.hosts", "%.64s: each host is that for itself; give its own name",
                                   loopback);
        if (r->network && !network_is_valid(r->network))
                return spec_refuse(reader, "resources.network",
                                   "'%.64s': expected an interface, e.g. eth1, or a network, e.g. 10.0.0.0/24",
                                   r->network);
        const char *starter = r->n_hosts > 1 && spec->kind == JOB_COMMAND ? find_starter(spec->command) : NULL;
        if (starter)
                return spec_refuse(reader, "command", "%s: bertd starts the ranks; give the program alone", starter);
        const uint32_t *cool = spec->restart.host_cooldown_sec;
        if (cool[0] > cool[1])
                return spec_refuse(reader, "restart.host_cooldown_sec", "the first, %u, is greater than the second, %u",
                                   cool[0], cool[1]);
        return resolve_copy(reader, spec);
}
