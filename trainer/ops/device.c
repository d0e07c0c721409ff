/* See device.h. Owns the handle of the module. */
#include "trainer/ops/device.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/executable.h"
#include "trainer/ops/cuda/cuda.h"
#include "trainer/ops/ops.h"

#define MODULE "bert-trainer-cuda.so"

struct device {
        bool has_driver; /* a GPU may be meant: why it is not used is worth a line */
        void *handle;    /* NULL: the CPU */
        const struct cuda_module *module;
        uint32_t gpu; /* index among those that are visible */
        const struct ops *ops;
        enum precision precision;
};

const char *const precision_names[PRECISION_MAX] = PRECISION_NAMES;

/* Looked for first: without it there is nothing to load the module's large libraries for. */
static int find_driver(struct error *error) {
        void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);

        if (!driver)
                return error_set(error, ENODEV, "device: cuda: no NVIDIA driver on this host: %s", dlerror());
        (void) dlclose(driver);
        return 0;
}

/* CUDA shows a process one MIG device at most, the first that is visible: each rank is left with its own, as GPU 0. */
static int choose_mig_device(uint32_t *local_rank, struct error *error) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        bool any = false;
        uint32_t n = 0;

        cleanup_free char *copy = strdup(visible ? visible : ""), *own = NULL;
        for (char *rest = copy, *name; rest && (name = strsep(&rest, ","));) {
                name += strspn(name, " \t");
                any = any || strncmp(name, "MIG-", 4) == 0;
                if (n++ == *local_rank)
                        own = strdup(name);
        }
        if (!any)
                return 0;
        if (!own)
                return error_set(error, ENODEV,
                                 "device: cuda: no GPU for rank %u of this host, CUDA_VISIBLE_DEVICES has %u",
                                 *local_rank, n);
        *local_rank = 0;
        return setenv("CUDA_VISIBLE_DEVICES", own, 1) < 0 ? error_errno(error, errno, "CUDA_VISIBLE_DEVICES") : 0;
}

/* The exit codes of device.h: 78 for what this build cannot do, 1 for what this host lacks. */
static int load_module(struct device *device, struct error *error) {
        cleanup_free char *path = executable_beside("ops/cuda/" MODULE, BERTD_LIBEXECDIR "/" MODULE);

        if (!path)
                return error_errno(error, ENOMEM, "device: cuda");
        if (access(path, R_OK) < 0)
                return error_input(error, BERTD_EXIT_CONFIG, "device: cuda: built without the CUDA module (no %s)",
                                   path);
        int r = find_driver(error);
        if (r < 0)
                return r;
        device->has_driver = true;
        device->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!device->handle)
                return error_set(error, ENODEV, "device: cuda: the module cannot be loaded: %s", dlerror());
        device->module = dlsym(device->handle, CUDA_MODULE_SYMBOL);
        if (!device->module || strcmp(device->module->version, BERTD_VERSION) != 0)
                return error_input(error, BERTD_EXIT_CONFIG, "device: cuda: %s is of another version than bert-trainer",
                                   path);
        return 0;
}

static int open_backend(struct device *device, enum precision precision, struct error *error) {
        static const enum cuda_precision precisions[PRECISION_MAX] = {
                [PRECISION_AUTO] = CUDA_AUTO, [PRECISION_FP32] = CUDA_FP32, [PRECISION_TF32] = CUDA_TF32,
                [PRECISION_BF16] = CUDA_BF16, [PRECISION_FP16] = CUDA_FP16,
        };
        char text[CUDA_TEXT_MAX] = "";

        int r = device->module->open(precisions[precision], device->gpu, &device->ops, text, sizeof(text));
        if (r == -ENOSYS)
                return error_input(error, BERTD_EXIT_CONFIG, "%s", text);
        return r < 0 ? error_set(error, -r, "device: cuda: %s", text) : 0;
}

static int open_cuda(struct device *device, enum precision precision, uint32_t local_rank, struct error *error) {
        if (precision == PRECISION_FP64)
                return error_input(error, BERTD_EXIT_CONFIG,
                                   "train.precision: fp64 is the CPU's reference, expected fp32, tf32, bf16 or fp16");
        device->gpu = local_rank;
        int r = load_module(device, error);
        if (r >= 0)
                r = choose_mig_device(&device->gpu, error);
        return r < 0 ? r : open_backend(device, precision, error);
}

static int open_cpu(struct device *device, enum precision precision, const struct error *why_not_cuda,
                    struct error *error) {
        if (precision != PRECISION_AUTO && precision != PRECISION_FP32 && precision != PRECISION_FP64)
                return error_input(error, why_not_cuda->exit > 0 ? why_not_cuda->exit : BERTD_EXIT_FAILURE,
                                   "train.precision: %s needs a GPU%s%s", precision_names[precision],
                                   why_not_cuda->text[0] ? "; " : "", why_not_cuda->text);
        device->ops = precision == PRECISION_FP64 ? ops_fp64() : ops_cpu();
        return 0;
}

static void unload(struct device *device) {
        if (device->handle)
                (void) dlclose(device->handle);
        device->handle = NULL;
        device->module = NULL;
}

int device_open(enum device_kind kind, enum precision precision, uint32_t local_rank, struct device **ret,
                struct error *error) {
        cleanup_free struct device *device = calloc(1, sizeof(*device));
        struct error why = {};
        int r = -ENODEV;

        if (!device)
                return error_errno(error, ENOMEM, "device");
        if (kind == DEVICE_CUDA || (kind == DEVICE_AUTO && precision != PRECISION_FP64))
                r = open_cuda(device, precision, local_rank, &why);
        if (r < 0)
                unload(device);
        if (r < 0 && kind == DEVICE_CUDA) {
                *error = why;
                return r;
        }
        if (r < 0) {
                if (kind == DEVICE_CPU)
                        why = (struct error) { .exit = BERTD_EXIT_CONFIG };
                r = open_cpu(device, precision, &why, error);
                if (r >= 0 && device->has_driver)
                        (void) fprintf(stderr, "bert-trainer: %s: computing on the CPU\n", why.text);
        }
        if (r < 0)
                return r;
        device->precision = precision;
        if (precision == PRECISION_AUTO)
                device->precision = device->ops->dtype == DTYPE_FP16 ? PRECISION_FP16 : PRECISION_FP32;
        *ret = steal_pointer(&device);
        return 0;
}

int device_change_precision(struct device *device, enum precision precision, struct error *error) {
        device->module->close();
        int r = open_backend(device, precision, error);
        if (r < 0)
                unload(device);
        device->precision = precision;
        return r;
}

void device_close(struct device *device) {
        if (!device)
                return;
        if (device->module)
                device->module->close();
        unload(device);
        free(device);
}

const struct ops *device_ops(const struct device *device) { return device->ops; }
enum precision device_precision(const struct device *device) { return device->precision; }
