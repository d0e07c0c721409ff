/*
 * See masking.h. Owns nothing. A first pass chooses positions into a bit set, the second replaces them in ascending order, so the
 * draws of a position are the same in whatever order it was chosen.
 */
#include "trainer/data/masking.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/random/permute.h"
#include "trainer/random/philox.h"

struct bits {
        uint64_t word[MASKING_LENGTH_MAX / 64];
};

static bool bit(const struct bits *bits, uint32_t i) { return bits->word[i / 64] >> (i % 64) & 1; }
static void set_bit(struct bits *bits, uint32_t i) { bits->word[i / 64] |= UINT64_C(1) << (i % 64); }

/* ---- vocabulary ---- */

static int compare_ids(const void *a, const void *b) {
        int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;
        return x < y ? -1 : x > y;
}

static bool is_special(const struct samples_vocab *v, int32_t id) {
        for (uint32_t i = 0; i < v->n_special; i++)
                if (v->special[i] == id)
                        return true;
        return false;
}

static int mark_continuations(struct samples_vocab *v, const struct vocab *vocab, struct error *error) {
        v->continues = calloc((v->size + 7) / 8, 1);
        if (!v->continues)
                return error_errno(error, ENOMEM, "vocabulary");
        for (uint32_t i = 0; i < v->size; i++)
                if (!is_special(v, (int32_t) i) && !vocab_begins_word(vocab, (int32_t) i))
                        v->continues[i / 8] |= (uint8_t) (1 << i % 8);
        return 0;
}

int samples_vocab_init(struct samples_vocab *ret, const struct vocab *vocab, const char *path, struct error *error) {
        static const char *const names[SAMPLES_SPECIAL_MAX] = { "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]" };
        struct samples_vocab v = { .size = vocab_size(vocab) };
        int32_t ids[SAMPLES_SPECIAL_MAX];

        for (uint32_t i = 0; i < SAMPLES_SPECIAL_MAX; i++) {
                ids[i] = vocab_special(vocab, names[i]);
                if (ids[i] < 0 && i < 3)
                        return error_input(error, BERTD_EXIT_DATA, "%s: has no %s token", path, names[i]);
                if (ids[i] >= 0)
                        v.special[v.n_special++] = ids[i];
        }
        if (v.size <= v.n_special)
                return error_input(error, BERTD_EXIT_DATA, "%s: holds nothing but special tokens", path);
        v.cls = ids[0];
        v.sep = ids[1];
        v.mask = ids[2];
        qsort(v.special, v.n_special, sizeof(v.special[0]), compare_ids);
        int r = mark_continuations(&v, vocab, error);
        if (r < 0)
                return r;
        *ret = v;
        return 0;
}

void samples_vocab_free(struct samples_vocab *vocab) {
        free(vocab->continues);
        *vocab = (struct samples_vocab) {};
}

static bool continues(const struct samples_vocab *v, int32_t id) {
        return v->continues && v->continues[id / 8] >> (id % 8) & 1;
}

/* ---- choosing ---- */

/* Selection sampling (Knuth 3.4.2 S). */
static void choose_tokens(const struct masking *m, uint64_t key, const int32_t *ids, uint32_t length, uint32_t want,
                          uint32_t candidates, struct bits *chosen) {
        for (uint32_t i = 0; i < length && want > 0; i++) {
                if (is_special(m->vocab, ids[i]))
                        continue;
                struct philox p = philox(m->seed, i, m->pick_site, key);
                if (philox_below(p.v[0], candidates--) >= want)
                        continue;
                set_bit(chosen, i);
                want--;
        }
}

/* Ends of the words that begin at `at`: at most MASKING_NGRAM_MAX, none past a special token. Returns how many; 0 where no word
 * begins there. */
static uint32_t words_at(const struct masking *m, const int32_t *ids, uint32_t length, uint32_t at,
                         uint32_t ends[MASKING_NGRAM_MAX]) {
        const struct samples_vocab *v = m->vocab;
        uint32_t most = m->unit == MASK_UNIT_NGRAM ? MASKING_NGRAM_MAX : 1, n = 0, i = at;

        if (is_special(v, ids[at]) || (continues(v, ids[at]) && at > 0 && !is_special(v, ids[at - 1])))
                return 0;
        while (n < most && i < length && !is_special(v, ids[i])) {
                do
                        i++;
                while (i < length && !is_special(v, ids[i]) && continues(v, ids[i]));
                ends[n++] = i;
        }
        return n;
}

/* 1 … n with p ∝ 1/n */
static uint32_t draw_length(uint32_t word, uint32_t n) {
        static const float sums[MASKING_NGRAM_MAX] = { 1.0f, 1.0f + 1.0f / 2, 1.0f + 1.0f / 2 + 1.0f / 3 };
        float u = philox_unit(word) * sums[n - 1];
        uint32_t length = 1;

        while (length < n && u >= sums[length - 1])
                length++;
        return length;
}

static bool any_chosen(const struct bits *chosen, uint32_t begin, uint32_t end) {
        while (begin < end && !bit(chosen, begin))
                begin++;
        return begin < end;
}

static void choose_words(const struct masking *m, uint64_t key, const int32_t *ids, uint32_t length, uint32_t want,
                         struct bits *chosen) {
        struct permute order;
        uint32_t ends[MASKING_NGRAM_MAX];

        permute_init(&order, length, m->seed, m->order_site, key);
        for (uint32_t i = 0; i < length && want > 0; i++) {
                uint32_t at = (uint32_t) permute_index(&order, i), n = words_at(m, ids, length, at, ends);
                if (n == 0)
                        continue;
                n = draw_length(philox(m->seed, at, m->length_site, key).v[0], n);
                while (n > 1 && ends[n - 1] - at > want)
                        n--;
                if (ends[n - 1] - at > want || any_chosen(chosen, at, ends[n - 1]))
                        continue;
                for (uint32_t k = at; k < ends[n - 1]; k++)
                        set_bit(chosen, k);
                want -= ends[n - 1] - at;
        }
}

/* ---- replacing ---- */

/* Uniform over the ids that are not special. */
static int32_t random_id(const struct samples_vocab *v, uint32_t word) {
        int32_t id = (int32_t) philox_below(word, v->size - v->n_special);

        for (uint32_t i = 0; i < v->n_special; i++)
                id += id >= v->special[i];
        return id;
}

static int32_t masked_id(const struct samples_vocab *v, int32_t original, const struct philox *p) {
        float u = philox_unit(p->v[1]);

        if (u < 0.8f)
                return v->mask;
        return u < 0.9f ? random_id(v, p->v[2]) : original;
}

uint32_t masking_apply(const struct masking *m, uint64_t key, int32_t *ids, uint32_t length, int32_t *positions,
                       int32_t *labels) {
        uint32_t candidates = 0, n = 0, want = (uint32_t) MAX(1L, lrint(m->fraction * (double) length));
        struct bits chosen;

        assert(length <= MASKING_LENGTH_MAX);
        memset(&chosen, 0, (length + 63) / 64 * sizeof(chosen.word[0]));
        for (uint32_t i = 0; i < length; i++)
                candidates += !is_special(m->vocab, ids[i]);
        want = MIN(want, MIN(m->max_predictions, candidates));
        if (m->unit == MASK_UNIT_TOKEN)
                choose_tokens(m, key, ids, length, want, candidates, &chosen);
        else
                choose_words(m, key, ids, length, want, &chosen);
        for (uint32_t i = 0; i < length; i++) {
                if (!bit(&chosen, i))
                        continue;
                struct philox p = philox(m->seed, i, m->pick_site, key);
                positions[n] = (int32_t) i;
                labels[n++] = ids[i];
                ids[i] = masked_id(m->vocab, ids[i], &p);
        }
        return n;
}
