/* An attempt over several hosts (contract C11): which it uses, and the plan that bertd-gang reads. */
#ifndef DAEMON_ATTEMPT_HOSTS_H
#define DAEMON_ATTEMPT_HOSTS_H

#include "common/error.h"
#include "daemon/base/strv.h"
#include "daemon/rules/hosts.h"
#include "daemon/rules/job.h"

/* What rules/hosts.h wants to know of a job; borrows from it. */
struct hosts_wish attempt_hosts_wish(const struct job *job, uint64_t now_usec);

/* Chooses the hosts of the attempt that begins: job->hosts_in_use, NULL for a job of this host alone. −ENOMEM. */
int attempt_choose_hosts(struct job *job, uint64_t now_usec);

/* After the attempt has ended: a lost host cools down, others have proven themselves. `ret` is the choice that the next
 * attempt has; empty for a job of this host alone. */
void attempt_judge_hosts(struct job *job, uint64_t now_usec, struct hosts_choice *ret);

struct gang_input {
        const struct job *job;
        const struct strv *argv; /* of the program alone */
        const char *spec, *scratch;
        bool private_shm, ran;
        uint64_t now_usec;
};

/* The text of gang.json. The caller frees; NULL: no memory. */
char *attempt_gang_document(const struct gang_input *input);

#endif
