/* LD_PRELOAD: a user database behind a server. While the file that NSS_FAULT names says "hang", whoever asks waits;
 * while it says "fail", it fails for all but root; else the host's own answers. */
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool says(const char *word) {
        char text[16] = "";
        FILE *file = fopen(getenv("NSS_FAULT"), "re");

        if (!file)
                return false;
        (void) !fgets(text, sizeof(text), file);
        (void) fclose(file);
        return strncmp(text, word, strlen(word)) == 0;
}

static int fault(void) {
        while (says("hang"))
                (void) nanosleep(&(struct timespec) { .tv_nsec = 50000000 }, NULL);
        return says("fail") ? EIO : 0;
}

int getpwuid_r(uid_t uid, struct passwd *pw, char *buffer, size_t size, struct passwd **ret) {
        int (*real)(uid_t, struct passwd *, char *, size_t, struct passwd **);
        int r = fault();

        *(void **) &real = dlsym(RTLD_NEXT, "getpwuid_r");
        *ret = NULL;
        return uid != 0 && r ? r : real(uid, pw, buffer, size, ret);
}

struct passwd *getpwuid(uid_t uid) {
        static struct passwd pw, *found;
        static char buffer[4096];

        errno = getpwuid_r(uid, &pw, buffer, sizeof(buffer), &found);
        return found;
}

int getgrnam_r(const char *name, struct group *gr, char *buffer, size_t size, struct group **ret) {
        int (*real)(const char *, struct group *, char *, size_t, struct group **);
        int r = fault();

        *(void **) &real = dlsym(RTLD_NEXT, "getgrnam_r");
        *ret = NULL;
        return r ? r : real(name, gr, buffer, size, ret);
}

int initgroups(const char *user, gid_t group) {
        int (*real)(const char *, gid_t);
        int r = fault();

        *(void **) &real = dlsym(RTLD_NEXT, "initgroups");
        if (r)
                errno = r;
        return r ? -1 : real(user, group);
}
