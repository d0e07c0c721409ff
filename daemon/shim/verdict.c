/*
 * See verdict.h. The evidence is checked from strongest to weakest: a requested stop, exit codes with a meaning
 * (bertd/exit.h), the OOM killer, mpirun's message about the first rank to fail, error texts of MPI, NCCL and CUDA, a
 * full disk; otherwise it is a plain failure. mpirun's exit code alone is ambiguous: it is the rank's, or 128 + its
 * signal. If several ranks print errors, the earliest is the cause and the others follow from it.
 */
#include "daemon/shim/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/utf8.h"
#include "daemon/shim/torchrun.h"

#define TRAINER_PREFIX "bert-trainer: "
#define DISK_FULL_WINDOW 4096 /* bytes at the end of the output in which "No space left on device" counts */

/* ---- text ---- */

char *shim_clean_text(char *dst, size_t size, const char *src, size_t size_src) {
        const unsigned char *p = (const unsigned char *) src;
        size_t used = 0;

        while (size_src > 0) {
                size_t n = utf8_character((const char *) p, size_src), step = n > 0 ? n : 1;
                if (used + step >= size)
                        break;
                if (n > 1)
                        memcpy(dst + used, p, n);
                else
                        dst[used] = n == 0 ? '?' : *p < 0x20 || *p == 0x7f ? ' ' : (char) *p;
                used += step;
                p += step;
                size_src -= step;
        }
        dst[used] = '\0';
        return dst;
}

struct span {
        const char *p;
        size_t n;
};

/* The last occurrence of `needle`, extended to the end of its line; p is NULL if not found. */
static struct span find_last(struct span text, const char *needle) {
        size_t length = strlen(needle);
        struct span found = {};

        for (const char *from = text.p, *end = text.p + text.n; from < end;) {
                const char *hit = memmem(from, (size_t) (end - from), needle, length);
                if (!hit)
                        break;
                const char *line_end = memchr(hit, '\n', (size_t) (end - hit));
                found = (struct span) { hit, (size_t) ((line_end ? line_end : end) - hit) };
                from = hit + length;
        }
        return found;
}

/* The first occurrence of `needle`, extended to the end of its line; p is NULL if not found. */
static struct span find_first(struct span text, const char *needle) {
        const char *hit = text.n > 0 ? memmem(text.p, text.n, needle, strlen(needle)) : NULL;

        if (!hit)
                return (struct span) {};
        const char *end = text.p + text.n;
        const char *line_end = memchr(hit, '\n', (size_t) (end - hit));
        return (struct span) { hit, (size_t) ((line_end ? line_end : end) - hit) };
}

/* The hit extended to the start of its line. */
static struct span whole_line(struct span text, struct span hit) {
        while (hit.p && hit.p > text.p && hit.p[-1] != '\n') {
                hit.p--;
                hit.n++;
        }
        return hit;
}

/* The earliest of the first lines with one of the words. */
static struct span find_earliest(struct span text, const char *const *words, size_t n_words) {
        struct span earliest = {};

        for (size_t i = 0; i < n_words; i++) {
                struct span hit = find_first(text, words[i]);
                if (hit.p && (!earliest.p || hit.p < earliest.p))
                        earliest = hit;
        }
        return whole_line(text, earliest);
}

/* The decimal number right after `before` in the span, or −1. */
static int number_after(struct span text, const char *before) {
        const char *hit = text.p ? memmem(text.p, text.n, before, strlen(before)) : NULL;
        int v = 0, digits = 0;

        if (!hit)
                return -1;
        const char *end = text.p + text.n;
        for (hit += strlen(before); hit < end && *hit == ' '; hit++)
                ;
        for (; hit < end && *hit >= '0' && *hit <= '9' && digits < 9; hit++, digits++)
                v = v * 10 + (*hit - '0');
        return digits > 0 ? v : -1;
}

/* Parses a prefix "rank 3 on HOST: "; false if there is another text. */
static bool split_rank(struct span *text, int *ret_rank, char host[EXIT_RECORD_HOST_MAX]) {
        struct span rest = *text;
        size_t n = 0;

        if (rest.n < 9 || memcmp(rest.p, "rank ", 5) != 0)
                return false;
        int rank = number_after(rest, "rank ");
        const char *on = memmem(rest.p, rest.n, " on ", 4), *end = rest.p + rest.n;
        if (rank < 0 || !on || on > rest.p + 5 + 9)
                return false;
        for (on += 4; on + n < end && on[n] > ' ' && on[n] != ':' && n < EXIT_RECORD_HOST_MAX - 1; n++)
                ;
        if (n == 0 || on + n + 1 >= end || on[n] != ':' || on[n + 1] != ' ')
                return false;
        *ret_rank = rank;
        (void) shim_clean_text(host, EXIT_RECORD_HOST_MAX, on, n);
        *text = (struct span) { on + n + 2, (size_t) (end - (on + n + 2)) };
        return true;
}

/* The trainer's last message, without its prefix: the earliest line that names its rank, because others follow from it;
 * else the last line. mpirun --tag-output may have added a tag. Lines without information are skipped. */
static struct span trainer_message(struct span text) {
        struct span hit = find_first(text, TRAINER_PREFIX "rank ");

        if (!hit.p)
                hit = find_last(text, TRAINER_PREFIX);
        if (hit.n <= strlen(TRAINER_PREFIX))
                return (struct span) {};
        return (struct span) { hit.p + strlen(TRAINER_PREFIX), hit.n - strlen(TRAINER_PREFIX) };
}

static const char *signal_word(int number, char *buffer, size_t size) {
        const char *name = sigabbrev_np(number);

        (void) snprintf(buffer, size, name ? "%d (SIG%s)" : "%d", number, name ? name : "");
        return buffer;
}

/* With the rank in front. */
static void put_reason(const struct exit_verdict *v, char to[EXIT_RECORD_REASON_MAX], const char *text) {
        char rank[32 + EXIT_RECORD_HOST_MAX] = "", line[EXIT_RECORD_REASON_MAX + sizeof(rank)];

        if (v->first_rank >= 0)
                (void) snprintf(rank, sizeof(rank), "rank %d%s%s: ", v->first_rank, v->host[0] ? " on " : "", v->host);
        int n = snprintf(line, sizeof(line), "%s%s", rank, text);
        (void) shim_clean_text(to, EXIT_RECORD_REASON_MAX, line, (size_t) n);
}

static void set_reason(struct exit_verdict *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set_reason(struct exit_verdict *v, const char *format, ...) {
        char text[EXIT_RECORD_REASON_MAX];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        put_reason(v, v->reason, text);
}

/* Quotes the job's output for the owner only; others read `text`. */
static void set_quoted(struct exit_verdict *v, struct span span, const char *text) {
        char quoted[EXIT_RECORD_REASON_MAX], host[EXIT_RECORD_HOST_MAX];
        int rank;

        if (split_rank(&span, &rank, host)) {
                v->first_rank = rank;
                memcpy(v->host, host, sizeof(host));
        }
        put_reason(v, v->reason, text);
        put_reason(v, v->private, shim_clean_text(quoted, sizeof(quoted), span.p, span.n));
}

/* ---- the verdict ---- */

static void forget_rank(struct exit_verdict *v) {
        v->first_rank = -1;
        v->host[0] = '\0';
}

static bool from_outside(int number) {
        return number == SIGKILL || number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT;
}

/* The word after "on node ". */
static void read_node(struct span line, struct exit_verdict *v) {
        static const char mark[] = " on node ";
        const char *node = memmem(line.p, line.n, mark, strlen(mark)), *end = line.p + line.n;
        size_t n = 0;

        if (!node)
                return;
        for (node += strlen(mark); node + n < end && node[n] > ' ' && n < EXIT_RECORD_HOST_MAX - 1; n++)
                ;
        (void) shim_clean_text(v->host, sizeof(v->host), node, n);
}

/* mpirun's message about the first rank to fail: "[[9477,1],3]", and of Open MPI 5 "[prterun-h1-9477@1,3]". */
static void read_mpirun(struct span text, struct exit_verdict *v) {
        struct span noticed = find_last(text, "noticed that process rank ");
        struct span name = find_last(text, "Process name: [[");
        struct span newer = find_last(text, "Process name: [prterun-");

        if (noticed.p) {
                v->first_rank = number_after(noticed, "process rank ");
                read_node(noticed, v);
                int number = number_after(noticed, "exited on signal ");
                if (number > 0) {
                        v->signal = number;
                        v->exit_code = -1;
                }
        } else if (name.p || newer.p) {
                struct span from = name.p ? name : newer;
                struct span rest = { from.p, (size_t) (text.p + text.n - from.p) };
                v->first_rank = name.p ? number_after(name, "],") : number_after(newer, "@1,");
                int code = number_after(rest, "Exit code:");
                if (code >= 0 && code < 256)
                        v->exit_code = code;
        }
}

/* "out of memory (limit 2.0 GiB)" */
static const char *memory_words(const struct shim_evidence *evidence, char *buffer, size_t size) {
        double mib = (double) evidence->memory_limit / (1 << 20);

        if (evidence->memory_limit == 0)
                (void) snprintf(buffer, size, "out of memory (no job limit: the host ran out)");
        else
                (void) snprintf(buffer, size, "out of memory (limit %.1f %s)", mib >= 1024 ? mib / 1024 : mib,
                                mib >= 1024 ? "GiB" : "MiB");
        return buffer;
}

/* Whether a list of names joined by commas has this one. */
static bool has_name(const char *names, const char *name) {
        for (size_t n; names && *names; names += n + (names[n] == ','))
                if ((n = strcspn(names, ",")) == strlen(name) && strncmp(names, name, n) == 0)
                        return true;
        return false;
}

/* The host of a rank that the output does not name. */
static void find_host(const struct shim_evidence *evidence, struct exit_verdict *v) {
        const char *name = evidence->hosts;

        if (v->first_rank < 0 || v->host[0])
                return;
        for (unsigned i = 0; name && evidence->ranks > 0 && i < (unsigned) v->first_rank / evidence->ranks; i++)
                name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL;
        if (name)
                (void) snprintf(v->host, sizeof(v->host), "%.*s", (int) strcspn(name, ","), name);
        else
                (void) snprintf(v->host, sizeof(v->host), "%s", evidence->host);
}

/* Open MPI may print a host's whole name. */
static bool is_here(const struct shim_evidence *evidence, const char *host) {
        size_t n = strcspn(host, ".");

        return strlen(evidence->host) == n && strncasecmp(evidence->host, host, n) == 0;
}

/* On another host, that one's memory counts. */
static bool is_oom(const struct shim_evidence *evidence, const struct exit_verdict *v) {
        bool elsewhere = evidence->hosts && v->host[0] && !is_here(evidence, v->host);

        return elsewhere ? has_name(evidence->oom_hosts, v->host) : evidence->oom_kills > 0;
}

static void judge_signal(const struct shim_evidence *evidence, struct exit_verdict *v) {
        char word[96];

        v->oom = v->signal == SIGKILL && is_oom(evidence, v);
        v->exit_class = v->oom ? EXIT_CLASS_OOM : from_outside(v->signal) ? EXIT_CLASS_KILLED : EXIT_CLASS_SIGNAL;
        if (v->oom)
                set_reason(v, "killed by the kernel: %s", memory_words(evidence, word, sizeof(word)));
        else
                set_reason(v, "killed by signal %s", signal_word(v->signal, word, sizeof(word)));
}

/* Exit codes with a meaning (contract C6). */
static bool judge_code(const struct shim_evidence *evidence, struct span text, struct exit_verdict *v) {
        static const struct {
                int code;
                enum exit_class exit_class;
                const char *word;
                bool reporters; /* only for programs that report progress */
        } codes[] = {
                { BERTD_EXIT_USAGE, EXIT_CLASS_USER_ERROR, "wrong usage", false },
                { BERTD_EXIT_DATA, EXIT_CLASS_USER_ERROR, "wrong data", false },
                { BERTD_EXIT_INPUT, EXIT_CLASS_USER_ERROR, "missing input", false },
                { BERTD_EXIT_CONFIG, EXIT_CLASS_USER_ERROR, "wrong configuration", false },
                { BERTD_EXIT_STOPPED, EXIT_CLASS_STOPPED, "stopped after a checkpoint", true },
                { BERTD_EXIT_BAD_CHECKPOINT, EXIT_CLASS_BAD_CHECKPOINT, "the checkpoint cannot be used", true },
                { BERTD_EXIT_NAN, EXIT_CLASS_NAN, "loss or gradient is not finite", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                struct span said = trainer_message(text);
                if (codes[i].code != v->exit_code || (codes[i].reporters && !evidence->reports && !said.p))
                        continue;
                v->exit_class = codes[i].exit_class;
                if (v->exit_class == EXIT_CLASS_STOPPED)
                        forget_rank(v); /* all ranks agreed; mpirun names the first to exit */
                char word[64];
                (void) snprintf(word, sizeof(word), "%s (exit code %d)", codes[i].word, v->exit_code);
                if (said.p && v->exit_class != EXIT_CLASS_STOPPED)
                        set_quoted(v, said, word);
                else
                        set_reason(v, "%s", word);
                return true;
        }
        return false;
}

static bool judge_disk_full(struct span text, struct exit_verdict *v) {
        static const char *const words[] = { "No space left on device", "Disk quota exceeded",
                                             "database or disk is full", "No inodes left on device" };

        if (text.n > DISK_FULL_WINDOW)
                text = (struct span) { text.p + text.n - DISK_FULL_WINDOW, DISK_FULL_WINDOW };
        struct span line = find_earliest(text, words, ELEMENTSOF(words));
        if (!line.p)
                return false;
        v->exit_class = EXIT_CLASS_DISK_FULL;
        struct span said = trainer_message(line);
        set_quoted(v, said.p ? said : line, "no space left on a disk, or quota exceeded");
        return true;
}

/* The rank that wrote a line: "[1,3]<stderr>:" of mpirun --tag-output, "[rank3]:" of PyTorch. It takes precedence over
 * the rank that mpirun saw exit first. */
static void note_line_rank(struct span line, struct exit_verdict *v) {
        struct span tag = { line.p, MIN(line.n, (size_t) 24) };
        int rank = memmem(tag.p, tag.n, "<std", 4) ? number_after(tag, ",") : number_after(tag, "[rank");

        if (rank >= 0 && line.p[0] == '[')
                v->first_rank = rank;
}

/* Open MPI 5: a rank that is killed is not named, those that it was connected to abort first. */
static bool judge_peer(struct span text, struct span fatal, struct exit_verdict *v) {
        static const char label[] = "  Peer host:";
        struct span peer = find_first(text, label);
        char host[EXIT_RECORD_HOST_MAX] = "";

        if (!fatal.p || !memmem(fatal.p, fatal.n, "Socket closed", 13))
                return false;
        if (peer.p)
                (void) shim_clean_text(host, sizeof(host), peer.p + sizeof(label) - 1, peer.n - (sizeof(label) - 1));
        set_reason(v, "a rank%s%s is gone: its connection was closed", host[0] ? " on " : "", host + strspn(host, " "));
        (void) snprintf(v->private, sizeof(v->private), "%s", v->reason); /* what follows in the log is Open MPI's */
        return true;
}

static bool judge_mpi(struct span text, struct exit_verdict *v) {
        static const char *const words[] = { "NCCL error",      "NCCL WARN",         "ncclUnhandledCudaError",
                                             "ncclSystemError", "ncclInternalError", "ncclRemoteError",
                                             "CUDA error",      "cudaError",         "CUDA_ERROR_",
                                             "CUBLAS_STATUS_" };
        struct span aborted = find_last(text, "MPI_ABORT was invoked on rank ");
        struct span fatal = find_first(text, "*** An error occurred in ");
        struct span said = trainer_message(text);

        v->exit_class = EXIT_CLASS_MPI;
        struct span line = find_earliest(text, words, ELEMENTSOF(words));
        if (line.p) {
                struct span own = trainer_message(line);
                note_line_rank(line, v);
                set_quoted(v, own.p ? own : line, "an MPI, NCCL or CUDA error");
                return true;
        }
        if (judge_peer(text, fatal, v))
                return true;
        if (fatal.p) {
                struct span rest = { fatal.p, (size_t) (text.p + text.n - fatal.p) };
                struct span what = find_first(rest, "*** MPI_ERR_");
                char call[128], code[128] = "";
                struct span process = find_first(rest, "reported by process [");
                v->first_rank = number_after(process, ",");
                (void) shim_clean_text(call, sizeof(call), fatal.p + 25, fatal.n - 25);
                if (what.p)
                        (void) shim_clean_text(code, sizeof(code), what.p + 4, what.n - 4);
                char what_failed[EXIT_RECORD_REASON_MAX];
                int n = snprintf(what_failed, sizeof(what_failed), "MPI error in %s%s%s", call, code[0] ? ": " : "",
                                 code);
                set_quoted(v, (struct span) { what_failed, (size_t) n }, "an MPI error");
                return true;
        }
        if (aborted.p) {
                struct span rest = { aborted.p, (size_t) (text.p + text.n - aborted.p) };
                v->first_rank = number_after(aborted, "on rank ");
                char text_of_code[64];
                (void) snprintf(text_of_code, sizeof(text_of_code), "MPI_Abort with code %d",
                                number_after(rest, "errorcode "));
                if (said.p)
                        set_quoted(v, said, text_of_code);
                else
                        set_reason(v, "%s", text_of_code);
                return true;
        }
        return false;
}

/* A rank of a gang that is mpirun, or calls it: Open MPI's own words name no cause. */
static bool judge_nested(struct span text, struct exit_verdict *v) {
        static const char *const words[] = { "does not support recursive calls", "plm_rsh_component.c" };

        if (v->first_rank < 0 || !find_earliest(text, words, ELEMENTSOF(words)).p)
                return false;
        v->exit_class = EXIT_CLASS_USER_ERROR;
        set_reason(v, "the program calls mpirun: bertd starts the ranks; give the program alone");
        (void) snprintf(v->private, sizeof(v->private), "%s", v->reason);
        return true;
}

static bool judge_launch(struct span text, struct exit_verdict *v) {
        struct span unable = find_last(text, "mpirun was unable to ");
        struct span slots = find_last(text, "There are not enough slots available");
        struct span executable = find_last(text, "Executable: ");

        if (!unable.p && !slots.p)
                return false;
        v->exit_class = EXIT_CLASS_LAUNCH;
        forget_rank(v);
        if (slots.p) {
                set_reason(v, "mpirun: not enough slots for the ranks");
        } else if (executable.p) {
                char text_of_it[EXIT_RECORD_REASON_MAX];
                int n = snprintf(text_of_it, sizeof(text_of_it), "mpirun: could not execute %.*s",
                                 (int) MIN(executable.n - 12, (size_t) 255), executable.p + 12);
                set_quoted(v, (struct span) { text_of_it, (size_t) n }, "mpirun: could not execute the program");
        } else {
                set_quoted(v, unable, "mpirun was unable to start the ranks");
        }
        return true;
}

/* The launcher's own code is 1 whatever a rank's was. */
static void read_torchrun(struct span text, struct exit_verdict *v) {
        struct torchrun_cause cause;

        if (v->first_rank >= 0 || !torchrun_cause(text.p, text.n, &cause))
                return;
        v->first_rank = cause.rank;
        v->exit_code = cause.exit_code;
        v->signal = cause.signal;
}

/* Likewise accelerate's launcher of one process. Of other programs' children only a program that reports progress is
 * known to use the exit codes of contract C6. */
static void read_python_launcher(const struct shim_evidence *evidence, struct span text, struct exit_verdict *v) {
        int code;

        if (v->exit_code == 1 && evidence->reports && torchrun_child_code(text.p, text.n, &code) &&
            code >= BERTD_EXIT_STOPPED && code <= BERTD_EXIT_NAN)
                v->exit_code = code;
}

static void judge(const struct shim_evidence *evidence, struct span text, struct exit_verdict *v) {
        read_mpirun(text, v);
        read_torchrun(text, v);
        read_python_launcher(evidence, text, v);
        find_host(evidence, v);
        if (v->signal == 0 && ((evidence->gang && judge_nested(text, v)) || judge_launch(text, v)))
                return;
        if (v->signal == 0 && v->exit_code > 128 && v->exit_code < 128 + NSIG && sigabbrev_np(v->exit_code - 128)) {
                v->signal = v->exit_code - 128; /* how a shell or mpirun reports a signal */
                v->exit_code = -1;
        }
        if (v->signal > 0) {
                judge_signal(evidence, v);
                return;
        }
        if (judge_code(evidence, text, v) || judge_disk_full(text, v) || judge_mpi(text, v))
                return;
        struct span said = trainer_message(text);
        if (evidence->oom_kills > 0 && evidence->memory_limit > 0) {
                char word[96];
                v->exit_class = EXIT_CLASS_OOM;
                v->oom = true;
                set_reason(v, "exit code %d after the kernel killed a process: %s", v->exit_code,
                           memory_words(evidence, word, sizeof(word)));
                return;
        }
        v->exit_class = EXIT_CLASS_FAILED;
        char code[32];
        (void) snprintf(code, sizeof(code), "exit code %d", v->exit_code);
        if (said.p)
                set_quoted(v, said, code);
        else
                set_reason(v, "%s", code);
}

/* Without better evidence, the last line of the program is the cause, except after a signal from outside. Lines that
 * launchers and Python's helper processes print after it are skipped. */
static void quote_last_line(const struct shim_evidence *evidence, struct span text, struct exit_verdict *v) {
        static const bool speaks[EXIT_CLASS_MAX] = {
                [EXIT_CLASS_USER_ERROR] = true, [EXIT_CLASS_BAD_CHECKPOINT] = true, [EXIT_CLASS_NAN] = true,
                [EXIT_CLASS_FAILED] = true,     [EXIT_CLASS_SIGNAL] = true,         [EXIT_CLASS_MPI] = true
        };
        static const char *const reports[] = { "Primary job  terminated ",   "mpirun noticed that process ",
                                               "mpirun detected that one ",  "prterun noticed that process ",
                                               "prterun detected that one ", "mpirun has exited due to process ",
                                               "prterun has exited due to ", "MPI_ABORT was invoked on rank " };
        char line[SHIM_LINE_MAX + 1];
        struct span launcher = find_earliest(text, reports, ELEMENTSOF(reports));
        size_t size = torchrun_program_size(text.p, launcher.p ? (size_t) (launcher.p - text.p) : text.n);

        if (!speaks[v->exit_class] || v->private[0] || (v->exit_class == EXIT_CLASS_SIGNAL && v->first_rank >= 0))
                return;
        if (evidence->exception)
                (void) shim_clean_text(line, sizeof(line), evidence->exception, strcspn(evidence->exception, "\n"));
        else
                shim_last_line(text.p, size, line);
        if (line[0])
                (void) snprintf(v->private, sizeof(v->private), "%.300s: %s", v->reason, line);
}

static void prepend(char text[EXIT_RECORD_REASON_MAX], const char *words) {
        char whole[2 * EXIT_RECORD_REASON_MAX];

        int n = snprintf(whole, sizeof(whole), "%s%s", words, text);
        (void) shim_clean_text(text, EXIT_RECORD_REASON_MAX, whole, (size_t) n);
}

void shim_classify(const struct shim_evidence *evidence, struct exit_verdict *ret) {
        struct span text = { evidence->tail, evidence->tail_size };
        int status = evidence->wait_status;
        struct exit_verdict v = {
                .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                .first_rank = -1,
        };

        if (v.exit_code == 0) {
                v.exit_class = EXIT_CLASS_FINISHED;
                set_reason(&v, "finished");
        } else if (v.signal > 0) {
                judge_signal(evidence, &v); /* mpirun itself, or the command */
        } else {
                judge(evidence, text, &v);
        }
        quote_last_line(evidence, text, &v);
        if (evidence->stop_asked && (v.exit_class == EXIT_CLASS_KILLED || v.exit_class == EXIT_CLASS_FAILED)) {
                const char *words = evidence->saved     ? "stopped after a checkpoint: "
                                    : evidence->reports ? "stopped on request without a checkpoint: "
                                                        : "stopped on request: ";
                v.exit_class = EXIT_CLASS_STOPPED;
                forget_rank(&v);
                prepend(v.reason, words);
                if (v.private[0])
                        prepend(v.private, words);
        }
        *ret = v;
}
