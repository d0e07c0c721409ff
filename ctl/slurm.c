/* See slurm.h. Owns nothing. Invariant: a variable that is not what Slurm sets is as if it were missing. */
#include "ctl/slurm.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/executable.h"
#include "common/hosts.h"
#include "common/parse.h"

#define SCONTROL_USEC (30 * USEC_PER_SEC)
#define PAUSE_NSEC 20000000

/* 0: not set, or not a number. */
static uint64_t number_of(const char *name) {
        const char *text = getenv(name);
        uint64_t number;

        return text && parse_u64(text, 0, UINT32_MAX, &number) == 0 ? number : 0;
}

static void read_job(struct slurm *ret) {
        uint64_t job = number_of("SLURM_JOB_ID"), array = number_of("SLURM_ARRAY_JOB_ID");
        bool task = array > 0 && getenv("SLURM_ARRAY_TASK_ID");

        if (job > 0 && task)
                (void) snprintf(ret->job, sizeof(ret->job), "%" PRIu64 "_%" PRIu64, array,
                                number_of("SLURM_ARRAY_TASK_ID"));
        else if (job > 0)
                (void) snprintf(ret->job, sizeof(ret->job), "%" PRIu64, job);
}

/* A comma makes a list of one name ("0,"), which would be a number. */
static void read_gpus(struct slurm *ret) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        uint64_t n = number_of("SLURM_GPUS_ON_NODE");

        if (visible && (!visible[0] || strcmp(visible, "NoDevFiles") == 0 || strcmp(visible, "-1") == 0))
                (void) snprintf(ret->gpus, sizeof(ret->gpus), "0");
        else if (visible && strlen(visible) < sizeof(ret->gpus) - 1)
                (void) snprintf(ret->gpus, sizeof(ret->gpus), "%s,", visible);
        else if (n > 0)
                (void) snprintf(ret->gpus, sizeof(ret->gpus), "%" PRIu64, n);
}

int slurm_read(struct slurm *ret, struct error *error) {
        uint64_t cpus = number_of("SLURM_CPUS_ON_NODE");

        *ret = (struct slurm) { .nodes = 1 };
        read_job(ret);
        read_gpus(ret);
        if (!ret->job[0])
                return 0;
        if (number_of("SLURM_PROCID") > 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "run: this is task %" PRIu64 " of a step; run it once, from the batch script: "
                                   "bertd starts the ranks",
                                   number_of("SLURM_PROCID"));
        if (cpus > 0)
                (void) snprintf(ret->cpus, sizeof(ret->cpus), "%" PRIu64, cpus);
        ret->nodes = (uint32_t) MAX(number_of("SLURM_JOB_NUM_NODES"), UINT64_C(1));
        ret->restarts = number_of("SLURM_RESTART_COUNT");
        return 0;
}

static void clear_hosts(struct spec_resources *r) {
        for (uint32_t i = 0; i < r->n_hosts; i++)
                free(r->hosts[i]);
        free(r->hosts);
        r->hosts = NULL;
        r->n_hosts = r->use = 0;
}

/* The batch script runs on the first one, unless Slurm names otherwise. */
static void put_first(struct host_list *list, const char *name) {
        for (uint32_t i = 1; name && i < list->n; i++)
                if (host_is(list->names[i], name)) {
                        char *own = list->names[i];
                        memmove(&list->names[1], &list->names[0], i * sizeof(list->names[0]));
                        list->names[0] = own;
                        return;
                }
}

static int take_list(struct spec_resources *r, const char *nodes, struct error *error) {
        cleanup_hosts struct host_list list = {};

        int code = hosts_add(&list, nodes, error);
        if (code < 0)
                return error_prefix(error, "SLURM_JOB_NODELIST");
        put_first(&list, getenv("SLURMD_NODENAME"));
        clear_hosts(r);
        r->hosts = calloc(list.n + 1, sizeof(*r->hosts));
        if (!r->hosts)
                return error_errno(error, ENOMEM, "hosts");
        memcpy(r->hosts, list.names, list.n * sizeof(*r->hosts));
        r->n_hosts = list.n;
        list = (struct host_list) {};
        return 0;
}

int slurm_take_spec(const struct slurm *slurm, struct spec *spec, struct error *error) {
        const char *nodes = getenv("SLURM_JOB_NODELIST");
        struct spec_resources *r = &spec->resources;
        bool several = spec->kind != JOB_COMMAND || r->n_hosts > 1;

        if (!slurm->job[0] && r->n_hosts > 1)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "run: hosts: %u hosts need a Slurm allocation; without Slurm: `bertctl submit`",
                                   r->n_hosts);
        if (slurm->job[0]) {
                r->memory = 0;
                r->cpus = 0;
        }
        if (slurm->nodes > 1 && several && nodes)
                return take_list(r, nodes, error);
        clear_hosts(r);
        return 0;
}

int slurm_check_requeue(const struct slurm *slurm, struct error *error) {
        cleanup_free char *path = NULL;

        if (!slurm->job[0])
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--requeue: not in a Slurm job (SLURM_JOB_ID is not set); leave the option out");
        if (executable_find("scontrol", &path) < 0)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "--requeue: scontrol is not in PATH; add the folder of Slurm's programs to PATH, or "
                                   "leave the option out");
        return 0;
}

/* Slurm may end this very process meanwhile. */
static int await(pid_t pid, int *ret_status) {
        const uint64_t deadline = clock_monotonic_usec() + SCONTROL_USEC;

        while (waitpid(pid, ret_status, WNOHANG) == 0) {
                if (clock_monotonic_usec() >= deadline) {
                        (void) kill(pid, SIGKILL);
                        (void) waitpid(pid, ret_status, 0);
                        return -ETIMEDOUT;
                }
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = PAUSE_NSEC }, NULL);
        }
        return 0;
}

int slurm_requeue(const struct slurm *slurm, struct error *error) {
        int status = 0;

        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "fork");
        if (pid == 0) {
                (void) execlp("scontrol", "scontrol", "requeue", slurm->job, (char *) NULL);
                _exit(127);
        }
        int r = await(pid, &status);
        if (r < 0)
                return error_input(error, BERTCTL_EXIT_FAILED, "scontrol requeue %s: did not end within 30 s",
                                   slurm->job);
        if (status != 0)
                return error_input(error, BERTCTL_EXIT_FAILED,
                                   "scontrol requeue %s: failed; unless Slurm has requeued the job itself, submit it "
                                   "with --requeue",
                                   slurm->job);
        return 0;
}
