/*
 * See descriptors.h. Owns nothing. Invariant: with DESCRIPTORS_MIN or more, clients and attempts together leave enough
 * descriptors for the database, its locks and helper processes.
 */
#include "daemon/base/descriptors.h"

#include <assert.h>
#include <sys/resource.h>

#include "bertd/limits.h"
#include "common/cleanup.h"

#define OF_BERTD 64    /* the state folder, state.db, the loop, the log, helpers that come and go */
#define OF_CLIENT 4    /* its socket, the inlet's copy, and the pair between the inlet and sd-bus */
#define OF_ATTEMPT 6   /* its shim's connection, the shim's pidfd, a pipe of its launch */
#define CLIENTS_MIN 24 /* including BERTD_CLIENTS_OF_ROOT for root */
static_assert(CLIENTS_MIN > BERTD_CLIENTS_OF_ROOT, "others are served, too");
static_assert(OF_BERTD + CLIENTS_MIN * OF_CLIENT + 4 * OF_ATTEMPT <= DESCRIPTORS_MIN, "a few jobs may run");

void descriptors_share(uint64_t limit, struct descriptors *ret) {
        uint64_t left = limit > OF_BERTD ? limit - OF_BERTD : 0,
                 clients = MAX(left / 2 / OF_CLIENT, (uint64_t) CLIENTS_MIN);

        clients = MIN(clients, (uint64_t) BERTD_CLIENTS_MAX);
        left -= MIN(left, clients * OF_CLIENT);
        *ret = (struct descriptors) { .limit = limit,
                                      .clients = (uint32_t) clients,
                                      .attempts = (uint32_t) MIN(MAX(left / OF_ATTEMPT, UINT64_C(1)),
                                                                 (uint64_t) UINT32_MAX) };
}

void descriptors_read(struct descriptors *ret) {
        struct rlimit files;

        descriptors_share(getrlimit(RLIMIT_NOFILE, &files) < 0 ? DESCRIPTORS_MIN : files.rlim_cur, ret);
}
