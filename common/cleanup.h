/* The cleanup attributes this project uses: nothing else hides control flow. */
#ifndef COMMON_CLEANUP_H
#define COMMON_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_p(void *p) { free(*(void **) p); }
static inline void cleanup_close_p(const int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}
static inline void cleanup_fclose_p(FILE **f) {
        if (*f)
                (void) fclose(*f);
}
static inline void cleanup_closedir_p(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

#define cleanup(f) __attribute__((cleanup(f)))
#define cleanup_free cleanup(cleanup_free_p)
#define cleanup_close cleanup(cleanup_close_p)
#define cleanup_fclose cleanup(cleanup_fclose_p)
#define cleanup_closedir cleanup(cleanup_closedir_p)

/* Transfers ownership: empties the variable, so its cleanup does nothing. */
static inline void *steal_pointer_impl(void *p) {
        void **pp = p, *v = *pp;
        *pp = NULL;
        return v;
}
#define steal_pointer(p) ((__typeof__(*(p))) steal_pointer_impl(p))
static inline int steal_fd(int *fd) {
        int v = *fd;
        *fd = -1;
        return v;
}

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
