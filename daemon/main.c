/*
 * bertd: the daemon's command line. Role: options, signals, readiness. Owns the node.
 * SIGTERM, SIGINT and SIGQUIT end bertd and leave its jobs running.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/parse.h"
#include "common/paths.h"
#include "common/utf8.h"
#include "common/usage.h"
#include "daemon/detach.h"
#include "daemon/init.h"
#include "daemon/launch/launcher.h"
#include "daemon/base/log.h"
#include "daemon/bus/server.h"
#include "daemon/manager.h"
#include "daemon/owner.h"
#include "daemon/passed.h"
#include "daemon/plan/schedule.h"

#define FILES_MAX 16384 /* as in bertd.service */

static const char help[] = "usage: bertd [OPTION...]\n"
                           "\n"
                           "Keeps BERT training jobs running on this host: queues, starts and restarts them.\n"
                           "Runs in the foreground (for systemd) unless --detach is given.\n"
                           "\n"
                           "Options:\n"
                           "  --state-dir DIR     state folder (default: /var/lib/bertd;\n"
                           "                      for a user: ~/.local/state/bertd/MACHINE)\n"
                           "  --socket PATH       socket for clients (default: /run/bertd/bertd.sock;\n"
                           "                      for a user: $XDG_RUNTIME_DIR/bertd/bertd.sock)\n"
                           "  --slots N           ranks x threads that may run at once\n"
                           "                      (default: usable cores)\n"
                           "  --gpus N|LIST       GPUs to use: a number, or a list of names, e.g. 0,1\n"
                           "                      (default: all)\n"
                           "  --launcher auto|systemd|fork\n"
                           "                      how jobs are started (default: auto)\n"
                           "  --keep-ended N      ended jobs to keep, besides those with checkpoints\n"
                           "                      (default: 10000)\n"
                           "  --detach            run in the background and survive the terminal\n"
                           "  --owner PID         end with the parent process PID (for `bertctl run`)\n"
                           "  --help              print this help\n"
                           "  --version           print the version\n"
                           "\n"
                           "Examples:\n"
                           "  bertd --detach                  start your own daemon in the background\n"
                           "  systemctl enable --now bertd    start the system daemon, as root\n";

struct options {
        const char *state_dir, *socket, *gpus, *launcher;
        uint64_t slots, keep_ended, owner; /* owner: 0 = none */
        bool detach;
};
#define KEEP_ENDED 10000
#define KEEP_ENDED_MAX 10000000

static uint64_t count_cores(void) {
        cpu_set_t set;

        if (sched_getaffinity(0, sizeof(set), &set) == 0)
                return (uint64_t) CPU_COUNT(&set);
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        return n > 0 ? (uint64_t) n : 1;
}

enum {
        OPTION_STATE_DIR = 256,
        OPTION_SOCKET,
        OPTION_SLOTS,
        OPTION_GPUS,
        OPTION_LAUNCHER,
        OPTION_KEEP_ENDED,
        OPTION_DETACH,
        OPTION_OWNER,
        OPTION_HELP,
        OPTION_VERSION
};

static const struct option long_options[] = {
        { "state-dir", required_argument, NULL, OPTION_STATE_DIR },
        { "socket", required_argument, NULL, OPTION_SOCKET },
        { "slots", required_argument, NULL, OPTION_SLOTS },
        { "gpus", required_argument, NULL, OPTION_GPUS },
        { "launcher", required_argument, NULL, OPTION_LAUNCHER },
        { "keep-ended", required_argument, NULL, OPTION_KEEP_ENDED },
        { "detach", no_argument, NULL, OPTION_DETACH },
        { "owner", required_argument, NULL, OPTION_OWNER },
        { "help", no_argument, NULL, OPTION_HELP },
        { "version", no_argument, NULL, OPTION_VERSION },
        {},
};

static int say(const char *text, struct error *error) {
        return fputs(text, stdout) == EOF || fflush(stdout) == EOF ? error_errno(error, errno, "standard output") : 1;
}

/* Returns 1 if --help or --version was printed. */
static int take_option(int option, char **argv, struct options *o, struct error *error) {
        switch (option) {
        case OPTION_STATE_DIR:
                if (!*optarg)
                        return error_input(error, BERTD_EXIT_USAGE, "--state-dir: empty, expected a folder");
                o->state_dir = optarg;
                return 0;
        case OPTION_SOCKET:
                o->socket = optarg;
                return 0;
        case OPTION_GPUS:
                o->gpus = optarg;
                return 0;
        case OPTION_LAUNCHER:
                o->launcher = optarg;
                return 0;
        case OPTION_DETACH:
                o->detach = true;
                return 0;
        case OPTION_SLOTS:
                if (parse_u64(optarg, 1, UINT32_MAX, &o->slots) < 0)
                        return error_input(error, BERTD_EXIT_USAGE, "--slots: \"%.64s\", expected 1 to %u", optarg,
                                           UINT32_MAX);
                return 0;
        case OPTION_KEEP_ENDED:
                if (parse_u64(optarg, 1, KEEP_ENDED_MAX, &o->keep_ended) < 0)
                        return error_input(error, BERTD_EXIT_USAGE, "--keep-ended: \"%.64s\", expected 1 to %d", optarg,
                                           KEEP_ENDED_MAX);
                return 0;
        case OPTION_OWNER:
                if (parse_u64(optarg, 1, INT32_MAX, &o->owner) < 0)
                        return error_input(error, BERTD_EXIT_USAGE, "--owner: \"%.64s\", expected a pid", optarg);
                return 0;
        case OPTION_HELP:
                return say(help, error);
        case OPTION_VERSION:
                return say("bertd " BERTD_VERSION "\n", error);
        default:
                return usage_option(option, argv, long_options, NULL, error);
        }
}

static int parse_options(int argc, char **argv, struct options *o, struct error *error) {
        int option, r = 0;

        while (r == 0 && (option = getopt_long(argc, argv, ":", long_options, NULL)) >= 0)
                r = take_option(option, argv, o, error);
        return r == 0 ? usage_count(argc, argv, 0, 0, "", NULL, error) : r;
}

struct resolved {
        char *state_dir, *socket;
        int owner_fd; /* −1: none */
        struct node_options node;
};

static void resolved_free(struct resolved *r) {
        cleanup_close_p(&r->owner_fd);
        free(r->state_dir);
        free(r->socket);
}

static int resolve(const struct options *o, struct resolved *ret, struct error *error) {
        int r = paths_state_dir(o->state_dir, &ret->state_dir, error);
        if (r >= 0 && !ret->socket)
                r = paths_socket(o->socket, ret->state_dir, &ret->socket, error);
        if (r >= 0 && !(text_is_utf8(ret->state_dir) && text_is_utf8(ret->socket)))
                r = error_input(error, BERTD_EXIT_USAGE, "--state-dir, --socket: not UTF-8: %s, %s", ret->state_dir,
                                ret->socket);
        if (r >= 0 && o->owner)
                r = owner_open((pid_t) o->owner, ret->state_dir, &ret->owner_fd, error);
        if (r >= 0)
                r = gpus_find(o->gpus, &ret->node.gpus, error);
        if (r >= 0)
                r = launcher_choose(o->launcher, &ret->node.launcher, error);
        if (r < 0)
                return r;
        if (ret->node.launcher == LAUNCHER_SYSTEMD && geteuid() != 0)
                return error_input(error, BERTD_EXIT_USAGE, "--launcher systemd: only for root");
        ret->node.state_dir = ret->state_dir;
        ret->node.socket = ret->socket;
        ret->node.keep_ended = o->keep_ended;
        ret->node.allocation = o->owner > 0;
        ret->node.slots = o->slots ? o->slots : count_cores();
        return 0;
}

/* The usual limit of 1024 is too low for many clients. Users' processes get the original limit (launcher_become). */
static void raise_files(void) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= FILES_MAX)
                return;
        files.rlim_cur = MIN(files.rlim_max, (rlim_t) FILES_MAX);
        (void) setrlimit(RLIMIT_NOFILE, &files);
}

/* Logs limits that cannot be raised. */
static void tell_limits(void) {
        static const struct {
                __rlimit_resource_t resource;
                const char *what, *unit, *then;
        } limits[] = {
                { RLIMIT_CPU, "CPU time", "s (ulimit -Ht)",
                  "bertd and each job process are killed when they have used it" },
                { RLIMIT_FSIZE, "files", "bytes (ulimit -Hf)", "state.db, logs and checkpoints cannot grow beyond it" },
        };
        struct rlimit limit;

        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                if (getrlimit(limits[i].resource, &limit) == 0 && limit.rlim_max != RLIM_INFINITY)
                        log_error("%s: limited to %llu %s for bertd: %s; raise the limit and restart bertd",
                                  limits[i].what, (unsigned long long) limit.rlim_max, limits[i].unit, limits[i].then);
}

static const int ending_signals[] = { SIGTERM, SIGINT, SIGQUIT };

/* The loop reads them. */
static void block_signals(void) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        for (size_t i = 0; i < ELEMENTSOF(ending_signals); i++)
                (void) sigaddset(&set, ending_signals[i]);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
}

static int announce(const struct resolved *r, int ready_fd, struct error *error) {
        cleanup_free char *log = format_string("%s/bertd.log", r->state_dir);

        if (ready_fd >= 0) {
                int x = log ? detach_ready(ready_fd, r->socket, log, error) : -ENOMEM;
                if (x < 0)
                        return x;
        }
        log_info("bertd %s, pid %d: %s, socket %s, %llu slots, %u GPUs, launcher %s", BERTD_VERSION, (int) getpid(),
                 r->state_dir, r->socket, (unsigned long long) r->node.slots, r->node.gpus.n,
                 r->node.launcher == LAUNCHER_SYSTEMD ? "systemd" : "fork");
        (void) sd_notifyf(0, "READY=1\nSTATUS=Listening on %s", r->socket);
        return 0;
}

/* The container is shutting down, which kills every job: stop them first. On a second signal bertd does not wait for
 * them. */
static void on_end_of_container(void *userdata) {
        struct node *node = userdata;

        if (node->draining) {
                loop_end(node->loop, 0);
                return;
        }
        log_info("container is shutting down: stopping jobs; they start again with the next bertd");
        schedule_shutdown(node, true);
}

static void on_end(void *userdata) {
        const struct node *node = userdata;

        bus_server_leave(node->server);
}

static void on_ignored(void *userdata) {}

/* Returns the exit status, or −errno. */
static int serve(struct resolved *resolved, int ready_fd, bool container, struct error *error) {
        const bool owned = resolved->owner_fd >= 0;
        loop_handler_t on_signal = owned ? on_ignored : container ? on_end_of_container : on_end;
        struct source *owner = NULL;
        struct node *node = NULL;

        int r = manager_new(&resolved->node, &node, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(ending_signals); i++)
                (void) loop_watch_signal(node->loop, ending_signals[i], on_signal, node);
        r = manager_start(node, error);
        if (r >= 0 && owned && (r = owner_watch(node, steal_fd(&resolved->owner_fd), &owner)) < 0)
                (void) error_errno(error, -r, "event loop");
        (void) malloc_trim(0); /* memory used to open state.db and the user database */
        if (r >= 0)
                r = announce(resolved, ready_fd, error);
        if (r >= 0) {
                r = loop_run(node->loop);
                if (r < 0)
                        (void) error_errno(error, -r, "event loop");
                (void) sd_notify(0, "STOPPING=1");
                log_info(owned ? "bertd exits" : "bertd exits; running jobs continue");
        }
        (void) source_free(owner);
        manager_free(node);
        if (r >= 0 && owned)
                owner_clean(resolved->state_dir);
        return r;
}

int main(int argc, char **argv) {
        struct options options = { .launcher = "auto", .keep_ended = KEEP_ENDED };
        cleanup(resolved_free) struct resolved resolved = { .owner_fd = -1 };
        struct error error = {};
        int ready_fd = -1;

        inherited_begin_service();
        (void) umask(022); /* private files set their own mode */
        /* Returns the memory of long replies and queue plans to the kernel. */
        (void) mallopt(M_MMAP_THRESHOLD, 64 * 1024);
        (void) mallopt(M_TRIM_THRESHOLD, 64 * 1024);
        int r = parse_options(argc, argv, &options, &error);
        if (r > 0)
                return 0;
        if (r >= 0)
                r = passed_take(&resolved.node.passed_socket, &resolved.socket, &error);
        int container = r < 0 ? r : init_split(&error);
        if (container < 0)
                r = container;
        else if (options.detach && container)
                r = error_input(&error, BERTD_EXIT_USAGE,
                                "--detach: bertd is this container's first process and must stay in the foreground; "
                                "leave the option out");
        else if (options.detach)
                r = detach(&ready_fd, &error);
        if (r >= 0)
                r = resolve(&options, &resolved, &error);
        if (r >= 0 && chdir("/") < 0) /* does not keep the start folder busy */
                r = error_errno(&error, errno, "/");
        if (r >= 0) {
                block_signals();
                raise_files();
                log_open();
                tell_limits();
                r = serve(&resolved, ready_fd, container, &error);
        }
        return r < 0 ? error_report(&error) : r;
}
