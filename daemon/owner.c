/* See owner.h. Owns nothing. Invariant: only a folder that bertctl made for this bertd is removed. */
#include "daemon/owner.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/process.h"
#include "daemon/plan/schedule.h"

#define CHILDREN_LIMIT_USEC (60 * USEC_PER_SEC)
#define CHILDREN_PAUSE_USEC UINT64_C(50000)

int owner_open(pid_t pid, const char *state_dir, int *ret_fd, struct error *error) {
        const char *slash = strrchr(state_dir, '/');

        if (!slash || strncmp(slash + 1, OWNER_FOLDER, strlen(OWNER_FOLDER)) != 0)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--owner: for `bertctl run` only: the state folder %s is not its own", state_dir);
        int fd = process_pidfd(pid);
        if (fd >= 0 && getppid() == pid) { /* the parent's pid is not reused while it has this child */
                *ret_fd = fd;
                return 0;
        }
        if (fd >= 0)
                (void) close(fd);
        return error_input(error, BERTD_EXIT_USAGE, "--owner: process %d is not the parent of bertd", (int) pid);
}

static void on_gone(void *userdata, int fd, uint32_t events) {
        struct node *node = userdata;

        if (node->draining)
                return;
        log_info("bertctl run has ended: stopping its job");
        schedule_shutdown(node, true);
}

int owner_watch(struct node *node, int fd, struct source **ret) {
        return loop_watch(node->loop, fd, EPOLLIN | EPOLLET, on_gone, node, ret);
}

void owner_clean(const char *state_dir) {
        const uint64_t deadline = loop_boottime() + CHILDREN_LIMIT_USEC;

        while (waitpid(-1, NULL, WNOHANG) >= 0 && loop_boottime() < deadline)
                loop_sleep(CHILDREN_PAUSE_USEC);
        (void) execl("/bin/rm", "rm", "-rf", "--one-file-system", "--", state_dir, (char *) NULL);
}
