/* See affinity.h. Owns nothing. */
#include "trainer/run/affinity.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"

/* A file of one line that is a list of CPUs. */
static int read_list(const char *path, struct cpu_list *ret) {
        cleanup_free char *line = NULL;
        size_t size = 0;
        cleanup_fclose FILE *f = fopen(path, "re");

        if (!f)
                return -errno;
        if (getline(&line, &size, f) < 0)
                return -ENODATA;
        line[strcspn(line, "\n")] = '\0';
        return cpu_list_read(line, ret);
}

int affinity_near(const char *root, const char *pci, struct cpu_list *ret) {
        char path[PATH_MAX];

        if (!pci[0] || strspn(pci, "0123456789abcdef:.") != strlen(pci))
                return -EINVAL;
        (void) snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/local_cpulist", root, pci);
        return read_list(path, ret);
}

void affinity_read_cores(const char *root, const struct cpu_list *cpus, struct affinity_cores *ret) {
        char path[PATH_MAX];

        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++) {
                struct cpu_list siblings;
                ret->of[c] = (uint16_t) c;
                if (!cpu_list_has(cpus, c))
                        continue;
                (void) snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%u/topology/thread_siblings_list", root,
                                c);
                if (read_list(path, &siblings) >= 0 && cpu_list_has(&siblings, c))
                        ret->of[c] = (uint16_t) cpu_list_first(&siblings);
        }
}

struct division {
        const struct cpu_list *const *could;
        const struct affinity_cores *cores;
        uint32_t n, own;
        uint64_t wanted_by[CPU_LIST_CPUS]; /* of a core: the ranks that could use any CPU of it */
};

static void find_wanted(struct division *d) {
        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++)
                for (uint32_t rank = 0; rank < d->n; rank++)
                        if (cpu_list_has(d->could[rank], c))
                                d->wanted_by[d->cores->of[c]] |= UINT64_C(1) << rank;
}

/* A CPU that `own` could use, of a core that exactly these ranks want. */
static bool is_shared(const struct division *d, uint64_t ranks, uint32_t cpu) {
        return d->wanted_by[d->cores->of[cpu]] == ranks && cpu_list_has(d->could[d->own], cpu);
}

/* Numbers what these ranks have in common: cores, each at its lowest CPU, or CPUs. Returns how many there are. */
static uint32_t number_units(const struct division *d, uint64_t ranks, bool cores, uint16_t numbers[CPU_LIST_CPUS]) {
        uint32_t n = 0;

        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++)
                if (cores ? d->wanted_by[c] == ranks : is_shared(d, ranks, c))
                        numbers[c] = (uint16_t) n++;
        return n;
}

static void divide(const struct division *d, uint64_t ranks, struct cpu_list *ret) {
        uint32_t n = (uint32_t) __builtin_popcountll(ranks),
                 place = (uint32_t) __builtin_popcountll(ranks & ((UINT64_C(1) << d->own) - 1));
        uint16_t numbers[CPU_LIST_CPUS] = {};
        bool cores = true;
        uint32_t units = number_units(d, ranks, cores, numbers);

        if (units < n)
                units = number_units(d, ranks, cores = false, numbers);
        uint32_t first = units < n ? 0 : place * units / n, end = units < n ? units : (place + 1) * units / n;
        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++) {
                uint32_t unit = numbers[cores ? d->cores->of[c] : c];
                if (is_shared(d, ranks, c) && unit >= first && unit < end)
                        cpu_list_add(ret, c);
        }
}

void affinity_share(const struct cpu_list *const could[], uint32_t n, uint32_t own, const struct affinity_cores *cores,
                    struct cpu_list *ret) {
        struct division d = { .could = could, .cores = cores, .n = n, .own = own };

        assert(own < n && n <= AFFINITY_RANKS_MAX);
        *ret = (struct cpu_list) {};
        find_wanted(&d);
        for (uint32_t c = 0; c < CPU_LIST_CPUS; c++) {
                uint64_t ranks = d.wanted_by[c];
                if (!(ranks >> own & 1))
                        continue;
                divide(&d, ranks, ret);
                for (uint32_t other = c; other < CPU_LIST_CPUS; other++)
                        if (d.wanted_by[other] == ranks)
                                d.wanted_by[other] = 0;
        }
}

static int set_thread(pid_t thread, const struct cpu_list *cpus) {
        struct cpu_list mask;

        int r = cpu_list_get(thread, &mask);
        if (r < 0)
                return r == -ESRCH ? 0 : r; /* it has ended */
        cpu_list_and(&mask, cpus);
        return cpu_list_first(&mask) == CPU_LIST_CPUS ? 0 : cpu_list_set(thread, &mask);
}

int affinity_set(const struct cpu_list *cpus) {
        cleanup_closedir DIR *threads = opendir("/proc/self/task");
        int r = 0;

        if (!threads)
                return -errno;
        for (struct dirent *entry; r >= 0 && (entry = readdir(threads));) {
                uint64_t thread;
                if (parse_u64(entry->d_name, 1, INT32_MAX, &thread) == 0)
                        r = set_thread((pid_t) thread, cpus);
        }
        return r;
}
