/*
 * Who a uid is, for the loop, which never waits for the user database: a child asks (nss.h), ACCOUNTS_ASKING_MAX of them at once, each
 * for NSS_LIMIT_USEC at most. What is known is kept for ACCOUNT_FRESH_USEC; then the database is asked again, and while it fails or
 * hangs what was known stays good. root is not asked for.
 */
#ifndef DAEMON_ACCOUNTS_H
#define DAEMON_ACCOUNTS_H

#include "daemon/base/loop.h"
#include "daemon/base/nss.h"

#define ACCOUNTS_MAX 1024
#define ACCOUNTS_ASKING_MAX 8
#define ACCOUNT_FRESH_USEC (300 * UINT64_C(1000000))
#define ACCOUNT_FAILED_USEC (2 * UINT64_C(1000000)) /* nor is it asked again at once for what it did not find */

struct accounts;

struct account {
        gid_t gid; /* primary */
        char *name;
        char *home; /* NULL: unknown */
};

/* `known` is called each time that an answer has come, or cannot be had. */
int accounts_new(struct loop *loop, void (*known)(void *userdata, uid_t uid), void *userdata, struct accounts **ret);
void accounts_free(struct accounts *accounts);

/*
 * Returns 0 and the account, borrowed for this turn of the loop. −EINPROGRESS: the database is being asked, and `known` will be
 * called. −ESRCH: there is no such account. Else −errno: the database failed, so that is not known; ask again later.
 */
int accounts_find(struct accounts *accounts, uid_t uid, const struct account **ret);

/* What the database has answered. */
int accounts_note(struct accounts *accounts, uid_t uid, const struct nss_user *user);

#endif
