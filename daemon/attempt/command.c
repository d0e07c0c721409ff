/*
 * See command.h. Owns nothing.
 */
#include "daemon/attempt/command.h"

#include <errno.h>

#include "daemon/attempt/open_mpi.h"
#include "daemon/rules/states.h"

static void add_mpirun(const struct command_input *input, struct strv *argv) {
        open_mpi_arguments(input->job->ranks, input->hosts, input->scratch, input->private_shm, argv);
        if (input->hosts == 1)
                return;
        strv_add(argv, "-wdir");
        strv_add(argv, input->job->cwd);
        if (input->job->kind != JOB_COMMAND)
                return;
        strv_add(argv, input->rank);
        strv_add(argv, "rank");
        strv_format(argv, "--ranks=%u", input->job->ranks);
        strv_format(argv, "--hosts=%u", input->hosts);
        strv_add(argv, "--");
}

static void add_trainer(const struct command_input *input, struct strv *argv) {
        strv_add(argv, input->trainer);
        strv_add(argv, job_kind_name(input->job->kind));
        strv_add(argv, input->spec);
        strv_add(argv, "--run-dir");
        strv_add(argv, input->run_dir);
        /* The start checkpoint is in BERTD_RESUME, which the shim may replace. */
        if (input->resume[0] && input->job->resume_abandon)
                strv_add(argv, "--abandon-newer");
}

int command_argv(const struct command_input *input, struct strv *ret, struct error *error) {
        const struct job *job = input->job;

        if (input->hosts > 1 || (job->kind != JOB_COMMAND && job->ranks > 1 && !input->gang))
                add_mpirun(input, ret);
        if (job->kind != JOB_COMMAND)
                add_trainer(input, ret);
        for (const char *w = packed_next(input->command, input->command_size, NULL); w;
             w = packed_next(input->command, input->command_size, w))
                strv_add(ret, w);
        return ret->failed ? error_errno(error, ENOMEM, "command") : 0;
}
