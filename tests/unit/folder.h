/* A test's own folder below /tmp. */
#ifndef TESTS_UNIT_FOLDER_H
#define TESTS_UNIT_FOLDER_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

#endif
