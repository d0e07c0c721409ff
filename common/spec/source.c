/* See spec_source.h and spec.h. Owns nothing. */
#include "common/spec/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/spec/spec.h"

bool spec_is_stream(const char *path) {
        struct stat st;

        return strcmp(path, SPEC_STDIN) == 0 || strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0 ||
               (stat(path, &st) == 0 && !S_ISREG(st.st_mode));
}

int spec_read(const char *path, char **ret_text, size_t *ret_size, struct error *error) {
        cleanup_close int own =
                strcmp(path, SPEC_STDIN) == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (own < 0 && strcmp(path, SPEC_STDIN) != 0) {
                int r = error_errno(error, errno, "%s", path);
                if (error)
                        error->exit = BERTD_EXIT_INPUT;
                return r;
        }
        /* Waits for a pipe's writer; without one the read ends at once. */
        if (own >= 0)
                (void) fcntl(own, F_SETFL, 0);
        int r = file_read_fd(own >= 0 ? own : STDIN_FILENO, path, BERTD_SPEC_MAX, ret_text, ret_size, error);
        if (r < 0 && error)
                error->exit = r == -EFBIG ? BERTD_EXIT_CONFIG : BERTD_EXIT_INPUT;
        return r;
}

int spec_folder(const char *path, char **ret_folder, struct error *error) {
        char cwd[PATH_MAX];
        const char *slash = spec_is_stream(path) ? NULL : strrchr(path, '/');
        cleanup_free char *folder = slash ? strndup(path, (size_t) (slash - path) + 1) : strdup(".");

        if (folder && folder[0] != '/' && !getcwd(cwd, sizeof(cwd)))
                return error_errno(error, errno, "current folder");
        *ret_folder = folder ? path_absolute(folder[0] == '/' ? "/" : cwd, folder) : NULL;
        return *ret_folder ? 0 : error_errno(error, ENOMEM, "%s", path);
}
