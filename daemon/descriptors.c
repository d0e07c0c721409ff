/*
 * See descriptors.h. Owns nothing. Invariant: what is shared out is less than the limit by what the database, its locks and helper
 * processes need.
 */
#include "daemon/descriptors.h"

#include <sys/resource.h>

#include "bertd/limits.h"
#include "common/cleanup.h"

#define OF_BERTD 64  /* the state folder, state.db, the loop, the log, helpers that come and go */
#define OF_CLIENT 4  /* its socket, the inlet's copy, and the pair between the inlet and sd-bus */
#define OF_ATTEMPT 6 /* its shim's connection, the shim's pidfd, a pipe of its launch */
#define CLIENTS_MIN (BERTD_CLIENTS_OF_ROOT + 8)

void descriptors_share(uint64_t limit, struct descriptors *ret) {
        uint64_t left = limit > OF_BERTD ? limit - OF_BERTD : 0, clients = left / 3 / OF_CLIENT;

        clients = MIN(MAX(clients, (uint64_t) CLIENTS_MIN), (uint64_t) BERTD_CLIENTS_MAX);
        left = left > clients * OF_CLIENT ? left - clients * OF_CLIENT : 0;
        *ret = (struct descriptors) { .limit = limit,
                                      .clients = (uint32_t) clients,
                                      .attempts = (uint32_t) MIN(MAX(left / OF_ATTEMPT, UINT64_C(1)),
                                                                 (uint64_t) UINT32_MAX) };
}

void descriptors_read(struct descriptors *ret) {
        struct rlimit files;

        descriptors_share(getrlimit(RLIMIT_NOFILE, &files) < 0 ? 1024 : files.rlim_cur, ret);
}
