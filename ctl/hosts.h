/*
 * The probe of a job's hosts: `bertctl lease --probe` on each of them at once, over ssh as bertd-gang calls it, and
 * here without; then TCP between each pair. At most about 25 s, whatever hangs.
 *
 *   cleanup_hosts_probe struct hosts_probe *probe = NULL;
 *   hosts_probe_run(&asked, &probe, &error), then each host has its verdict
 */
#ifndef CTL_HOSTS_H
#define CTL_HOSTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/host_verdict.h"
#include "common/hosts.h"
#include "common/leash.h"
#include "common/spec/spec.h"

#define HOSTS_SAID_MAX 4096 /* of a host's standard error */

/* Borrowed for the call. */
struct hosts_asked {
        char *const *names; /* (n) the first is this host */
        uint32_t n;
        const struct spec *spec; /* whose inputs and resources are looked at; NULL: none */
        const char *folder;      /* in which its command will run; NULL: none */
        const char *program;     /* of the command; NULL: none */
        bool ran;                /* the job has run before */
};

struct host_probed {
        const char *name;
        pid_t pid; /* 0: it has ended */
        int in, out, err;
        struct leash_reader reader;
        char *to_send; /* the rest of it is not sent yet */
        size_t at;
        json_t *line, *refused, *connected; /* its lines of these types; NULL: none */
        uint64_t line_usec;                 /* wall time at which `line` came */
        char said[HOSTS_SAID_MAX + 1];
        size_t n_said;
        int status;
        bool late;
        uint32_t n_pairs, n_linked; /* other hosts that it was to reach, and those that it has reached */
        struct host_verdict verdict;
};

struct hosts_probe {
        uint32_t n;
        struct host_probed hosts[];
};

/* Only without memory or processes it fails; hosts that cannot be reached have a verdict. */
int hosts_probe_run(const struct hosts_asked *asked, struct hosts_probe **ret, struct error *error);
void hosts_probe_free(struct hosts_probe *probe);
static inline void cleanup_hosts_probe_p(struct hosts_probe **probe) { hosts_probe_free(*probe); }
#define cleanup_hosts_probe cleanup(cleanup_hosts_probe_p)

/* Before a job is submitted: warns on standard error of hosts that it will wait for. Exit 1, and the reason, if one has
 * to be cured first. The spec's first host is this one. Nothing to do for a job of one host. */
int hosts_check(const struct spec *spec, struct error *error);

/* bertctl doctor --hosts: a spec's path, a job or a list of hosts. */
struct ctl;
int hosts_doctor(struct ctl *ctl, const char *what, bool json);

#endif
