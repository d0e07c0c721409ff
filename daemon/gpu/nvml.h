/*
 * State of the host's GPUs from the NVIDIA driver, by NVML, which is opened at run time (libnvidia-ml.so.1, or the
 * library in BERTD_NVML). A faulty driver can block its caller forever, so a child makes the calls (probe.h).
 */
#ifndef DAEMON_GPU_NVML_H
#define DAEMON_GPU_NVML_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bertd/limits.h"

#define NVML_GPUS_MAX BERTD_GPUS_MAX
#define NVML_NAME_MAX 64
#define NVML_PROCESSES_MAX 8 /* listed per GPU; more are only counted */
#define NVML_USER_MAX 33
#define NVML_NO_INDEX UINT32_MAX
#define NVML_ANSWER_USEC (10 * UINT64_C(1000000)) /* limit for an answer */

struct nvml_process {
        int64_t pid;
        uint64_t used;            /* bytes, 0 = the driver does not know */
        uint64_t job;             /* its job, from its environment, 0 = none */
        bool hidden;              /* its environment cannot be read */
        char user[NVML_USER_MAX]; /* "" = unknown: it has exited, or is in another pid namespace */
};

/* A GPU, or a MIG device, which jobs get like a GPU; the GPU that it is a part of is not given to jobs. */
struct nvml_gpu {
        char uuid[NVML_NAME_MAX];       /* GPU-... or MIG-... */
        char older_name[NVML_NAME_MAX]; /* of a MIG device: MIG-GPU-UUID/GI/CI, which drivers before 470 had; "" else */
        uint32_t index;                 /* the driver's; NVML_NO_INDEX: a MIG device, which has none */
        uint32_t n_processes;
        uint64_t total, used; /* bytes */
        int32_t load;         /* percent of the last moments in which a kernel ran; −1: unknown, as of MIG devices */
        bool is_divided;      /* MIG is on: no job gets it as a whole. Its processes are those of its MIG devices */
        struct nvml_process processes[NVML_PROCESSES_MAX];
};

enum nvml_status {
        NVML_OK,
        NVML_ABSENT, /* no library or no driver: this host has no GPUs to watch */
        NVML_FAILED, /* reason in `text` */
};

struct nvml_answer {
        enum nvml_status status;
        uint32_t n;
        bool lists_mig; /* the driver is recent enough */
        char text[128];
        struct nvml_gpu gpus[NVML_GPUS_MAX];
};

/* Queries in this process; may block. */
void nvml_ask(struct nvml_answer *ret);

/* As probe_start, probe_read and probe. */
int nvml_probe_start(pid_t *ret_pid, int *ret_fd);
int nvml_probe_read(int fd, struct nvml_answer *ret);
int nvml_probe(uint64_t usec, struct nvml_answer *ret);

#endif
