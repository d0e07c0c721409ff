/* See methods.h. Role: calls of a shim about its attempt. Owns nothing. Invariant: the values are untrusted:
 * daemon/attempt checks them. */
#include "daemon/bus/methods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "daemon/attempt/live.h"
#include "daemon/attempt/report.h"

#define KEYS_MAX 64 /* of a report */

int method_hello(struct call *call, sd_bus_message *m) {
        uint64_t job;
        uint32_t number, answer;
        const char *nonce, *version;

        int r = sd_bus_message_read(m, "tuss", &job, &number, &nonce, &version);
        if (r >= 0)
                r = attempt_hello(call->act.node, &call->peer->link, call->act.uid, call->act.pid, job, number, nonce,
                                  version, &answer);
        if (r == -EPERM)
                return act_refuse(&call->act, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
        if (r == -EPROTONOSUPPORT)
                return act_refuse(&call->act, BERTD_ERROR_VERSION,
                                  "bertd " BERTD_VERSION " is older than this shim, and leaves it alone");
        return r < 0 ? r : sd_bus_reply_method_return(m, "u", answer);
}

static const struct report_field {
        const char *key;
        char type;
        size_t offset, has; /* has: offset of the flag, 0 = none (the struct does not begin with a flag) */
} report_fields[] = {
#define AT(member) offsetof(struct attempt_report, member)
        { "job", 't', AT(job), 0 },
        { "attempt", 'u', AT(attempt), 0 },
        { "nonce", 's', AT(nonce), 0 },
        { "status", 's', AT(status), 0 },
        { "slowest", 's', AT(slowest), 0 },
        { "step", 't', AT(step), AT(has_step) },
        { "steps", 't', AT(steps), AT(has_steps) },
        { "loss", 'd', AT(loss), AT(has_loss) },
        { "rate", 'd', AT(rate), AT(has_rate) },
        { "checkpoint_step", 't', AT(checkpoint_step), AT(has_checkpoint) },
        { "checkpoint_at", 't', AT(checkpoint_at), AT(has_at) },
        { "checkpoint_path", 's', AT(checkpoint_path), 0 },
        { "checkpoint_size", 't', AT(checkpoint_size), 0 },
        { "checkpoint_unconfirmed", 'u', AT(checkpoint_unconfirmed), 0 },
        { "checkpoint_stall", 'd', AT(checkpoint_stall), AT(has_stall) },
        { "checkpoint_write", 'd', AT(checkpoint_write), AT(has_write) },
        { "samples_first", 't', AT(samples_first), 0 },
        { "samples_last", 't', AT(samples_last), 0 },
        { "record", 's', AT(record), 0 },
        { "resumed_step", 't', AT(resumed_step), AT(has_resumed) },
        { "first_exit", 'i', AT(first_exit), 0 },
        { "runs_on", 'u', AT(runs_on), 0 },
        { "hosts_in_use", 's', AT(hosts_in_use), 0 },
        { "takes_checkpoints", 'u', AT(takes_checkpoints), 0 },
#undef AT
};

/* "found" and "gone": numbers, borrowed from the message. */
static int read_news(sd_bus_message *m, const uint64_t **ret, size_t *ret_n) {
        const void *numbers;
        size_t size;

        int r = sd_bus_message_enter_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 't', &numbers, &size);
        if (r < 0)
                return r;
        *ret = numbers;
        *ret_n = size / sizeof(uint64_t);
        return *ret_n > BERTD_NEWS_MAX ? -E2BIG : sd_bus_message_exit_container(m);
}

/* Skips an unknown key of a newer shim: a number, a text, or an array of these. */
static int read_report_field(sd_bus_message *m, struct attempt_report *report) {
        const char *key, *contents;
        int flag;

        int r = sd_bus_message_read(m, "s", &key);
        if (r >= 0)
                r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        if (strcmp(key, "exited") == 0 && strcmp(contents, "b") == 0) {
                r = sd_bus_message_read(m, "v", "b", &flag);
                report->exited = r >= 0 && flag;
                return r;
        }
        if (strcmp(key, "found") == 0 && strcmp(contents, "at") == 0)
                return read_news(m, &report->news.found, &report->news.n_found);
        if (strcmp(key, "gone") == 0 && strcmp(contents, "at") == 0)
                return read_news(m, &report->news.gone, &report->news.n_gone);
        for (size_t i = 0; i < ELEMENTSOF(report_fields); i++) {
                const struct report_field *f = &report_fields[i];
                char type[2] = { f->type, '\0' };
                if (strcmp(f->key, key) != 0 || strcmp(type, contents) != 0)
                        continue;
                if (f->has)
                        *(bool *) ((char *) report + f->has) = true;
                r = sd_bus_message_enter_container(m, 'v', type);
                if (r >= 0)
                        r = sd_bus_message_read_basic(m, f->type, (char *) report + f->offset);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        }
        /* Nested containers could block the loop for long. */
        const char *element = contents + (contents[0] == 'a');
        return strchr("v(a", element[0]) || element[1] ? -EINVAL : sd_bus_message_skip(m, "v");
}

static int read_report(sd_bus_message *m, struct attempt_report *ret) {
        unsigned keys = 0;

        int r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = ++keys > KEYS_MAX ? -E2BIG : read_report_field(m, ret);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

int method_report(struct call *call, sd_bus_message *m) {
        struct attempt_report in = {};

        int r = read_report(m, &in);
        if (r >= 0)
                r = attempt_report(call->act.node, call->act.uid, &in);
        if (r == -EPERM)
                return act_refuse(&call->act, BERTD_ERROR_ACCESS_DENIED, "not the job's user");
        if (r == -ESTALE)
                return act_refuse(&call->act, BERTD_ERROR_WRONG_STATE, "no such running attempt");
        /* The shim forgets a checkpoint, or ends, when it is answered: by then the rows are durable. */
        if (r >= 0 && (in.has_checkpoint || in.record || in.news.n_found > 0))
                return call_queue(call, m, NULL);
        return r < 0 ? r : call_reply_nothing(m);
}
