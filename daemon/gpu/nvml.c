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

struct library {
        void *handle;
        nvmlReturn_t (*init)(void);
        nvmlReturn_t (*shutdown)(void);
        nvmlReturn_t (*count)(unsigned int *);
        nvmlReturn_t (*handle_by_index)(unsigned int, nvmlDevice_t *);
        nvmlReturn_t (*uuid)(nvmlDevice_t, char *, unsigned int);
        nvmlReturn_t (*memory)(nvmlDevice_t, struct nvml_memory *);
        nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, struct nvml_process_info *);
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

/* Skips a GPU that cannot be queried: bertd gives no job a GPU that is not listed. */
static void ask_gpu(const struct library *library, unsigned int index, struct nvml_answer *answer) {
        nvmlDevice_t device;
        struct nvml_memory memory;
        struct nvml_gpu *gpu = &answer->gpus[answer->n];

        *gpu = (struct nvml_gpu) { .index = index };
        if (library->handle_by_index(index, &device) != NVML_SUCCESS ||
            library->uuid(device, gpu->uuid, NVML_NAME_MAX) != NVML_SUCCESS ||
            library->memory(device, &memory) != NVML_SUCCESS || ask_processes(library, device, gpu) != NVML_SUCCESS)
                return;
        gpu->uuid[NVML_NAME_MAX - 1] = '\0';
        gpu->total = memory.total;
        gpu->used = memory.used;
        answer->n++;
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
