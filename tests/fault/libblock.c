/* LD_PRELOAD: in bertd and bertd-shim who opens what shows a process's memory (/proc/PID/environ, /proc/PID/cmdline)
 * hangs, as it does where the process holds its memory's lock in the kernel. */
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);

        return n >= m && strcmp(text + n - m, end) == 0;
}

static int open_or_hang(int dir, const char *path, int flags, mode_t mode) {
        while (strncmp(program_invocation_short_name, "bertd", 5) == 0 &&
               (ends_with(path, "/environ") || ends_with(path, "/cmdline")))
                (void) pause();
        return (int) syscall(SYS_openat, dir, path, flags, mode);
}

#define MODE_OF(flags)                           \
        mode_t mode = 0;                         \
        if ((flags) & (O_CREAT | __O_TMPFILE)) { \
                va_list ap;                      \
                va_start(ap, flags);             \
                mode = va_arg(ap, mode_t);       \
                va_end(ap);                      \
        }

int open(const char *path, int flags, ...) {
        MODE_OF(flags)
        return open_or_hang(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        MODE_OF(flags)
        return open_or_hang(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int dir, const char *path, int flags, ...) {
        MODE_OF(flags)
        return open_or_hang(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
        MODE_OF(flags)
        return open_or_hang(dir, path, flags | O_LARGEFILE, mode);
}
