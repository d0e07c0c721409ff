/*
 * What `bertctl doctor` finds: a list of checks, each with a level, what was found, and the cure as a command. The
 * checks are in doctor_host.c (systemd, sessions, limits, devices), doctor_jobs.c (bertd, its socket and folders,
 * space) and doctor_probe.c.
 */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/spec/spec.h"
#include "ctl/client.h"
#include "ctl/term.h"

#define DOCTOR_CHECKS_MAX 64
#define DOCTOR_TEXT_MAX 512

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL, DOCTOR_LEVEL_MAX };

struct doctor_check {
        enum doctor_level level;
        const char *name; /* of static storage */
        char found[DOCTOR_TEXT_MAX], cure[DOCTOR_TEXT_MAX];
};

/* What the checks know of each other. */
struct doctor {
        size_t n;
        struct doctor_check checks[DOCTOR_CHECKS_MAX];

        const char *socket;      /* --socket, NULL = not given */
        const struct spec *spec; /* the job that is to run, NULL = none */
        struct client *client;   /* NULL: no daemon answers */
        struct daemon_info daemon;
        uid_t daemon_uid; /* whose it is */
        bool system;      /* it is root's: jobs are nobody's session */
};

/* Appends a check; cure NULL: none is needed or known. */
void doctor_say(struct doctor *doctor, enum doctor_level level, const char *name, const char *cure, const char *format,
                ...) __attribute__((format(printf, 5, 6)));

void doctor_print(const struct doctor *doctor, const struct term *term);

/* sound: no check has failed. Returns −errno where it cannot be written. */
int doctor_print_json(const struct doctor *doctor, bool sound, struct error *error);

void doctor_check_daemon(struct doctor *doctor); /* first: it fills client and daemon */
void doctor_check_folders(struct doctor *doctor);
void doctor_check_gpus(struct doctor *doctor);
void doctor_check_host(struct doctor *doctor);

/* Proves with a test job that jobs survive a closed terminal and the death of bertd. At most about 30 s. */
void doctor_probe(struct doctor *doctor);

#endif
