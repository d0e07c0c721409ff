/*
 * See host_verdict.h. Owns nothing. Invariants: the first thing that has to be cured is named, in the order of the
 * tables below; no control character of another host reaches the text.
 */
#include "common/host_verdict.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/leash.h"
#include "common/utf8.h"

#define SHELL_NOT_FOUND 127
#define SAID_MAX 200 /* bytes of ssh's words in a verdict */

/* ---- the text ---- */

/* One printable line. */
static void clean(char *text) {
        cleanup_free char *valid = text_as_utf8(text);

        if (valid)
                (void) snprintf(text, HOST_VERDICT_MAX, "%s", valid);
        for (unsigned char *p = (unsigned char *) text; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        *p = ' ';
                else if (p[0] == 0xc2 && p[1] < 0xa0) /* C1: some terminals obey them */
                        p[0] = p[1] = '?';
}

__attribute__((format(printf, 4, 5))) static bool say(struct host_verdict *ret, const char *host, enum host_grade grade,
                                                      const char *format, ...) {
        int n = snprintf(ret->text, sizeof(ret->text), "%.253s: ", host);
        va_list list;

        va_start(list, format);
        (void) vsnprintf(ret->text + n, sizeof(ret->text) - (size_t) n, format, list);
        va_end(list);
        ret->grade = grade;
        clean(ret->text);
        return true;
}

/* ---- ssh ---- */

/* In this order: the first of these words in what ssh prints decides. HOST in a cure stands for its name. */
static const struct ssh_words {
        const char *words;
        enum host_grade grade;
        const char *problem;
} ssh_table[] = {
        { "REMOTE HOST IDENTIFICATION HAS CHANGED", HOST_REFUSED,
          "its host key has changed; if it was installed again, run: ssh-keygen -R HOST; ssh HOST true" },
        { "Host key verification failed", HOST_REFUSED, "its host key is not known here; run once: ssh HOST true" },
        { "host key is known for", HOST_REFUSED, "its host key is not known here; run once: ssh HOST true" },
        { "Temporary failure in name resolution", HOST_WAITS,
          "its name cannot be resolved now; check it and the name server: getent hosts HOST" },
        { "Could not resolve hostname", HOST_REFUSED, "unknown host; check its name: getent hosts HOST" },
        { "Name or service not known", HOST_REFUSED, "unknown host; check its name: getent hosts HOST" },
        { "Permission denied", HOST_REFUSED,
          "no key without a passphrase is accepted there; see: bertctl doctor --hosts HOST" },
        { "Too many authentication failures", HOST_REFUSED,
          "no key without a passphrase is accepted there; see: bertctl doctor --hosts HOST" },
        { "UNPROTECTED PRIVATE KEY FILE", HOST_REFUSED, "others can read the key here; run: chmod 600 ~/.ssh/id_*" },
        { "Bad owner or permissions on", HOST_REFUSED, "ssh refuses ~/.ssh/config here; run: chmod 600 ~/.ssh/config" },
        { "Bad configuration option", HOST_REFUSED, "ssh refuses ~/.ssh/config here; correct it: ssh -G HOST" },
        { "account is currently not available", HOST_REFUSED, "the account there has no shell; ask its administrator" },
        { "System is booting up", HOST_WAITS, "it is starting up" },
        { "System is going down", HOST_WAITS, "it is shutting down" },
        { "Connection refused", HOST_WAITS, "no sshd answers there; start it: systemctl start ssh" },
        { "No route to host", HOST_WAITS, "does not answer: no route to it" },
        { "Network is unreachable", HOST_WAITS, "does not answer: this host has no network" },
        { "timed out", HOST_WAITS, "does not answer" },
        { "Host is down", HOST_WAITS, "does not answer" },
        { "Connection closed by", HOST_WAITS, "its sshd closed the connection; see why: ssh HOST true" },
        { "Connection reset by", HOST_WAITS, "its sshd closed the connection; see why: ssh HOST true" },
};

/* Its last line. */
static const char *last_line(const char *said, char buffer[SAID_MAX + 1]) {
        size_t end = strlen(said), begin;

        while (end > 0 && strchr("\r\n ", said[end - 1]))
                end--;
        for (begin = end; begin > 0 && said[begin - 1] != '\n';)
                begin--;
        (void) snprintf(buffer, SAID_MAX + 1, "%.*s", (int) MIN(end - begin, (size_t) SAID_MAX), said + begin);
        return buffer;
}

static void say_named(struct host_verdict *ret, const char *host, enum host_grade grade,
                      const struct ssh_words *words) {
        char text[HOST_VERDICT_MAX];
        size_t n = 0;

        for (const char *p = words->problem; *p && n + 1 < sizeof(text);) {
                bool named = strncmp(p, "HOST", 4) == 0;
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%.*s", named ? (int) strlen(host) : 1,
                                       named ? host : p);
                p += named ? 4 : 1;
        }
        say(ret, host, grade, "%s", text);
}

static bool is_not_found(const struct host_end *end) {
        return WIFEXITED(end->status) && WEXITSTATUS(end->status) == SHELL_NOT_FOUND;
}

void host_judge_end(const char *host, const struct host_end *end, struct host_verdict *ret) {
        const char *said = end->said ? end->said : "";
        char line[SAID_MAX + 1];

        *ret = (struct host_verdict) {};
        for (size_t i = 0; i < ELEMENTSOF(ssh_table); i++)
                if (strstr(said, ssh_table[i].words)) {
                        bool unknown = end->at_submit && strstr(said, "Could not resolve hostname");
                        say_named(ret, host, unknown ? HOST_REFUSED : ssh_table[i].grade, &ssh_table[i]);
                        return;
                }
        if (end->late)
                say(ret, host, HOST_WAITS, "does not answer");
        else if (is_not_found(end))
                say(ret, host, end->ran ? HOST_WAITS : HOST_REFUSED,
                    "bertctl is not installed there, or not in PATH of a command over ssh");
        else if (strstr(said, "lease") && WIFEXITED(end->status) && WEXITSTATUS(end->status) == 2)
                say(ret, host, HOST_WAITS, "its bertctl is too old to lend (%s); install this host's version",
                    last_line(said, line));
        else if (*last_line(said, line))
                say(ret, host, HOST_WAITS, "%s", line);
        else
                say(ret, host, HOST_WAITS, "ssh ended without an answer; see why: ssh %s bertctl --version", host);
}

/* ---- what was refused there ---- */

/* Those of leash.h, and what they mean for a job that asks. */
static const enum host_grade classes[] = {
        [LEASH_CLASS_BUSY] = HOST_WAITS,    [LEASH_CLASS_AWAY] = HOST_WAITS,        [LEASH_CLASS_DRAINING] = HOST_WAITS,
        [LEASH_CLASS_VERSION] = HOST_WAITS, [LEASH_CLASS_FORBIDDEN] = HOST_REFUSED, [LEASH_CLASS_FORK] = HOST_REFUSED,
        [LEASH_CLASS_INPUT] = HOST_REFUSED, [LEASH_CLASS_USAGE] = HOST_REFUSED,
};
static_assert(ELEMENTSOF(classes) == LEASH_CLASS_MAX, "a class without a grade");

void host_judge_refused(const char *host, const char *class, const char *reason, struct host_verdict *ret) {
        static const char *const names[] = LEASH_CLASS_NAMES;
        enum host_grade grade = HOST_WAITS; /* of a newer class */
        size_t n = strlen(host);

        *ret = (struct host_verdict) {};
        for (size_t i = 0; class && i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], class) == 0)
                        grade = classes[i];
        if (!reason || !reason[0])
                reason = "refuses without a reason";
        if (strncmp(reason, host, n) == 0 && strncmp(reason + n, ": ", 2) == 0)
                reason += n + 2;
        say(ret, host, grade, "%s", reason);
}

/* ---- the host's line ---- */

/* bertd there cannot be asked, or would refuse any lease. */
static bool judge_bertd(const struct host_facts *f, struct host_verdict *ret) {
        const json_t *problem = f->refused ? f->refused : json_object_get(f->line, "problem");
        const char *draining = json_text_or_empty(f->line, "draining");

        if (json_is_object(problem)) {
                const char *reason = json_text_or_empty(problem, "reason"), *own = json_text_or_empty(f->line, "host");
                size_t n = strcspn(own, "."); /* which names itself */
                bool named = n > 0 && strncmp(reason, own, n) == 0 && strncmp(reason + n, ": ", 2) == 0;
                host_judge_refused(f->host, json_text_or_empty(problem, "class"), named ? reason + n + 2 : reason, ret);
                return true;
        }
        if (strcmp(json_text_or_empty(f->line, "launcher"), "fork") == 0)
                return say(ret, f->host, HOST_REFUSED,
                           "its bertd lends nothing: launcher fork; run bertd there as root under systemd");
        return *draining && say(ret, f->host, HOST_WAITS, "drained: %s; when it is over: bertctl undrain", draining);
}

/* What is missing in its line then, e.g. an input, may be there. */
static bool judge_late(const struct host_facts *f, struct host_verdict *ret) {
        return json_is_true(json_object_get(f->line, "late")) &&
               say(ret, f->host, HOST_WAITS,
                   "a file system or name server does not answer there, or the host is overloaded; try: ssh %s ls PATH",
                   f->host);
}

static bool judge_version(const struct host_facts *f, struct host_verdict *ret) {
        static const struct {
                const char *key, *name;
        } programs[] = { { "bertd", "bertd" }, { "trainer", "bert-trainer" }, { "mpi", "Open MPI" } };
        json_int_t lease = json_integer_value(json_object_get(f->line, "version"));

        if (lease != LEASH_VERSION)
                return say(ret, f->host, HOST_WAITS,
                           "its bertctl speaks version %lld of leases, this one %d; install "
                           "one version",
                           (long long) lease, LEASH_VERSION);
        for (size_t i = 0; f->head && i < ELEMENTSOF(programs); i++) {
                const char *theirs = json_text_or_empty(f->line, programs[i].key),
                           *ours = json_text_or_empty(f->head, programs[i].key);
                bool unmanaged = i == 0 && f->unmanaged && !*theirs;
                if (!*ours || strcmp(theirs, ours) == 0 || unmanaged)
                        continue;
                if (!*theirs)
                        return say(ret, f->host, f->ran ? HOST_WAITS : HOST_REFUSED,
                                   "%s is not installed there; install %s", programs[i].name, ours);
                return say(ret, f->host, HOST_WAITS, "%s %s there, %s here; install one version", programs[i].name,
                           theirs, ours);
        }
        return false;
}

static bool is_loopback(const char *address) { return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0; }

/* "gpu3" or "gpu3.example.com" for a host that calls itself so. */
static bool is_called(const json_t *line, const char *name) {
        const char *itself = json_text_or_empty(line, "host");
        size_t n = strcspn(name, ".");

        return n > 0 && n == strcspn(itself, ".") && strncasecmp(name, itself, n) == 0;
}

/* Of another host's name as this host has it. */
static bool judge_names(const char *where, const char *own, const json_t *line, const char *host,
                        struct host_verdict *ret) {
        json_t *names = json_object_get(line, "resolves"), *value;
        const char *name;

        json_object_foreach(names, name, value) {
                const char *address = json_plain_string(value);
                if (strcasecmp(name, own) == 0 || is_called(line, name) || !address)
                        continue;
                if (is_loopback(address))
                        return say(ret, host, HOST_REFUSED,
                                   "on %s, %s is %s; give it its own address in /etc/hosts there", where, name,
                                   address);
        }
        return false;
}

static bool judge_network(const struct host_facts *f, struct host_verdict *ret) {
        const char *problem = json_text_or_empty(json_object_get(f->line, "network"), "problem"),
                   *ours = json_text_or_empty(json_object_get(f->head, "network"), "problem");

        if (*problem)
                return say(ret, f->host, HOST_REFUSED, "network: %s", problem);
        return *ours && say(ret, f->head_name ? f->head_name : f->host, HOST_REFUSED, "network: %s", ours);
}

static bool judge_size(const struct host_facts *f, struct host_verdict *ret) {
        enum host_grade grade = f->ran ? HOST_WAITS : HOST_REFUSED; /* a GPU may have failed */
        const json_t *slots = json_object_get(f->line, "slots"), *gpus = json_object_get(f->line, "gpus");

        if (json_is_integer(slots) && (uint64_t) json_integer_value(slots) < f->slots && !f->unmanaged)
                return say(ret, f->host, grade, "has %lld slots, the job needs %llu there (ranks x threads)",
                           (long long) json_integer_value(slots), (unsigned long long) f->slots);
        return json_array_size(gpus) < f->gpus &&
               say(ret, f->host, grade, "has %zu GPUs, the job needs %u there", json_array_size(gpus), f->gpus);
}

/* ---- inputs ---- */

static const json_t *find_input(const json_t *line, const char *path) {
        const json_t *inputs = json_object_get(line, "inputs");

        for (size_t i = 0; i < json_array_size(inputs); i++) {
                const json_t *input = json_array_get(inputs, i);
                if (strcmp(json_text_or_empty(input, "path"), path) == 0)
                        return input;
        }
        return NULL;
}

/* Whether the host lacks this one of the head's, and how. */
static const char *lack_of(const struct host_facts *f, const json_t *ours) {
        const json_t *theirs = find_input(f->line, json_text_or_empty(ours, "path"));
        const char *state = theirs ? json_text_or_empty(theirs, "state") : "missing";

        if (strcmp(json_text_or_empty(ours, "state"), "ok") != 0)
                return NULL; /* the head's own trouble, which the trainer reports */
        if (strcmp(state, "ok") != 0)
                return strcmp(state, "unreadable") == 0 ? "cannot be read there" : "missing there";
        return strcmp(json_text_or_empty(theirs, "hash"), json_text_or_empty(ours, "hash")) != 0
                       ? "differs from this host's"
                       : NULL;
}

/* "'it'\''s'", if a shell would not take it as it is. */
static void put_quoted(FILE *out, const char *word) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+=:,@%";

        if (word[strspn(word, plain)] == '\0') {
                (void) fprintf(out, " %s", word);
                return;
        }
        (void) fputs(" '", out);
        for (const char *p = word; *p; p++)
                (void) fputs(*p == '\'' ? "'\\''" : (char[]) { *p, '\0' }, out);
        (void) fputc('\'', out);
}

static void put_files(FILE *out, const json_t *input) {
        static const char *const endings[] = { ".idx", ".bin" };

        for (size_t i = 0; json_is_true(json_object_get(input, "corpus")) && i < ELEMENTSOF(endings); i++) {
                cleanup_free char *file = format_string("%s%s", json_text_or_empty(input, "path"), endings[i]);
                put_quoted(out, file ? file : "");
        }
        if (!json_is_true(json_object_get(input, "corpus")))
                put_quoted(out, json_text_or_empty(input, "path"));
}

/* The command that copies all that this host lacks. */
static char *cure_of_inputs(const struct host_facts *f) {
        const json_t *inputs = json_object_get(f->head, "inputs");
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);

        if (!out)
                return NULL;
        (void) fputs("rsync -aR --no-implied-dirs", out);
        for (size_t i = 0; i < json_array_size(inputs); i++)
                if (lack_of(f, json_array_get(inputs, i)))
                        put_files(out, json_array_get(inputs, i));
        (void) fprintf(out, " %s:/", f->host);
        return fclose(out) == 0 ? text : NULL;
}

static bool judge_inputs(const struct host_facts *f, struct host_verdict *ret) {
        const json_t *inputs = json_object_get(f->head, "inputs");
        const char *lack = NULL, *path = "";
        size_t more = 0;
        char others[48] = "";

        for (size_t i = 0; i < json_array_size(inputs); i++) {
                const json_t *input = json_array_get(inputs, i);
                const char *one = lack_of(f, input);
                more += one && lack;
                if (one && !lack) {
                        lack = one;
                        path = json_text_or_empty(input, "path");
                }
        }
        if (!lack)
                return false;
        bool returns = f->ran && strncmp(lack, "differs", 7) != 0; /* a mount that is gone or stale */
        cleanup_free char *cure = cure_of_inputs(f);
        if (more > 0)
                (void) snprintf(others, sizeof(others), " (and %zu more)", more);
        if (returns)
                return say(ret, f->host, HOST_WAITS, "%s: %s%s; mount it, or run: %s", path, lack, others,
                           cure ? cure : "rsync");
        if (strcmp(lack, "cannot be read there") == 0)
                return say(ret, f->host, HOST_REFUSED, "%s: %s%s; check its permissions", path, lack, others);
        return say(ret, f->host, HOST_REFUSED, "%s: %s%s; run: %s", path, lack, others, cure ? cure : "rsync");
}

static bool is_private(const char *path) {
        return strncmp(path, "/tmp/", 5) == 0 || strncmp(path, "/var/tmp/", 9) == 0;
}

static bool judge_tmp(const struct host_facts *f, struct host_verdict *ret) {
        const json_t *inputs = json_object_get(f->head, "inputs");
        const char *path = json_text_or_empty(json_object_get(f->head, "program"), "path");
        size_t i = 0;

        if (!json_is_true(json_object_get(f->line, "private_tmp")))
                return false;
        while (!is_private(path) && i < json_array_size(inputs))
                path = json_text_or_empty(json_array_get(inputs, i++), "path");
        return is_private(path) && say(ret, f->host, HOST_REFUSED,
                                       "%s: a job has its own /tmp and /var/tmp there; move it elsewhere", path);
}

static bool judge_program(const struct host_facts *f, struct host_verdict *ret) {
        const json_t *ours = json_object_get(f->head, "program"), *theirs = json_object_get(f->line, "program");
        const char *name = json_text_or_empty(ours, "name");
        enum host_grade grade = f->ran ? HOST_WAITS : HOST_REFUSED; /* a mount that is gone */

        if (!json_is_true(json_object_get(ours, "there")) || !json_is_false(json_object_get(theirs, "there")))
                return false;
        return strchr(name, '/')
                       ? say(ret, f->host, grade, "%s: no such program there; copy or install it", name)
                       : say(ret, f->host, grade,
                             "%s: no such program there in the job's PATH; install it, or give its path", name);
}

void host_judge(const struct host_facts *f, struct host_verdict *ret) {
        const char *head = f->head_name ? f->head_name : "";

        *ret = (struct host_verdict) {};
        if (!f->line) {
                host_judge_end(f->host, &f->end, ret);
                return;
        }
        (void) (judge_bertd(f, ret) || judge_late(f, ret) || judge_version(f, ret) ||
                judge_names(f->host, f->host, f->line, f->host, ret) ||
                (f->head && judge_names(head, head, f->head, head, ret)) || judge_network(f, ret) ||
                judge_size(f, ret) || judge_tmp(f, ret) || judge_inputs(f, ret) || judge_program(f, ret));
}
