/* Each rank onto the CPUs next to its GPU; see run.h and affinity.h. Owns nothing. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "trainer/run/affinity.h"
#include "trainer/run/run.h"

/* What ranks exchange. */
struct item {
        struct cpu_list could; /* use: next to its GPU, and allowed; empty: none, or unknown */
        uint32_t host;         /* its first rank */
};
static_assert(sizeof(struct item) <= EXCHANGE_ITEM_MAX, "a rank's answer");

static bool is_empty(const struct cpu_list *list) { return cpu_list_first(list) == CPU_LIST_CPUS; }

static const char *sysfs(void) {
        const char *root = getenv("BERTD_SYSFS");
        return root && root[0] ? root : "/sys";
}

static struct cpu_list find_near(const struct run *run, const struct cpu_list *given) {
        const char *address = run->ops->location ? run->ops->location() : NULL;
        struct cpu_list near = {};

        if (!address || affinity_near(sysfs(), address, &near) < 0)
                return (struct cpu_list) {};
        cpu_list_and(&near, given);
        return near;
}

/* The ranks of this host that know their CPUs, lowest first. Returns their number; *ret_own: which of them this one is. */
static uint32_t find_neighbours(const struct run *run, const struct item *all,
                                const struct cpu_list *could[AFFINITY_RANKS_MAX], uint32_t *ret_own) {
        uint32_t n = 0;

        for (uint32_t rank = 0; rank < run->ranks.n && n < AFFINITY_RANKS_MAX; rank++) {
                if (all[rank].host != all[run->ranks.own].host || is_empty(&all[rank].could))
                        continue;
                if (rank == run->ranks.own)
                        *ret_own = n;
                could[n++] = &all[rank].could;
        }
        return n;
}

static bool find_share(const struct run *run, const struct item *all, struct cpu_list *ret) {
        const struct cpu_list *could[AFFINITY_RANKS_MAX];
        cleanup_free struct affinity_cores *cores = malloc(sizeof(*cores));
        struct cpu_list any = {};
        uint32_t own = UINT32_MAX, n = find_neighbours(run, all, could, &own);

        if (!cores || own >= n)
                return false;
        for (uint32_t i = 0; i < n; i++)
                cpu_list_or(&any, could[i]);
        affinity_read_cores(sysfs(), &any, cores);
        affinity_share(could, n, own, cores, ret);
        return true;
}

static void say(const struct run *run, const struct cpu_list *cpus) {
        char text[1024];

        if (run->ranks.own == 0)
                (void) fprintf(stderr, "bert-trainer: rank 0 runs on CPUs %s, next to its GPU (%s)\n",
                               cpu_list_write(cpus, text, sizeof(text)), run->ops->location());
}

void run_bind(const struct run *run) {
        struct item mine = { .host = exchange_local_root(run->ranks.exchange) };
        struct cpu_list given = {}, share;

        if (run->ops->host_memory) /* all ranks' is, or none's */
                return;
        if (cpu_list_get(0, &given) >= 0)
                mine.could = find_near(run, &given);
        const struct item *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        if (find_share(run, all, &share) && !cpu_list_equal(&share, &given) && affinity_set(&share) >= 0)
                say(run, &share);
}
