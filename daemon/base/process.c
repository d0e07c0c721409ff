/*
 * See process.h. Owns nothing between calls.
 * Invariant: every read of /proc is bounded.
 */
#include "daemon/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"
#include "common/proc.h"
#include "common/proc_files.h"

#define ENVIRON_READ_MAX ((size_t) 4 << 20)
#define TEXT_MAX 4096 /* of `limits` and `status` */

int process_start_time(pid_t pid, uint64_t *ret_ticks) {
        struct proc proc;
        int r = proc_stat(pid, &proc);

        if (r < 0 || proc_is_dead(&proc))
                return r < 0 ? r : -ESRCH;
        *ret_ticks = proc.start;
        return 0;
}

int process_pidfd(pid_t pid) {
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);
        return fd < 0 ? -errno : fd;
}

int process_pidfd_checked(pid_t pid, uint64_t start) {
        uint64_t ticks;

        if (pid <= 0)
                return -ESRCH;
        /* Open the pidfd first, then check: so the pid cannot be reused in between. */
        cleanup_close int fd = process_pidfd(pid);
        if (fd < 0)
                return fd;
        int r = process_start_time(pid, &ticks);
        if (r < 0 || ticks != start)
                return r < 0 ? r : -ESRCH;
        return steal_fd(&fd);
}

int process_check(struct error *error) {
        char self[32];
        ssize_t n = readlink("/proc/self", self, sizeof(self) - 1);

        if (n < 0)
                return error_set(error, ENOENT,
                                 "/proc: not mounted; bertd needs it to find running jobs: mount -t proc proc /proc");
        self[n] = '\0';
        if (strtol(self, NULL, 10) != getpid())
                return error_set(error, ENOENT,
                                 "/proc: of another pid namespace; bertd needs its own to find running jobs: mount -t "
                                 "proc proc /proc");
        /* Hidden from root too, without CAP_SYS_PTRACE. */
        if (geteuid() == 0 && access("/proc/1/stat", F_OK) < 0)
                return error_set(error, EPERM,
                                 "/proc: hides other users' processes (hidepid); bertd needs them to find running "
                                 "jobs: give it CAP_SYS_PTRACE, or mount -o remount,hidepid=0 /proc");
        return 0;
}

void process_boot_id(char *buffer, size_t size) {
        sd_id128_t id;

        (void) snprintf(buffer, size, "%s", sd_id128_get_boot(&id) >= 0 ? SD_ID128_TO_UUID_STRING(id) : "unknown");
}

static bool has_uid(const char *status, uid_t uid) {
        unsigned real, effective;
        const char *line = strstr(status, "\nUid:");

        return line && sscanf(line, " Uid: %u %u", &real, &effective) == 2 && effective == uid;
}

/* "Max cpu time  unlimited  unlimited  seconds": in the order of the resources' numbers, the values from column 26 on.
 */
static bool read_limit(const char *line, struct rlimit *ret) {
        char soft[24], hard[24];
        uint64_t values[2] = { UINT64_MAX, UINT64_MAX };

        if (strcspn(line, "\n") < 26 || sscanf(line + 26, "%23s %23s", soft, hard) != 2)
                return false;
        if ((strcmp(soft, "unlimited") != 0 && parse_u64(soft, 0, UINT64_MAX, &values[0]) < 0) ||
            (strcmp(hard, "unlimited") != 0 && parse_u64(hard, 0, UINT64_MAX, &values[1]) < 0))
                return false;
        *ret = (struct rlimit) { values[0], values[1] };
        return true;
}

int process_limits(pid_t pid, uid_t uid, struct rlimit ret[RLIM_NLIMITS]) {
        cleanup_free char *folder = format_string("/proc/%d", (int) pid);
        cleanup_close int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        cleanup_free char *limits = NULL, *status = NULL;

        if (fd < 0 || proc_read_at(fd, "limits", TEXT_MAX, &limits) < 0 ||
            proc_read_at(fd, "status", TEXT_MAX, &status) < 0 || !has_uid(status, uid))
                return -ESRCH;
        const char *line = limits;
        for (int i = 0; i < RLIM_NLIMITS; i++) {
                line = strchr(line, '\n');
                if (!line || !read_limit(++line, &ret[i]))
                        return -EBADMSG;
        }
        return 0;
}

bool process_has_variable(pid_t pid, const char *name, const char *value) {
        cleanup_free char *text = NULL;
        ssize_t size = proc_read_file(pid, "environ", ENVIRON_READ_MAX, &text);
        const char *found = size > 0 ? proc_variable(text, size, name) : NULL;

        return found && strcmp(found, value) == 0;
}
