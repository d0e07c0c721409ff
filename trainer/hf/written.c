/* See written.h. Owns nothing. */
#include "trainer/hf/written.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"

#define CONFIG "config.json"

static const char *const model_files[] = {
        CONFIG,           "model.safetensors",     "model.safetensors.index.json", "vocab.txt",         "spiece.model",
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",      "added_tokens.json",
};

/* Skips `text`, then digits. */
static const char *skip(const char *name, const char *text) {
        size_t n = strlen(text);

        if (!name || strncmp(name, text, n) != 0)
                return NULL;
        return name + n + strspn(name + n, "0123456789");
}

/* model-00001-of-00002.safetensors */
static bool is_shard(const char *name) {
        const char *end = skip(skip(name, "model-"), "-of-");

        return end && strcmp(end, ".safetensors") == 0;
}

static bool is_model_file(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(model_files); i++)
                if (strcmp(name, model_files[i]) == 0)
                        return true;
        return is_shard(name);
}

static bool is_dots(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* A folder of that name is nobody's model file. */
static int check_entry(const char *folder, int fd, const char *name, bool force, struct error *error) {
        struct stat st;

        if (!force)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: not empty: holds %.64s; choose another folder, or --force to replace the model "
                                   "in it",
                                   folder, name);
        if (is_model_file(name) && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
                return error_input(error, BERTD_EXIT_DATA, "%s/%s: a folder, which is not removed; expected a file",
                                   folder, name);
        return 0;
}

int model_folder_check(const char *folder, bool force, struct error *error) {
        cleanup_closedir DIR *dir = opendir(folder);
        int r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : error_output(error, errno, folder);
        for (struct dirent *entry; r >= 0 && (errno = 0, entry = readdir(dir));)
                if (!is_dots(entry->d_name))
                        r = check_entry(folder, dirfd(dir), entry->d_name, force, error);
        return r >= 0 && errno != 0 ? error_errno(error, errno, "%s", folder) : r;
}

static int remove_file(const char *folder, int fd, const char *name, struct error *error) {
        return unlinkat(fd, name, 0) < 0 && errno != ENOENT ? error_output(error, errno, folder) : 0;
}

static int remove_rest(const char *folder, DIR *dir, struct error *error) {
        int r = 0;

        for (struct dirent *entry; r >= 0 && (errno = 0, entry = readdir(dir));)
                if (is_model_file(entry->d_name))
                        r = remove_file(folder, dirfd(dir), entry->d_name, error);
        return r >= 0 && errno != 0 ? error_errno(error, errno, "%s", folder) : r;
}

int model_folder_clear(const char *folder, struct error *error) {
        int r = mkdir_parents(folder, 0777, error);

        if (r < 0)
                return r;
        cleanup_closedir DIR *dir = opendir(folder);
        if (!dir)
                return error_output(error, errno, folder);
        r = remove_file(folder, dirfd(dir), CONFIG, error);
        if (r >= 0 && fsync(dirfd(dir)) < 0)
                r = error_output(error, errno, folder);
        return r < 0 ? r : remove_rest(folder, dir, error);
}

void model_folder_drop(const char *folder) {
        cleanup_closedir DIR *dir = opendir(folder);

        if (dir && remove_file(folder, dirfd(dir), CONFIG, NULL) >= 0)
                (void) remove_rest(folder, dir, NULL);
}
