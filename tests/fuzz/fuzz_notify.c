/*
 * Datagrams at a job's NOTIFY_SOCKET, split at byte 0x1e, on the shim's own socket; what the shim makes of them goes
 * over a connection to a bertd that only looks: each report must arrive. Paths in a datagram can name
 * /proc/self/cwd/step-000000012.ckpt.
 */
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "bertd/progress.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/shim/shim.h"
#include "tests/fuzz/fuzz.h"

#define SEPARATOR 0x1e
#define TURNS_MAX 1000 /* of the loop, until a report is answered */

static struct shim shim = {
        .dir_fd = -1,
        .lock_fd = -1,
        .exit_fd = -1,
        .notify_fd = -1,
        .log.fd = -1,
        .list = { .fd = -1, .pidfd = -1 },
        .reported.confirm = { .fd = -1, .pidfd = -1 },
        .copies.copy = { .fd = -1, .pidfd = -1 },
};
static unsigned arrived;

/* AttemptReport: well formed, whatever the job said. */
static int on_report(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (!sd_bus_message_is_method_call(m, NULL, "AttemptReport"))
                return 0;
        assert(sd_bus_message_skip(m, "a{sv}") > 0);
        arrived++;
        return sd_bus_reply_method_return(m, "");
}

static sd_bus *open_end(int fd) {
        sd_bus *bus = NULL;

        assert(sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, fd, fd) >= 0);
        return bus;
}

static void start_end(sd_bus *bus) {
        assert(sd_bus_start(bus) >= 0 && sd_bus_attach_event(bus, shim.event, SD_EVENT_PRIORITY_NORMAL) >= 0);
}

static void connect_ends(void) {
        sd_id128_t id;
        int fds[2];

        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        sd_bus *bertd = open_end(fds[1]);
        assert(sd_id128_randomize(&id) >= 0 && sd_bus_set_server(bertd, 1, id) >= 0);
        assert(sd_bus_add_filter(bertd, NULL, on_report, NULL) >= 0);
        start_end(bertd);
        shim.bus.bus = open_end(fds[0]);
        start_end(shim.bus.bus);
        shim.bus.greeted = true;
}

static int start(void) {
        static char run_dir[] = BERTD_ENV_RUN_DIR "=/proc/self/cwd", *environment[] = { run_dir, NULL };
        cleanup_free char *file = fuzz_path("step-000000012.ckpt"), *log = fuzz_path("log");

        fuzz_write(file, "x", 1);
        shim.dir = strdup(file);
        *strrchr(shim.dir, '/') = '\0';
        shim.attempt = (struct attempt_spec) {
                .job = 7, .number = 1, .nonce = strdup("0123456789abcdef"), .cwd = strdup("/nowhere"), .hang_sec = -1
        };
        shim.attempt.environment = environment;
        assert(shim_log_open(&shim.log, log, 1 << 20, 2, NULL) == 0);
        shim.state = SHIM_RUNNING;
        assert(chdir(shim.dir) == 0 && sd_event_new(&shim.event) >= 0);
        assert(shim_progress_open(&shim, NULL) == 0);
        connect_ends();
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", shim.notify_path);
        assert(fd >= 0 && connect(fd, (const struct sockaddr *) &address, sizeof(address)) == 0);
        return fd;
}

/* What the job said before is forgotten; the connection stays. */
static void reset(void) {
        struct checkpoint_note *notes = shim.progress.checkpoints;

        shim_reported_close(&shim);
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        free(shim.declared.stacks);
        shim.declared = (struct shim_declared) {};
        shim.reported.refused = 0;
        shim.progress = (struct progress) { .loss = NAN, .rate = NAN, .checkpoints = notes };
        shim_watch_begin(&shim.hang.watch, -1, -1, true, 0, clock_boottime_usec());
        shim.bus.last_usec = 0;
        shim.bus.dirty = shim.bus.urgent = false;
}

static void settle(void) {
        int turns = 0;

        while (shim.bus.report && turns++ < TURNS_MAX)
                assert(sd_event_run(shim.event, 0) >= 0);
        assert(shim.bus.greeted && !shim.bus.report);
}

/* Whether one was sent that the shim does not drop: an empty one or a longer one says nothing. */
static bool send_datagrams(int fd, struct fuzz_input input) {
        bool heard = false;

        while (input.size > 0) {
                const uint8_t *end = memchr(input.data, SEPARATOR, input.size);
                struct fuzz_input one = fuzz_take(&input, end ? (size_t) (end - input.data) : input.size);
                (void) fuzz_take(&input, 1);
                (void) send(fd, one.data, one.size, MSG_DONTWAIT);
                shim_progress_read(&shim);
                heard |= one.size > 0 && one.size <= BERTD_NOTIFY_MAX;
        }
        return heard;
}

/* A program that is not the trainer declares signals, and its checkpoints are confirmed: by the first byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static int fd = -1;

        if (fd < 0)
                fd = start();
        reset();
        arrived = 0;
        shim.attempt.kind = size > 0 && data[0] == SEPARATOR ? JOB_COMMAND : JOB_PRETRAIN;
        bool heard = send_datagrams(fd, (struct fuzz_input) { data, size });
        settle();
        assert(!heard || arrived > 0);
        assert(shim.progress.n_checkpoints <= SHIM_CHECKPOINTS_MAX && shim.reported.n <= SHIM_CHECKPOINTS_MAX);
        assert(shim.declared.n_stacks <= DECLARED_STACKS_MAX);
        return 0;
}
