/*
 * See hosts.h. Owns the children and descriptors of a probe. Invariants: every descriptor is
 * non-blocking, every phase has a deadline, and no child outlives the probe.
 */
#include "ctl/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/spec/host_inputs.h"
#include "common/json_read.h"
#include "common/ssh.h"
#include "ctl/surroundings.h"

#define LINE_USEC (16 * USEC_PER_SEC) /* ssh's 5 s to connect, and the probe's own limit there */
#define PAIRS_USEC (8 * USEC_PER_SEC)
#define END_USEC USEC_PER_SEC

/* ---- children ---- */

/* What runs on each host, for the shell there; this host runs it without one. */
static char *command_of(const struct hosts_asked *asked) {
        const struct spec_resources *r = asked->spec ? &asked->spec->resources : NULL;

        return format_string("bertctl lease --probe --inputs --pairs%s%s%s", r && r->network ? " --network " : "",
                             r && r->network ? r->network : "", r && r->unmanaged ? " --unmanaged" : "");
}

static __attribute__((noreturn)) void exec_here(char *command) {
        char *words[16] = {}, *rest = NULL, *word = strtok_r(command, " ", &rest);

        for (size_t n = 0; word && n + 1 < ELEMENTSOF(words); word = strtok_r(NULL, " ", &rest))
                words[n++] = word;
        (void) execv("/proc/self/exe", words);
        _exit(127);
}

static __attribute__((noreturn)) void be_child(const char *host, char *command, const int ends[3][2], pid_t parent) {
        const char *argv[SSH_WORDS_MAX];

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(ends[0][0], 0) < 0 || dup2(ends[1][1], 1) < 0 || dup2(ends[2][1], 2) < 0)
                _exit(127);
        (void) signal(SIGPIPE, SIG_DFL);
        if (!host)
                exec_here(command);
        ssh_forget_login();
        ssh_words(host, command, argv);
        (void) execvp(argv[0], (char **) argv);
        (void) dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(126);
}

static void close_pipe(int ends[2]) {
        for (int i = 0; i < 2; i++)
                if (ends[i] >= 0)
                        (void) close(ends[i]);
}

/* `host` NULL: this one. */
static int start(struct host_probed *h, const char *host, char *command) {
        int ends[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } }, r = 0;
        pid_t parent = getpid();

        for (int i = 0; r == 0 && i < 3; i++)
                r = pipe2(ends[i], O_CLOEXEC) < 0 ? -errno : 0;
        if (r == 0 && (h->pid = fork()) == 0)
                be_child(host, command, ends, parent);
        if (r < 0 || h->pid < 0) {
                r = r < 0 ? r : -errno;
                h->pid = 0;
                for (int i = 0; i < 3; i++)
                        close_pipe(ends[i]);
                return r;
        }
        (void) close(ends[0][0]);
        (void) close(ends[1][1]);
        (void) close(ends[2][1]);
        h->in = ends[0][1];
        h->out = ends[1][0];
        h->err = ends[2][0];
        for (int i = 0; i < 3; i++) {
                int fd = i == 0 ? h->in : i == 1 ? h->out : h->err;
                (void) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        }
        return 0;
}

static void close_end(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
        *fd = -1;
}

/* Takes the object. */
static void send_line(struct host_probed *h, json_t *object) {
        cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

        json_decref(object);
        free(h->to_send);
        h->to_send = text ? format_string("%s\n", text) : NULL;
        h->at = 0;
}

/* ---- what comes and goes ---- */

static void take_line(struct host_probed *h, json_t *line) {
        const char *type = json_text_at(line, "type");
        json_t **to = !type                            ? NULL
                      : strcmp(type, "host") == 0      ? &h->line
                      : strcmp(type, "refused") == 0   ? &h->refused
                      : strcmp(type, "connected") == 0 ? &h->connected
                                                       : NULL;

        if (to == &h->line && !h->line)
                h->line_usec = clock_realtime_usec();
        if (to && !*to)
                *to = json_incref(line);
        json_decref(line);
}

static void read_out(struct host_probed *h) {
        ssize_t n = leash_reader_fill(&h->reader, h->out);
        json_t *line;
        int r;

        while ((r = leash_reader_next(&h->reader, &line)) > 0)
                take_line(h, line);
        if (r < 0 || n == 0 || (n < 0 && n != -EAGAIN && n != -ENOBUFS && n != -EINTR))
                close_end(&h->out);
}

/* Its beginning is kept. */
static void read_err(struct host_probed *h) {
        char buffer[1024];
        ssize_t n = read(h->err, buffer, sizeof(buffer));

        if (n > 0) {
                size_t take = MIN((size_t) n, HOSTS_SAID_MAX - h->n_said);
                memcpy(h->said + h->n_said, buffer, take);
                h->n_said += take;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                close_end(&h->err);
}

static void write_in(struct host_probed *h) {
        ssize_t n = write(h->in, h->to_send + h->at, strlen(h->to_send + h->at));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0)
                close_end(&h->in);
        h->at += n > 0 ? (size_t) n : 0;
        if (n < 0 || h->to_send[h->at] == '\0') {
                free(h->to_send);
                h->to_send = NULL;
        }
}

static bool is_over(const struct host_probed *h) { return h->out < 0 && h->err < 0; }

/* One round of poll. False: the time is over. */
static bool turn(struct hosts_probe *probe, uint64_t deadline) {
        struct pollfd p[3 * BERTD_HOSTS_MAX];
        uint64_t now = clock_boottime_usec();

        for (uint32_t i = 0; i < probe->n; i++) {
                struct host_probed *h = &probe->hosts[i];
                p[3 * i] = (struct pollfd) { .fd = h->to_send ? h->in : -1, .events = POLLOUT };
                p[3 * i + 1] = (struct pollfd) { .fd = h->out, .events = POLLIN };
                p[3 * i + 2] = (struct pollfd) { .fd = h->err, .events = POLLIN };
        }
        if (now >= deadline || (poll(p, 3 * probe->n, (int) ((deadline - now) / 1000) + 1) < 0 && errno != EINTR))
                return false;
        for (uint32_t i = 0; i < probe->n; i++) {
                if (p[3 * i].revents)
                        write_in(&probe->hosts[i]);
                if (p[3 * i + 1].revents)
                        read_out(&probe->hosts[i]);
                if (p[3 * i + 2].revents)
                        read_err(&probe->hosts[i]);
        }
        return true;
}

static void run_until(struct hosts_probe *probe, uint64_t limit_usec, bool (*done)(const struct host_probed *h)) {
        uint64_t deadline = clock_boottime_usec() + limit_usec;
        bool all;

        do {
                all = true;
                for (uint32_t i = 0; i < probe->n; i++)
                        all = all && (done(&probe->hosts[i]) || is_over(&probe->hosts[i]));
        } while (!all && turn(probe, deadline));
}

/* ---- the phases ---- */

static bool has_line(const struct host_probed *h) { return h->line || h->late; }
static bool has_connected(const struct host_probed *h) { return h->connected || h->n_pairs == 0; }
static bool has_ended(const struct host_probed *h) { return false; }

static int start_all(struct hosts_probe *probe, const struct hosts_asked *asked, struct error *error) {
        cleanup_free char *command = command_of(asked);
        int r = command ? 0 : -ENOMEM;

        for (uint32_t i = 0; r == 0 && i < probe->n; i++) {
                cleanup_free char *copy = strdup(command);
                r = copy ? start(&probe->hosts[i], i == 0 ? NULL : asked->names[i], copy) : -ENOMEM;
                if (r == 0)
                        send_line(&probe->hosts[i],
                                  host_inputs_line(asked->spec, asked->folder, asked->program, asked->names));
        }
        return r < 0 ? error_errno(error, -r, "the probe of hosts") : 0;
}

static bool listens(const struct host_probed *h) { return json_integer_value(json_object_get(h->line, "listen")) > 0; }

/* Where `from` reaches `to`: in the job's network, else as it resolves its name. */
static const char *address_for(const struct host_probed *from, const struct host_probed *to) {
        const char *address = json_text_at(json_object_get(to->line, "network"), "address");

        return address ? address : json_text_at(json_object_get(from->line, "resolves"), to->name);
}

static void connect_pairs(struct hosts_probe *probe) {
        for (uint32_t i = 0; i < probe->n; i++) {
                struct host_probed *from = &probe->hosts[i];
                json_t *all = json_array();
                for (uint32_t k = 0; all && k < probe->n; k++) {
                        const struct host_probed *to = &probe->hosts[k];
                        const char *address = listens(from) && listens(to) && k != i ? address_for(from, to) : NULL;
                        if (!address || !*address)
                                continue;
                        (void) json_array_append_new(
                                all, json_pack("{s:s,s:s,s:I}", "host", to->name, "address", address, "port",
                                               json_integer_value(json_object_get(to->line, "listen"))));
                        from->n_pairs++;
                }
                if (from->n_pairs > 0)
                        send_line(from, json_pack("{s:s,s:O}", "type", "connect", "to", all));
                json_decref(all);
        }
}

static void reap(struct host_probed *h, bool wait) {
        if (h->pid > 0 && waitpid(h->pid, &h->status, wait ? 0 : WNOHANG) == h->pid)
                h->pid = 0;
}

/* Their standard input ends; who does not end then is killed. */
static void end_all(struct hosts_probe *probe) {
        for (uint32_t i = 0; i < probe->n; i++)
                close_end(&probe->hosts[i].in);
        run_until(probe, END_USEC, has_ended);
        for (uint32_t i = 0; i < probe->n; i++) {
                struct host_probed *h = &probe->hosts[i];
                reap(h, false);
                if (h->pid > 0) {
                        h->late = !h->line;
                        (void) kill(h->pid, SIGKILL);
                        reap(h, true);
                }
        }
}

/* ---- verdicts ---- */

static void judge_pairs(struct hosts_probe *probe, struct host_probed *h) {
        const json_t *failed = json_object_get(h->connected, "failed"), *first = json_array_get(failed, 0);
        const char *to = json_text_at(first, "host"), *address = json_text_at(first, "address"),
                   *reason = json_text_at(first, "reason");
        char text[512];

        h->n_linked = h->connected && json_array_size(failed) <= h->n_pairs
                              ? h->n_pairs - (uint32_t) json_array_size(failed)
                              : 0;
        if (!to || h->verdict.grade != HOST_GOOD)
                return;
        (void) snprintf(text, sizeof(text),
                        "no TCP to %.253s at %.64s: %.64s; open the firewall between them, or give another "
                        "resources.network",
                        to, address ? address : "?", reason ? reason : "?");
        host_judge_refused(h->name, "input", text, &h->verdict);
}

/* By another name or address. Containers of one machine have its boot, but their own names. */
static void judge_twice(const struct hosts_probe *probe, struct host_probed *h) {
        const char *boot = json_text_or_empty(h->line, "boot"), *name = json_text_or_empty(h->line, "host");
        char text[640];

        for (const struct host_probed *other = probe->hosts; other < h && boot[0] && h->verdict.grade == HOST_GOOD;
             other++)
                if (strcmp(json_text_or_empty(other->line, "boot"), boot) == 0 &&
                    strcmp(json_text_or_empty(other->line, "host"), name) == 0) {
                        (void) snprintf(text, sizeof(text), "is the same host as %.253s (%.64s); give one of them",
                                        other->name, name);
                        host_judge_refused(h->name, "input", text, &h->verdict);
                }
}

static void judge_all(struct hosts_probe *probe, const struct hosts_asked *asked) {
        const struct spec_resources *r = asked->spec ? &asked->spec->resources : NULL;

        for (uint32_t i = 0; i < probe->n; i++) {
                struct host_probed *h = &probe->hosts[i];
                const struct host_facts facts = { .host = h->name,
                                                  .end = { h->status, h->late, h->said, asked->ran, !asked->ran },
                                                  .line = h->line,
                                                  .refused = h->refused,
                                                  .head = probe->hosts[0].line,
                                                  .head_name = probe->hosts[0].name,
                                                  .slots = r ? (uint64_t) r->ranks * r->threads : 0,
                                                  .gpus = r ? r->gpus : 0,
                                                  .ran = asked->ran,
                                                  .unmanaged = r && r->unmanaged };
                if (i > 0)
                        host_judge(&facts, &h->verdict);
                judge_twice(probe, h);
                judge_pairs(probe, h);
        }
}

int hosts_probe_run(const struct hosts_asked *asked, struct hosts_probe **ret, struct error *error) {
        cleanup_hosts_probe struct hosts_probe *probe = calloc(1, sizeof(*probe) + asked->n * sizeof(probe->hosts[0]));

        if (!probe)
                return error_errno(error, ENOMEM, "the probe of hosts");
        probe->n = asked->n;
        for (uint32_t i = 0; i < probe->n; i++) {
                probe->hosts[i].name = asked->names[i];
                probe->hosts[i].in = probe->hosts[i].out = probe->hosts[i].err = -1;
        }
        void (*before)(int) = signal(SIGPIPE, SIG_IGN); /* of one that ends without reading */
        int r = start_all(probe, asked, error);
        if (r == 0) {
                run_until(probe, LINE_USEC, has_line);
                connect_pairs(probe);
                run_until(probe, PAIRS_USEC, has_connected);
                end_all(probe);
        }
        (void) signal(SIGPIPE, before);
        if (r < 0)
                return r;
        judge_all(probe, asked);
        *ret = steal_pointer(&probe);
        return 0;
}

void hosts_probe_free(struct hosts_probe *probe) {
        for (uint32_t i = 0; probe && i < probe->n; i++) {
                struct host_probed *h = &probe->hosts[i];
                close_end(&h->in);
                close_end(&h->out);
                close_end(&h->err);
                if (h->pid > 0)
                        (void) kill(h->pid, SIGKILL);
                reap(h, true);
                leash_reader_free(&h->reader);
                json_decref(h->line);
                json_decref(h->refused);
                json_decref(h->connected);
                free(h->to_send);
        }
        free(probe);
}

int hosts_check(const struct spec *spec, struct error *error) {
        struct hosts_asked asked = { .names = spec->resources.hosts, .n = spec->resources.n_hosts, .spec = spec };
        cleanup_hosts_probe struct hosts_probe *probe = NULL;
        cleanup_free char *folder = NULL;
        const char *refused = NULL;

        if (asked.n < 2 || spec->resources.use == 1)
                return 0;
        int r = spec->kind == JOB_COMMAND ? surroundings_folder(&folder, error) : 0;
        asked.folder = folder;
        asked.program = spec->kind == JOB_COMMAND ? spec->command[0] : NULL;
        if (r == 0)
                r = hosts_probe_run(&asked, &probe, error);
        for (uint32_t i = 0; r == 0 && i < probe->n; i++) {
                const struct host_verdict *v = &probe->hosts[i].verdict;
                if (v->grade == HOST_WAITS)
                        (void) fprintf(stderr, "bertctl: %s; the job waits for it\n", v->text);
                else if (v->grade == HOST_REFUSED && refused)
                        (void) fprintf(stderr, "bertctl: %s\n", v->text);
                else if (v->grade == HOST_REFUSED)
                        refused = v->text;
        }
        return r < 0 || !refused ? r : error_input(error, BERTCTL_EXIT_FAILED, "%s", refused);
}
