/* See places.h. Owns nothing. */
#include "common/spec/places.h"

#include <stdio.h>
#include <string.h>

#include "common/nearest.h"

const struct place file_place = { .section = "", .parts = "stages", .parts_max = SPEC_STAGES_MAX };
static const struct place stage_place = { "stages", STAGE_PREFIX, "tasks", SPEC_TASKS_MAX },
                          task_place = { "tasks", "data.", NULL, 0 };

const struct place *place_of_parts(const struct place *place) {
        return place == &file_place ? &stage_place : &task_place;
}

const char *place_name(const struct place *place, size_t row, char buffer[NAME_SIZE]) {
        if (row == spec_n_fields)
                return place->parts;
        const struct field *field = &spec_fields[row];
        size_t n = strlen(place->section), section = strcspn(field->key, ".");
        bool own = strncmp(field->key, place->section, n) == 0 && !strchr(field->key + n, '.'),
             nested = place == &file_place    ? field->key[section] && strncmp(field->key, STAGE_PREFIX, section) != 0
                      : place == &stage_place ? is_staged(field)
                                              : false;

        if (own)
                return field->entry == 2 ? NULL : field->key + n;
        if (!nested || (row > 0 && strncmp(spec_fields[row - 1].key, field->key, section + 1) == 0))
                return NULL;
        (void) snprintf(buffer, NAME_SIZE, "%.*s", (int) section, field->key);
        return buffer;
}

size_t place_find(const struct place *place, const char *word) {
        char buffer[NAME_SIZE];
        size_t row = 0;

        for (; row <= spec_n_fields; row++) {
                const char *name = place_name(place, row, buffer);
                if (name && strcmp(name, word) == 0)
                        break;
        }
        return row;
}

struct suggestion {
        char text[2 * NAME_SIZE];
        size_t distance;
};

static void suggest(const char *word, const struct place *place, const char *before, const char *after,
                    struct suggestion *best) {
        char buffer[NAME_SIZE];

        for (size_t row = 0; row <= spec_n_fields; row++) {
                const char *name = place_name(place, row, buffer);
                size_t distance = name ? nearest_distance(word, name) : NEAREST_FAR;
                if (distance >= best->distance)
                        continue;
                best->distance = distance;
                (void) snprintf(best->text, sizeof(best->text), ": did you mean %s%s%s%s?", before,
                                before[0] ? "." : "", name, after);
        }
}

/* A key of the same place or, if none is near, of another. */
static void suggest_key(const char *word, const struct place *place, struct suggestion *best) {
        char outside[NAME_SIZE], buffer[NAME_SIZE], section[NAME_SIZE + 1];

        suggest(word, place, place->name ? place->name : "", "", best);
        if (best->distance < NEAREST_FAR)
                return;
        (void) snprintf(outside, sizeof(outside), " outside of %s", place->name ? place->name : "");
        suggest(word, &file_place, "", outside, best);
        for (size_t row = 0; row < spec_n_fields; row++) {
                const char *name = place_name(&file_place, row, buffer);
                if (name != buffer)
                        continue;
                (void) snprintf(section, sizeof(section), "%s.", name);
                suggest(word, &(struct place) { name, section, NULL, 0 }, name, "", best);
        }
}

void place_describe_unknown(const struct place *place, const char *word, char *buffer, size_t size) {
        struct suggestion best = { .distance = NEAREST_FAR };
        char keys[512] = "", name_buffer[NAME_SIZE];
        size_t used = 0;

        for (size_t row = 0; row <= spec_n_fields && used < sizeof(keys); row++) {
                const char *name = place_name(place, row, name_buffer);
                if (name)
                        used += (size_t) snprintf(keys + used, sizeof(keys) - used, "%s%s", used ? ", " : "", name);
        }
        suggest_key(word, place, &best);
        (void) snprintf(buffer, size, "unknown key '%.64s'%s%s%s; expected %s", word, place->name ? " in " : "",
                        place->name ? place->name : "", best.text, keys);
}
