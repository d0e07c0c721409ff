/*
 * See descriptors.h. Owns nothing. Invariant: what is shared out is less than the limit by what the database, its locks and helper
 * processes need.
 */
#include "daemon/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <sys/resource.h>

#include "bertd/limits.h"
#include "common/cleanup.h"

#define OF_BERTD 64    /* the state folder, state.db, the loop, the log, helpers that come and go */
#define OF_CLIENT 4    /* its socket, the inlet's copy, and the pair between the inlet and sd-bus */
#define OF_ATTEMPT 6   /* its shim's connection, the shim's pidfd, a pipe of its launch */
#define CLIENTS_MIN 24 /* of these BERTD_CLIENTS_OF_ROOT are root's */
static_assert(CLIENTS_MIN > BERTD_CLIENTS_OF_ROOT, "others are served, too");
static_assert(OF_BERTD + CLIENTS_MIN * OF_CLIENT + 4 * OF_ATTEMPT <= DESCRIPTORS_MIN, "a few jobs may run");

void descriptors_share(uint64_t limit, struct descriptors *ret) {
        uint64_t left = limit - OF_BERTD, clients = MAX(left / 3 / OF_CLIENT, (uint64_t) CLIENTS_MIN);

        clients = MIN(clients, (uint64_t) BERTD_CLIENTS_MAX);
        left -= clients * OF_CLIENT;
        *ret = (struct descriptors) { .limit = limit,
                                      .clients = (uint32_t) clients,
                                      .attempts = (uint32_t) MIN(left / OF_ATTEMPT, (uint64_t) UINT32_MAX) };
}

int descriptors_read(struct descriptors *ret, struct error *error) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0)
                return error_errno(error, errno, "RLIMIT_NOFILE");
        if (files.rlim_cur < DESCRIPTORS_MIN)
                return error_set(error, EMFILE,
                                 "%llu open files are allowed, bertd needs %d: raise the hard limit (ulimit -Hn, "
                                 "LimitNOFILE=)",
                                 (unsigned long long) files.rlim_cur, DESCRIPTORS_MIN);
        descriptors_share(files.rlim_cur, ret);
        return 0;
}
