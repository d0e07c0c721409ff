/* See fingerprint.h. Owns two growing texts. Invariant: `values` holds two texts and `notes` one for each value; a
 * note is empty where the value itself is shown. */
#include "trainer/run/fingerprint.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "common/cleanup.h"

#define UNKNOWN ""      /* a content that this rank does not know */
#define NONE "\001none" /* not to be mistaken for a text of that name */

static bool put(char **to, size_t *size, size_t *capacity, const char *text) {
        size_t n = strlen(text) + 1;

        if (array_reserve(to, capacity, *size + n, 1) < 0)
                return false;
        memcpy(*to + *size, text, n);
        *size += n;
        return true;
}

static void add(struct fingerprint *f, const char *name, const char *value, const char *note) {
        if (!put(&f->values, &f->size, &f->capacity, name) || !put(&f->values, &f->size, &f->capacity, value) ||
            !put(&f->notes, &f->notes_size, &f->notes_capacity, note))
                f->no_memory = true;
}

void fingerprint_add(struct fingerprint *f, const char *name, const char *value) {
        add(f, name, value ? value : NONE, "");
}

void fingerprint_add_content(struct fingerprint *f, const char *name, const char *path, const char *hash) {
        add(f, name, hash ? hash : UNKNOWN, path && path[0] ? path : "contents");
}

void fingerprint_free(struct fingerprint *f) {
        free(f->values);
        free(f->notes);
        *f = (struct fingerprint) {};
}

static const char *next(const char *text) { return text + strlen(text) + 1; }
static const char *shown(const char *value) { return strcmp(value, NONE) == 0 ? "none" : value; }

static int name_difference(const char *name, const char *value, const char *its, const char *note,
                           const char *host_of_0, struct error *error) {
        if (note[0])
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s: %.400s differs from that of rank 0 on %s: all ranks need the same, copy it from there",
                        name, note, host_of_0);
        bool config = strncmp(name, FINGERPRINT_CONFIG, strlen(FINGERPRINT_CONFIG)) == 0,
             backend = strcmp(name, FINGERPRINT_BACKEND) == 0;
        return error_input(error, BERTD_EXIT_DATA, "%s: %.200s, but rank 0 on %s has %.200s: %s", name, shown(value),
                           host_of_0, shown(its),
                           backend  ? "use hosts whose processors are alike"
                           : config ? "all ranks need the same, copy it from there"
                                    : "start all ranks with the same spec");
}

/* Of two lists, name by name: one that is longer differs where the other ends. */
static int find_difference(const struct fingerprint *f, const char *its, size_t its_size, const char *host_of_0,
                           struct error *error) {
        const char *a = f->values, *a_end = a + f->size, *b = its, *b_end = b + its_size, *note = f->notes;

        for (; a < a_end && b < b_end; a = next(next(a)), b = next(next(b)), note = next(note)) {
                const char *mine = next(a), *other = next(b);
                if (strcmp(a, b) != 0)
                        return error_input(error, BERTD_EXIT_DATA,
                                           "%s: rank 0 on %s has %s instead: start all ranks with the same spec", a,
                                           host_of_0, b);
                bool unknown = note[0] && (strcmp(mine, UNKNOWN) == 0 || strcmp(other, UNKNOWN) == 0);
                if (strcmp(mine, other) != 0 && !unknown)
                        return name_difference(a, mine, other, note, host_of_0, error);
        }
        if (a < a_end || b < b_end)
                return error_input(error, BERTD_EXIT_DATA, "%s: only on %s: start all ranks with the same spec",
                                   a < a_end ? a : b, a < a_end ? "this rank" : "rank 0");
        return 0;
}

static bool all_same(struct exchange *x, const XXH128_hash_t *mine) {
        const XXH128_hash_t *all = exchange_gather(x, mine, sizeof(*mine));
        bool same = true;

        for (uint32_t r = 1; r < exchange_n_ranks(x); r++)
                same = same && XXH128_isEqual(all[r], all[0]);
        return same;
}

static int compare_lists(const struct fingerprint *f, struct exchange *x, struct error *error) {
        uint64_t size = f->size;

        exchange_broadcast(x, &size, sizeof(size));
        cleanup_free char *its = malloc(size + 1);
        int r = exchange_agree(x, its ? 0 : error_errno(error, ENOMEM, "fingerprint"), error);
        if (r < 0)
                return r;
        if (exchange_rank(x) == 0)
                memcpy(its, f->values, size);
        exchange_broadcast(x, its, size);
        return exchange_agree(x, find_difference(f, its, size, exchange_host(x, 0), error), error);
}

int fingerprint_compare(const struct fingerprint *f, struct exchange *x, struct error *error) {
        int r = exchange_agree(x, f->no_memory ? error_errno(error, ENOMEM, "fingerprint") : 0, error);
        if (r < 0)
                return r;

        XXH128_hash_t mine = XXH3_128bits(f->values, f->size);
        return all_same(x, &mine) ? 0 : compare_lists(f, x, error);
}
