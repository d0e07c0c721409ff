/* See nss.h. Owns nothing between calls. */
#include "daemon/base/nss.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/utf8.h"
#include "daemon/base/probe.h"

#define RECORD_MAX (1u << 20) /* bytes of a group with all its members */

static void take_text(const char *text, char *to, size_t size) {
        (void) snprintf(to, size, "%s", text && strlen(text) < size && text_is_line(text) ? text : "");
}

void nss_ask_user(const void *question, void *answer) {
        struct nss_user *user = answer;
        struct passwd pw, *found = NULL;
        cleanup_free char *record = malloc(RECORD_MAX);

        user->result = record ? -getpwuid_r(*(const uid_t *) question, &pw, record, RECORD_MAX, &found) : -ENOMEM;
        if (user->result == 0 && !found)
                user->result = -ESRCH;
        if (!found)
                return;
        user->gid = pw.pw_gid;
        take_text(pw.pw_name, user->name, sizeof(user->name));
        take_text(pw.pw_dir[0] == '/' ? pw.pw_dir : "", user->home, sizeof(user->home));
}

void nss_user_name(uid_t uid, uint64_t usec, char *name, size_t size) {
        struct nss_user user = { .result = -EAGAIN };

        if (usec > 0 && probe(nss_ask_user, &uid, usec, &user, sizeof(user)) == 0 && user.result == 0 && user.name[0])
                (void) snprintf(name, size, "%.*s", (int) size - 1, user.name);
        else
                (void) snprintf(name, size, "%u", (unsigned) uid);
}

struct group_answer {
        int result;
        gid_t gid;
};

static void ask_group(const void *question, void *answer) {
        struct group_answer *group = answer;
        struct group gr, *found = NULL;
        cleanup_free char *record = malloc(RECORD_MAX);

        group->result = record ? -getgrnam_r(question, &gr, record, RECORD_MAX, &found) : -ENOMEM;
        if (group->result == 0 && !found)
                group->result = -ESRCH;
        if (found)
                group->gid = gr.gr_gid;
}

int nss_group(const char *name, uint64_t usec, gid_t *ret) {
        struct group_answer answer = {};

        int r = probe(ask_group, name, usec, &answer, sizeof(answer));
        if (r < 0)
                return r;
        *ret = answer.gid;
        return answer.result;
}
