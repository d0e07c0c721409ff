/*
 * See command.h. Owns nothing.
 * Invariants: nothing of bertd's own environment reaches a job; BERTD_* variables are the daemon's, whatever was submitted.
 */
#include "daemon/attempt/command.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/environment.h"
#include "daemon/rules/states.h"

/* --bind-to none: the default binding puts every one-rank job on core 0. The session folder and the shared-memory segments are
 * the attempt's own, so that what kill -9 leaves behind can be found and removed. */
static void add_mpirun(const struct command_input *input, struct strv *argv) {
        strv_add(argv, "mpirun");
        strv_add(argv, "-n");
        strv_format(argv, "%u", input->job->ranks);
        strv_add(argv, "--bind-to");
        strv_add(argv, "none");
        strv_add(argv, "--oversubscribe");
        if (!input->scratch)
                return;
        strv_add(argv, "--mca");
        strv_add(argv, "orte_tmpdir_base");
        strv_add(argv, input->scratch);
        if (!input->private_shm) {
                strv_add(argv, "--mca");
                strv_add(argv, "btl_vader_backing_directory");
                strv_add(argv, input->scratch);
        }
}

static void add_trainer(const struct command_input *input, struct strv *argv) {
        if (input->job->ranks > 1)
                add_mpirun(input, argv);
        strv_add(argv, input->trainer);
        strv_add(argv, job_kind_name(input->job->kind));
        strv_add(argv, input->spec);
        strv_add(argv, "--run-dir");
        strv_add(argv, input->run_dir);
        /* Where it begins is BERTD_RESUME, the last word on which is the shim's. */
        if (input->resume[0] && input->job->resume_abandon)
                strv_add(argv, "--abandon-newer");
}

int command_argv(const struct command_input *input, struct strv *ret, struct error *error) {
        if (input->job->kind != JOB_COMMAND)
                add_trainer(input, ret);
        for (const char *w = packed_next(input->command, input->command_size, NULL); w;
             w = packed_next(input->command, input->command_size, w))
                strv_add(ret, w);
        return ret->failed ? error_errno(error, ENOMEM, "command") : 0;
}

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

/* What a login would have set, where the submitter sent nothing; HOME is a submission's own (submission_add_home). */
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

int command_environment(const struct command_input *input, struct strv *ret, struct error *error) {
        const struct job *job = input->job;

        for (const char *w = packed_next(input->environment, input->environment_size, NULL); w;
             w = packed_next(input->environment, input->environment_size, w))
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
        if (input->visible_gpus)
                set(ret, "CUDA_VISIBLE_DEVICES", input->visible_gpus);
        return ret->failed ? error_errno(error, ENOMEM, "environment") : 0;
}
