/* A test's own folder below /tmp. */
#ifndef TESTS_UNIT_FOLDER_H
#define TESTS_UNIT_FOLDER_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A folder that the caller removes with remove_folder; both abort on failure. */
static inline char *make_folder(void) {
        char *path = strdup("/tmp/bertd-unit.XXXXXX");
        if (!path || !mkdtemp(path))
                abort();
        return path;
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static inline void remove_folder(char *path) {
        if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0)
                abort();
        free(path);
}

/* Writes `name` below the folder, which may have folders of its own; aborts on failure. */
static inline void write_text(const char *folder, const char *name, const char *text) {
        char path[512];

        (void) snprintf(path, sizeof(path), "%s/%s", folder, name);
        for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
                *slash = '\0';
                (void) mkdir(path, 0700);
        }
        FILE *f = fopen(path, "w");
        if (!f || fputs(text, f) == EOF || fclose(f) == EOF)
                abort();
}

#endif
