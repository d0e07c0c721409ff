/*
 * See shim.h. The environment and the folder of a command, besides contract C6: each variable only if the submitter has
 * not set it. Owns nothing.
 */
#include "daemon/shim/shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/shim/torchrun.h"

#define STACKS "stacks" /* in the attempt's folder: BERTD_STACKS */
#define STACKS_MAX 4096
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define PORT_FIRST 29500 /* torchrun's default; below the kernel's range for clients */
#define PORTS 2000
#define PORT_STRIDE 17 /* jobs started at the same time try different ports first */

static bool port_is_free(uint16_t port) {
        struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in older = { .sin_family = AF_INET, .sin_port = htons(port) };
        cleanup_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0); /* both protocols */

        if (fd >= 0)
                return bind(fd, (const struct sockaddr *) &address, sizeof(address)) == 0;
        cleanup_close int only = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return only >= 0 && bind(only, (const struct sockaddr *) &older, sizeof(older)) == 0;
}

static unsigned free_port(uint64_t job) {
        for (unsigned i = 0; i < PORTS; i++) {
                unsigned port = PORT_FIRST + (unsigned) ((job * PORT_STRIDE + i) % PORTS);
                if (port_is_free((uint16_t) port))
                        return port;
        }
        return PORT_FIRST;
}

static void set_port(struct attempt_spec *a) {
        char port[16];

        if (attempt_getenv(a, "MASTER_PORT") || attempt_getenv(a, "PET_MASTER_PORT"))
                return;
        (void) snprintf(port, sizeof(port), "%u", free_port(a->job));
        attempt_default_env(a, "MASTER_PORT", port);     /* of torch.distributed, DeepSpeed */
        attempt_default_env(a, "PET_MASTER_PORT", port); /* of torchrun, which sets MASTER_PORT for its ranks */
}

/* Moves them to the evidence of a hang. Removes empty files: of processes that got no signal. */
static void keep_stacks(struct shim *shim, int stacks, int evidence, const char *name) {
        struct stat st;

        if (fstatat(stacks, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                return;
        if (st.st_size == 0)
                (void) unlinkat(stacks, name, 0);
        else if (evidence >= 0 && renameat(stacks, name, evidence, name) < 0)
                shim_log_note(&shim->log, "stacks/%s: cannot be moved to the evidence", name);
}

void shim_program_end(struct shim *shim) {
        cleanup_close int evidence = shim->hang.folder[0] ? openat(shim->dir_fd, shim->hang.folder, FOLDER_FLAGS) : -1;
        int fd = openat(shim->dir_fd, STACKS, FOLDER_FLAGS);
        cleanup_closedir DIR *stacks = fd >= 0 ? fdopendir(fd) : NULL;
        const struct dirent *entry;

        for (unsigned i = 0; stacks && i < STACKS_MAX && (entry = readdir(stacks)); i++)
                if (entry->d_name[0] != '.')
                        keep_stacks(shim, dirfd(stacks), evidence, entry->d_name);
        (void) unlinkat(shim->dir_fd, STACKS, AT_REMOVEDIR);
}

void shim_program_prepare(struct shim *shim) {
        struct attempt_spec *a = &shim->attempt;
        cleanup_free char *stacks = format_string("%s/" STACKS, shim->dir);
        cleanup_free char *error_file = format_string("%s/" TORCHRUN_ERROR_FILE, shim->dir);

        if (a->kind != JOB_COMMAND)
                return;
        attempt_default_env(a, "PYTHONUNBUFFERED", "1");
        if (error_file)
                attempt_default_env(a, "TORCHELASTIC_ERROR_FILE", error_file);
        if (stacks && (mkdirat(shim->dir_fd, STACKS, 0700) == 0 || errno == EEXIST))
                attempt_default_env(a, BERTD_ENV_STACKS, stacks);
        set_port(a);
}
