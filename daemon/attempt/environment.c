/*
 * See environment.h. Owns nothing.
 * Invariants: no variable of bertd's environment reaches a job; BERTD_* variables come from the daemon, whatever was
 * submitted.
 */
#include "daemon/attempt/environment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/environment.h"

static void set(struct strv *environment, const char *name, const char *value) {
        size_t length = strlen(name);

        for (size_t i = 0; i < environment->n; i++)
                if (strncmp(environment->words[i], name, length) == 0 && environment->words[i][length] == '=') {
                        free(environment->words[i]);
                        memmove(&environment->words[i], &environment->words[i + 1],
                                (environment->n - i) * sizeof(char *));
                        environment->n--;
                        break;
                }
        strv_format(environment, "%s=%s", name, value);
}

/* The variables of a login, if the submitter sent none; HOME is in the submission (submission_add_home). */
static void add_login_defaults(const struct job *job, struct strv *environment) {
        if (!strv_environment(environment, "PATH"))
                strv_add(environment, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if (!strv_environment(environment, "USER"))
                strv_format(environment, "USER=%s", job->user);
        if (!strv_environment(environment, "LOGNAME"))
                strv_format(environment, "LOGNAME=%s", job->user);
}

static void set_number(struct strv *environment, const char *name, uint64_t value) {
        char text[32];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        set(environment, name, text);
}

/* CUDA numbers the fastest GPU first, the driver, which bertd asks which of them are free, by their addresses. */
static bool has_number(const char *gpus) {
        for (const char *name = gpus; name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL)
                if (name[0] >= '0' && name[0] <= '9')
                        return true;
        return false;
}

int attempt_environment(const struct environment_input *input, struct strv *ret, struct error *error) {
        const struct job *job = input->job;

        for (const char *w = packed_next(input->submitted, input->submitted_size, NULL); w;
             w = packed_next(input->submitted, input->submitted_size, w))
                if (variable_owner(w) == VARIABLE_JOB)
                        strv_add(ret, w);
        add_login_defaults(job, ret);
        set_number(ret, BERTD_ENV_JOB_ID, job->id);
        set_number(ret, BERTD_ENV_ATTEMPT, job->attempt.number);
        set(ret, BERTD_ENV_RUN_DIR, input->run_dir);
        set(ret, BERTD_ENV_RESUME, input->resume);
        set(ret, BERTD_ENV_NONCE, job->attempt.nonce);
        if (job->kind != JOB_COMMAND)
                set_number(ret, "OMP_NUM_THREADS", job->threads);
        if (job->uid == 0) {
                set(ret, "OMPI_ALLOW_RUN_AS_ROOT", "1");
                set(ret, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        }
        if (input->hosts && job->kind == JOB_COMMAND && !strv_environment(ret, "MASTER_ADDR"))
                strv_format(ret, "MASTER_ADDR=%.*s", (int) strcspn(input->hosts, ","), input->hosts);
        if (input->visible_gpus)
                set(ret, "CUDA_VISIBLE_DEVICES", input->visible_gpus);
        if (input->visible_gpus && has_number(input->visible_gpus))
                set(ret, "CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        return ret->failed ? error_errno(error, ENOMEM, "environment") : 0;
}
