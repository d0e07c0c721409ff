/* See submit.h: a lease's submission. What it runs is bertd's choice, and it is tried once. */
#include "daemon/bus/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/handover.h"
#include "common/hosts.h"
#include "common/parse.h"
#include "common/utf8.h"

#define GRACE_SEC 5

/* "HOST:JOB" */
static bool is_job_of_host(const char *text) {
        const char *colon = text ? strrchr(text, ':') : NULL;
        cleanup_free char *host = colon ? strndup(text, (size_t) (colon - text)) : NULL;
        uint64_t id;

        return host && strlen(host) <= BERTD_HOST_MAX && host_is_name(host) &&
               parse_u64(colon + 1, 1, INT64_MAX, &id) == 0;
}

static char **make_command(const struct submission *s, const char *leash) {
        const char *const words[] = { leash, "--channel", s->channel, "--of", s->lease_of, "--host-timeout" };
        char **command = calloc(ELEMENTSOF(words) + 2, sizeof(char *));
        bool whole = command != NULL;

        for (size_t i = 0; whole && i < ELEMENTSOF(words); i++)
                whole = (command[i] = strdup(words[i])) != NULL;
        if (whole)
                whole = (command[ELEMENTSOF(words)] = format_string("%u", s->host_timeout_sec)) != NULL;
        if (whole)
                return command;
        for (size_t i = 0; command && command[i]; i++)
                free(command[i]);
        free(command);
        return NULL;
}

static void drop_text(char **text) {
        free(*text);
        *text = NULL;
}

/* "leased to h1:42", cut at the host's name. */
static char *make_name(const char *lease_of) {
        const char *colon = strrchr(lease_of, ':');
        int room = BERTD_NAME_MAX - (int) strlen("leased to ") - (int) strlen(colon);

        return format_string("leased to %.*s%s", MIN(room, (int) (colon - lease_of)), lease_of, colon);
}

int submission_make_lease(struct submission *s, const char *leash, struct error *error) {
        if (!is_job_of_host(s->lease_of))
                return error_set(error, EINVAL, "lease_of: expected HOST:JOB");
        if (!s->channel || !handover_name_is_valid(s->channel))
                return error_set(error, EINVAL, "channel: expected %d hex digits", HANDOVER_NAME_MAX);
        if (s->command || s->spec || s->run_dir || s->on_exit || s->hosts || s->copy_to)
                return error_set(error, EINVAL, "a lease has no command, spec, run_dir, on_exit, hosts or copy_to");
        drop_text(&s->name);
        s->name = make_name(s->lease_of);
        s->command = make_command(s, leash);
        if (!s->name || !s->command)
                return error_errno(error, ENOMEM, "lease");
        s->kind = JOB_COMMAND;
        s->priority = 0;
        s->max_without_progress = 0;
        s->grace_sec = GRACE_SEC;
        s->hang_sec = s->start_sec = 0;
        s->ends_with = ENDS_WITH_FIRST;
        s->use = 0;
        return 0;
}

int submission_check_no_lease(const struct submission *s, struct error *error) {
        for (size_t i = 0; i < JOB_N_FIELDS; i++)
                if (job_fields[i].lease_only && s->given[i])
                        return error_set(error, EINVAL, "unknown key \"%s\"", job_fields[i].name);
        return 0;
}

void submission_unlock_memory(struct submission *s) {
        uint32_t i = 0;

        while (i < s->n_rlimits && s->rlimits[i].resource != RLIMIT_MEMLOCK)
                i++;
        if (i == JOB_RLIMITS_MAX)
                return;
        s->n_rlimits = MAX(s->n_rlimits, i + 1);
        s->rlimits[i] = (struct job_rlimit) { RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY };
}
