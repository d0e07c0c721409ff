/*
 * A stand-in for libnvidia-ml.so.1 (BERTD_NVML names it to bertd). The file that FAKE_NVML names says, line by line,
 * what there is:
 *
 *   gpu UUID TOTAL_MIB USED_MIB [PID:MIB ...]
 *   load PERCENT       of the last gpu
 *   mig UUID TOTAL_MIB USED_MIB [PID:MIB ...]   a MIG device of the last gpu, whose instances are numbered from 7
 *   divided            MIG is on for the last gpu, which "mig" also says
 *   delay SECONDS      that nvmlInit_v2 takes
 *   error CODE         that nvmlInit_v2 returns
 *   crash              nvmlInit_v2 ends the process
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPUS 16
#define PROCESSES 16
#define MIB (1ULL << 20)

enum { NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6 };

struct memory {
        unsigned long long total, free, used;
};
struct process {
        unsigned int pid;
        unsigned long long used;
        unsigned int gpu_instance, compute_instance;
};
struct utilization {
        unsigned int gpu, memory;
};
struct gpu {
        char uuid[64];
        struct memory memory;
        unsigned int n, load;
        struct process processes[PROCESSES];
        struct gpu *mig[PROCESSES];
        unsigned int n_mig, instance; /* instance: of a MIG device */
        int divided;
};

static struct gpu gpus[GPUS];
static unsigned int n_gpus;

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned int *n);
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **ret);
int nvmlDeviceGetUUID(const struct gpu *gpu, char *uuid, unsigned int size);
int nvmlDeviceGetMemoryInfo(const struct gpu *gpu, struct memory *ret);
int nvmlDeviceGetComputeRunningProcesses_v3(const struct gpu *gpu, unsigned int *n, struct process *ret);
int nvmlDeviceGetUtilizationRates(const struct gpu *gpu, struct utilization *ret);
int nvmlDeviceGetMigMode(const struct gpu *gpu, unsigned int *now, unsigned int *after_reset);
int nvmlDeviceGetMaxMigDeviceCount(const struct gpu *gpu, unsigned int *n);
int nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *gpu, unsigned int i, struct gpu **ret);
int nvmlDeviceGetGpuInstanceId(const struct gpu *gpu, unsigned int *id);
int nvmlDeviceGetComputeInstanceId(const struct gpu *gpu, unsigned int *id);
const char *nvmlErrorString(int code);

static struct gpu *read_gpu(const char *kind, const char *line) {
        struct gpu *gpu = &gpus[n_gpus];
        unsigned long long total, used, mib;
        unsigned int pid;
        char word[8] = "";
        int at = 0, more;

        if (n_gpus == GPUS || sscanf(line, "%7s %63s %llu %llu%n", word, gpu->uuid, &total, &used, &at) != 4 ||
            strcmp(word, kind) != 0)
                return NULL;
        gpu->memory = (struct memory) { total * MIB, (total - used) * MIB, used * MIB };
        for (line += at; gpu->n < PROCESSES && sscanf(line, " %u:%llu%n", &pid, &mib, &more) == 2; line += more)
                gpu->processes[gpu->n++] = (struct process) { .pid = pid, .used = mib * MIB };
        n_gpus++;
        return gpu;
}

static void read_line(const char *line) {
        static struct gpu *last;
        struct gpu *gpu = read_gpu("gpu", line), *mig = read_gpu("mig", line);

        if (gpu)
                last = gpu;
        if (n_gpus == 0 || !last)
                return;
        (void) sscanf(line, "load %u", &last->load);
        if (mig) {
                mig->instance = 7 + last->n_mig;
                last->mig[last->n_mig++] = mig;
        }
        last->divided |= mig || strncmp(line, "divided", 7) == 0;
}

int nvmlInit_v2(void) {
        char line[512];
        unsigned int seconds = 0;
        int code = 0;
        const char *path = getenv("FAKE_NVML");
        FILE *file = path ? fopen(path, "re") : NULL;

        if (!file)
                return 9; /* the driver is not loaded */
        n_gpus = 0;
        memset(gpus, 0, sizeof(gpus));
        while (fgets(line, sizeof(line), file)) {
                (void) sscanf(line, "delay %u", &seconds);
                (void) sscanf(line, "error %d", &code);
                if (strncmp(line, "crash", 5) == 0)
                        abort();
                read_line(line);
        }
        (void) fclose(file);
        (void) sleep(seconds);
        return code;
}

int nvmlShutdown(void) { return 0; }

/* MIG devices are not counted. */
static struct gpu *at_index(unsigned int index) {
        for (unsigned int i = 0; i < n_gpus; i++)
                if (gpus[i].instance == 0 && index-- == 0)
                        return &gpus[i];
        return NULL;
}

int nvmlDeviceGetCount_v2(unsigned int *n) {
        for (*n = 0; at_index(*n);)
                ++*n;
        return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **ret) {
        *ret = at_index(index);
        return *ret ? 0 : 2;
}

int nvmlDeviceGetUUID(const struct gpu *gpu, char *uuid, unsigned int size) {
        (void) snprintf(uuid, size, "%s", gpu->uuid);
        return 0;
}

/* Of a GPU as a whole that is divided only root may know. */
int nvmlDeviceGetMemoryInfo(const struct gpu *gpu, struct memory *ret) {
        *ret = gpu->memory;
        return gpu->divided ? NO_PERMISSION : 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const struct gpu *gpu, unsigned int *n, struct process *ret) {
        if (gpu->divided)
                return NO_PERMISSION;
        if (*n < gpu->n)
                return 7; /* too small */
        memcpy(ret, gpu->processes, gpu->n * sizeof(*ret));
        *n = gpu->n;
        return 0;
}

int nvmlDeviceGetUtilizationRates(const struct gpu *gpu, struct utilization *ret) {
        *ret = (struct utilization) { .gpu = gpu->load };
        return gpu->divided || gpu->instance > 0 ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetMigMode(const struct gpu *gpu, unsigned int *now, unsigned int *after_reset) {
        *now = *after_reset = gpu->divided;
        return 0;
}

int nvmlDeviceGetMaxMigDeviceCount(const struct gpu *gpu, unsigned int *n) {
        *n = 7;
        return 0;
}

/* The first place is empty, as after a MIG device was destroyed. */
int nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *gpu, unsigned int i, struct gpu **ret) {
        *ret = i > 0 && i <= gpu->n_mig ? gpu->mig[i - 1] : NULL;
        return *ret ? 0 : NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(const struct gpu *gpu, unsigned int *id) {
        *id = gpu->instance;
        return 0;
}

int nvmlDeviceGetComputeInstanceId(const struct gpu *gpu, unsigned int *id) {
        *id = 0;
        return 0;
}

const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "Unknown Error"; }
