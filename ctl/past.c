/* See past.h. Owns nothing between calls. The files are looked at with the user's own rights. */
#include "ctl/past.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/checkpoint_name.h"
#include "common/clock.h"
#include "common/file.h"
#include "ctl/alive.h"

#define ENTRIES_MAX 10000 /* of a folder: beyond that its size is a lower bound */

void past_clear(struct past *past) {
        run_file_clear(&past->file);
        free(past->sizes);
        free(past->times);
        *past = (struct past) {};
}

/* Of the files right in it. */
static uint64_t folder_size(const char *path) {
        cleanup_closedir DIR *folder = opendir(path);
        uint64_t size = 0;
        unsigned n = 0;

        for (const struct dirent *entry; folder && n++ < ENTRIES_MAX && (entry = readdir(folder));) {
                struct stat st;
                if (fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
                        size += (uint64_t) st.st_size;
        }
        return size;
}

static bool look_at(const char *run_dir, const struct run_checkpoint *c, uint64_t *ret_size, uint64_t *ret_time) {
        cleanup_free char *usual = format_string("%s/checkpoints/" CHECKPOINT_NAME, run_dir, c->step);
        const char *path = c->path ? c->path : usual;
        struct stat st;

        if (!path || lstat(path, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
                return false;
        *ret_size = S_ISDIR(st.st_mode) ? folder_size(path) : (uint64_t) st.st_size;
        *ret_time = (uint64_t) MAX(st.st_mtim.tv_sec, 0) * USEC_PER_SEC;
        return true;
}

static void drop(struct run_file *file, size_t i) {
        free(file->checkpoints[i].path);
        memmove(&file->checkpoints[i], &file->checkpoints[i + 1], (--file->n - i) * sizeof(*file->checkpoints));
}

static void look(const char *run_dir, struct past *past) {
        struct run_file *file = &past->file;

        for (size_t i = 0; i < file->n;) {
                const struct run_checkpoint *c = &file->checkpoints[i];
                if (!look_at(run_dir, c, &past->sizes[i], &past->times[i])) {
                        drop(file, i);
                        continue;
                }
                if (c->state != RUN_DEMOTED)
                        past->newest = MAX(past->newest, c->step);
                i++;
        }
}

static bool has_good(const struct run_file *file) {
        for (size_t i = 0; i < file->n; i++)
                if (file->checkpoints[i].state != RUN_DEMOTED)
                        return true;
        return false;
}

static bool has_files(const char *run_dir) {
        cleanup_free char *path = format_string("%s/checkpoints", run_dir);
        cleanup_closedir DIR *folder = path ? opendir(path) : NULL;
        uint64_t step;

        for (const struct dirent *entry; folder && (entry = readdir(folder));)
                if (checkpoint_name_read(entry->d_name, &step))
                        return true;
        return false;
}

int past_read(const char *run_dir, struct past *ret, struct error *error) {
        *ret = (struct past) {};
        int r = run_file_read(run_dir, &ret->file, error);
        if (r < 0)
                return r;
        ret->sizes = calloc(ret->file.n + 1, sizeof(*ret->sizes));
        ret->times = calloc(ret->file.n + 1, sizeof(*ret->times));
        bool had = has_good(&ret->file);
        if (ret->sizes && ret->times)
                look(run_dir, ret);
        else
                r = error_errno(error, ENOMEM, "%s", run_dir);
        if (r == 0 && had && ret->newest == 0 && !has_files(run_dir))
                r = error_input(error, BERTCTL_EXIT_FAILED,
                                "%s: all checkpoints that " RUN_FILE
                                " names are missing; restore them, or remove " RUN_FILE " to begin at step 0",
                                run_dir);
        if (r < 0)
                past_clear(ret);
        return r;
}

int past_find(const char *run_dir, struct past *ret, struct error *error) {
        cleanup_free char *path = format_string("%s/" RUN_FILE, run_dir);
        uint64_t ignored;

        *ret = (struct past) {};
        int r = alive_check(run_dir, &ignored, error);
        if (r < 0)
                return r;
        if (!path || file_is_there(path)) {
                r = past_read(run_dir, ret, error);
                if (r == 0)
                        alive_warn_of_copies(run_dir, &ret->file);
                return r;
        }
        if (has_files(run_dir))
                return 0;
        return error_input(error, BERTCTL_EXIT_USAGE,
                           "--continue: %s: neither " RUN_FILE " nor checkpoints; to begin a run there, leave "
                           "--continue out",
                           run_dir);
}

static int append_rows(sd_bus_message *m, const struct past *past) {
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', "past_checkpoints");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(tttss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(tttss)");
        for (size_t i = 0; r >= 0 && i < past->file.n; i++) {
                const struct run_checkpoint *c = &past->file.checkpoints[i];
                r = sd_bus_message_append(m, "(tttss)", c->step, past->sizes[i], past->times[i],
                                          run_checkpoint_state_name(c->state), c->path ? c->path : "");
        }
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

int past_append(sd_bus_message *m, const struct past *past) {
        const struct run_counters *c = &past->file.counters;

        int r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "continues", "b", 1, "past_deaths", "u", c->deaths,
                                      "past_free_deaths", "u", c->free_deaths, "past_run_steps", "t", c->run_steps,
                                      "past_run_usec", "t", c->run_usec, "past_active_usec", "t", c->active_usec);
        if (r >= 0 && c->lost)
                r = sd_bus_message_append(m, "{sv}", "past_lost", "s", c->lost);
        return r < 0 ? r : append_rows(m, past);
}
