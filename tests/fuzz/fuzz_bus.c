/*
 * Every method of org.bertd1.Manager with arbitrary well-typed arguments, by its own row of the method table (methods.c
 * is a part of this file), in sequences, over real connections to a real manager with a state folder of its own. An
 * input is a list of steps: calls of the daemon's user and of another (where we are root), a shim's words, a shim's
 * death, a lost connection; at the end, half of the time, a daemon that reads the same state folder again.
 *
 * Nothing is run: the launcher starts no shim and fork gives a child that ends at once. Attempts end by the step GONE.
 * Time is counted in calls, so that an input does the same each time.
 */
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/paths.h"
#include "daemon/bus/accounts.h"
#include "daemon/attempt/run.h"
#include "daemon/attempt/end.h"
#include "daemon/attempt/folder.h"
#include "daemon/launch/launcher.h"
#include "daemon/base/log.h"
#include "daemon/bus/methods.h"
#include "daemon/manager.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/values.h"

#define STEPS_MAX 48
#define TURNS_MAX 40 /* of both loops, for an answer */
#define SLOTS 8
#define OTHER_UID 65534

static const struct {
        const char *name, *in;
} calls[] = {
#define ROW(name, in, out, authority, kind, handler) { name, in },
        METHODS(ROW)
#undef ROW
};

struct client {
        sd_bus *bus;
        uid_t uid;
};

struct session {
        char *folder, *socket;
        struct node *node;
        struct client clients[2];
        unsigned at; /* the client whose turn it is */
        bool answered, over;
        struct fuzz_input input;
};

/* ---- what is not done ---- */

uint64_t __wrap_loop_boottime(void);
pid_t __wrap_fork(void);
int __wrap_nss_group(const char *name, uint64_t usec, gid_t *ret);
char *__wrap_files_scratch(const struct job *job, bool private_shm);

static uint64_t now_usec = UINT64_C(1000) * USEC_PER_SEC;
uint64_t __wrap_loop_boottime(void) { return now_usec += 10; }

pid_t __wrap_fork(void) {
        pid_t pid = vfork();
        if (pid == 0)
                _exit(0);
        return pid;
}

/* No group bertd: the socket is opened to all by ourselves. */
int __wrap_nss_group(const char *name, uint64_t usec, gid_t *ret) { return -ESRCH; }

static char *scratch_parent;
char *__wrap_files_scratch(const struct job *job, bool private_shm) {
        return format_string("%s/scratch-%" PRIu64 "-%u", scratch_parent, job->id, job->attempt.number);
}

static int start_nothing(const struct launch_request *request, struct launch **ret, struct error *error) {
        assert(request->argv->n > 0 && request->environment->n > 0);
        return 0;
}
static void forget_nothing(struct launch *launch) {}
static const struct launcher launcher_fuzz = { .name = "fuzz", .start = start_nothing, .forget = forget_nothing };

/* log.c's place: lines are made and dropped. */
static __attribute__((format(printf, 1, 0))) void drop_line(const char *format, va_list ap) {
        char text[2048];
        (void) vsnprintf(text, sizeof(text), format, ap);
}
void log_info(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        drop_line(format, ap);
        va_end(ap);
}
void log_error(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        drop_line(format, ap);
        va_end(ap);
}
void log_transition(uint64_t job, const char *from, const char *to, const char *reason) { assert(from && to); }

/* ---- daemon and clients ---- */

static void start_manager(struct session *s) {
        struct node_options options = {
                .state_dir = s->folder, .socket = s->socket, .slots = SLOTS, .keep_ended = 3, .launcher = LAUNCHER_FORK
        };
        struct error error = {};

        int r = manager_new(&options, &s->node, &error);
        if (r >= 0) {
                s->node->launchers[LAUNCHER_FORK] = &launcher_fuzz;
                s->node->launchers[LAUNCHER_SYSTEMD] = NULL;
                r = manager_start(s->node, &error);
        }
        if (r < 0)
                (void) fprintf(stderr, "fuzz_bus: %s\n", error.text);
        assert(r >= 0);
        assert(chmod(s->socket, 0666) == 0);
        for (size_t i = 0; i < ELEMENTSOF(s->clients); i++)
                assert(accounts_note(s->node->accounts, s->clients[i].uid, &(struct nss_user) { .name = "u" }) == 0);
}

/* The kernel notes who connects; the way to the socket is looked up as ourselves. */
static void open_client(struct session *s, struct client *client) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert(fd >= 0 && strlen(s->socket) < sizeof(address.sun_path));
        memcpy(address.sun_path, s->socket, strlen(s->socket) + 1);
        if (client->uid != geteuid()) {
                assert(seteuid(client->uid) == 0);
                (void) setfsuid(getuid());
        }
        int r = connect(fd, (const struct sockaddr *) &address, sizeof(address));
        if (geteuid() != getuid())
                assert(seteuid(getuid()) == 0);
        assert(r == 0 && sd_bus_new(&client->bus) >= 0 && sd_bus_set_fd(client->bus, fd, fd) >= 0);
        assert(sd_bus_start(client->bus) >= 0);
}

static void close_client(struct client *client) { client->bus = sd_bus_close_unref(client->bus); }

static void turn(struct session *s) {
        if (loop_is_over(s->node->loop))
                s->over = true;
        else
                assert(loop_turn(s->node->loop, 0) >= 0);
        for (size_t i = 0; i < ELEMENTSOF(s->clients); i++)
                (void) sd_bus_process(s->clients[i].bus, NULL);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct session *s = userdata;
        s->answered = true;
        return 1;
}

static sd_bus_message *new_call(struct session *s, const char *member) {
        sd_bus_message *m = NULL;

        assert(sd_bus_message_new_method_call(s->clients[s->at].bus, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE,
                                              member) >= 0);
        return m;
}

/* Takes the message. Wait and a call before its connection was refused are not answered in time. */
static void send_call(struct session *s, sd_bus_message *m) {
        s->answered = false;
        int r = sd_bus_call_async(s->clients[s->at].bus, NULL, m, on_answer, s, 0);
        sd_bus_message_unref(m);
        for (int i = 0; r >= 0 && i < TURNS_MAX && !s->answered && !s->over; i++)
                turn(s);
}

/* ---- steps ---- */

/* An open attempt, by a byte of the input; NULL where there is none. */
static struct job *choose_attempt(struct session *s) {
        const struct store *store = s->node->store;
        size_t n = store_count(store), first = n > 0 ? fuzz_u8(&s->input) % n : 0;

        for (size_t i = 0; i < n; i++) {
                struct job *job = store_at(store, (first + i) % n);
                if (job->run && job->attempt.open)
                        return job;
        }
        return NULL;
}

static void call_any(struct session *s, size_t row) {
        const struct job *job = choose_attempt(s);
        struct values_known known = { .job = job ? job->id : 1, .attempt = job ? job->attempt.number : 1, .nonce = "" };
        char nonce[NONCE_SIZE] = "";
        sd_bus_message *m = new_call(s, calls[row].name);

        if (job)
                memcpy(nonce, job->attempt.nonce, sizeof(nonce));
        known.nonce = nonce;
        values_append(m, calls[row].in, &known, &s->input);
        send_call(s, m);
}

/* A job that is taken. */
static void step_submit(struct session *s) {
        uint8_t b = fuzz_u8(&s->input);
        bool command = b & 1;
        sd_bus_message *m = new_call(s, "Submit");
        const char *texts[] = { "name",    "a",
                                "kind",    command ? "command" : "pretrain",
                                "cwd",     "/",
                                "on_exit", b & 2 ? "exit 0" : "",
                                "spec",    command ? "" : "train: {}" };

        assert(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        for (size_t i = 0; i < ELEMENTSOF(texts); i += 2)
                assert(sd_bus_message_append(m, "{sv}", texts[i], "s", texts[i + 1]) >= 0);
        assert(sd_bus_message_append(m, "{sv}", "ranks", "u", b >> 4 & 7) >= 0);
        if (command)
                assert(sd_bus_message_append(m, "{sv}", "command", "as", 2, "sleep", "9") >= 0);
        assert(sd_bus_message_close_container(m) >= 0);
        send_call(s, m);
        turn(s);
}

static void step_hello(struct session *s) {
        const struct job *job = choose_attempt(s);
        if (!job)
                return;
        sd_bus_message *m = new_call(s, "AttemptHello");
        assert(sd_bus_message_append(m, "tuss", job->id, job->attempt.number, job->attempt.nonce, "0") >= 0);
        send_call(s, m);
}

static void step_report(struct session *s) {
        const struct job *job = choose_attempt(s);
        if (!job)
                return;
        struct values_known known = { .job = job->id, .attempt = job->attempt.number, .nonce = "" };
        sd_bus_message *m = new_call(s, "AttemptReport");
        assert(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        values_append_entries(m, &known, &s->input);
        assert(sd_bus_message_append(m, "{sv}{sv}{sv}", "job", "t", job->id, "attempt", "u", job->attempt.number,
                                     "nonce", "s", job->attempt.nonce) >= 0);
        assert(sd_bus_message_close_container(m) >= 0);
        send_call(s, m);
}

static void step_gone(struct session *s) {
        struct job *job = choose_attempt(s);

        if (!job)
                return;
        uint64_t id = job->id;
        attempt_over(job->run, fuzz_u8(&s->input) % EXIT_CLASS_MAX, "the shim is gone");
        while ((job = store_find(s->node->store, id)) && job->run && job->run->sweeper)
                assert(loop_turn(s->node->loop, UINT64_MAX) >= 0);
}

static void step_reconnect(struct session *s) {
        close_client(&s->clients[s->at]);
        open_client(s, &s->clients[s->at]);
        turn(s);
}

static void step_other(struct session *s) { s->at ^= 1; }

static void (*const steps[])(struct session *s) = { step_submit, step_hello,     step_report,
                                                    step_gone,   step_reconnect, step_other };

/* ---- the whole ---- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

static void check_accounts(const struct node *m) {
        uint64_t slots = 0;

        for (size_t i = 0; i < store_count(m->store); i++) {
                const struct job *job = store_at(m->store, i);
                bool holds = state_holds_resources(job->state);
                slots += holds ? job_slots(job) : 0;
                assert(holds == (job->run != NULL) && holds == job->attempt.open);
        }
        assert(slots == m->slots_used && slots <= SLOTS);
        assert(settle_now(m->settle));
}

/* Without ended ones: the on_exit that one waits for may begin with the last commit. */
static size_t count_open(const struct store *store) {
        size_t n = 0;

        for (size_t i = 0; i < store_count(store); i++)
                n += !state_has_ended(store_at(store, i)->state);
        return n;
}

static void read_again(struct session *s) {
        size_t open = count_open(s->node->store);

        manager_free(s->node);
        start_manager(s);
        assert(count_open(s->node->store) == open);
}

static void remove_state(const struct session *s) {
        assert(nftw(s->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

/* Once: an empty state.db, which costs more to make than all calls of an input. */
static void make_template(struct session *s, char **ret, size_t *ret_size) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        scratch_parent = s->folder;
        start_manager(s);
        manager_free(s->node);
        cleanup_free char *db = fuzz_path("state/" BERTD_STATE_DB);
        assert(file_read(db, 1 << 20, ret, ret_size, NULL) == 0);
        remove_state(s);
}

static void open_session(struct session *s) {
        static char *folder, *socket, *db;
        static size_t db_size;

        if (!folder) {
                s->folder = folder = fuzz_path("state");
                s->socket = socket = fuzz_path("s");
                make_template(s, &db, &db_size);
        }
        s->folder = folder;
        s->socket = socket;
        cleanup_free char *path = fuzz_path("state/" BERTD_STATE_DB);
        fuzz_write(path, db, db_size);
        s->clients[0].uid = geteuid();
        s->clients[1].uid = geteuid() == 0 ? OTHER_UID : geteuid();
        start_manager(s);
        for (size_t i = 0; i < ELEMENTSOF(s->clients); i++)
                open_client(s, &s->clients[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct session s = { .input = { data, size } };
        bool again = fuzz_u8(&s.input) & 1;

        now_usec = UINT64_C(1000) * USEC_PER_SEC;
        open_session(&s);
        for (int i = 0; i < STEPS_MAX && s.input.size > 0 && !s.over; i++) {
                size_t step = fuzz_u8(&s.input) % (ELEMENTSOF(calls) + ELEMENTSOF(steps));
                if (step < ELEMENTSOF(steps))
                        steps[step](&s);
                else
                        call_any(&s, step - ELEMENTSOF(steps));
                check_accounts(s.node);
        }
        for (size_t i = 0; i < ELEMENTSOF(s.clients); i++)
                close_client(&s.clients[i]);
        if (again)
                read_again(&s);
        manager_free(s.node);
        remove_state(&s);
        return 0;
}
