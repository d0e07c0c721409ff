/*
 * See socket_watch.h. Owns its sources. Only the file's own inode and those of its folders are watched, not what happens in the folder, which
 * may be /tmp: an unlink is a change of the inode's link count (IN_ATTRIB). Folders further above may be moved away, and a file system be
 * unmounted or put over them, which no inode tells.
 */
#include "daemon/bus/socket_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/base/log.h"

#define SOON_USEC (USEC_PER_SEC / 10) /* an rm of the whole folder ends meanwhile */
#define RETRY_USEC (10 * USEC_PER_SEC)
#define FOLDERS_MAX 32

struct socket_watch {
        struct loop *loop;
        const char *path;
        char *folder;
        bool (*restore)(void *userdata);
        void *userdata;
        struct source *inodes, *mounts;
        struct timer timer;
};

static void on_inodes(void *userdata, int fd, uint32_t events);

static int watch_folder(int fd, const char *path) {
        return inotify_add_watch(fd, path, IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0 ? -errno : 0;
}

static int watch(struct socket_watch *w) {
        cleanup_free char *folder = strdup(w->folder);
        cleanup_close int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        w->inodes = source_free(w->inodes);
        if (!folder)
                return -ENOMEM;
        if (fd < 0 || inotify_add_watch(fd, w->path, IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW) < 0)
                return -errno;
        int r = watch_folder(fd, folder);
        for (size_t i = 1; r >= 0 && i < FOLDERS_MAX; i++) {
                char *slash = strrchr(folder, '/');
                if (!slash || slash == folder)
                        break;
                *slash = '\0';
                (void) watch_folder(fd, folder); /* one that may not be read is not watched */
        }
        return r < 0 ? r : loop_watch(w->loop, steal_fd(&fd), EPOLLIN, on_inodes, w, &w->inodes);
}

static void look(void *userdata);

static void look_after(struct socket_watch *w, uint64_t usec) {
        if (!timer_is_armed(&w->timer))
                loop_after(w->loop, &w->timer, usec, look, w);
}

/* Between its making and the watch it may be removed again: then there is nothing to watch. */
static void look(void *userdata) {
        struct socket_watch *w = userdata;
        int r = w->restore(w->userdata) ? watch(w) : -ENOENT;
        if (r < 0 && r != -ENOENT && r != -ENOTDIR)
                log_error("cannot watch %s: %s; if it is removed, restart bertd", w->path, strerror(-r));
        else if (r < 0)
                look_after(w, RETRY_USEC);
}

/* Which of them does not matter. */
static void on_inodes(void *userdata, int fd, uint32_t events) {
        char buffer[4096];

        while (read(fd, buffer, sizeof(buffer)) > 0)
                ;
        look_after(userdata, SOON_USEC);
}

static void on_mounts(void *userdata, int fd, uint32_t events) { look_after(userdata, SOON_USEC); }

static void watch_mounts(struct socket_watch *w) {
        cleanup_close int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

        if (fd >= 0)
                (void) loop_watch(w->loop, steal_fd(&fd), EPOLLPRI, on_mounts, w, &w->mounts);
}

int socket_watch_new(struct loop *loop, const char *path, bool (*restore)(void *userdata), void *userdata,
                     struct socket_watch **ret) {
        struct socket_watch *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        *w = (struct socket_watch) { .loop = loop, .path = path, .restore = restore, .userdata = userdata };
        const char *slash = strrchr(path, '/');
        w->folder = slash == path ? strdup("/") : strndup(path, (size_t) (slash - path));
        if (!w->folder) {
                socket_watch_free(w);
                return -ENOMEM;
        }
        watch_mounts(w);
        look(w);
        *ret = w;
        return 0;
}

void socket_watch_free(struct socket_watch *w) {
        if (!w)
                return;
        (void) source_free(w->inodes);
        (void) source_free(w->mounts);
        timer_disarm(&w->timer);
        free(w->folder);
        free(w);
}
