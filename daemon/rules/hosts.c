/* See hosts.h. Owns nothing. Invariants: the head is always chosen; no host is chosen twice; a wait is at most the
 * longest cool-down. */
#include "daemon/rules/hosts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSSES_MAX 1000 /* of a host: its cool-down does not grow any more */

/* ---- the state of hosts ---- */

struct entry {
        char name[BERTD_HOST_MAX + 1];
        uint64_t until;
        unsigned losses;
};

/* The next entry; damaged ones are skipped. */
static bool next_entry(const char **at, struct entry *ret) {
        for (const char *text = *at; text && *text; text = *at) {
                size_t n = strcspn(text, ",");
                int used = 0;
                *at = text + n + (text[n] == ',');
                *ret = (struct entry) {};
                int fields = sscanf(text, "%253[^=,]=%" SCNu64 ":%u%n", ret->name, &ret->until, &ret->losses, &used);
                if (fields == 3 && (size_t) used == n && host_is_name(ret->name))
                        return true;
        }
        return false;
}

static bool find_entry(const char *state, const char *name, struct entry *ret) {
        while (next_entry(&state, ret))
                if (host_is(ret->name, name))
                        return true;
        *ret = (struct entry) {};
        return false;
}

/* Without the entries of `drop`, with `add` (NULL: none). */
static char *rewrite(const char *state, const char *drop, const struct entry *add) {
        char *text = NULL;
        struct entry e;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        while (next_entry(&state, &e))
                if (!hosts_contain(drop, e.name))
                        (void) fprintf(stream, "%s%s=%" PRIu64 ":%u", ftell(stream) > 0 ? "," : "", e.name, e.until,
                                       e.losses);
        if (add)
                (void) fprintf(stream, "%s%s=%" PRIu64 ":%u", ftell(stream) > 0 ? "," : "", add->name, add->until,
                               add->losses);
        if (fclose(stream) == 0 && text[0])
                return text;
        free(text);
        return NULL;
}

static uint64_t cool_down(const struct hosts_cooling *cooling, unsigned losses) {
        uint64_t usec = cooling->first_usec;

        for (unsigned i = 1; i < losses && usec < cooling->longest_usec; i++)
                usec *= 2;
        return MIN(usec, cooling->longest_usec);
}

char *hosts_lose(const char *state, const char *hosts, const char *lost, const struct hosts_cooling *cooling,
                 uint64_t now_usec) {
        struct entry e;

        if (!hosts_contain(hosts, lost))
                return rewrite(state, NULL, NULL);
        (void) find_entry(state, lost, &e);
        e.losses = MIN(e.losses + 1, (unsigned) LOSSES_MAX);
        e.until = now_usec + cool_down(cooling, e.losses);
        (void) snprintf(e.name, sizeof(e.name), "%s", lost);
        return rewrite(state, lost, &e);
}

char *hosts_prove(const char *state, const char *hosts) { return rewrite(state, hosts, NULL); }

uint64_t hosts_cool_until(const char *state, const char *name, const struct hosts_cooling *cooling, uint64_t now_usec) {
        struct entry e;

        if (!find_entry(state, name, &e) || e.until <= now_usec || e.until - now_usec > cooling->longest_usec)
                return 0;
        return e.until;
}

/* ---- the choice ---- */

struct candidate {
        char name[BERTD_HOST_MAX + 1];
        uint64_t until; /* of its cool-down, 0: ready */
        bool chosen;
};

static uint32_t gather(const struct hosts_wish *wish, struct candidate *c) {
        const char *at = wish->hosts;
        uint32_t n = 0;

        for (; n < BERTD_HOSTS_MAX && hosts_next(&at, c[n].name); n++) {
                c[n].chosen = false;
                c[n].until = n == 0 ? 0 : hosts_cool_until(wish->state, c[n].name, &wish->cooling, wish->now_usec);
        }
        return n;
}

/* The first that is ready or, if none is, the one that is so soonest. */
static struct candidate *best(struct candidate *c, uint32_t n) {
        struct candidate *found = NULL;

        for (uint32_t i = 0; i < n; i++)
                if (!c[i].chosen && (!found || c[i].until < found->until))
                        found = &c[i];
        return found;
}

static char *join_chosen(struct candidate *c, uint32_t n) {
        char *names[BERTD_HOSTS_MAX];
        uint32_t k = 0;

        for (uint32_t i = 0; i < n; i++)
                if (c[i].chosen)
                        names[k++] = c[i].name;
        return hosts_join(names, k);
}

int hosts_choose(const struct hosts_wish *wish, struct hosts_choice *ret) {
        cleanup_free struct candidate *c = calloc(BERTD_HOSTS_MAX, sizeof(*c));
        uint32_t n = c ? gather(wish, c) : 0;

        *ret = (struct hosts_choice) {};
        for (uint32_t taken = 0; taken < MIN(wish->use, n); taken++) {
                struct candidate *next = best(c, n);
                if (next->until > 0 && wish->shrink)
                        break;
                next->chosen = true;
                if (next->until == 0)
                        continue;
                ret->wait_usec = next->until - wish->now_usec;
                (void) snprintf(ret->waits_for, sizeof(ret->waits_for), "%s", next->name);
        }
        ret->use = join_chosen(c, n);
        return ret->use ? 0 : -ENOMEM;
}

char *hosts_spares(const struct hosts_wish *wish, const char *use) {
        cleanup_free struct candidate *c = calloc(BERTD_HOSTS_MAX, sizeof(*c));
        uint32_t n = c ? gather(wish, c) : 0;

        for (uint32_t i = 0; i < n; i++)
                c[i].chosen = c[i].until == 0 && !hosts_contain(use, c[i].name);
        return join_chosen(c, n);
}

void hosts_choice_clear(struct hosts_choice *choice) {
        free(choice->use);
        *choice = (struct hosts_choice) {};
}
