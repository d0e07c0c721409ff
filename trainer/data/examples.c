/*
 * See examples.h. Owns the ids of all segments, one after the other. Invariant: text i has segments [first_segment[i],
 * first_segment[i + 1]), and segment s the ids [begin[s], begin[s + 1]).
 */
#include "trainer/data/examples.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bertd/exit.h"
#include "common/array.h"
#include "trainer/data/target.h"
#include "trainer/random/permute.h"
#include "trainer/random/philox.h"
#include "trainer/text/unknown.h"

enum place { PLACE_SHUFFLE, PLACE_SPLIT, PLACE_SUBSET }; /* of PHILOX_SHUFFLE; never renumbered */

struct texts {
        const struct encoder *encoder;
        struct texts_options options;
        struct ids ids, raw, raw_second; /* raw: of the text being added, and of the second of a pair */
        struct unknown unknown;
        uint64_t *begin, *first_segment; /* (segments + 1), (n + 1) */
        int32_t *label;                  /* (n) */
        double *target;                  /* (n) NaN: none */
        uint32_t *length;                /* (n) before it was shortened */
        uint32_t *second;                /* (n) the first token of the second text; 0: not a pair */
        size_t n_pairs;                  /* of all */
        size_t n_segments, n, segment_room, room;
        struct text_first *first;
        size_t n_first;
};

int texts_new(const struct encoder *encoder, const struct texts_options *options, struct texts **ret,
              struct error *error) {
        struct texts *t = calloc(1, sizeof(*t));

        if (!t)
                return error_errno(error, ENOMEM, "texts");
        t->encoder = encoder;
        t->options = *options;
        *ret = t;
        return 0;
}

void texts_free(struct texts *t) {
        if (!t)
                return;
        free(t->ids.data);
        free(t->raw.data);
        free(t->raw_second.data);
        unknown_free(&t->unknown);
        free(t->begin);
        free(t->first_segment);
        free(t->label);
        free(t->target);
        free(t->length);
        free(t->second);
        free(t->first);
        free(t);
}

void texts_print_unknown(const struct texts *t, const char *what, FILE *to) {
        unknown_print(&t->unknown, t->encoder, what, to);
}

void texts_clear(struct texts *t) { t->ids.n = t->n_segments = t->n = t->n_pairs = 0; }

/* ---- one text ---- */

static int make_room(struct texts *t, size_t segments) {
        const struct {
                void *array;
                size_t size;
        } arrays[] = { { &t->first_segment, sizeof(*t->first_segment) },
                       { &t->label, sizeof(*t->label) },
                       { &t->length, sizeof(*t->length) },
                       { &t->second, sizeof(*t->second) },
                       { &t->target, sizeof(*t->target) } };
        size_t room = t->room;

        for (size_t i = 0; i < ELEMENTSOF(arrays); i++) {
                room = t->room;
                if (array_reserve(arrays[i].array, &room, t->n + 2, arrays[i].size) < 0)
                        return -ENOMEM;
        }
        t->room = room;
        return array_reserve(&t->begin, &t->segment_room, t->n_segments + segments + 1, sizeof(*t->begin));
}

static int append_ids(struct texts *t, const struct ids *raw, size_t from, size_t n) {
        int r = 0;

        for (size_t i = from; r >= 0 && i < from + n; i++)
                r = ids_append(&t->ids, raw->data[i]);
        return r;
}

static int append_raw(struct texts *t, size_t from, size_t n) { return append_ids(t, &t->raw, from, n); }

/* A segment of `head` ids from `from` on and the last `tail` ones. */
static int append_segment(struct texts *t, size_t from, size_t head, size_t tail) {
        t->begin[t->n_segments++] = t->ids.n;
        int r = ids_append(&t->ids, t->options.cls);
        if (r >= 0)
                r = append_raw(t, from, head);
        if (r >= 0)
                r = append_raw(t, t->raw.n - tail, tail);
        if (r >= 0)
                r = ids_append(&t->ids, t->options.sep);
        t->begin[t->n_segments] = t->ids.n;
        return r;
}

static size_t head_of(const struct texts_options *o, size_t room) {
        return o->head_tokens > 0 ? MIN((size_t) o->head_tokens, room) : (room * 128 + 255) / 510;
}

static int append_shortened(struct texts *t) {
        const struct texts_options *o = &t->options;
        size_t room = o->sequence_length - 2, n = t->raw.n, head = MIN(n, room);
        int r = 0;

        if (o->truncation == TRUNCATION_SEGMENTS) {
                for (uint32_t s = 0; r >= 0 && s < o->max_segments && s * room < n; s++)
                        r = append_segment(t, s * room, MIN(room, n - s * room), 0);
                return r;
        }
        if (n <= room || o->truncation == TRUNCATION_HEAD)
                return append_segment(t, 0, head, 0);
        head = o->truncation == TRUNCATION_TAIL ? 0 : head_of(o, room);
        return append_segment(t, 0, head, room - head);
}

void texts_fit_pair(size_t room, size_t *first, size_t *second) {
        size_t *longer = *first > *second ? first : second, *shorter = *first > *second ? second : first;

        if (*first + *second <= room)
                return;
        if (*shorter > room / 2) {
                *shorter = room / 2;
                *longer = room - room / 2;
        } else
                *longer = room - *shorter;
}

/* [CLS] first [SEP] second [SEP] */
static int append_pair(struct texts *t) {
        const struct texts_options *o = &t->options;
        size_t first = t->raw.n, second = t->raw_second.n;
        bool tail = o->truncation == TRUNCATION_TAIL;

        texts_fit_pair(o->sequence_length - 3, &first, &second);
        t->begin[t->n_segments++] = t->ids.n;
        int r = ids_append(&t->ids, o->cls);
        if (r >= 0)
                r = append_ids(t, &t->raw, tail ? t->raw.n - first : 0, first);
        if (r >= 0)
                r = ids_append(&t->ids, o->sep);
        if (r >= 0)
                r = append_ids(t, &t->raw_second, tail ? t->raw_second.n - second : 0, second);
        if (r >= 0)
                r = ids_append(&t->ids, o->sep);
        t->begin[t->n_segments] = t->ids.n;
        t->second[t->n] = (uint32_t) first + 2;
        t->n_pairs++;
        return r;
}

/* -ENODATA: no token. */
static int encode(struct texts *t, const char *text, size_t size, struct ids *raw) {
        raw->n = 0;
        int r = encoder_encode_special(t->encoder, 0, text, size, raw);
        if (r >= 0 && raw->n == 0)
                return -ENODATA;
        return r < 0 ? r : unknown_take(&t->unknown, t->encoder, 0, text, size, raw->data, raw->n);
}

int texts_add(struct texts *t, const char *text, size_t size, const char *second, size_t second_size, int32_t label) {
        int r = encode(t, text, size, &t->raw);

        if (r >= 0 && second)
                r = encode(t, second, second_size, &t->raw_second);
        if (r >= 0)
                r = make_room(t, t->options.max_segments);
        if (r < 0)
                return r;
        t->first_segment[t->n] = t->n_segments;
        t->second[t->n] = 0;
        r = second ? append_pair(t) : append_shortened(t);
        if (r < 0)
                return r;
        t->length[t->n] = (uint32_t) (second ? t->raw.n + t->raw_second.n + 3 : t->raw.n + 2);
        t->target[t->n] = NAN;
        t->label[t->n++] = label;
        t->first_segment[t->n] = t->n_segments;
        return 0;
}

/* ---- files ---- */

static void drop_last(struct texts *t) {
        t->n_segments = t->first_segment[--t->n];
        t->n_pairs -= t->second[t->n] > 0;
        t->ids.n = t->begin[t->n_segments];
}

/* The class of the last text. */
static int take_label(struct texts *t, const char *path, const struct record *record, struct labels *labels, bool learn,
                      struct error *error) {
        int32_t label = learn ? labels_find(labels, record->label) : labels_find_class(labels, record->label);
        int r = 0;

        if (label < 0 && !learn)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s:%" PRIu64 ": label '%.64s' is not one of the %u classes of training%s", path,
                                   record->line, record->label, labels->n,
                                   record->first ? ": is this row a header (header: true)?" : "");
        if (label < 0) {
                r = labels_add(labels, record->label, error);
                label = (int32_t) labels->n - 1;
        }
        t->label[t->n - 1] = label;
        return r < 0 ? error_prefix(error, "%s:%" PRIu64, path, record->line) : 0;
}

/* The number of the last text. */
static int take_target(struct texts *t, const char *path, const struct record *record, struct error *error) {
        int r = target_parse(record->label, &t->target[t->n - 1]);

        t->label[t->n - 1] = 0;
        if (r == -ERANGE)
                return error_input(error, BERTD_EXIT_DATA, "%s:%" PRIu64 ": label '%.64s' is beyond fp32's numbers",
                                   path, record->line, record->label);
        if (r < 0)
                return error_input(
                        error, BERTD_EXIT_DATA,
                        "%s:%" PRIu64 ": label '%.64s' is not a number; expected a decimal number such as 1.5%s", path,
                        record->line, record->label, record->first ? ": is this row a header (header: true)?" : "");
        return 0;
}

int texts_take(struct texts *t, const char *path, const struct record *record, struct labels *labels, bool learn,
               struct error *error) {
        int r = texts_add(t, record->text, record->size, record->second, record->second_size, -1);

        if (r == -ENODATA)
                return 0;
        if (r < 0)
                return error_errno(error, -r, "%s", path);
        if (record->label)
                r = t->options.numbers ? take_target(t, path, record, error)
                                       : take_label(t, path, record, labels, learn, error);
        if (r < 0)
                drop_last(t); /* what came before it may still be looked at */
        return r < 0 ? r : 1;
}

static int note_first(struct texts *t, const char *path, const struct record *record, struct error *error) {
        if (array_resize(&t->first, t->n_first + (size_t) 1, sizeof(*t->first)) < 0)
                return error_errno(error, ENOMEM, "%s", path);
        t->first[t->n_first++] = (struct text_first) { path, record->line, t->n - 1 };
        return 0;
}

static int read_record(struct texts *t, const char *path, const struct record *record, struct labels *labels,
                       bool learn, struct texts_found *found, struct error *error) {
        int r = texts_take(t, path, record, labels, learn, error);

        if (r == 0)
                texts_note_empty(found, path, record);
        return r > 0 && record->first && record->label ? note_first(t, path, record, error) : r;
}

int texts_read(struct texts *t, const char *path, const struct records_options *options, struct labels *labels,
               bool learn, struct texts_found *found, struct error *error) {
        cleanup_records struct records *records = NULL;
        uint64_t before = t->n + found->n_empty;
        struct error encoding = {};
        struct record record;

        int r = records_open(path, options, &records, error);
        while (r >= 0 && (r = records_next(records, &record, error)) > 0)
                r = read_record(t, path, &record, labels, learn, found, error);
        if (records && records_finish(records, &found->bytes, &encoding) < 0) { /* whatever else is wrong comes of it */
                *error = encoding;
                return -EINVAL;
        }
        if (r >= 0 && t->n + found->n_empty == before)
                return error_input(error, BERTD_EXIT_DATA, "%s: holds no text", path);
        return r;
}

void texts_note_empty(struct texts_found *found, const char *path, const struct record *record) {
        if (found->n_empty++ > 0)
                return;
        found->first_empty = path;
        found->empty_line = record->line;
}

int texts_check_empty(const struct texts_found *found, enum data_empty empty, const char *option, struct error *error) {
        if (found->n_empty == 0 || empty == EMPTY_SKIP)
                return 0;
        return error_input(error, BERTD_EXIT_DATA,
                           "%s:%" PRIu64 ": empty text, the first of %" PRIu64 "; %s leaves them out",
                           found->first_empty, found->empty_line, found->n_empty, option);
}

void texts_print_found(const struct texts_found *found, FILE *to) {
        text_findings_print(&found->bytes, to);
        if (found->n_empty > 0)
                (void) fprintf(to, "bert-trainer: %s:%" PRIu64 ": empty text, the first of %" PRIu64 " left out\n",
                               found->first_empty, found->empty_line, found->n_empty);
}

/* ---- labels in order ---- */

static int by_order(const void *a, const void *b) { return labels_compare(*(char *const *) a, *(char *const *) b); }

int texts_sort_labels(struct texts *t, uint64_t first, struct labels *labels, struct error *error) {
        cleanup_free char **old = malloc((labels->n + 1) * sizeof(*old));
        cleanup_free int32_t *place = malloc((labels->n + 1) * sizeof(*place));

        if (!old || !place)
                return error_errno(error, ENOMEM, "labels");
        if (labels->n == 0)
                return 0;
        memcpy(old, labels->name, labels->n * sizeof(*old));
        qsort(labels->name, labels->n, sizeof(*labels->name), by_order);
        for (uint32_t i = 0; i < labels->n; i++)
                place[i] = labels_find(labels, old[i]);
        for (size_t i = first; i < t->n; i++)
                t->label[i] = place[t->label[i]];
        return 0;
}

void texts_shift_labels(struct texts *t, uint64_t first, uint32_t by) {
        for (size_t i = first; i < t->n; i++)
                t->label[i] += (int32_t) by;
}

uint64_t texts_n(const struct texts *t) { return t->n; }
int32_t texts_label(const struct texts *t, uint64_t index) { return t->label[index]; }
double texts_target(const struct texts *t, uint64_t index) { return t->target[index]; }
uint32_t texts_length(const struct texts *t, uint64_t index) { return t->length[index]; }

const int32_t *texts_ids(const struct texts *t, uint64_t index, uint32_t *ret_n, uint32_t *ret_second) {
        const uint64_t *begin = t->begin + t->first_segment[index];

        *ret_n = (uint32_t) (begin[1] - begin[0]);
        *ret_second = t->second[index] > 0 ? t->second[index] : *ret_n;
        return t->ids.data + begin[0];
}

bool texts_is_cut(const struct texts *t, uint64_t index) {
        const struct texts_options *o = &t->options;
        uint64_t segments = o->truncation == TRUNCATION_SEGMENTS ? o->max_segments : 1;
        uint32_t special = t->second[index] > 0 ? 3 : 2;

        return t->length[index] - special > segments * (o->sequence_length - special);
}

const struct text_first *texts_first(const struct texts *t, size_t *ret_n) {
        *ret_n = t->n_first;
        return t->first;
}

void texts_hash(const struct texts *t, char hex[HEX_128_SIZE]) {
        XXH128_hash_t parts[4] = { XXH3_128bits(t->ids.data, t->ids.n * sizeof(*t->ids.data)),
                                   XXH3_128bits(t->begin, t->n_segments * sizeof(*t->begin)),
                                   t->options.numbers ? XXH3_128bits(t->target, t->n * sizeof(*t->target))
                                                      : XXH3_128bits(t->label, t->n * sizeof(*t->label)),
                                   XXH3_128bits(t->second, t->n * sizeof(*t->second)) };
        XXH128_hash_t hash = XXH3_128bits(parts, (t->n_pairs > 0 ? 4 : 3) * sizeof(*parts));

        hex_128(hash.high64, hash.low64, hex);
}

/* ---- sets ---- */

int text_set_all(const struct texts *t, struct text_set *ret, struct error *error) {
        uint64_t *index = malloc((t->n + 1) * sizeof(*index));

        if (!index)
                return error_errno(error, ENOMEM, "texts");
        for (size_t i = 0; i < t->n; i++)
                index[i] = i;
        *ret = (struct text_set) { .texts = t, .index = index, .n = t->n };
        return 0;
}

void text_set_free(struct text_set *set) {
        free(set->index);
        *set = (struct text_set) {};
}

static void permute_of(const struct text_set *set, enum place place, uint64_t n, uint64_t epoch, struct permute *ret) {
        permute_init(ret, n, set->seed, philox_site(PHILOX_SHUFFLE, set->stage, 0, (uint32_t) place), epoch);
}

/* Takes those of `set` away that `gone` marks, and gives them to *ret unless `ret` is NULL. */
static void part(struct text_set *set, const bool *gone, struct text_set *ret) {
        uint64_t kept = 0;

        for (uint64_t i = 0; i < set->n; i++)
                if (!gone[i])
                        set->index[kept++] = set->index[i];
                else if (ret)
                        ret->index[ret->n++] = set->index[i];
        set->n = kept;
}

int text_set_split(struct text_set *set, double share, struct text_set *ret, struct error *error) {
        uint64_t n = MAX((uint64_t) llround(share * (double) set->n), UINT64_C(1));
        cleanup_free bool *gone = calloc(set->n + 1, sizeof(*gone));
        struct text_set out = *set;
        struct permute permute;

        out.n = 0;
        out.index = malloc((set->n + 1) * sizeof(*out.index));
        if (!gone || !out.index) {
                free(out.index);
                return error_errno(error, ENOMEM, "texts");
        }
        permute_of(set, PLACE_SPLIT, set->n, 0, &permute);
        for (uint64_t i = 0; i < MIN(n, set->n - 1); i++)
                gone[permute_index(&permute, i)] = true;
        part(set, gone, &out);
        *ret = out;
        return 0;
}

int text_set_subset(struct text_set *set, uint32_t n_labels, uint64_t per_class, double fraction, struct error *error) {
        cleanup_free bool *gone = calloc(set->n + 1, sizeof(*gone));
        cleanup_free uint64_t *count = calloc(n_labels, sizeof(*count)), *taken = calloc(n_labels, sizeof(*taken));
        struct permute permute;

        if (!gone || !count || !taken)
                return error_errno(error, ENOMEM, "texts");
        for (uint64_t i = 0; i < set->n; i++)
                count[texts_label(set->texts, set->index[i])]++;
        permute_of(set, PLACE_SUBSET, set->n, 0, &permute);
        for (uint64_t i = 0; i < set->n; i++) {
                uint64_t at = permute_index(&permute, i);
                int32_t label = texts_label(set->texts, set->index[at]);
                uint64_t most = per_class > 0 ? MIN(per_class, count[label]) : count[label];
                most = MAX((uint64_t) llround(fraction * (double) most), UINT64_C(1));
                gone[at] = ++taken[label] > most;
        }
        part(set, gone, NULL);
        return 0;
}

static void make(const void *context, uint64_t k, struct sample *sample) {
        const struct text_set *set = context;
        const struct texts *t = set->texts;
        uint64_t at = k % set->n;
        struct permute permute;

        if (set->shuffle) {
                permute_of(set, PLACE_SHUFFLE, set->n, k / set->n, &permute);
                at = permute_index(&permute, at);
        }
        uint64_t i = set->index[at], first = t->first_segment[i], end = t->first_segment[i + 1];
        sample->n_masked = 0;
        sample->n_segments = (uint32_t) (end - first);
        sample->length = (uint32_t) (t->begin[end] - t->begin[first]);
        sample->sentence_label = t->label[i];
        sample->target = t->options.numbers ? t->target[i] : 0;
        for (uint64_t s = first; s < end; s++)
                sample->segment_lengths[s - first] = (uint32_t) (t->begin[s + 1] - t->begin[s]);
        memcpy(sample->ids, t->ids.data + t->begin[first], sample->length * sizeof(*sample->ids));
        uint32_t second = t->second[i] > 0 ? t->second[i] : sample->length;
        for (uint32_t at_token = 0; at_token < sample->length; at_token++)
                sample->token_types[at_token] = at_token >= second;
}

struct sample_source text_set_source(const struct text_set *set) {
        const struct texts_options *o = &set->texts->options;
        uint32_t segments = o->truncation == TRUNCATION_SEGMENTS ? o->max_segments : 1;

        return (struct sample_source) { set, segments * o->sequence_length, 0, segments, make };
}
