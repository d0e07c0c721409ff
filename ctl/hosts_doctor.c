/*
 * bertctl doctor --hosts: the probe of hosts.h as a table, its verdicts, and the line that other hosts' authorized_keys
 * need. Owns nothing between calls.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/paths.h"
#include "ctl/command.h"
#include "ctl/hosts.h"
#include "ctl/json.h"
#include "ctl/table.h"
#include "ctl/this_host.h"

#define SKEW_MAX_SEC 60 /* files and logs of two hosts are compared by people alone */
#define KEY_MAX 16384

/* ---- which hosts ---- */

/* What is probed: a spec's hosts, or those of a job or list. */
struct subject {
        struct spec *spec; /* NULL: none */
        struct host_list list;
        bool ran;
};
static void subject_clear(struct subject *subject) {
        spec_free(subject->spec);
        hosts_clear(&subject->list);
}

/* This host first, whether it is named or not. */
static int put_head_first(struct host_list *list, struct error *error) {
        char own[BERTD_HOST_MAX + 1] = "";
        uint32_t at = 0;

        while (at < list->n && !this_host_is(list->names[at]))
                at++;
        if (at == list->n) {
                (void) gethostname(own, BERTD_HOST_MAX);
                int r = hosts_add(list, own, error);
                if (r < 0)
                        return r;
        }
        char *head = list->names[at];
        memmove(&list->names[1], list->names, at * sizeof(char *));
        list->names[0] = head;
        return 0;
}

static int take_spec(struct subject *subject, const char *what, struct error *error) {
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < subject->spec->resources.n_hosts; i++)
                r = hosts_add(&subject->list, subject->spec->resources.hosts[i], error);
        if (r == 0 && subject->list.n == 0)
                r = error_set(error, EINVAL, "%s: has no resources.hosts", what);
        return r;
}

/* The spec of a job; a command has none, but a list of hosts. */
static int take_job(struct ctl *ctl, const char *word, struct subject *subject) {
        cleanup_client struct client *client = NULL;
        cleanup_message sd_bus_message *reply = NULL;
        cleanup_job_info struct job_info job = {};
        struct error *error = &ctl->error;
        const char *text = "";
        uint64_t id;

        int r = client_connect(ctl->socket, &client, error);
        if (r == 0)
                r = client_find_job(client, word, &id, error);
        if (r == 0)
                r = client_get_job(client, id, &job, error);
        if (r == 0)
                r = client_call(client, "GetSpec", &reply, error, "t", id);
        if (r == 0 && sd_bus_message_read(reply, "s", &text) > 0 && text[0])
                r = spec_parse("spec", text, strlen(text), NULL, 0, &subject->spec, error);
        for (size_t i = 0; r == 0 && job.hosts && job.hosts[i]; i++)
                r = hosts_add(&subject->list, job.hosts[i], error);
        subject->ran = job.attempts > 0;
        return r == 0 && subject->list.n == 0 ? error_set(error, EINVAL, "job %s: has no hosts", word) : r;
}

/* A spec's path, a list with a comma or bracket, a job's id or name, or one host. */
static int find_subject(struct ctl *ctl, const char *what, struct subject *subject) {
        struct error own = {};
        int r;

        if (strchr(what, '/') || strstr(what, ".yaml") || access(what, F_OK) == 0) {
                r = spec_load(what, &subject->spec, &ctl->error);
                if (r == 0)
                        r = take_spec(subject, what, &ctl->error);
        } else if (strpbrk(what, ",[")) {
                r = hosts_add(&subject->list, what, &ctl->error);
        } else if ((r = take_job(ctl, what, subject)) < 0) {
                bool number = what[strspn(what, "0123456789")] == '\0';
                if (!number && hosts_add(&subject->list, what, &own) == 0) {
                        ctl->error = (struct error) {};
                        r = 0;
                }
        }
        if (r == 0)
                r = put_head_first(&subject->list, &ctl->error);
        if (r < 0 && ctl->error.exit == 0)
                ctl->error.exit = BERTCTL_EXIT_USAGE;
        return r;
}

/* ---- the table ---- */

static const struct table_column columns[] = {
        { .title = "HOST", .flags = TABLE_FLEX, .min_width = 8 },
        { .title = "STATE" },
        { .title = "BERTD" },
        { .title = "TRAINER" },
        { .title = "OPEN MPI" },
        { .title = "GPUS", .flags = TABLE_RIGHT },
        { .title = "CLOCK", .flags = TABLE_RIGHT },
        { .title = "DATA", .flags = TABLE_RIGHT },
        { .title = "TCP", .flags = TABLE_RIGHT },
};

static const char *word_at(const json_t *line, const char *key) {
        const char *text = line ? json_text_at(line, key) : NULL;

        return text && *text ? text : "-";
}

/* "8 ok", "7 of 8 ok" */
static const char *gpus_of(const json_t *line, char buffer[32]) {
        const json_t *gpus = json_object_get(line, "gpus");
        size_t n = json_array_size(gpus), ok = 0;

        for (size_t i = 0; i < n; i++)
                ok += strcmp(word_at(json_array_get(gpus, i), "health"), "ok") == 0 ||
                      strcmp(word_at(json_array_get(gpus, i), "health"), "free") == 0 ||
                      strcmp(word_at(json_array_get(gpus, i), "health"), "used") == 0;
        if (n == 0 || ok == n)
                (void) snprintf(buffer, 32, n == 0 ? "-" : "%zu ok", n);
        else
                (void) snprintf(buffer, 32, "%zu of %zu ok", ok, n);
        return buffer;
}

/* Seconds that its clock is ahead of ours, when its line came. */
static double skew_of(const struct host_probed *h) {
        json_int_t theirs = json_integer_value(json_object_get(h->line, "clock_usec"));

        return theirs > 0 ? ((double) theirs - (double) h->line_usec) / (double) USEC_PER_SEC : 0;
}

static const char *data_of(const json_t *line, char buffer[32]) {
        const json_t *inputs = json_object_get(line, "inputs");
        size_t n = json_array_size(inputs), ok = 0;

        for (size_t i = 0; i < n; i++)
                ok += strcmp(word_at(json_array_get(inputs, i), "state"), "ok") == 0;
        (void) snprintf(buffer, 32, n == 0 ? "-" : "%zu of %zu", ok, n);
        return buffer;
}

static void add_row(struct table *table, const struct host_probed *h, bool head) {
        static const char *const states[] = { [HOST_GOOD] = "ok", [HOST_WAITS] = "waits", [HOST_REFUSED] = "wrong" };
        static const enum style styles[] = { STYLE_GREEN, STYLE_YELLOW, STYLE_RED };
        char gpus[32], data[32];

        table_cell(table, STYLE_BOLD, "%s%s", h->name, head ? " (head)" : "");
        table_cell(table, styles[h->verdict.grade], "%s", states[h->verdict.grade]);
        table_cell(table, STYLE_NONE, "%.32s", word_at(h->line, "bertd"));
        table_cell(table, STYLE_NONE, "%.32s", word_at(h->line, "trainer"));
        table_cell(table, STYLE_NONE, "%.32s", word_at(h->line, "mpi"));
        table_cell(table, STYLE_NONE, "%s", gpus_of(h->line, gpus));
        if (h->line)
                table_cell(table, STYLE_NONE, "%+.1f s", skew_of(h));
        else
                table_cell(table, STYLE_NONE, "-");
        table_cell(table, STYLE_NONE, "%s", data_of(h->line, data));
        if (h->n_pairs > 0)
                table_cell(table, STYLE_NONE, "%u of %u", h->n_linked, h->n_pairs);
        else
                table_cell(table, STYLE_NONE, "-");
}

/* ---- the key ---- */

/* The line for authorized_keys of the other hosts. The caller frees; NULL: no key is here. */
static char *key_line(void) {
        static const char *const names[] = { "~/.ssh/id_ed25519.pub", "~/.ssh/id_ecdsa.pub", "~/.ssh/id_rsa.pub" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                cleanup_free char *path = NULL, *text = NULL;
                struct error ignored = {};
                size_t size;
                if (paths_expand("/", names[i], &path, &ignored) < 0 ||
                    file_read(path, KEY_MAX, &text, &size, &ignored) < 0)
                        continue;
                text[strcspn(text, "\n")] = '\0';
                return format_string("restrict,command=\"bertctl lease --only\" %s", text);
        }
        return NULL;
}

static void print_key(const struct term *term) {
        cleanup_free char *line = key_line();

        if (!line) {
                (void) printf("\nno key in ~/.ssh; make one without a passphrase:\n"
                              "  ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519\n");
                return;
        }
        (void) printf("\nA line for ~/.ssh/authorized_keys on the other hosts, which allows nothing but leases:\n  ");
        (void) text_put(stdout, term, line, 0);
        (void) putchar('\n');
}

/* ---- results ---- */

static bool print_problems(const struct hosts_probe *probe, const struct term *term) {
        bool sound = true;

        for (uint32_t i = 0; i < probe->n; i++) {
                const struct host_probed *h = &probe->hosts[i];
                double skew = skew_of(h);
                if (h->verdict.grade != HOST_GOOD) {
                        (void) text_put(stdout, term, h->verdict.text, 0);
                        (void) putchar('\n');
                        sound = false;
                }
                if (fabs(skew) > SKEW_MAX_SEC) {
                        (void) printf("%s: its clock is %.0f s %s; run there: timedatectl set-ntp true\n", h->name,
                                      fabs(skew), skew > 0 ? "ahead" : "behind");
                        sound = false;
                }
        }
        return sound;
}

static int print_table(struct ctl *ctl, const struct hosts_probe *probe, bool *ret_sound) {
        cleanup_table struct table *table = table_new(columns, ELEMENTSOF(columns));

        for (uint32_t i = 0; i < probe->n; i++)
                add_row(table, &probe->hosts[i], i == 0);
        int r = table_print(table, stdout, &ctl->term, 0, &ctl->error);
        if (r < 0)
                return r;
        (void) putchar('\n');
        *ret_sound = print_problems(probe, &ctl->term);
        print_key(&ctl->term);
        return 0;
}

static int print_json(struct ctl *ctl, const struct hosts_probe *probe, bool *ret_sound) {
        static const char *const grades[] = { [HOST_GOOD] = "ok", [HOST_WAITS] = "waits", [HOST_REFUSED] = "wrong" };
        json_t *hosts = json_array();

        *ret_sound = true;
        for (uint32_t i = 0; i < probe->n; i++) {
                const struct host_probed *h = &probe->hosts[i];
                json_t *line = h->line ? json_incref(h->line) : json_null();
                (void) json_array_append_new(hosts,
                                             json_pack("{s:s,s:b,s:s,s:o,s:I,s:I,s:o}", "host", h->name, "head", i == 0,
                                                       "state", grades[h->verdict.grade], "problem",
                                                       json_text(h->verdict.text), "tcp_tried", (json_int_t) h->n_pairs,
                                                       "tcp_reached", (json_int_t) h->n_linked, "probe", line));
                *ret_sound = *ret_sound && h->verdict.grade == HOST_GOOD && fabs(skew_of(h)) <= SKEW_MAX_SEC;
        }
        return json_print(stdout, json_pack("{s:b,s:o}", "ok", *ret_sound, "hosts", hosts), &ctl->error);
}

int hosts_doctor(struct ctl *ctl, const char *what, bool json) {
        cleanup(subject_clear) struct subject subject = {};
        cleanup_hosts_probe struct hosts_probe *probe = NULL;
        bool sound = false;

        int r = find_subject(ctl, what, &subject);
        if (r == 0) {
                const struct hosts_asked asked = {
                        .names = subject.list.names, .n = subject.list.n, .spec = subject.spec, .ran = subject.ran
                };
                r = hosts_probe_run(&asked, &probe, &ctl->error);
        }
        if (r == 0)
                r = json ? print_json(ctl, probe, &sound) : print_table(ctl, probe, &sound);
        return r < 0 ? command_exit(ctl, r) : sound ? BERTCTL_EXIT_OK : BERTCTL_EXIT_FAILED;
}
