/*
 * From opened corpora to samples on every rank; see run.h. Ids are read once in a corpus' life, by one rank of each
 * host that does not know the files (checked.h). Rank 0 builds the window map; a rank that sees the same map in the
 * run folder maps it, too; of the others the first of each host receives it, and the rest map that: a host has it in memory once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run/run.h"

#define PIECE_BYTES ((size_t) 4 << 20)

/* ---- ids ---- */

static char *checked_path(const struct run *run) { return format_string("%s/checked-ids", run->options->run_dir); }

/* All ranks know what rank 0's folder knows. */
static int learn_checked(struct run *run, struct error *error) {
        cleanup_free char *path = checked_path(run);
        struct checked *c = &run->making->checked;

        if (run->job->knows_checked)
                return 0;
        run->making->knows_checked = true;
        if (run->ranks.own == 0 && path)
                checked_load(c, path);
        exchange_broadcast(run->ranks.exchange, &c->n, sizeof(c->n));
        if (run->ranks.own != 0)
                c->list = calloc(c->n + 1, sizeof(*c->list));
        int r = exchange_agree(run->ranks.exchange, c->list || c->n == 0 ? 0 : error_errno(error, ENOMEM, "corpora"),
                               error);
        if (r >= 0)
                exchange_broadcast(run->ranks.exchange, c->list, c->n * sizeof(*c->list));
        return r;
}

/* One rank a host reads the ids of a corpus that nobody vouches for; all ranks then know those that are good. */
static int check_part(struct run *run, const struct corpus *corpus, struct error *error) {
        char state[CORPUS_HASH_MAX] = "";
        bool settled = corpus_state(corpus, run->job->samples_vocab.size, state);
        bool reads = exchange_local_rank(run->ranks.exchange) == 0 && !checked_has(&run->job->checked, state);

        int r = reads ? corpus_check_ids(corpus, run->job->samples_vocab.size, error) : 0;
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        if (!settled || !reads)
                state[0] = '\0';
        const char *all = exchange_gather(run->ranks.exchange, state, sizeof(state));
        for (uint32_t i = 0; r >= 0 && i < run->ranks.n; i++)
                if (all[i * sizeof(state)])
                        r = checked_add(&run->making->checked, all + i * sizeof(state));
        return exchange_agree(run->ranks.exchange, r < 0 ? error_errno(error, -r, "corpora") : 0, error);
}

int run_check_ids(struct run *run, const struct corpora *corpora, struct error *error) {
        cleanup_free char *path = checked_path(run);
        struct error why = {};

        int r = learn_checked(run, error);
        for (uint32_t p = 0; r >= 0 && p < corpora->n; p++)
                r = check_part(run, corpora->part[p], error);
        if (r >= 0 && run->ranks.own == 0 && path && checked_save(&run->making->checked, path, &why) < 0)
                (void) fprintf(stderr, "bert-trainer: %s: the next start reads all ids again\n", why.text);
        return r;
}

/* ---- the window map ---- */

/* From rank 0 to the ranks that have none; the others let it pass. `to`: room for it, or NULL. */
static void send_map(struct run *run, const char *from, char *to, char *scratch, size_t size) {
        for (size_t at = 0; at < size; at += PIECE_BYTES) {
                size_t n = MIN(size - at, PIECE_BYTES);
                if (from)
                        memcpy(scratch, from + at, n);
                exchange_broadcast(run->ranks.exchange, scratch, n);
                if (to)
                        memcpy(to + at, scratch, n);
        }
}

/* Rank 0's map into memory of the ranks that want it, in a file without a name: *ret_fd, for other ranks of the host. */
static int receive_map(struct run *run, bool wants, size_t size, struct windows **own, int *ret_fd,
                       struct error *error) {
        cleanup_free char *scratch = malloc(PIECE_BYTES);
        cleanup_close int fd = wants ? memfd_create("window map", MFD_CLOEXEC) : -1;
        const char *from = run->ranks.own == 0 ? windows_data(*own, &size) : NULL;
        char *to = NULL;
        int r = scratch && (!wants || fd >= 0) ? 0 : -ENOMEM;

        if (r >= 0 && wants) {
                r = ftruncate(fd, (off_t) size) < 0 ? -errno : 0;
                to = r < 0 ? NULL : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                r = to == MAP_FAILED ? -errno : r;
        }
        r = exchange_agree(run->ranks.exchange, r < 0 ? error_errno(error, -r, "window map") : 0, error);
        if (r < 0) {
                if (to && to != MAP_FAILED)
                        (void) munmap(to, size);
                return r;
        }
        send_map(run, from, to, scratch, size);
        r = to ? windows_take(to, size, "window map of rank 0", own, error) : 0;
        *ret_fd = steal_fd(&fd);
        return exchange_agree(run->ranks.exchange, r, error);
}

/* This rank's own file, where it is rank 0's. */
static struct windows *open_same(const char *path, const char head[WINDOWS_HEAD_BYTES]) {
        struct windows *windows = NULL;
        size_t size;

        if (windows_open(path, &windows, NULL) < 0)
                return NULL;
        if (memcmp(windows_data(windows, &size), head, WINDOWS_HEAD_BYTES) == 0)
                return windows;
        windows_close(windows);
        return NULL;
}

/* Collective: all ranks report. The first rank of this one's host may have it in memory. */
static struct windows *open_on_host(struct run *run, const char head[WINDOWS_HEAD_BYTES], bool wants, int fd) {
        struct {
                pid_t pid;
                int fd;
        } mine = { getpid(), fd };
        const typeof(mine) *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        const typeof(mine) first = all[exchange_local_root(run->ranks.exchange)];
        cleanup_free char *path = format_string("/proc/%d/fd/%d", (int) first.pid, first.fd);

        return wants && first.fd >= 0 && path ? open_same(path, head) : NULL;
}

/* Once for each host; then, where ranks of one host cannot see each other, for each rank. */
static int receive_all(struct run *run, const char head[WINDOWS_HEAD_BYTES], size_t size, struct windows **own,
                       struct error *error) {
        cleanup_close int fd = -1, ignored = -1;

        int r = receive_map(run, !*own && exchange_local_rank(run->ranks.exchange) == 0, size, own, &fd, error);
        if (r < 0)
                return r;
        struct windows *seen = open_on_host(run, head, !*own, fd);
        if (seen)
                *own = seen;
        if (exchange_or(run->ranks.exchange, !*own)) /* it is also what keeps fd open until all have looked */
                r = receive_map(run, !*own, size, own, &ignored, error);
        return r;
}

int run_share_map(struct run *run, const char *path, struct windows **ret, struct error *error) {
        struct windows *own = NULL;
        struct {
                size_t size;
                char head[WINDOWS_HEAD_BYTES];
        } its = {};

        int r = run->ranks.own == 0 ? windows_open(path, &own, error) : 0;
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        if (run->ranks.own == 0)
                memcpy(its.head, windows_data(own, &its.size), sizeof(its.head));
        exchange_broadcast(run->ranks.exchange, &its, sizeof(its));
        if (run->ranks.own != 0)
                own = open_same(path, its.head);
        if (exchange_or(run->ranks.exchange, !own))
                r = receive_all(run, its.head, its.size, &own, error);
        if (r < 0)
                windows_close(own);
        else
                *ret = own;
        return r;
}
