/* bertctl doctor: what on this host would kill a job. Owns the list of checks; runs them, prints them, and counts the failures. */
#include "ctl/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ctl/command.h"
#include "ctl/json.h"

#define NAME_WIDTH 14

static const char *const level_names[DOCTOR_LEVEL_MAX] = { "ok", "warn", "fail" };
static const enum style level_styles[DOCTOR_LEVEL_MAX] = { STYLE_GREEN, STYLE_YELLOW, STYLE_RED };

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *name, const char *cure, const char *format,
                ...) {
        va_list ap;

        if (doctor->n == DOCTOR_CHECKS_MAX)
                return;
        struct doctor_check *check = &doctor->checks[doctor->n++];
        *check = (struct doctor_check) { .level = level, .name = name };
        (void) snprintf(check->cure, sizeof(check->cure), "%s", cure ? cure : "");
        va_start(ap, format);
        (void) vsnprintf(check->found, sizeof(check->found), format, ap);
        va_end(ap);
}

static void print_text(const struct term *term, const struct doctor *doctor) {
        for (size_t i = 0; i < doctor->n; i++) {
                const struct doctor_check *check = &doctor->checks[i];
                (void) printf("%s%-4s%s  %-*s  ", term_style(term, level_styles[check->level]),
                              level_names[check->level], term_plain(term), NAME_WIDTH, check->name);
                (void) text_put(stdout, term, check->found, 0);
                (void) putchar('\n');
                if (!check->cure[0])
                        continue;
                (void) printf("      %-*s  %scure:%s ", NAME_WIDTH, "", term_style(term, STYLE_DIM), term_plain(term));
                (void) text_put(stdout, term, check->cure, 0);
                (void) putchar('\n');
        }
}

static int print_json(const struct doctor *doctor, bool sound, struct error *error) {
        json_t *object = json_object(), *array = json_array();

        for (size_t i = 0; i < doctor->n; i++) {
                const struct doctor_check *check = &doctor->checks[i];
                json_t *item = json_object();
                (void) json_object_set_new(item, "check", json_text(check->name));
                (void) json_object_set_new(item, "level", json_text(level_names[check->level]));
                (void) json_object_set_new(item, "found", json_text(check->found));
                (void) json_object_set_new(item, "cure", json_text(check->cure));
                (void) json_array_append_new(array, item);
        }
        (void) json_object_set_new(object, "ok", json_boolean(sound));
        (void) json_object_set_new(object, "checks", array);
        return json_print(stdout, object, error);
}

static void examine(struct doctor *doctor, bool probe) {
        doctor_check_daemon(doctor);
        doctor_check_host(doctor);
        doctor_check_gpus(doctor);
        doctor_check_folders(doctor);
        if (probe)
                doctor_probe(doctor);
        client_free(doctor->client);
        daemon_info_clear(&doctor->daemon);
}

int command_doctor(struct ctl *ctl, int argc, char **argv) {
        static struct doctor doctor;
        bool json = false, probe = false, sound = true;
        const struct option_spec options[] = {
                { .name = "probe",
                  .kind = OPTION_FLAG,
                  .value = &probe,
                  .help = "prove it with a job: close its terminal, kill bertd, restart it" },
                OPTION_JSON(json),
        };
        struct arguments arguments;
        cleanup_spec struct spec *spec = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (arguments.n == 1 && spec_load(arguments.words[0], &spec, &ctl->error) < 0) {
                ctl->error.exit = BERTCTL_EXIT_USAGE;
                return BERTCTL_EXIT_USAGE;
        }
        doctor = (struct doctor) { .socket = ctl->socket, .spec = spec };
        examine(&doctor, probe);
        for (size_t i = 0; i < doctor.n; i++)
                if (doctor.checks[i].level == DOCTOR_FAIL)
                        sound = false;
        if (!json)
                print_text(&ctl->term, &doctor);
        else if (print_json(&doctor, sound, &ctl->error) < 0)
                return command_exit(ctl, -1);
        return sound ? BERTCTL_EXIT_OK : BERTCTL_EXIT_FAILED;
}
