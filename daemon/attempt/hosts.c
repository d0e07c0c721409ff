/* See hosts.h. Owns nothing. */
#include "daemon/attempt/hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/gang_file.h"

struct hosts_wish attempt_hosts_wish(const struct job *job, uint64_t now_usec) {
        return (struct hosts_wish) { .hosts = job->hosts,
                                     .use = job_n_hosts(job),
                                     .state = job->host_state,
                                     .shrink = job->shrink != 0,
                                     .cooling = { job->host_cooldown_min_sec * USEC_PER_SEC,
                                                  job->host_cooldown_max_sec * USEC_PER_SEC },
                                     .now_usec = now_usec };
}

int attempt_choose_hosts(struct job *job, uint64_t now_usec) {
        const struct hosts_wish wish = attempt_hosts_wish(job, now_usec);
        cleanup(hosts_choice_clear) struct hosts_choice choice = {};
        int r = job_n_hosts(job) > 1 ? hosts_choose(&wish, &choice) : 0;

        if (r < 0)
                return r;
        free(job->hosts_in_use);
        job->hosts_in_use = steal_pointer(&choice.use);
        return 0;
}

static void take_state(struct job *job, char *state) {
        free(job->host_state);
        job->host_state = state;
}

void attempt_judge_hosts(struct job *job, uint64_t now_usec, struct hosts_choice *ret) {
        const struct attempt *a = &job->attempt;
        struct hosts_wish wish = attempt_hosts_wish(job, now_usec);

        *ret = (struct hosts_choice) {};
        if (job_n_hosts(job) == 1)
                return;
        if (a->checkpoint_step > a->first_step && job->host_state)
                take_state(job, hosts_prove(job->host_state, job->hosts_in_use));
        if (a->exit_class == EXIT_CLASS_HOST_LOST && a->host)
                take_state(job, hosts_lose(job->host_state, job->hosts, a->host, &wish.cooling, now_usec));
        wish = attempt_hosts_wish(job, now_usec);
        (void) hosts_choose(&wish, ret); /* without memory it does not wait */
}

/* The names of a text, copied; NULL-terminated. */
static char **split(const char *text) {
        cleanup_free char *copy = strdup(text ? text : "");
        char **words = calloc(strlen(text ? text : "") / 2 + 2, sizeof(char *)), *rest = copy;
        size_t n = 0;

        for (char *word; copy && words && (word = strsep(&rest, ","));)
                if (word[0] && (words[n] = strdup(word)))
                        n++;
        return words;
}

static void free_words(char **words) {
        for (char **w = words; w && *w; w++)
                free(*w);
        free(words);
}

static int by_name(const void *a, const void *b) { return strcasecmp(*(char *const *) a, *(char *const *) b); }

char *attempt_gang_document(const struct gang_input *input) {
        const struct job *job = input->job;
        const struct hosts_wish wish = attempt_hosts_wish(job, input->now_usec);
        cleanup_free char *spares = hosts_spares(&wish, job->hosts_in_use);
        char head[BERTD_HOST_MAX + 1] = "", *text = NULL;
        const char *at = job->hosts;
        struct gang_plan plan = { .job = job->id,
                                  .attempt = job->attempt.number,
                                  .kind = job->kind,
                                  .name = job->name,
                                  .head = head,
                                  .hosts = split(job->hosts_in_use),
                                  .spares = split(spares),
                                  .shrink = wish.shrink,
                                  .cooling = hosts_count(job->hosts) >
                                             hosts_count(job->hosts_in_use) + hosts_count(spares),
                                  .ranks = job->ranks,
                                  .gpus = job->gpus,
                                  .threads = job->threads,
                                  .memory = job->memory,
                                  .host_timeout_sec = job->host_timeout_sec,
                                  .grace_sec = (uint32_t) job->grace_sec,
                                  .network = job->network,
                                  .travels = split(job->travels),
                                  .lasts = job->ends_with == ENDS_WITH_LAST,
                                  .unmanaged = job->unmanaged != 0,
                                  .ran = input->ran,
                                  .spec = (char *) input->spec,
                                  .scratch = (char *) input->scratch,
                                  .private_shm = input->private_shm,
                                  .argv = input->argv->words };

        (void) hosts_next(&at, head);
        if (plan.hosts && plan.spares && plan.travels) {
                qsort(plan.hosts, hosts_count(job->hosts_in_use), sizeof(char *), by_name);
                text = gang_file_write(&plan);
        }
        free_words(plan.hosts);
        free_words(plan.spares);
        free_words(plan.travels);
        return text;
}
