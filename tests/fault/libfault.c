/*
 * LD_PRELOAD: fails one call of one kind in one program. The environment says which:
 *   FAULT_PROGRAM  the program's name; others are left alone
 *   FAULT_CALL     malloc (calloc, realloc), write (pwrite), fsync (fdatasync), rename (renameat), unlink, fork, exec
 * (execvp), sqlite (sqlite3_step) FAULT_N        the how-manieth of them, counted over all processes of that name
 *   FAULT_COUNT    a file of 16 bytes: the count, then the signal of a process of that name that crashed, else 0;
 *                  UINT64_MAX: libsystemd ended one by an assertion of its own
 *   FAULT_KILL     if set: the call does not fail, the process dies of SIGKILL before it
 */
#undef _FILE_OFFSET_BITS /* pwrite and pwrite64 are two names here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

static const char *armed; /* FAULT_CALL in the right program, else NULL */
static uint64_t which;
static _Atomic uint64_t *count; /* [1]: the signal of a crash */

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS };

/* Nobody else sees how a shim ends. The handler is gone by then: the signal comes again and kills. */
static void crashes(int signal) { atomic_store(&count[1], (uint64_t) signal); }

__attribute__((constructor)) static void arm(void) {
        const char *program = getenv("FAULT_PROGRAM"), *call = getenv("FAULT_CALL"), *n = getenv("FAULT_N"),
                   *file = getenv("FAULT_COUNT");

        if (!program || !call || !n || !file || strcmp(program, program_invocation_short_name) != 0)
                return;
        int fd = open(file, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return;
        void *map = mmap(NULL, 2 * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void) close(fd);
        if (map == MAP_FAILED)
                return;
        count = map;
        which = strtoull(n, NULL, 10);
        armed = call;
        for (size_t i = 0; i < sizeof(crash_signals) / sizeof(*crash_signals); i++)
                (void) sigaction(crash_signals[i],
                                 &(struct sigaction) { .sa_handler = crashes, .sa_flags = SA_RESETHAND }, NULL);
}

static bool fails(const char *call, int code) {
        if (!armed || strcmp(armed, call) != 0 || atomic_fetch_add(count, 1) + 1 != which)
                return false;
        if (getenv("FAULT_KILL"))
                (void) kill(getpid(), SIGKILL);
        errno = code;
        return true;
}

/* Version 252 asserts, of a connection that it could not make for want of memory, that it is empty (bus_free): not ours
 * to mend. */
void abort(void) {
        void (*real)(void) = (void (*)(void)) dlsym(RTLD_NEXT, "abort");
        Dl_info caller;

        if (armed && dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "/libsystemd.so")) {
                atomic_store(&count[1], UINT64_MAX);
                _exit(EXIT_FAILURE);
        }
        real();
        __builtin_unreachable();
}

void *malloc(size_t size) { return fails("malloc", ENOMEM) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails("malloc", ENOMEM) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t size) { return fails("malloc", ENOMEM) ? NULL : __libc_realloc(old, size); }

ssize_t write(int fd, const void *data, size_t size) {
        return fails("write", ENOSPC) ? -1 : syscall(SYS_write, fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
        return fails("write", ENOSPC) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
        return fails("write", ENOSPC) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}
int fsync(int fd) { return fails("fsync", EIO) ? -1 : (int) syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails("fsync", EIO) ? -1 : (int) syscall(SYS_fdatasync, fd); }
int rename(const char *from, const char *to) {
        return fails("rename", EIO) ? -1 : (int) syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        return fails("rename", EIO) ? -1 : (int) syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlink(const char *path) { return fails("unlink", EIO) ? -1 : (int) syscall(SYS_unlinkat, AT_FDCWD, path, 0); }

pid_t fork(void) {
        pid_t (*real)(void) = (pid_t(*)(void)) dlsym(RTLD_NEXT, "fork");

        return fails("fork", EAGAIN) ? -1 : real();
}

int execvp(const char *file, char *const *argv) {
        int (*real)(const char *, char *const *) = (int (*)(const char *, char *const *)) dlsym(RTLD_NEXT, "execvp");

        return fails("exec", EAGAIN) ? -1 : real(file, argv);
}

static _Thread_local bool reads_schema; /* SQLite itself: it would take a failed step for the end of the rows */

int sqlite3_step(void *statement) {
        int (*real)(void *) = (int (*)(void *)) dlsym(RTLD_NEXT, "sqlite3_step");

        return !reads_schema && fails("sqlite", EIO) ? 10 /* SQLITE_IOERR */ : real(statement);
}

/* SQLite's own asks the statement for its result, and one that was never stepped says "ok": the statements after it
 * would run. Our programs pass no callback; SQLite itself does, to read its schema. */
int sqlite3_exec(void *db, const char *sql, void *callback, void *userdata, char **message) {
        int (*prepare)(void *, const char *, int, void **, const char **) =
                (int (*)(void *, const char *, int, void **, const char **)) dlsym(RTLD_NEXT, "sqlite3_prepare_v2");
        int (*finalize)(void *) = (int (*)(void *)) dlsym(RTLD_NEXT, "sqlite3_finalize");
        int (*real)(void *, const char *, void *, void *, char **) =
                (int (*)(void *, const char *, void *, void *, char **)) dlsym(RTLD_NEXT, "sqlite3_exec");
        int code = 0;

        if (callback) {
                reads_schema = true;
                code = real(db, sql, callback, userdata, message);
                reads_schema = false;
                return code;
        }
        while (code == 0 && *sql) {
                void *statement = NULL;
                code = prepare(db, sql, -1, &statement, &sql);
                while (code == 0 && statement && (code = sqlite3_step(statement)) == 100 /* SQLITE_ROW */)
                        code = 0;
                code = code == 101 /* SQLITE_DONE */ ? 0 : code;
                (void) finalize(statement);
        }
        return code;
}
