/* Reports of a shim about its attempt. */
#ifndef DAEMON_ATTEMPT_REPORT_H
#define DAEMON_ATTEMPT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/node/node.h"
#include "daemon/rules/ledger.h"

struct attempt_report {
        uint64_t job;
        uint32_t attempt;
        const char *nonce, *status, *slowest, *checkpoint_path, *record, *hosts_in_use;
        bool has_step, has_steps, has_loss, has_rate, has_checkpoint, has_at, has_stall, has_write, exited;
        bool has_resumed;
        uint64_t step, steps, checkpoint_step, checkpoint_at, checkpoint_size, samples_first, samples_last,
                resumed_step;
        int32_t first_exit;
        uint32_t runs_on;
        uint32_t takes_checkpoints;      /* 1: the program has declared a checkpoint signal */
        uint32_t checkpoint_unconfirmed; /* 1: it may not have reached the disk */
        double loss, rate, checkpoint_stall, checkpoint_write;
        struct ledger_news news;
};

int attempt_report(struct node *node, uid_t uid, const struct attempt_report *report);

#endif
