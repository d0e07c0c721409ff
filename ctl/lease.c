/*
 * bertctl lease: lends this host to a job of another, which calls it over ssh. Prints lines of common/leash.h: what
 * this host is, then why not, or nothing more: bertd-leash has taken the channel. Afterwards it only waits for that
 * one's end. Invariant: reads no byte of standard input beyond the lines that are for it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/handover.h"
#include "common/json_read.h"
#include "common/leash.h"
#include "common/paths.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/lease.h"
#include "ctl/lease_pairs.h"
#include "ctl/surroundings.h"
#include "ctl/unit.h"

#define GIVE_USEC (30 * USEC_PER_SEC) /* for bertd-leash to ask for the channel */
#define CALL_USEC (15 * USEC_PER_SEC)

/* ---- lines ---- */

static int print_line(json_t *line) {
        cleanup_free char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

        json_decref(line);
        if (!text)
                return -ENOMEM;
        text[strlen(text)] = '\n'; /* in the place of its NUL */
        return write_all(STDOUT_FILENO, text, strcspn(text, "\n") + 1);
}

/* "h2: ..." */
static __attribute__((format(printf, 2, 0))) json_t *refusal(enum leash_class class, const char *format, va_list args) {
        char text[LEASH_REASON_MAX];
        struct utsname name = {};

        (void) uname(&name);
        int n = snprintf(text, sizeof(text), "%.*s: ", (int) strcspn(name.nodename, "."), name.nodename);
        (void) vsnprintf(text + n, sizeof(text) - (size_t) n, format, args);
        return leash_refused(class, text);
}

static int refuse(enum leash_class class, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(enum leash_class class, const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void) print_line(refusal(class, format, args));
        va_end(args);
        return BERTCTL_EXIT_FAILED;
}

static json_t *make_refusal(enum leash_class class, const char *format, ...) __attribute__((format(printf, 2, 3)));
static json_t *make_refusal(enum leash_class class, const char *format, ...) {
        va_list args;

        va_start(args, format);
        json_t *line = refusal(class, format, args);
        va_end(args);
        return line;
}

/* One line, byte by byte: the next are the leash's. Its size, 0: end of file; −errno. */
static ssize_t read_line(char *buffer, size_t size, uint64_t deadline) {
        for (size_t n = 0; n < size;) {
                struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
                uint64_t now = clock_boottime_usec();
                if (now >= deadline || poll(&p, 1, (int) ((deadline - now) / 1000) + 1) < 0)
                        return -ETIMEDOUT;
                if (!p.revents)
                        continue;
                ssize_t got = read(STDIN_FILENO, buffer + n, 1);
                if (got < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (got <= 0)
                        return got < 0 ? -errno : 0;
                if (buffer[n++] == '\n')
                        return (ssize_t) n;
        }
        return -EMSGSIZE;
}

/* A line of this type, after beats; NULL: something else came, or nothing. */
static json_t *read_object(enum leash_type type, uint64_t limit_usec) {
        cleanup_free char *buffer = malloc(LEASH_LINE_MAX);
        uint64_t deadline = clock_boottime_usec() + limit_usec;

        for (;;) {
                ssize_t n = buffer ? read_line(buffer, LEASH_LINE_MAX, deadline) : -ENOMEM;
                json_t *line = n > 0 ? json_loadb(buffer, (size_t) n, JSON_REJECT_DUPLICATES, NULL) : NULL;
                if (line && leash_type_of(line) == type)
                        return line;
                bool beat = line && leash_type_of(line) == LEASH_BEAT;
                json_decref(line);
                if (!beat)
                        return NULL;
        }
}

/* ---- the request ---- */

static enum leash_class class_of_error(const sd_bus_error *error) {
        static const struct {
                const char *name;
                enum leash_class class;
        } classes[] = {
                { BERTD_ERROR_BUSY, LEASH_CLASS_BUSY },          { BERTD_ERROR_DRAINED, LEASH_CLASS_DRAINING },
                { BERTD_ERROR_LENDS_NOTHING, LEASH_CLASS_FORK }, { BERTD_ERROR_ACCESS_DENIED, LEASH_CLASS_FORBIDDEN },
                { BERTD_ERROR_QUOTA, LEASH_CLASS_BUSY },         { BERTD_ERROR_TOO_LARGE, LEASH_CLASS_USAGE },
                { BERTD_ERROR_INVALID_SPEC, LEASH_CLASS_USAGE }, { SD_BUS_ERROR_UNKNOWN_METHOD, LEASH_CLASS_VERSION },
                { BERTD_ERROR_VERSION, LEASH_CLASS_VERSION },
        };

        for (size_t i = 0; error->name && i < ELEMENTSOF(classes); i++)
                if (strcmp(classes[i].name, error->name) == 0)
                        return classes[i].class;
        return LEASH_CLASS_AWAY;
}

static int append_strings(sd_bus_message *m, const char *key, char *const *strings) {
        int r = sd_bus_message_open_container(m, 'e', "sv");

        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, (char **) strings);
        for (int i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_lease(sd_bus_message *m, const struct lease_options *o, const char *channel, const char *cwd,
                        char *const *environment) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "lease_of", "s", o->of, "lease_name", "s",
                                          o->name ? o->name : "", "channel", "s", channel, "cwd", "s", cwd);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "lease_attempt", "u", (uint32_t) o->attempt,
                                          "ranks", "u", (uint32_t) o->ranks, "threads", "u", (uint32_t) o->threads,
                                          "gpus", "u", (uint32_t) o->gpus, "memory", "t", o->memory, "host_timeout_sec",
                                          "u", (uint32_t) o->host_timeout_sec);
        if (r >= 0)
                r = append_strings(m, "environment", environment);
        if (r >= 0)
                r = surroundings_append(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* The session that brought the request ends before the lease may. */
static void drop_session(char **environment) {
        static const char *const prefixes[] = { "SSH_", "XDG_", "TMPDIR=", "CUDA_VISIBLE_DEVICES=" };
        char **to = environment;

        for (char **from = environment; *from; from++) {
                bool drop = false;
                for (size_t i = 0; i < ELEMENTSOF(prefixes); i++)
                        drop = drop || strncmp(*from, prefixes[i], strlen(prefixes[i])) == 0;
                if (!drop)
                        *to++ = *from;
        }
        *to = NULL;
}

/* 0; else an exit code, and the refusal was printed. */
static int ask_bertd(struct client *client, const struct lease_options *o, const char *channel, uint64_t *ret_id,
                     struct error *error) {
        cleanup_message sd_bus_message *message = NULL, *reply = NULL;
        cleanup_free char **environment = NULL;
        cleanup_free char *cwd = NULL;
        sd_bus_error problem = SD_BUS_ERROR_NULL;

        if (surroundings_folder(&cwd, error) < 0 || surroundings_environment(&environment, error) < 0 ||
            client_new_call(client, "Lease", &message, error) < 0)
                return refuse(LEASH_CLASS_USAGE, "%s", error->text);
        drop_session(environment);
        int r = append_lease(message, o, channel, cwd, environment);
        if (r >= 0)
                r = sd_bus_call(client_bus(client), message, CALL_USEC, &problem, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "t", ret_id);
        int code = 0;
        if (r < 0 && problem.message)
                code = refuse(class_of_error(&problem), "%s", problem.message);
        else if (r <= 0)
                code = refuse(LEASH_CLASS_AWAY, "bertd does not answer: %s; see `systemctl status bertd` there",
                              strerror(-r));
        sd_bus_error_free(&problem);
        return code;
}

/* The lease ends with the other end of the connection. */
static void wait_for_end(int connection) {
        struct pollfd p = { .fd = connection, .events = POLLIN };
        char byte;

        while (poll(&p, 1, -1) < 0 || read(connection, &byte, 1) > 0)
                ;
}

static int take_lease(struct client *client, const struct lease_options *o, struct error *error) {
        char name[HANDOVER_NAME_MAX + 1];
        uint64_t id = 0;

        cleanup_close int listener = handover_listen(name, error);
        if (listener < 0)
                return refuse(LEASH_CLASS_AWAY, "%s", error->text);
        int code = ask_bertd(client, o, name, &id, error);
        if (code != 0)
                return code;
        const int channel[] = { STDIN_FILENO, STDOUT_FILENO };
        cleanup_close int connection = handover_give(listener, channel, -1, clock_boottime_usec() + GIVE_USEC, error);
        if (connection < 0) {
                struct error ignored = {};
                (void) client_call(client, "Cancel", NULL, &ignored, "tb", id, 1);
                return refuse(LEASH_CLASS_AWAY, "its job %llu did not start: see `bertctl status %llu` there",
                              (unsigned long long) id, (unsigned long long) id);
        }
        cleanup_close_p(&listener);
        listener = -1;
        client_disconnect(client);
        wait_for_end(connection);
        return BERTCTL_EXIT_OK;
}

/* ---- without bertd ---- */

static int become_leash(const struct lease_options *o) {
        char timeout[32];

        (void) snprintf(timeout, sizeof(timeout), "%llu", (unsigned long long) o->host_timeout_sec);
        cleanup_free char *program = executable_beside("../daemon/bertd-leash", BERTD_LIBEXECDIR "/bertd-leash");
        if (!program)
                return refuse(LEASH_CLASS_AWAY, "%s", strerror(ENOMEM));
        (void) execl(program, "bertd-leash", "--of", o->of, "--host-timeout", timeout, NULL);
        return refuse(LEASH_CLASS_AWAY, "%s: %s", program, strerror(errno));
}

/* ---- the command ---- */

/* Only the system daemon lends: a user's bertd has the launcher fork. */
static const char *lender_socket(const struct ctl *ctl) {
        const char *given = secure_getenv("BERTD_SOCKET");

        return ctl->socket ? ctl->socket : given && given[0] ? given : BERTD_SYSTEM_SOCKET;
}

static int connect_bertd(struct ctl *ctl, struct client **ret, struct daemon_info *daemon) {
        int r = client_connect(lender_socket(ctl), ret, &ctl->error);
        return r < 0 ? r : client_get_daemon(*ret, daemon, &ctl->error);
}

/* One that restarts looks like none for a moment, and would give the same GPUs again. */
static bool has_bertd(void) { return access(BERTD_SYSTEM_SOCKET, F_OK) == 0 || unit_service_state() != UNIT_NONE; }

/* A head gives up after `forbidden`, and tries again after all others. */
static enum leash_class class_of_failure(const struct ctl *ctl) {
        if (access(lender_socket(ctl), W_OK) < 0 && errno == EACCES)
                return LEASH_CLASS_FORBIDDEN;
        return LEASH_CLASS_AWAY;
}

/* Why this host's bertd would refuse a lease whatever it asks for; NULL: it would not. */
static json_t *find_problem(const struct ctl *ctl, const struct daemon_info *daemon, bool connected) {
        const struct error *error = &ctl->error;

        if (connected && strcmp(text_of(daemon->launcher), "systemd") != 0)
                return make_refusal(LEASH_CLASS_FORK, BERTD_LENDS_NOTHING);
        if (connected)
                return NULL;
        if (error->exit != BERTCTL_EXIT_NO_DAEMON)
                return make_refusal(class_of_failure(ctl), "%s", error->text);
        if (has_bertd())
                return make_refusal(LEASH_CLASS_AWAY, "%s", error->text);
        return make_refusal(LEASH_CLASS_AWAY,
                            "no bertd runs there; ask root for `systemctl enable --now bertd`, or set "
                            "resources.unmanaged: true");
}

/* What follows the `host` line. */
static int lend(struct client *client, const struct lease_options *o) {
        struct error error = {};
        json_t *take = read_object(LEASH_TAKE, LEASH_TAKE_USEC);

        if (!take)
                return BERTCTL_EXIT_OK; /* the head has changed its mind */
        json_decref(take);
        return client ? take_lease(client, o, &error) : become_leash(o);
}

/* The head may ask whether this host reaches the others, which reach the listener meanwhile. */
static int end_probe(int listener) {
        json_t *answer = listener >= 0 ? lease_pairs_connect() : NULL;

        if (answer && print_line(answer) >= 0)
                lease_pairs_wait();
        return BERTCTL_EXIT_OK;
}

static int run(struct ctl *ctl, const struct lease_options *o) {
        cleanup_client struct client *client = NULL;
        cleanup_daemon_info struct daemon_info daemon = {};
        json_t *inputs = o->inputs ? read_object(LEASH_INPUTS, LEASH_INPUTS_USEC) : NULL;

        if (o->inputs && !inputs)
                return refuse(LEASH_CLASS_USAGE, "expected a line of type inputs on standard input");
        bool connected = connect_bertd(ctl, &client, &daemon) >= 0;
        json_t *refused = find_problem(ctl, &daemon, connected);
        ctl->error = (struct error) {}; /* the refusal has it: main prints none */
        if (!connected) {
                client_free(client);
                client = NULL;
        }
        bool lends = !refused || (o->unmanaged && !connected && !has_bertd());
        bool answers = lends || (o->probe && connected); /* a head, too, is asked what it is */
        json_t *host = lease_host(o, connected ? &daemon : NULL, inputs, lends ? NULL : refused);
        cleanup_close int listener = o->pairs && answers && host ? lease_pairs_listen(host) : -1;
        int r = print_line(host);
        json_decref(inputs);
        int code = BERTCTL_EXIT_FAILED;
        if (r >= 0 && answers) /* else the head is gone */
                code = o->probe ? end_probe(listener) : lend(client, o);
        else if (r >= 0)
                (void) print_line(json_incref(refused));
        json_decref(refused);
        return code;
}

static int check(struct ctl *ctl, const struct lease_options *o) {
        if (o->only || o->probe || (o->of && strchr(o->of, ':')))
                return 1;
        return error_input(&ctl->error, BERTCTL_EXIT_USAGE, "--of: expected HOST:JOB; other hosts' bertd call this");
}

int command_lease(struct ctl *ctl, int argc, char **argv) {
        struct lease_options o = { .ranks = 1, .threads = 1, .host_timeout_sec = LEASH_TIMEOUT_DEFAULT };
#define NUMBER(option, member, low, high, text)                                                                       \
        {                                                                                                             \
                .name = option, .kind = OPTION_U64, .value = &o.member, .min = (low), .max = (high), .argument = "N", \
                .help = text                                                                                          \
        }
        const struct option_spec options[] = {
                { .name = "of",
                  .kind = OPTION_STRING,
                  .value = &o.of,
                  .argument = "HOST:JOB",
                  .help = "the job that leases" },
                NUMBER("attempt", attempt, 0, INT32_MAX, "its attempt"),
                { .name = "name", .kind = OPTION_STRING, .value = &o.name, .argument = "NAME", .help = "its name" },
                NUMBER("ranks", ranks, 1, BERTD_RANKS_MAX, "ranks on this host"),
                NUMBER("threads", threads, 1, BERTD_THREADS_MAX, "threads of each"),
                NUMBER("gpus", gpus, 0, BERTD_GPUS_MAX, "GPUs on this host"),
                NUMBER("memory", memory, 0, BERTD_MEMORY_MAX, "limit in bytes"),
                NUMBER("host-timeout", host_timeout_sec, LEASH_TIMEOUT_MIN, LEASH_TIMEOUT_MAX,
                       "seconds of silence that end it"),
                { .name = "network",
                  .kind = OPTION_STRING,
                  .value = &o.network,
                  .argument = "CIDR",
                  .help = "network or interface of the job" },
                { .name = "unmanaged",
                  .kind = OPTION_FLAG,
                  .value = &o.unmanaged,
                  .help = "lend also if no bertd runs here" },
                { .name = "probe",
                  .kind = OPTION_FLAG,
                  .value = &o.probe,
                  .help = "print what this host is, and lend nothing" },
                { .name = "inputs",
                  .kind = OPTION_FLAG,
                  .value = &o.inputs,
                  .help = "look at the paths in the first line of standard input" },
                { .name = "pairs",
                  .kind = OPTION_FLAG,
                  .value = &o.pairs,
                  .help = "with --probe: also try TCP to the hosts in the next line of standard input" },
                { .name = "only",
                  .kind = OPTION_FLAG,
                  .value = &o.only,
                  .help = "as a key's command in authorized_keys: run what ssh was given if it is bertctl lease, list, "
                          "status or receive" },
        };
#undef NUMBER
        struct arguments arguments;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 0, &arguments);
        if (r > 0)
                r = check(ctl, &o);
        if (r <= 0)
                return command_exit(ctl, r);
        return o.only ? command_exit(ctl, lease_only(&ctl->error)) : run(ctl, &o);
}
