/* See gpus.h. Owns nothing between calls. */
#include "daemon/gpu/gpus.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/utf8.h"

static int compare_names(const void *a, const void *b) { return strcmp(a, b); }

static const char *driver_folder(void) {
        const char *folder = secure_getenv("BERTD_NVIDIA_PROC"); /* a test's */
        return folder ? folder : "/proc/driver/nvidia";
}

static bool read_information(const char *entry, char *ret_uuid, unsigned *ret_minor) {
        char path[PATH_MAX], line[256];

        *ret_minor = UINT_MAX;
        ret_uuid[0] = '\0';
        (void) snprintf(path, sizeof(path), "%s/gpus/%.200s/information", driver_folder(), entry);
        cleanup_fclose FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "GPU UUID: %63s", ret_uuid) != 1)
                        (void) sscanf(line, "Device Minor: %u", ret_minor);
        return ret_uuid[0];
}

/* It has GPU instances, of which MIG devices are made. */
static bool is_divided(unsigned minor) {
        char path[PATH_MAX];
        bool divided = false;

        (void) snprintf(path, sizeof(path), "%s/capabilities/gpu%u/mig", driver_folder(), minor);
        cleanup_closedir DIR *folder = opendir(path);
        for (struct dirent *entry; folder && !divided && (entry = readdir(folder));)
                divided = strncmp(entry->d_name, "gi", 2) == 0;
        return divided;
}

/* MIG devices are not listed there. */
static void find_by_driver(struct gpus *gpus) {
        char path[PATH_MAX];

        (void) snprintf(path, sizeof(path), "%s/gpus", driver_folder());
        cleanup_closedir DIR *folder = opendir(path);
        for (struct dirent *entry; folder && gpus->n < GPUS_MAX && (entry = readdir(folder));) {
                unsigned minor;
                if (entry->d_name[0] != '.' && read_information(entry->d_name, gpus->names[gpus->n], &minor) &&
                    !is_divided(minor))
                        gpus->n++;
        }
        qsort(gpus->names, gpus->n, GPU_NAME_MAX, compare_names);
}

static int read_list(const char *option, struct gpus *gpus, struct error *error) {
        cleanup_free char *copy = strdup(option);

        if (!copy)
                return error_errno(error, ENOMEM, "--gpus");
        size_t n = strlen(copy);
        if (n > 1 && copy[n - 1] == ',') /* "0,": a list of one, not a number */
                copy[n - 1] = '\0';
        for (char *rest = copy, *name; (name = strsep(&rest, ","));) {
                if (!text_is_utf8(name))
                        return error_input(error, BERTD_EXIT_USAGE, "--gpus: \"%.80s\" is not UTF-8", name);
                if (!*name)
                        return error_input(error, BERTD_EXIT_USAGE, "--gpus: \"%.80s\" has an empty name", option);
                if (gpus->n == GPUS_MAX)
                        return error_input(error, BERTD_EXIT_USAGE, "--gpus: more than %d", GPUS_MAX);
                for (uint32_t i = 0; i < gpus->n; i++)
                        if (strcmp(gpus->names[i], name) == 0)
                                return error_input(error, BERTD_EXIT_USAGE, "--gpus: \"%.80s\" is given twice", name);
                if (strlen(name) >= GPU_NAME_MAX)
                        return error_input(error, BERTD_EXIT_USAGE, "--gpus: \"%.80s\" is too long for a GPU's name",
                                           name);
                (void) snprintf(gpus->names[gpus->n++], GPU_NAME_MAX, "%s", name);
        }
        return 0;
}

/* Sorted by UUID, like /proc: "GPU 1" is usually the same one after a restart. */
static bool find_by_nvml(struct gpus *gpus) {
        static struct nvml_answer answer;

        if (nvml_probe(NVML_ANSWER_USEC, &answer) < 0 || answer.status != NVML_OK)
                return false;
        for (uint32_t i = 0; i < answer.n; i++)
                if (!answer.gpus[i].is_divided)
                        (void) snprintf(gpus->names[gpus->n++], GPU_NAME_MAX, "%s", answer.gpus[i].uuid);
        qsort(gpus->names, gpus->n, GPU_NAME_MAX, compare_names);
        return answer.n > 0; /* where all are divided and have no MIG devices, there is none to give */
}

int gpus_find(const char *option, struct gpus *ret, struct error *error) {
        uint64_t n;

        *ret = (struct gpus) {};
        if (option && !*option)
                return error_input(error, BERTD_EXIT_USAGE, "--gpus: empty, expected a number or a list");
        if (!option) {
                if (!find_by_nvml(ret))
                        find_by_driver(ret);
                return 0;
        }
        int r = parse_u64(option, 0, GPUS_MAX, &n);
        if (r == -ERANGE)
                return error_input(error, BERTD_EXIT_USAGE, "--gpus: %s, expected 0 to %d", option, GPUS_MAX);
        if (r < 0)
                return read_list(option, ret, error);
        for (; ret->n < n; ret->n++)
                (void) snprintf(ret->names[ret->n], GPU_NAME_MAX, "%u", ret->n);
        return 0;
}

uint64_t gpus_take(const struct gpus *gpus, uint64_t taken, uint32_t want) {
        uint64_t mask = 0;

        for (uint32_t i = 0; i < gpus->n && want > 0; i++)
                if (!(taken & UINT64_C(1) << i)) {
                        mask |= UINT64_C(1) << i;
                        want--;
                }
        return want == 0 ? mask : 0;
}

char *gpus_visible(const struct gpus *gpus, uint64_t mask) {
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        for (uint32_t i = 0, n = 0; i < gpus->n; i++)
                if (mask & UINT64_C(1) << i)
                        (void) fprintf(stream, "%s%s", n++ == 0 ? "" : ",", gpus->names[i]);
        if (fclose(stream) == 0)
                return text;
        free(text);
        return NULL;
}

/* −1: not in the list. A UUID may be shortened, in the list as in the name. */
static int index_of(const struct gpus *gpus, const char *name) {
        bool uuid = strncmp(name, "GPU-", 4) == 0;

        for (uint32_t i = 0; i < gpus->n; i++)
                if (strcmp(gpus->names[i], name) == 0)
                        return (int) i;
        for (uint32_t i = 0; uuid && i < gpus->n; i++)
                if (strncmp(gpus->names[i], name, MIN(strlen(gpus->names[i]), strlen(name))) == 0)
                        return (int) i;
        return -1;
}

bool gpus_next(const char **names, char name[GPU_NAME_MAX]) {
        if (!*names || !**names)
                return false;
        size_t length = strcspn(*names, ",");
        (void) snprintf(name, GPU_NAME_MAX, "%.*s", (int) MIN(length, (size_t) GPU_NAME_MAX), *names);
        *names += length + ((*names)[length] == ',');
        return true;
}

uint64_t gpus_mask(const struct gpus *gpus, const char *names, uint32_t *ret_missing) {
        char name[GPU_NAME_MAX];
        uint32_t missing = 0;
        uint64_t mask = 0;

        while (gpus_next(&names, name)) {
                int i = index_of(gpus, name);
                if (i < 0)
                        missing++;
                else
                        mask |= UINT64_C(1) << i;
        }
        if (ret_missing)
                *ret_missing = missing;
        return mask;
}

bool gpus_next_missing(const struct gpus *gpus, const char **names, char name[GPU_NAME_MAX]) {
        while (gpus_next(names, name))
                if (index_of(gpus, name) < 0)
                        return true;
        return false;
}

static bool is_called(const struct nvml_gpu *gpu, const char *name) {
        if (strncmp(name, "GPU-", 4) == 0)
                return strncmp(gpu->uuid, name, strlen(name)) == 0;
        return strcmp(gpu->uuid, name) == 0 || (gpu->older_name[0] && strcmp(gpu->older_name, name) == 0);
}

const struct nvml_gpu *gpus_listed(const struct nvml_answer *answer, const char *name) {
        uint64_t index;
        bool is_index = parse_u64(name, 0, NVML_NO_INDEX - 1, &index) == 0;

        for (uint32_t i = 0; i < answer->n; i++)
                if (is_index ? answer->gpus[i].index == index : is_called(&answer->gpus[i], name))
                        return &answer->gpus[i];
        return NULL;
}
