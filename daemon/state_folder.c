/* See state_folder.h. */
#include "daemon/state_folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/paths.h"
#include "daemon/attempt/folder.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/reserve.h"

#define HOLD_TRIES 50
#define HOLD_PAUSE_USEC 20000

/* A record lock: it names its holder, and is released when the holder exits. */
static int lock_state(const char *state_dir, int *ret, struct error *error) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        cleanup_free char *path = format_string("%s/bertd.lock", state_dir);
        if (!path)
                return error_errno(error, ENOMEM, "%s", state_dir);
        cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_errno(error, errno, "%s", path);
        if (fcntl(fd, F_SETLK, &lock) < 0) {
                if (errno != EAGAIN && errno != EACCES)
                        return error_errno(error, errno, "%s", path);
                lock.l_pid = 0;
                (void) fcntl(fd, F_GETLK, &lock);
                return error_set(error, EBUSY, "%s: in use by another bertd (pid %d)", state_dir, (int) lock.l_pid);
        }
        *ret = steal_fd(&fd);
        return 0;
}

/* Also locks the folder: somebody may remove the lock file while bertd runs. */
static int hold_folder(const char *state_dir, int *ret, struct error *error) {
        cleanup_close int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_errno(error, errno, "%s", state_dir);
        /* A child of a killed bertd also holds it, until it executes another program. */
        for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
                if (errno != EWOULDBLOCK)
                        return error_errno(error, errno, "%s", state_dir);
                if (i == HOLD_TRIES)
                        return error_set(error, EBUSY, "%s: in use by another bertd (its bertd.lock was removed)",
                                         state_dir);
                loop_sleep(HOLD_PAUSE_USEC);
        }
        *ret = steal_fd(&fd);
        return 0;
}

/* True if a job's folder exists: state.db must have its rows. */
static bool holds_jobs(const char *state_dir) {
        cleanup_free char *path = format_string("%s/jobs", state_dir);
        cleanup_closedir DIR *jobs = path ? opendir(path) : NULL;
        bool found = !jobs;

        for (const struct dirent *entry; !found && (entry = readdir(jobs));)
                found = isdigit((unsigned char) entry->d_name[0]);
        return found;
}

static void log_line(const char *text) { log_error("%s", text); }

/* Restricts the mode of the folder it takes. */
static bool is_foreign(const char *dir) {
        static const char *const ours[] = { BERTD_STATE_DB, "bertd.lock", "bertd.log", "jobs" };
        cleanup_closedir DIR *folder = opendir(dir);
        bool empty = true;

        for (struct dirent *entry; folder && (entry = readdir(folder));) {
                empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                                  strcmp(entry->d_name, "lost+found") == 0);
                for (size_t i = 0; i < ELEMENTSOF(ours); i++)
                        if (strcmp(entry->d_name, ours[i]) == 0)
                                return false;
        }
        return folder && !empty;
}

int state_folder_open(struct node *m, struct error *error) {
        const char *dir = m->options.state_dir;
        mode_t mode = geteuid() == 0 ? 0711 : 0700;
        struct stat st;

        int r = mkdir_parents(dir, 0755, error);
        if (r < 0)
                return r;
        if (is_foreign(dir))
                return error_set(error, ENOTEMPTY, "%s: not empty and not a bertd state folder; use an empty one", dir);
        if (stat(dir, &st) < 0)
                return error_errno(error, errno, "%s", dir);
        if (st.st_uid != geteuid())
                return error_set(error, EPERM, "%s: owned by uid %u, expected uid %u", dir, (unsigned) st.st_uid,
                                 (unsigned) geteuid());
        if (chmod(dir, mode) < 0)
                return error_errno(error, errno, "%s", dir);
        cleanup_free char *db = format_string("%s/%s", dir, BERTD_STATE_DB);
        if (!db)
                return error_errno(error, ENOMEM, "%s", dir);
        r = lock_state(dir, &m->lock_fd, error);
        if (r >= 0)
                r = hold_folder(dir, &m->dir_fd, error);
        if (r >= 0)
                r = files_open_jobs(dir, &m->jobs_fd, error);
        mode_t old = umask(077);
        if (r >= 0)
                r = store_open(db, !holds_jobs(dir), log_line, &m->store, error);
        (void) umask(old);
        if (r >= 0)
                m->reserve_fd = reserve_open(dir);
        return r;
}

void state_folder_close(struct node *m) {
        store_free(m->store);
        const int fds[] = { m->jobs_fd, m->lock_fd, m->dir_fd, m->reserve_fd };
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                if (fds[i] >= 0)
                        (void) close(fds[i]);
}
