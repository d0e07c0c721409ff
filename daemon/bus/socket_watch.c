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
        sd_event *loop;
        const char *path;
        char *folder;
        bool (*restore)(void *userdata);
        void *userdata;
        sd_event_source *file, *above[FOLDERS_MAX], *mounts, *timer;
};

static int on_event(sd_event_source *source, const struct inotify_event *event, void *userdata);

static void watch_nothing(struct socket_watch *w) {
        w->file = sd_event_source_disable_unref(w->file);
        for (size_t i = 0; i < FOLDERS_MAX; i++)
                w->above[i] = sd_event_source_disable_unref(w->above[i]);
}

static int watch_folder(struct socket_watch *w, const char *path, sd_event_source **ret) {
        return sd_event_add_inotify(w->loop, ret, path, IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR, on_event, w);
}

static int watch(struct socket_watch *w) {
        cleanup_free char *folder = strdup(w->folder);

        watch_nothing(w);
        if (!folder)
                return -ENOMEM;
        int r = sd_event_add_inotify(w->loop, &w->file, w->path,
                                     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_DONT_FOLLOW, on_event, w);
        if (r >= 0)
                r = watch_folder(w, folder, &w->above[0]);
        for (size_t i = 1; r >= 0 && i < FOLDERS_MAX; i++) {
                char *slash = strrchr(folder, '/');
                if (!slash || slash == folder)
                        break;
                *slash = '\0';
                (void) watch_folder(w, folder, &w->above[i]); /* one that may not be read is not watched */
        }
        return r;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

static void look_after(struct socket_watch *w, uint64_t usec) {
        if (!w->timer)
                (void) sd_event_add_time_relative(w->loop, &w->timer, CLOCK_BOOTTIME, usec, SOON_USEC, on_time, w);
}

/* Between its making and the watch it may be removed again: then there is nothing to watch. */
static void look(struct socket_watch *w) {
        int r = w->restore(w->userdata) ? watch(w) : -ENOENT;
        if (r < 0 && r != -ENOENT && r != -ENOTDIR)
                log_error("%s cannot be watched: %s; if it is removed, start bertd again", w->path, strerror(-r));
        else if (r < 0)
                look_after(w, RETRY_USEC);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        struct socket_watch *w = userdata;

        w->timer = sd_event_source_disable_unref(w->timer);
        look(w);
        return 0;
}

static int on_event(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        if (!(event->mask & IN_IGNORED)) /* of a watch that is over */
                look_after(userdata, SOON_USEC);
        return 0;
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        look_after(userdata, SOON_USEC);
        return 0;
}

static void watch_mounts(struct socket_watch *w) {
        cleanup_close int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

        if (fd >= 0 && sd_event_add_io(w->loop, &w->mounts, fd, EPOLLPRI, on_mounts, w) >= 0 &&
            sd_event_source_set_io_fd_own(w->mounts, true) >= 0)
                (void) steal_fd(&fd);
}

int socket_watch_new(sd_event *loop, const char *path, bool (*restore)(void *userdata), void *userdata,
                     struct socket_watch **ret) {
        struct socket_watch *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        *w = (struct socket_watch) {
                .loop = sd_event_ref(loop), .path = path, .restore = restore, .userdata = userdata
        };
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
        watch_nothing(w);
        (void) sd_event_source_disable_unref(w->mounts);
        (void) sd_event_source_disable_unref(w->timer);
        (void) sd_event_unref(w->loop);
        free(w->folder);
        free(w);
}
