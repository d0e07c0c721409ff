/* bertctl doctor: what on this host would kill a job. Runs the checks, prints them, and counts the failures. */
#include "ctl/doctor.h"

#include "ctl/command.h"
#include "ctl/hosts.h"

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
        const char *hosts = NULL;
        const struct option_spec options[] = {
                { .name = "probe",
                  .kind = OPTION_FLAG,
                  .value = &probe,
                  .help = "prove it with a job: close its terminal, kill bertd, restart it" },
                { .name = "hosts",
                  .kind = OPTION_STRING,
                  .value = &hosts,
                  .argument = "SPEC|JOB|HOST,...",
                  .help = "check the hosts of a spec or job instead, or these: over ssh, as a job calls them" },
                OPTION_JSON(json),
        };
        struct arguments arguments;
        cleanup_spec struct spec *spec = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (hosts && (probe || arguments.n > 0))
                return command_exit(ctl, error_input(&ctl->error, BERTCTL_EXIT_USAGE,
                                                     "doctor: --hosts checks other hosts; leave out %s",
                                                     probe ? "--probe" : arguments.words[0]));
        if (hosts)
                return hosts_doctor(ctl, hosts, json);
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
                doctor_print(&doctor, &ctl->term);
        else if (doctor_print_json(&doctor, sound, &ctl->error) < 0)
                return command_exit(ctl, -1);
        return sound ? BERTCTL_EXIT_OK : BERTCTL_EXIT_FAILED;
}
