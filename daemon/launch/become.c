/* See become.h. Owns nothing. */
#include "daemon/launch/become.h"

#include <errno.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>

/* Programs that use select() fail above it; others raise it themselves. */
static void lower_files(void) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur <= FD_SETSIZE)
                return;
        files.rlim_cur = FD_SETSIZE;
        (void) setrlimit(RLIMIT_NOFILE, &files);
}

int launcher_become(const struct job *job, const struct job_inputs *inputs, const char **ret_what) {
        *ret_what = "limits";
        lower_files();
        for (uint32_t i = 0; inputs && i < inputs->n_rlimits; i++) {
                struct rlimit limit = { .rlim_cur = inputs->rlimits[i].soft, .rlim_max = inputs->rlimits[i].hard };
                /* Without privileges a limit above ours cannot be had: what we have stays. */
                if (setrlimit((__rlimit_resource_t) inputs->rlimits[i].resource, &limit) < 0 && geteuid() == 0 &&
                    errno != EPERM)
                        return -errno;
        }
        *ret_what = "user and groups";
        if (geteuid() == 0 && job->uid != 0)
                if (initgroups(job->user, job->gid) < 0 || setgid(job->gid) < 0 || setuid(job->uid) < 0)
                        return -errno;
        (void) umask((mode_t) job->umask);
        return 0;
}
