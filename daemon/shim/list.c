/*
 * See list.h. The lister writes numbers into a pipe: an errno (0: the folder was listed, or does not exist), the number
 * of files and of missing ones, then step, size and time of each file, then the missing steps. Invariant: only files
 * that were looked for are reported missing.
 */
#include "daemon/shim/list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bertd/limits.h"
#include "common/array.h"
#include "common/checkpoint_name.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"

enum { WORD_CODE, WORD_FILES, WORD_GONE, WORD_FIRST };
#define WORDS_A_FILE 3
#define WORDS_MAX (WORD_FIRST + (WORDS_A_FILE + 1) * LIST_FILES_MAX)

/* ---- the lister ---- */

/* 1: a file that is not empty; 0: no such file; −1: unknown. */
static int is_file(int folder, const char *path, struct stat *st) {
        if (fstatat(folder, path, st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
        return S_ISREG(st->st_mode) && st->st_size > 0;
}

/* A program's checkpoint may be a folder. */
static bool is_gone(const char *path) {
        struct stat st = {};

        return is_file(AT_FDCWD, path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int newest_first(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
        return x < y ? 1 : x > y ? -1 : 0;
}

/* The steps of the folder's checkpoints, newest first. */
static int read_steps(DIR *folder, uint64_t *steps, size_t *ret_n) {
        size_t seen = 0, n = 0;
        const struct dirent *entry;

        errno = 0;
        while (seen++ < LIST_ENTRIES_MAX && (entry = readdir(folder)))
                n += checkpoint_name_read(entry->d_name, &steps[n]) && steps[n] > 0;
        if (errno)
                return -errno;
        qsort(steps, n, sizeof(*steps), newest_first);
        *ret_n = n;
        return 0;
}

static void list_folder(int fd, const uint64_t *steps, size_t n, uint64_t *words) {
        for (size_t i = 0; i < n && words[WORD_FILES] < LIST_FILES_MAX; i++) {
                uint64_t *row = words + WORD_FIRST + WORDS_A_FILE * words[WORD_FILES];
                char name[64];
                struct stat st;
                (void) snprintf(name, sizeof(name), CHECKPOINT_NAME, steps[i]);
                if (is_file(fd, name, &st) <= 0)
                        continue;
                row[0] = steps[i];
                row[1] = (uint64_t) st.st_size;
                row[2] = (uint64_t) MAX(st.st_mtim.tv_sec, 0) * USEC_PER_SEC;
                words[WORD_FILES]++;
        }
}

static void look_for_known(int folder, const struct known *known, uint64_t *words) {
        uint64_t *gone = words + WORD_FIRST + WORDS_A_FILE * words[WORD_FILES];

        for (size_t i = 0; i < known->n; i++) {
                const struct known_checkpoint *row = &known->rows[i];
                char name[64];
                struct stat st;
                (void) snprintf(name, sizeof(name), CHECKPOINT_NAME, row->step);
                if (row->path ? is_gone(row->path) : folder < 0 || is_file(folder, name, &st) == 0)
                        gone[words[WORD_GONE]++] = row->step;
        }
}

/* The file system may be mounted late: files below it are unknown. */
static bool is_away(const char *path, const struct known *known) {
        return path && known->n > 0 && access(path, F_OK) < 0;
}

static void look(const char *run_dir, const char *cwd, const struct known *known, uint64_t *words) {
        if (cwd && (is_away(run_dir, known) || is_away(cwd, known))) {
                words[WORD_CODE] = (uint64_t) errno;
                return;
        }
        cleanup_free char *path = format_string("%s/checkpoints", run_dir);
        cleanup_free uint64_t *steps = calloc(LIST_ENTRIES_MAX, sizeof(*steps));
        cleanup_closedir DIR *folder = path && steps ? opendir(path) : NULL;
        size_t n = 0;

        if (!folder && errno != ENOENT && errno != ENOTDIR) {
                words[WORD_CODE] = (uint64_t) errno;
                return;
        }
        int r = folder ? read_steps(folder, steps, &n) : 0;
        if (r < 0) {
                words[WORD_CODE] = (uint64_t) -r;
                return;
        }
        if (folder)
                list_folder(dirfd(folder), steps, n, words);
        look_for_known(folder ? dirfd(folder) : -1, known, words);
}

/* It keeps none of the shim's descriptors: the attempt's lock is free when the shim is gone, even if the lister hangs.
 */
static __attribute__((noreturn)) void lister(int fd, const char *run_dir, const char *cwd, const struct known *known,
                                             uint64_t *words) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(fd, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
                _exit(1);
        look(run_dir, cwd, known, words);
        size_t n = WORD_FIRST + WORDS_A_FILE * words[WORD_FILES] + words[WORD_GONE];
        _exit(write_all(STDIN_FILENO, words, n * sizeof(*words)) < 0);
}

/* ---- the shim's side ---- */

int list_start(struct list *list, const char *run_dir, const char *cwd, const struct known *known) {
        int fds[2];

        list->words = calloc(WORDS_MAX, sizeof(*list->words));
        if (!list->words)
                return -ENOMEM;
        list->bytes = 0;
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        cleanup_close int reader = fds[0], writer = fds[1];
        if (fcntl(writer, F_SETFL, 0) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                lister(writer, run_dir, cwd, known, list->words);
        list->pidfd = pidfd_open(pid, 0);
        list->fd = steal_fd(&reader);
        return 0;
}

int list_read(struct list *list) {
        const size_t room = WORDS_MAX * sizeof(*list->words);

        for (;;) {
                ssize_t n = read(list->fd, (char *) list->words + list->bytes, room - list->bytes);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                if (n == 0)
                        break;
                list->bytes += (size_t) n;
        }
        const uint64_t *w = list->words;
        if (list->bytes < WORD_FIRST * sizeof(*w) || w[WORD_FILES] > LIST_FILES_MAX || w[WORD_GONE] > LIST_FILES_MAX)
                return -EIO;
        size_t n = WORD_FIRST + WORDS_A_FILE * w[WORD_FILES] + w[WORD_GONE];
        return list->bytes == n * sizeof(*w) ? 1 : -EIO;
}

static bool add_numbers(uint64_t **numbers, size_t *n, const uint64_t *more, size_t n_more) {
        if (array_resize(numbers, *n + n_more, sizeof(**numbers)) < 0)
                return false;
        memcpy(*numbers + *n, more, n_more * sizeof(**numbers));
        *n += n_more;
        return true;
}

/* bertd applies `gone` first, so a file that appeared and vanished must not be in `found`. */
static void forget_found(struct list_news *news, uint64_t step) {
        for (size_t i = 0; i < news->n_found; i += WORDS_A_FILE) {
                if (news->found[i] != step)
                        continue;
                news->n_found -= WORDS_A_FILE;
                memmove(news->found + i, news->found + i + WORDS_A_FILE, (news->n_found - i) * sizeof(*news->found));
                if (i < news->sent_found)
                        news->sent_found -= WORDS_A_FILE;
                return;
        }
}

int list_judge(const struct list *list, struct known *known, struct list_news *news) {
        const uint64_t *w = list->words, *row = w + WORD_FIRST, *gone = row + WORDS_A_FILE * w[WORD_FILES];

        if (w[WORD_CODE])
                return -(int) w[WORD_CODE];
        for (size_t i = 0; i < w[WORD_GONE]; i++) {
                known_remove(known, gone[i]);
                forget_found(news, gone[i]);
                (void) add_numbers(&news->gone, &news->n_gone, &gone[i], 1);
        }
        for (size_t i = 0; i < w[WORD_FILES]; i++, row += WORDS_A_FILE) {
                if (known_is_file(known, row[0]) || known_is_aside(known, row[0]))
                        continue;
                if (add_numbers(&news->found, &news->n_found, row, WORDS_A_FILE))
                        known_add(known, row[0], NULL, false);
        }
        return 0;
}

bool list_news_send(struct list_news *news) {
        news->sent_gone = MIN(news->n_gone, (size_t) BERTD_NEWS_MAX);
        news->sent_found = news->sent_gone < news->n_gone ? 0 : MIN(news->n_found, (size_t) BERTD_NEWS_MAX);
        return news->sent_gone == news->n_gone && news->sent_found == news->n_found;
}

static void drop_first(uint64_t *numbers, size_t *n, size_t *sent) {
        *n -= *sent;
        if (*n > 0)
                memmove(numbers, numbers + *sent, *n * sizeof(*numbers));
        *sent = 0;
}

void list_news_sent(struct list_news *news) {
        drop_first(news->found, &news->n_found, &news->sent_found);
        drop_first(news->gone, &news->n_gone, &news->sent_gone);
}

void list_news_clear(struct list_news *news) {
        free(news->found);
        free(news->gone);
        *news = (struct list_news) {};
}

void list_close(struct list *list) {
        if (list->pidfd >= 0)
                (void) pidfd_send_signal(list->pidfd, SIGKILL, NULL, 0);
        cleanup_close_p(&list->pidfd);
        cleanup_close_p(&list->fd);
        free(list->words);
        *list = (struct list) { .fd = -1, .pidfd = -1 };
}
