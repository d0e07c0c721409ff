/* See corpus_prefix.h. Owns nothing. */
#include "common/corpus_prefix.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/parse.h"

static const char index_suffix[] = ".idx";

size_t corpus_prefix_length(const char *path) {
        static const char *const suffixes[] = { ".bin", index_suffix, "." };
        size_t n = strlen(path);

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                size_t length = strlen(suffixes[i]);
                if (n > length && text_ends_with(path, suffixes[i]) && path[n - length - 1] != '/')
                        return n - length;
        }
        return 0;
}

static bool has_index(const char *prefix, size_t length) {
        cleanup_free char *path = format_string("%.*s%s", (int) length, prefix, index_suffix);
        return path && access(path, F_OK) == 0;
}

/* Length up to the last dot of its name. */
static size_t stem_length(const char *path) {
        const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
        return dot && (!slash || dot > slash) ? (size_t) (dot - path) : 0;
}

/* The prefix of a corpus in the folder; NULL: none. The caller frees. */
static char *corpus_in(const char *folder) {
        cleanup_closedir DIR *entries = opendir(folder);
        size_t n = strlen(folder);

        for (struct dirent *entry; entries && (entry = readdir(entries));) {
                size_t stem = stem_length(entry->d_name);
                if (stem > 0 && strcmp(entry->d_name + stem, index_suffix) == 0)
                        return format_string("%s%s%.*s", folder, folder[n - 1] == '/' ? "" : "/", (int) stem,
                                             entry->d_name);
        }
        return NULL;
}

bool corpus_prefix_mistaken(const char *path, char *ret, size_t size) {
        size_t stem = stem_length(path);
        struct stat st;

        if (stem > 0 && has_index(path, stem)) {
                (void) snprintf(ret, size, "expected a corpus prefix: %.*s", (int) stem, path);
                return true;
        }
        if (path[0] == '\0')
                return false;
        if (stat(path, &st) < 0) {
                size_t n = corpus_prefix_length(path);
                (void) snprintf(ret, size, "expected a corpus prefix: %.*s, for %.*s.bin and %.*s.idx", (int) n, path,
                                (int) n, path, (int) n, path);
                return n > 0;
        }
        if (S_ISDIR(st.st_mode)) {
                cleanup_free char *inside = corpus_in(path);
                (void) snprintf(ret, size, "a folder; expected a corpus prefix%s%s", inside ? ": " : "",
                                inside ? inside : "");
        } else
                (void) snprintf(ret, size,
                                "a file; expected a corpus prefix, as written by bert-trainer prepare --output PREFIX");
        return true;
}
