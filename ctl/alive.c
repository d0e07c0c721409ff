/*
 * See alive.h. Owns nothing. Invariant: ages are differences of times of the folder's own file system, so that hosts'
 * clocks need not agree.
 */
#include "ctl/alive.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/copies.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/proc.h"
#include "common/run_file.h"
#include "ctl/this_host.h"

#define HEARTBEAT "heartbeat"
#define HEARTBEAT_MAX 4096
#define HOST_MAX 255

struct heartbeat {
        char host[HOST_MAX + 1], boot_id[64];
        uint64_t job;
        pid_t pid;
};

/* A host's name in a file of anyone's: only what such a name has. */
static void take_host(const char *text, char host[HOST_MAX + 1]) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
        bool good = text && text[0] && strlen(text) <= HOST_MAX && text[strspn(text, letters)] == '\0';

        (void) snprintf(host, HOST_MAX + 1, "%s", good ? text : "");
}

static void read_heartbeat(const char *run_dir, struct heartbeat *ret) {
        cleanup_free char *path = format_string("%s/" HEARTBEAT, run_dir), *text = NULL;
        json_error_t ignored;
        size_t size;

        *ret = (struct heartbeat) {};
        if (!path || file_read(path, HEARTBEAT_MAX, &text, &size, NULL) < 0)
                return;
        json_t *object = json_read(text, size, 0, &ignored);
        const char *boot = object ? json_text_at(object, "boot_id") : NULL;
        take_host(object ? json_text_at(object, "host") : NULL, ret->host);
        (void) snprintf(ret->boot_id, sizeof(ret->boot_id), "%s", boot ? boot : "");
        json_int_t job = json_integer_value(json_object_get(object, "job"));
        json_int_t pid = json_integer_value(json_object_get(object, "pid"));
        ret->job = job > 0 ? (uint64_t) job : 0;
        ret->pid = pid > 0 && pid <= INT32_MAX ? (pid_t) pid : 0;
        json_decref(object);
}

/* Whether it was written by a process of this host, which can be looked at. */
static bool is_of_this_host(const struct heartbeat *h) {
        char host[HOST_MAX + 1] = "", boot[SD_ID128_UUID_STRING_MAX];
        sd_id128_t id;

        if (h->pid == 0 || gethostname(host, sizeof(host) - 1) < 0 || sd_id128_get_boot(&id) < 0)
                return false;
        size_t n = strcspn(host, ".");
        return strcmp(sd_id128_to_uuid_string(id, boot), h->boot_id) == 0 && strncmp(host, h->host, n) == 0 &&
               (h->host[n] == '\0' || h->host[n] == '.');
}

/* A zombie is dead. With hidepid only the signal shows it. */
static bool is_running(pid_t pid) {
        struct proc proc;

        if (kill(pid, 0) < 0 && errno != EPERM)
                return false;
        return proc_stat(pid, &proc) < 0 || !proc_is_dead(&proc);
}

static uint64_t usec_of(const struct timespec *t) {
        return (uint64_t) t->tv_sec * USEC_PER_SEC + (uint64_t) t->tv_nsec / 1000;
}

/* The file system's own time. */
static int time_there(const char *run_dir, uint64_t *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/.now-XXXXXX", run_dir);
        cleanup_close int fd = path ? mkostemp(path, O_CLOEXEC) : -1;
        struct stat st = {};

        if (fd < 0)
                return error_output(error, path ? errno : ENOMEM, run_dir);
        int r = write_all(fd, "", 1) < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0 ? -errno : 0;
        (void) unlink(path);
        *ret = usec_of(&st.st_mtim);
        return r < 0 ? error_output(error, -r, run_dir) : 0;
}

/* 1: *ret_age is that of a file of the folder, by when it was written, or put there; 0: there is none. */
static int age_of(const char *run_dir, const char *name, bool put, uint64_t *ret_age, struct error *error) {
        cleanup_free char *path = format_string("%s/%s", run_dir, name);
        struct stat st;
        uint64_t now = 0;

        if (!path || lstat(path, &st) < 0)
                return path && (errno == ENOENT || errno == ENOTDIR) ? 0 : error_errno(error, errno, "%s", run_dir);
        int r = time_there(run_dir, &now, error);
        if (r < 0)
                return r;
        uint64_t then = usec_of(put ? &st.st_ctim : &st.st_mtim);
        *ret_age = now > then ? now - then : 0;
        return 1;
}

/* Of a trainer; on a network file system also of another host's. */
static bool is_locked(const char *run_dir) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        cleanup_free char *path = format_string("%s/.lock", run_dir);
        cleanup_close int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY) : -1;

        return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int refuse(const char *run_dir, const struct heartbeat *h, const char *how, uint64_t wait_usec,
                  struct error *error) {
        char where[HOST_MAX + 64] = "", cure[HOST_MAX + 160] = "end that run first";

        if (h->host[0])
                (void) snprintf(where, sizeof(where), " on %s (job %" PRIu64 ")", h->host, h->job);
        if (h->host[0] && is_of_this_host(h))
                (void) snprintf(cure, sizeof(cure), "end it with `bertctl cancel %" PRIu64 "`", h->job);
        else if (h->host[0])
                (void) snprintf(cure, sizeof(cure), "end it there: `ssh %s bertctl cancel %" PRIu64 "`", h->host,
                                h->job);
        size_t n = strlen(cure);
        if (wait_usec > 0)
                (void) snprintf(cure + n, sizeof(cure) - n, "; if that host is gone, try again in %" PRIu64 " s",
                                wait_usec / USEC_PER_SEC + 1);
        (void) error_set(error, EBUSY, "%s: the run lives%s: %s; %s", run_dir, where, how, cure);
        error->exit = BERTCTL_EXIT_FAILED;
        return -EBUSY;
}

int alive_check(const char *run_dir, uint64_t *ret_wait_usec, struct error *error) {
        const uint64_t limit = ALIVE_SEC * USEC_PER_SEC;
        struct heartbeat heartbeat;
        uint64_t age = 0;
        char how[64];

        *ret_wait_usec = 0;
        read_heartbeat(run_dir, &heartbeat);
        if (is_locked(run_dir))
                return refuse(run_dir, &heartbeat, "a trainer holds its lock", 0, error);
        int r = age_of(run_dir, HEARTBEAT, false, &age, error);
        if (r <= 0)
                return r;
        bool lives = age < limit && (!is_of_this_host(&heartbeat) || is_running(heartbeat.pid));
        if (!lives)
                return 0;
        *ret_wait_usec = age < limit ? limit - age : 0;
        (void) snprintf(how, sizeof(how), "its heartbeat is %" PRIu64 " s old", age / USEC_PER_SEC);
        return refuse(run_dir, &heartbeat, how, is_of_this_host(&heartbeat) ? 0 : *ret_wait_usec, error);
}

void alive_warn_of_copies(const char *run_dir, const struct run_file *file) {
        cleanup_free char *marker = format_string("%s/" COPIES_MARKER, run_dir);
        char host[HOST_MAX + 1];
        struct error ignored = {};
        uint64_t age = 0;

        take_host(file->host, host);
        if (!marker || !file_is_there(marker) || !host[0] || this_host_is(host) ||
            age_of(run_dir, RUN_FILE, true, &age, &ignored) <= 0 || age >= ALIVE_SEC * USEC_PER_SEC)
                return;
        (void) fprintf(
                stderr,
                "bertctl: %s: copied from %s %" PRIu64
                " s ago; if the run lives there, two write it now: end that one with `ssh %s bertctl cancel %" PRIu64
                "`\n",
                run_dir, host, age / USEC_PER_SEC, host, file->job);
}
