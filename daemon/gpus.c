/* See gpus.h. Owns nothing between calls. */
#include "daemon/gpus.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

#define DRIVER_FOLDER "/proc/driver/nvidia/gpus"

static int compare_names(const void *a, const void *b) { return strcmp(a, b); }

static void read_uuid(const char *folder, char *name) {
        char path[512], line[256];

        (void) snprintf(path, sizeof(path), DRIVER_FOLDER "/%.200s/information", folder);
        cleanup_fclose FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "GPU UUID: %63s", name) == 1)
                        return;
}

static void find_by_driver(struct gpus *gpus) {
        cleanup_closedir DIR *folder = opendir(DRIVER_FOLDER);

        for (struct dirent *entry; folder && gpus->n < GPUS_MAX && (entry = readdir(folder));) {
                if (entry->d_name[0] == '.')
                        continue;
                gpus->names[gpus->n][0] = '\0';
                read_uuid(entry->d_name, gpus->names[gpus->n]);
                if (gpus->names[gpus->n][0])
                        gpus->n++;
        }
        qsort(gpus->names, gpus->n, GPU_NAME_MAX, compare_names);
}

static int read_list(const char *option, struct gpus *gpus, struct error *error) {
        cleanup_free char *copy = strdup(option);

        if (!copy)
                return error_errno(error, ENOMEM, "--gpus");
        for (char *save = NULL, *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
                if (gpus->n == GPUS_MAX)
                        return error_set(error, EINVAL, "--gpus: more than %d", GPUS_MAX);
                if (strlen(name) >= GPU_NAME_MAX)
                        return error_set(error, EINVAL, "--gpus: \"%.80s\" is too long for a GPU's name", name);
                (void) snprintf(gpus->names[gpus->n++], GPU_NAME_MAX, "%s", name);
        }
        return 0;
}

int gpus_find(const char *option, struct gpus *ret, struct error *error) {
        uint64_t n;

        *ret = (struct gpus) {};
        if (!option) {
                find_by_driver(ret);
                return 0;
        }
        int r = parse_u64(option, 0, GPUS_MAX, &n);
        if (r == -ERANGE)
                return error_set(error, EINVAL, "--gpus: %s, expected 0 to %d", option, GPUS_MAX);
        if (r < 0)
                return read_list(option, ret, error);
        for (; ret->n < n; ret->n++)
                (void) snprintf(ret->names[ret->n], GPU_NAME_MAX, "%u", ret->n);
        return 0;
}

uint64_t gpus_take(const struct gpus *gpus, uint64_t used, uint32_t want) {
        uint64_t mask = 0;

        for (uint32_t i = 0; i < gpus->n && want > 0; i++)
                if (!(used & UINT64_C(1) << i)) {
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
