/*
 * A stand-in for libnvidia-ml.so.1 (BERTD_NVML names it to bertd). The file that FAKE_NVML names says, line by line,
 * what there is:
 *
 *   gpu UUID TOTAL_MIB USED_MIB [PID:MIB ...]
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

struct memory {
        unsigned long long total, free, used;
};
struct process {
        unsigned int pid;
        unsigned long long used;
        unsigned int gpu_instance, compute_instance;
};
struct gpu {
        char uuid[64];
        struct memory memory;
        unsigned int n;
        struct process processes[PROCESSES];
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
const char *nvmlErrorString(int code);

static void read_gpu(const char *line) {
        struct gpu *gpu = &gpus[n_gpus];
        unsigned long long total, used, mib;
        unsigned int pid;
        int at = 0, more;

        if (n_gpus == GPUS || sscanf(line, "gpu %63s %llu %llu%n", gpu->uuid, &total, &used, &at) != 3)
                return;
        gpu->memory = (struct memory) { total * MIB, (total - used) * MIB, used * MIB };
        for (line += at; gpu->n < PROCESSES && sscanf(line, " %u:%llu%n", &pid, &mib, &more) == 2; line += more)
                gpu->processes[gpu->n++] = (struct process) { .pid = pid, .used = mib * MIB };
        n_gpus++;
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
                read_gpu(line);
        }
        (void) fclose(file);
        (void) sleep(seconds);
        return code;
}

int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned int *n) {
        *n = n_gpus;
        return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **ret) {
        *ret = &gpus[index];
        return index < n_gpus ? 0 : 2;
}

int nvmlDeviceGetUUID(const struct gpu *gpu, char *uuid, unsigned int size) {
        (void) snprintf(uuid, size, "%s", gpu->uuid);
        return 0;
}

int nvmlDeviceGetMemoryInfo(const struct gpu *gpu, struct memory *ret) {
        *ret = gpu->memory;
        return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const struct gpu *gpu, unsigned int *n, struct process *ret) {
        if (*n < gpu->n)
                return 7; /* too small */
        memcpy(ret, gpu->processes, gpu->n * sizeof(*ret));
        *n = gpu->n;
        return 0;
}

const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "Unknown Error"; }
