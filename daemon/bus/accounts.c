/*
 * See accounts.h. Owns the entries, and of each that is asked for the child, its pipe and its time limit.
 * Invariants: one child an entry at most, even one that cannot be killed; an entry with a child stays.
 */
#include "daemon/bus/accounts.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/probe.h"

struct entry {
        struct accounts *accounts;
        struct entry *next;
        uid_t uid;
        struct account account; /* name NULL: none is known */
        int result;             /* of the last time that it was asked for */
        bool asked;             /* an answer is waited for */
        int failed;             /* −errno: no child could be made to ask */
        uint64_t good_until;    /* boot time */
        pid_t pid;              /* of the child, 0 = none */
        struct source *child, *pipe;
        struct timer deadline;
};

struct accounts {
        struct loop *loop;
        void (*known)(void *userdata, uid_t uid);
        void *userdata;
        struct entry *entries;
        unsigned n, children;
};

static void start(struct entry *entry);

static void entry_free(struct entry *entry) {
        if (entry->pid > 0)
                (void) kill(entry->pid, SIGKILL);
        (void) source_free(entry->child);
        (void) source_free(entry->pipe);
        timer_disarm(&entry->deadline);
        free(entry->account.name);
        free(entry->account.home);
        free(entry);
}

static int take_account(struct entry *entry, const struct nss_user *user) {
        cleanup_free char *home = user->home[0] ? strdup(user->home) : NULL;
        char *name = user->name[0] ? strdup(user->name) : format_string("uid-%u", (unsigned) entry->uid);

        if (!name || (user->home[0] && !home)) {
                free(name);
                return -ENOMEM;
        }
        free(entry->account.name);
        free(entry->account.home);
        entry->account = (struct account) { .gid = user->gid, .name = name, .home = steal_pointer(&home) };
        return 0;
}

static void forget_account(struct entry *entry) {
        free(entry->account.name);
        free(entry->account.home);
        entry->account = (struct account) {};
}

static void set_answer(struct entry *entry, const struct nss_user *user) {
        struct nss_user own = { .gid = getegid(), .name = "unknown" };

        entry->result = user->result == 0 ? take_account(entry, user) : user->result;
        if (entry->result == -ESRCH)
                forget_account(entry);
        /* We run as it, whether it has an account or not. */
        if (entry->result < 0 && !entry->account.name && entry->uid == geteuid())
                (void) take_account(entry, &own);
        entry->good_until = loop_boottime() + (entry->account.name ? ACCOUNT_FRESH_USEC : ACCOUNT_FAILED_USEC);
}

static void conclude(struct entry *entry, const struct nss_user *user) {
        entry->pipe = source_free(entry->pipe);
        timer_disarm(&entry->deadline);
        entry->asked = false;
        if (entry->result == 0 && user->result < 0 && user->result != -ESRCH)
                log_error("cannot look up uid %u: %s", (unsigned) entry->uid, strerror(-user->result));
        set_answer(entry, user);
        entry->accounts->known(entry->accounts->userdata, entry->uid);
}

static void on_pipe(void *userdata, int fd, uint32_t events) {
        struct nss_user user;

        int r = probe_read(fd, &user, sizeof(user));
        if (r < 0)
                user = (struct nss_user) { .result = r };
        conclude(userdata, &user);
}

static void on_deadline(void *userdata) {
        struct entry *entry = userdata;

        if (entry->pid > 0)
                (void) kill(entry->pid, SIGKILL);
        conclude(entry, &(struct nss_user) { .result = entry->failed < 0 ? entry->failed : -ETIMEDOUT });
}

static void on_child(void *userdata, const siginfo_t *si) {
        struct entry *entry = userdata;
        struct accounts *accounts = entry->accounts;

        entry->child = source_free(entry->child);
        entry->pid = 0;
        accounts->children--;
        for (struct entry *e = accounts->entries; e; e = e->next)
                if (e->asked && !e->pipe)
                        start(e);
}

/* Those that find no place now are started when a child ends. */
static void start(struct entry *entry) {
        struct accounts *accounts = entry->accounts;
        int fd;

        if (entry->pid > 0 || accounts->children >= ACCOUNTS_ASKING_MAX)
                return;
        int r = probe_start(nss_ask_user, &entry->uid, sizeof(struct nss_user), &entry->pid, &fd);
        entry->failed = r;
        if (r < 0) {
                log_error("cannot query the user database: %s", strerror(-r));
                return;
        }
        accounts->children++;
        (void) loop_watch_child(accounts->loop, entry->pid, on_child, entry, &entry->child);
        (void) loop_watch(accounts->loop, fd, EPOLLIN, on_pipe, entry, &entry->pipe);
}

static int ask(struct entry *entry) {
        loop_after(entry->accounts->loop, &entry->deadline, NSS_LIMIT_USEC, on_deadline, entry);
        entry->asked = true;
        start(entry);
        return -EINPROGRESS;
}

/* ---- entries ---- */

static struct entry *find(const struct accounts *accounts, uid_t uid) {
        struct entry *entry = accounts->entries;

        while (entry && entry->uid != uid)
                entry = entry->next;
        return entry;
}

/* The one whose answer is the oldest. */
static void drop_one(struct accounts *accounts) {
        struct entry **oldest = NULL;

        for (struct entry **at = &accounts->entries; *at; at = &(*at)->next)
                if (!(*at)->asked && (*at)->pid == 0 && (!oldest || (*at)->good_until < (*oldest)->good_until))
                        oldest = at;
        if (!oldest)
                return;
        struct entry *entry = *oldest;
        *oldest = entry->next;
        entry_free(entry);
        accounts->n--;
}

static struct entry *find_or_add(struct accounts *accounts, uid_t uid) {
        struct entry *entry = find(accounts, uid);

        if (entry)
                return entry;
        if (accounts->n >= ACCOUNTS_MAX)
                drop_one(accounts);
        entry = accounts->n < ACCOUNTS_MAX ? calloc(1, sizeof(*entry)) : NULL;
        if (!entry)
                return NULL;
        *entry = (struct entry) { .accounts = accounts, .next = accounts->entries, .uid = uid };
        accounts->entries = entry;
        accounts->n++;
        return entry;
}

int accounts_note(struct accounts *accounts, uid_t uid, const struct nss_user *user) {
        struct entry *entry = find_or_add(accounts, uid);

        if (!entry)
                return -ENOMEM;
        set_answer(entry, user);
        return entry->result;
}

int accounts_find(struct accounts *accounts, uid_t uid, const struct account **ret) {
        static const struct account root = { .gid = 0, .name = (char *) "root", .home = (char *) "/root" };
        struct entry *entry = uid == 0 ? NULL : find_or_add(accounts, uid);

        *ret = &root;
        if (uid == 0)
                return 0;
        if (!entry)
                return -ENOMEM;
        if (entry->asked)
                return -EINPROGRESS;
        if (loop_boottime() >= entry->good_until)
                return ask(entry);
        *ret = &entry->account;
        return entry->account.name ? 0 : entry->result;
}

int accounts_new(struct loop *loop, void (*known)(void *userdata, uid_t uid), void *userdata, struct accounts **ret) {
        struct accounts *accounts = calloc(1, sizeof(*accounts));

        if (!accounts)
                return -ENOMEM;
        *accounts = (struct accounts) { .loop = loop, .known = known, .userdata = userdata };
        *ret = accounts;
        return 0;
}

void accounts_free(struct accounts *accounts) {
        if (!accounts)
                return;
        while (accounts->entries) {
                struct entry *entry = accounts->entries;
                accounts->entries = entry->next;
                entry_free(entry);
        }
        free(accounts);
}
