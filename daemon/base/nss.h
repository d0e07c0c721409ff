/*
 * The host's user database (NSS): it may be a directory server that is slow, hangs or fails, so bertd itself never
 * queries it. These functions block for at most the given time; use accounts.h in the loop.
 */
#ifndef DAEMON_BASE_NSS_H
#define DAEMON_BASE_NSS_H

#include <stdint.h>
#include <sys/types.h>

#define NSS_NAME_MAX 256
#define NSS_HOME_MAX 3072
#define NSS_LIMIT_USEC (5 * UINT64_C(1000000)) /* limit for an answer; shorter than a client's timeout */

/* `result`: 0, or −ESRCH: no such account, or −errno: the database failed; the account may exist. */
struct nss_user {
        int result;
        gid_t gid;
        char name[NSS_NAME_MAX]; /* UTF-8; empty if the account's is not */
        char home[NSS_HOME_MAX]; /* absolute and UTF-8; empty if the account's is neither, or too long */
};

/* For probe_start: `question` is a uid_t, `answer` a struct nss_user. */
void nss_ask_user(const void *question, void *answer);

/* Writes the user's name, or the number if the database does not answer in time. */
void nss_user_name(uid_t uid, uint64_t usec, char *name, size_t size);

/* 0; −ESRCH: no such group; −ETIMEDOUT or another −errno: unknown. */
int nss_group(const char *name, uint64_t usec, gid_t *ret);

#endif
