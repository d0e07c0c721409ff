/*
 * Cache of accounts by uid, for the loop, which must not wait for the user database: children query it (nss.h), at most
 * ACCOUNTS_ASKING_MAX at once, each for at most NSS_LIMIT_USEC. Answers are valid for ACCOUNT_FRESH_USEC; after that
 * the database is queried again, and old answers are used while it fails or hangs. root is never queried.
 */
#ifndef DAEMON_BUS_ACCOUNTS_H
#define DAEMON_BUS_ACCOUNTS_H

#include "daemon/base/loop.h"
#include "daemon/base/nss.h"

#define ACCOUNTS_MAX 1024
#define ACCOUNTS_ASKING_MAX 8
#define ACCOUNT_FRESH_USEC (300 * UINT64_C(1000000))
#define ACCOUNT_FAILED_USEC (2 * UINT64_C(1000000)) /* pause after a failed or empty answer */

struct accounts;

struct account {
        gid_t gid; /* primary */
        char *name;
        char *home; /* NULL: unknown */
};

/* `known` is called after each answer or failure. */
int accounts_new(struct loop *loop, void (*known)(void *userdata, uid_t uid), void *userdata, struct accounts **ret);
void accounts_free(struct accounts *accounts);

/*
 * Returns 0 and the account, borrowed for this turn of the loop. −EINPROGRESS: a query is running, and `known` will be
 * called. −ESRCH: no such account. Else −errno: the database failed, so it is unknown; try again later.
 */
int accounts_find(struct accounts *accounts, uid_t uid, const struct account **ret);

/* The database's answer. */
int accounts_note(struct accounts *accounts, uid_t uid, const struct nss_user *user);

#endif
