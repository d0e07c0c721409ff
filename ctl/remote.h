/*
 * One command line on several hosts at once, by ssh as bertd calls it (common/ssh.h): it asks nothing, and neither an
 * answer that does not come nor one that does not end costs more than the bounds.
 *
 *   struct remote hosts[] = { { .host = "h1" }, { .host = "h2" } };
 *   remote_run(hosts, 2, "bertctl list --json", NULL, 0, REMOTE_USEC);
 *   ...  remote_clear(&hosts[i])
 */
#ifndef CTL_REMOTE_H
#define CTL_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define REMOTE_BYTES_MAX ((size_t) 4 << 20)
#define REMOTE_SAID_MAX 1024
#define REMOTE_USEC (UINT64_C(15) * 1000000)

struct remote {
        const char *host; /* set by the caller, borrowed */
        char *output;     /* with a NUL after it; NULL: no memory */
        size_t size;
        char said[REMOTE_SAID_MAX]; /* the end of its standard error, raw */
        int status;                 /* of waitpid */
        bool late, full;            /* killed: time or output beyond the bound */
        /* private */
        pid_t pid;
        int out, err;
        size_t n_said;
};

/* This very host is asked without ssh. `input` (may be NULL) is what each reads, at most 64 KiB. Returns when all have
 * ended. */
void remote_run(struct remote *hosts, size_t n, const char *command, const char *input, size_t input_size,
                uint64_t limit_usec);

/* Why it did not end with status 0, for a message after "HOST: "; "" = it did. */
const char *remote_problem(const struct remote *host, char *buffer, size_t size);

void remote_clear(struct remote *host);

#endif
