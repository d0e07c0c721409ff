/* See surroundings.h. Owns nothing between calls. */
#include "ctl/surroundings.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/cpu_list.h"
#include "common/environment.h"
#include "common/file.h"
#include "common/paths.h"
#include "common/scheduling.h"
#include "common/utf8.h"

static bool is_the_jobs(const char *variable) {
        return strchr(variable, '=') && variable[0] != '=' && variable_owner(variable) == VARIABLE_JOB;
}

static int refuse_variable(const char *variable, struct error *error) {
        cleanup_free char *clean = text_as_utf8(variable);
        int length = clean ? (int) strcspn(clean, "=") : 0;

        return error_input(error, BERTCTL_EXIT_USAGE,
                           "environment variable %.*s: not UTF-8; unset it, or submit with `env -u %.*s bertctl submit "
                           "...`",
                           length, clean, length, clean);
}

/* The environment to send; the vector is the caller's, its strings are not. */
int surroundings_environment(char ***ret, struct error *error) {
        size_t n = 0;

        while (environ && environ[n])
                n++;
        cleanup_free char **variables = calloc(n + 1, sizeof(*variables));
        if (!variables)
                return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        n = 0;
        for (char **e = environ; e && *e; e++) {
                if (!is_the_jobs(*e))
                        continue;
                if (!text_is_utf8(*e))
                        return refuse_variable(*e, error);
                variables[n++] = *e;
        }
        *ret = steal_pointer(&variables);
        return 0;
}

/* ---- the folder ---- */

/* Also where it is gone: the kernel remembers its name. */
static char *folder_name(void) {
        static const char mark[] = " (deleted)";
        char path[PATH_MAX];

        ssize_t n = readlink("/proc/self/cwd", path, sizeof(path) - 1);
        path[MAX(n, 0)] = '\0';
        char *end = strstr(path, mark);
        if (end && end[sizeof(mark) - 1] == '\0')
                *end = '\0';
        return text_is_utf8(path) ? strdup(path) : text_as_utf8(path);
}

static int refuse_folder(const char *problem, struct error *error) {
        cleanup_free char *name = folder_name();

        return error_input(error, BERTCTL_EXIT_USAGE, "cwd: %s: %s; submit from another folder", name ? name : "?",
                           problem);
}

/* The job will go there by its name. */
int surroundings_folder(char **ret_cwd, struct error *error) {
        cleanup_free char *cwd = getcwd(NULL, 0);
        struct stat here, there;

        if (!cwd || cwd[0] != '/')
                return refuse_folder(errno == ENOENT || cwd ? "the current folder was removed" : strerror(errno),
                                     error);
        if (!text_is_utf8(cwd))
                return refuse_folder("its name is not UTF-8", error);
        if (stat(cwd, &there) < 0 || access(cwd, X_OK) < 0)
                return refuse_folder(strerror(errno), error);
        if (stat(".", &here) == 0 && (here.st_dev != there.st_dev || here.st_ino != there.st_ino))
                return refuse_folder("the current folder was replaced", error);
        *ret_cwd = steal_pointer(&cwd);
        return 0;
}

/* ---- limits ---- */

static int append_limits(sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "rlimits");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(utt)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(utt)");
        for (unsigned resource = 0; r >= 0 && resource < RLIMIT_NLIMITS; resource++) {
                struct rlimit limit;
                if (getrlimit((__rlimit_resource_t) resource, &limit) == 0)
                        r = sd_bus_message_append(m, "(utt)", (uint32_t) resource, (uint64_t) limit.rlim_cur,
                                                  (uint64_t) limit.rlim_max);
        }
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static mode_t current_umask(void) {
        mode_t mask = umask(077);
        (void) umask(mask);
        return mask;
}

/* ---- CPUs and niceness ---- */

/* "0-3,8", or "" where they are all that are online. */
static void list_cpus(char *buffer, size_t size) {
        char online[BERTD_CPU_LIST_MAX + 2] = "";
        struct cpu_list list;

        buffer[0] = '\0';
        if (cpu_list_get(0, &list) < 0)
                return;
        (void) cpu_list_write(&list, buffer, size);
        cleanup_fclose FILE *file = fopen("/sys/devices/system/cpu/online", "re");
        if (file && fgets(online, sizeof(online), file))
                online[strcspn(online, "\n")] = '\0';
        if (strcmp(buffer, online) == 0)
                buffer[0] = '\0';
}

/* Left out where they are as they usually are: an older daemon knows no such keys. */
static int append_scheduling(sd_bus_message *m) {
        char cpus[BERTD_CPU_LIST_MAX + 1], text[SCHEDULING_MAX];
        struct scheduling scheduling;
        int nice = getpriority(PRIO_PROCESS, 0), r = 0;

        list_cpus(cpus, sizeof(cpus));
        scheduling_get(&scheduling);
        if (scheduling_write(&scheduling, text)[0])
                r = sd_bus_message_append(m, "{sv}", "scheduling", "s", text);
        if (r >= 0 && nice != 0)
                r = sd_bus_message_append(m, "{sv}", "nice", "i", nice);
        if (r >= 0 && cpus[0])
                r = sd_bus_message_append(m, "{sv}", "cpu_list", "s", cpus);
        return r;
}

int surroundings_append(sd_bus_message *m) {
        int r = sd_bus_message_append(m, "{sv}", "umask", "u", (uint32_t) current_umask());

        if (r >= 0)
                r = append_limits(m);
        return r < 0 ? r : append_scheduling(m);
}

/* ---- standard input ---- */

/* A job reads /dev/null. Who gave bertctl something to read meant it for the job. */
void surroundings_tell_stdin(void) {
        struct stat st;
        int ready = 0;

        if (fstat(STDIN_FILENO, &st) < 0)
                return;
        if (S_ISREG(st.st_mode))
                ready = lseek(STDIN_FILENO, 0, SEEK_CUR) < st.st_size;
        else if ((S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) && ioctl(STDIN_FILENO, FIONREAD, &ready) < 0)
                ready = 0;
        if (ready > 0)
                (void) fprintf(stderr, "bertctl: standard input is ignored: a job reads /dev/null; let the job "
                                       "open the file: `bertctl submit -- sh -c 'COMMAND <FILE'`\n");
}

/* ---- another machine's state ---- */

static bool is_machine_id(const char *name) { return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32; }

void surroundings_tell_other_state(const char *state_dir) {
        const char *own = strrchr(state_dir, '/');
        cleanup_free char *parent =
                own && is_machine_id(own + 1) ? strndup(state_dir, (size_t) (own - state_dir)) : NULL;
        cleanup_closedir DIR *dir = parent ? opendir(parent) : NULL;

        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                if (!is_machine_id(entry->d_name) || strcmp(entry->d_name, own + 1) == 0)
                        continue;
                cleanup_free char *db = format_string("%s/%s/" BERTD_STATE_DB, parent, entry->d_name);
                if (!db || access(db, F_OK) < 0)
                        continue;
                (void) fprintf(
                        stderr,
                        "bertctl: no jobs here, but %s/%s has jobs of another machine-id; if it was this host's, "
                        "use them with: bertctl shutdown && bertd --detach --state-dir %s/%s\n",
                        parent, entry->d_name, parent, entry->d_name);
        }
}
