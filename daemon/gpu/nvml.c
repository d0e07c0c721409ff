/*
 * See nvml.h. Role: declares the few NVML types and functions that are used, so that the build does not need CUDA.
 * Owns nothing between calls. Invariant: only a child of bertd calls into the library.
 */
#include "daemon/gpu/nvml.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/proc_files.h"
#include "daemon/base/nss.h"
#include "daemon/base/probe.h"

#define LISTED_MAX 256 /* processes queried per GPU */
#define ENVIRONMENT_MAX (1 << 20)
#define NAMES_USEC (NVML_ANSWER_USEC / 5) /* for the names of all users */

/* Names and values of nvml.h, the driver's stable interface. */
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef int nvmlReturn_t;
enum { NVML_SUCCESS = 0, NVML_ERROR_DRIVER_NOT_LOADED = 9, NVML_ERROR_LIBRARY_NOT_FOUND = 12 };
struct nvml_memory {
        unsigned long long total, free, used;
};
struct nvml_process_info {
        unsigned int pid;
        unsigned long long used; /* all ones: unknown */
        unsigned int gpu_instance, compute_instance;
};

struct nvml_utilization {
        unsigned int gpu, memory; /* percent */
};

struct library {
        void *handle;
        nvmlReturn_t (*init)(void);
        nvmlReturn_t (*shutdown)(void);
        nvmlReturn_t (*count)(unsigned int *);
        nvmlReturn_t (*handle_by_index)(unsigned int, nvmlDevice_t *);
        nvmlReturn_t (*uuid)(nvmlDevice_t, char *, unsigned int);
        nvmlReturn_t (*memory)(nvmlDevice_t, struct nvml_memory *);
        nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, struct nvml_process_info *);
        /* NULL: an older driver */
        nvmlReturn_t (*utilization)(nvmlDevice_t, struct nvml_utilization *);
        nvmlReturn_t (*mig_mode)(nvmlDevice_t, unsigned int *, unsigned int *);
        nvmlReturn_t (*mig_count)(nvmlDevice_t, unsigned int *);
        nvmlReturn_t (*mig_device)(nvmlDevice_t, unsigned int, nvmlDevice_t *);
        nvmlReturn_t (*gpu_instance)(nvmlDevice_t, unsigned int *);
        nvmlReturn_t (*compute_instance)(nvmlDevice_t, unsigned int *);
        const char *(*error_string)(nvmlReturn_t);
};

static void find(const struct library *library, const char *name, void *ret_function) {
        void *symbol = dlsym(library->handle, name);
        memcpy(ret_function, &symbol, sizeof(symbol));
}

static bool open_library(struct library *library) {
        const char *name = secure_getenv("BERTD_NVML");

        *library = (struct library) { .handle = dlopen(name && name[0] ? name : "libnvidia-ml.so.1", RTLD_NOW) };
        if (!library->handle)
                return false;
        find(library, "nvmlInit_v2", &library->init);
        find(library, "nvmlShutdown", &library->shutdown);
        find(library, "nvmlDeviceGetCount_v2", &library->count);
        find(library, "nvmlDeviceGetHandleByIndex_v2", &library->handle_by_index);
        find(library, "nvmlDeviceGetUUID", &library->uuid);
        find(library, "nvmlDeviceGetMemoryInfo", &library->memory);
        find(library, "nvmlDeviceGetComputeRunningProcesses_v3", &library->processes);
        if (!library->processes) /* drivers before 510; the same record */
                find(library, "nvmlDeviceGetComputeRunningProcesses_v2", &library->processes);
        find(library, "nvmlErrorString", &library->error_string);
        find(library, "nvmlDeviceGetUtilizationRates", &library->utilization);
        find(library, "nvmlDeviceGetMigMode", &library->mig_mode);
        find(library, "nvmlDeviceGetMaxMigDeviceCount", &library->mig_count);
        find(library, "nvmlDeviceGetMigDeviceHandleByIndex", &library->mig_device);
        find(library, "nvmlDeviceGetGpuInstanceId", &library->gpu_instance);
        find(library, "nvmlDeviceGetComputeInstanceId", &library->compute_instance);
        return library->init && library->shutdown && library->count && library->handle_by_index && library->uuid &&
               library->memory && library->processes && library->error_string;
}

/* The job that the process claims to belong to; a false claim gains nothing: its GPU is not given away in either case.
 */
static void read_job(struct nvml_process *process) {
        cleanup_free char *text = NULL;
        ssize_t size = proc_read_file((pid_t) process->pid, "environ", ENVIRONMENT_MAX, &text);
        const char *id = size > 0 ? proc_variable(text, size, "BERTD_JOB_ID") : NULL;

        process->hidden = size <= 0;
        if (id)
                (void) sscanf(id, "%lu", &process->job);
}

/* The user database may hang: after its share of the time limit, use numbers. */
static void name_user(uid_t uid, char name[NVML_USER_MAX]) {
        static uint64_t left = NAMES_USEC;
        uint64_t begin = clock_boottime_usec();

        nss_user_name(uid, left, name, NVML_USER_MAX);
        left -= MIN(left, clock_boottime_usec() - begin);
}

static void read_process(struct nvml_process *process) {
        char path[64];
        struct stat st;

        (void) snprintf(path, sizeof(path), "/proc/%lld", (long long) process->pid);
        if (stat(path, &st) < 0)
                return;
        name_user(st.st_uid, process->user);
        read_job(process);
}

static nvmlReturn_t ask_processes(const struct library *library, nvmlDevice_t device, struct nvml_gpu *gpu) {
        static struct nvml_process_info list[LISTED_MAX];
        unsigned int n = LISTED_MAX;

        nvmlReturn_t r = library->processes(device, &n, list);
        if (r != NVML_SUCCESS)
                return r;
        gpu->n_processes = n;
        for (unsigned int i = 0; i < n && i < NVML_PROCESSES_MAX; i++) {
                gpu->processes[i] = (struct nvml_process) { .pid = list[i].pid,
                                                            .used = list[i].used == ~0ULL ? 0 : list[i].used,
                                                            .hidden = true };
                read_process(&gpu->processes[i]);
        }
        return r;
}

static bool lists_mig(const struct library *library) {
        return library->mig_mode && library->mig_count && library->mig_device && library->gpu_instance &&
               library->compute_instance;
}

static int32_t ask_load(const struct library *library, nvmlDevice_t device) {
        struct nvml_utilization utilization;

        if (!library->utilization || library->utilization(device, &utilization) != NVML_SUCCESS)
                return -1;
        return (int32_t) MIN(utilization.gpu, 100u);
}

static bool ask_uuid(const struct library *library, nvmlDevice_t device, struct nvml_gpu *gpu) {
        if (library->uuid(device, gpu->uuid, NVML_NAME_MAX) != NVML_SUCCESS)
                return false;
        gpu->uuid[NVML_NAME_MAX - 1] = '\0';
        return true;
}

static bool ask_use(const struct library *library, nvmlDevice_t device, struct nvml_gpu *gpu) {
        struct nvml_memory memory;

        if (library->memory(device, &memory) != NVML_SUCCESS || ask_processes(library, device, gpu) != NVML_SUCCESS)
                return false;
        gpu->total = memory.total;
        gpu->used = memory.used;
        gpu->load = ask_load(library, device);
        return true;
}

static void write_older_name(const char *parent, unsigned int gi, unsigned int ci, char name[NVML_NAME_MAX]) {
        char uuid[NVML_NAME_MAX];

        (void) snprintf(uuid, sizeof(uuid), "%s", parent);
        (void) snprintf(name, NVML_NAME_MAX, "MIG-%.40s/%u/%u", uuid, gi, ci);
}

static bool ask_mig_device(const struct library *library, nvmlDevice_t device, const char *parent,
                           struct nvml_gpu *gpu) {
        unsigned int gi, ci;

        *gpu = (struct nvml_gpu) { .index = NVML_NO_INDEX };
        if (!ask_uuid(library, device, gpu) || !ask_use(library, device, gpu))
                return false;
        gpu->load = -1; /* the driver has no figure for a part of a GPU */
        if (library->gpu_instance(device, &gi) == NVML_SUCCESS &&
            library->compute_instance(device, &ci) == NVML_SUCCESS)
                write_older_name(parent, gi, ci, gpu->older_name);
        return true;
}

/* Behind the GPU that they are parts of. */
static void ask_mig_devices(const struct library *library, nvmlDevice_t device, struct nvml_answer *answer) {
        const char *parent = answer->gpus[answer->n - 1].uuid;
        unsigned int n = 0;
        nvmlDevice_t part;

        if (library->mig_count(device, &n) != NVML_SUCCESS)
                return;
        for (unsigned int i = 0; i < n && answer->n < NVML_GPUS_MAX; i++)
                if (library->mig_device(device, i, &part) == NVML_SUCCESS &&
                    ask_mig_device(library, part, parent, &answer->gpus[answer->n]))
                        answer->n++;
}

static bool is_divided(const struct library *library, nvmlDevice_t device) {
        unsigned int now = 0, after_reset;

        return lists_mig(library) && library->mig_mode(device, &now, &after_reset) == NVML_SUCCESS && now == 1;
}

/* Skips a GPU that cannot be queried: bertd gives no job a GPU that is not listed. */
static void ask_gpu(const struct library *library, unsigned int index, struct nvml_answer *answer) {
        struct nvml_gpu *gpu = &answer->gpus[answer->n];
        nvmlDevice_t device;

        *gpu = (struct nvml_gpu) { .index = index };
        if (library->handle_by_index(index, &device) != NVML_SUCCESS || !ask_uuid(library, device, gpu))
                return;
        gpu->is_divided = is_divided(library, device); /* its use as a whole is then root's to know */
        if (!gpu->is_divided && !ask_use(library, device, gpu))
                return;
        answer->n++;
        if (gpu->is_divided)
                ask_mig_devices(library, device, answer);
}

void nvml_ask(struct nvml_answer *ret) {
        struct library library;
        unsigned int n = 0;

        *ret = (struct nvml_answer) { .status = NVML_ABSENT };
        if (!open_library(&library))
                return;
        nvmlReturn_t r = library.init();
        if (r == NVML_SUCCESS)
                r = library.count(&n);
        if (r == NVML_ERROR_DRIVER_NOT_LOADED || r == NVML_ERROR_LIBRARY_NOT_FOUND)
                return;
        if (r != NVML_SUCCESS) {
                ret->status = NVML_FAILED;
                (void) snprintf(ret->text, sizeof(ret->text), "%.120s", library.error_string(r));
                return;
        }
        ret->lists_mig = lists_mig(&library);
        for (unsigned int i = 0; i < n && ret->n < NVML_GPUS_MAX; i++)
                ask_gpu(&library, i, ret);
        ret->status = n > 0 ? NVML_OK : NVML_ABSENT;
        (void) library.shutdown();
}

static void ask(const void *question, void *answer) { nvml_ask(answer); }

int nvml_probe_start(pid_t *ret_pid, int *ret_fd) {
        static_assert(sizeof(struct nvml_answer) <= PROBE_ANSWER_MAX, "an answer fits into a pipe");

        return probe_start(ask, NULL, sizeof(struct nvml_answer), ret_pid, ret_fd);
}

static int check(int r, struct nvml_answer *ret) {
        if (r < 0)
                return r;
        ret->text[sizeof(ret->text) - 1] = '\0';
        return ret->n <= NVML_GPUS_MAX ? 0 : -EPIPE;
}

int nvml_probe_read(int fd, struct nvml_answer *ret) { return check(probe_read(fd, ret, sizeof(*ret)), ret); }

int nvml_probe(uint64_t usec, struct nvml_answer *ret) { return check(probe(ask, NULL, usec, ret, sizeof(*ret)), ret); }
