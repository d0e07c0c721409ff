/*
 * From opened corpora to samples on every rank; see run.h. Ids are read once in a corpus' life, by one rank of each
 * host that does not know the files (checked.h). Rank 0 builds the window map; a rank that sees the same map in the
 * run folder maps it, too, so that a host has it in memory once, and the others receive it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

static int receive_map(struct run *run, const struct windows *own, size_t size, struct windows **ret,
                       struct error *error) {
        cleanup_free char *scratch = malloc(PIECE_BYTES);
        size_t own_size = 0;
        const char *from = run->ranks.own == 0 ? windows_data(own, &own_size) : NULL;
        char *to = own ? NULL : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        bool room = scratch && to != MAP_FAILED;

        int r = exchange_agree(run->ranks.exchange, room ? 0 : error_errno(error, ENOMEM, "window map"), error);
        if (r < 0) {
                if (to && to != MAP_FAILED)
                        (void) munmap(to, size);
                return r;
        }
        send_map(run, from, to, scratch, size);
        r = to ? windows_take(to, size, "window map of rank 0", ret, error) : 0;
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
                r = receive_map(run, own, its.size, &own, error);
        if (r < 0)
                windows_close(own);
        else
                *ret = own;
        return r;
}
