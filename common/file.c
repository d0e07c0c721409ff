/* See file.h. Owns nothing between calls. */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/cleanup.h"

int write_all(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

bool file_is_there(const char *path) { return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

int file_read(const char *path, size_t max, char **ret_data, size_t *ret_size, struct error *error) {
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return error_errno(error, errno, "%s", path);

        struct stat st;
        if (fstat(fd, &st) < 0)
                return error_errno(error, errno, "%s", path);
        if (!S_ISREG(st.st_mode))
                return error_set(error, EINVAL, "%s: not a regular file", path);
        if ((unsigned long long) st.st_size > max)
                return error_set(error, EFBIG, "%s: %lld bytes, more than the %zu allowed", path,
                                 (long long) st.st_size, max);

        size_t size = 0, room = (size_t) st.st_size;
        cleanup_free char *data = malloc(room + 1);
        if (!data)
                return error_errno(error, ENOMEM, "%s", path);
        while (size < room) {
                ssize_t n = read(fd, data + size, room - size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_errno(error, errno, "%s", path);
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        data[size] = '\0';
        *ret_data = steal_pointer(&data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int file_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_size, struct error *error) {
        size_t size = 0;
        cleanup_free char *data = malloc(max + 1); /* pages are only touched as they are read */

        if (!data)
                return error_errno(error, ENOMEM, "%s", name);
        for (;;) {
                ssize_t n = read(fd, data + size, max + 1 - size);
                if (n < 0 && errno == EAGAIN) /* non-blocking, set by another process that shares it */
                        (void) poll(&(struct pollfd) { .fd = fd, .events = POLLIN }, 1, -1);
                else if (n < 0 && errno != EINTR)
                        return error_errno(error, errno, "%s", name);
                if (n < 0)
                        continue;
                if (n == 0)
                        break;
                size += (size_t) n;
                if (size > max)
                        return error_set(error, EFBIG, "%s: more than the %zu bytes allowed", name, max);
        }
        data[size] = '\0';
        *ret_data = steal_pointer(&data);
        *ret_size = size;
        return 0;
}

int file_refuse_pointer(const char *path, const void *data, size_t size, struct error *error) {
        static const char first[] = "version https://git-lfs.github.com/spec/";

        if (size < sizeof(first) - 1 || memcmp(data, first, sizeof(first) - 1) != 0)
                return 0;
        return error_input(error, BERTD_EXIT_DATA,
                           "%s: a Git LFS pointer, not the file itself; fetch it in its repository with: git lfs pull",
                           path);
}

int fsync_parent(const char *path) {
        const char *slash = strrchr(path, '/');
        cleanup_free char *folder = !slash          ? strdup(".")
                                    : slash == path ? strdup("/")
                                                    : strndup(path, (size_t) (slash - path));
        if (!folder)
                return -ENOMEM;
        cleanup_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

static int write_durably(const char *path, const void *data, size_t size, mode_t mode) {
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        if (fd < 0)
                return -errno;
        int r = write_all(fd, data, size);
        if (r < 0)
                return r;
        return fsync(fd) < 0 ? -errno : 0;
}

bool file_is_sqlite(const char *path) {
        static const char magic[] = "SQLite format 3";
        char head[sizeof(magic)] = "";
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        return fd >= 0 && read(fd, head, sizeof(head)) == (ssize_t) sizeof(head) &&
               memcmp(head, magic, sizeof(magic)) == 0;
}

/* The temporary name of the file until it is complete. */
static int temporary_of(const char *path, char **ret, struct error *error) {
        struct stat st;

        if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
                return error_output(error, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, path);
        *ret = format_string("%s.%d.tmp", path, (int) getpid());
        if (!*ret)
                return error_errno(error, ENOMEM, "%s", path);
        (void) unlink(*ret);
        return 0;
}

int file_claim(int fd, const char *temporary) {
        struct stat opened, named;

        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &opened) < 0)
                return -errno;
        if (stat(temporary, &named) < 0 || named.st_ino != opened.st_ino || named.st_dev != opened.st_dev)
                return -EWOULDBLOCK;
        return ftruncate(fd, 0) < 0 ? -errno : 0;
}

int file_check_writable(const char *path, struct error *error) {
        cleanup_free char *temporary = NULL;

        int r = temporary_of(path, &temporary, error);
        if (r < 0)
                return r;
        r = write_durably(temporary, "", 0, 0666);
        (void) unlink(temporary);
        return r < 0 ? error_output(error, -r, path) : 0;
}

int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, struct error *error) {
        cleanup_free char *temporary = NULL;

        int r = temporary_of(path, &temporary, error);
        if (r < 0)
                return r;
        r = write_durably(temporary, data, size, mode);
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r >= 0)
                r = fsync_parent(path);
        if (r < 0) {
                (void) unlink(temporary);
                return error_output(error, -r, path);
        }
        return 0;
}

int mkdir_parents(const char *path, mode_t mode, struct error *error) {
        if (path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
                return error_set(error, EINVAL, "%s: a shell leaves ~ as it is after '='; write $HOME%s", path,
                                 path + 1);
        cleanup_free char *partial = strdup(path);
        if (!partial)
                return error_errno(error, ENOMEM, "%s", path);

        for (char *p = partial + 1;; p++) {
                if (*p != '/' && *p != '\0')
                        continue;
                char saved = *p;
                *p = '\0';
                if (mkdir(partial, mode) < 0 && errno != EEXIST)
                        return error_output(error, errno, partial);
                *p = saved;
                if (saved == '\0')
                        break;
        }
        struct stat st;
        if (stat(path, &st) < 0)
                return error_output(error, errno, path);
        return S_ISDIR(st.st_mode) ? 0 : error_output(error, ENOTDIR, path);
}

void file_hold_standard(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void) !open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

char *path_absolute(const char *base, const char *path) {
        cleanup_free char *joined = path[0] == '/' ? strdup(path) : format_string("%s/%s", base, path);
        if (!joined)
                return NULL;

        char *to = joined;
        for (const char *from = joined; *from;) {
                if (from[0] == '/' && from[1] == '/') {
                        from++;
                } else if (from[0] == '/' && from[1] == '.' && (from[2] == '/' || from[2] == '\0')) {
                        from += 2;
                } else {
                        *to++ = *from++;
                }
        }
        if (to == joined)
                *to++ = '/';
        *to = '\0';
        return steal_pointer(&joined);
}

bool path_is_below(const char *path, const char *folder) {
        size_t n = strlen(folder);

        while (n > 0 && folder[n - 1] == '/')
                n--;
        if (folder[0] != '/' || strncmp(path, folder, n) != 0 || path[n] != '/')
                return false;
        for (const char *p = path + n; *p;) {
                size_t length = strcspn(++p, "/");
                if (length == 0 || (p[0] == '.' && (length == 1 || (length == 2 && p[1] == '.'))))
                        return false;
                p += length;
        }
        return true;
}

char *format_string(const char *format, ...) {
        va_list ap;
        char *text = NULL;

        va_start(ap, format);
        int n = vasprintf(&text, format, ap);
        va_end(ap);
        return n < 0 ? NULL : text;
}

void close_others(int keep) {
        int first = STDERR_FILENO + 1;

        if (keep > first)
                (void) close_range((unsigned) first, (unsigned) keep - 1, 0);
        (void) close_range((unsigned) (keep >= first ? keep + 1 : first), ~0U, 0);
}
