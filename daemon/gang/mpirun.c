/*
 * See gang.h: mpirun, its arguments and its start. All launcher parameters are on the command line: Open MPI 5 ignores
 * the environment's, and orte_tmpdir_base would travel to the other hosts.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/array.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/environment.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/hosts.h"
#include "common/inherited.h"
#include "common/network.h"
#include "daemon/gang/gang.h"

#define VERSION_LIMIT_USEC (10 * USEC_PER_SEC)
#define TRAVELS_MAX 512

/* ---- words ---- */

struct words {
        char **list;
        size_t n, room;
        bool failed;
};

static void take_word(struct words *words, char *word) {
        if (words->failed || !word ||
            array_reserve(&words->list, &words->room, words->n + 2, sizeof(*words->list)) < 0) {
                words->failed = true;
                free(word);
                return;
        }
        words->list[words->n++] = word;
        words->list[words->n] = NULL;
}

static void add(struct words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct words *words, const char *format, ...) {
        char *word = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&word, format, ap) < 0)
                word = NULL;
        va_end(ap);
        take_word(words, word);
}

static void words_free(struct words *words) {
        for (size_t i = 0; i < words->n; i++)
                free(words->list[i]);
        free(words->list);
}

static void add_parameter(struct words *words, const char *name, const char *value) {
        add(words, "--mca");
        add(words, "%s", name);
        add(words, "%s", value);
}

/* ---- the hosts ---- */

static unsigned count_held(const struct gang *gang) {
        unsigned n = 0;

        for (size_t i = 0; i < gang->n_hosts; i++)
                n += gang->hosts[i].state == HOST_HELD;
        return n;
}

/* "h1:8,h2:8": this host first, under the name that Open MPI knows it by. */
static char *host_list(const struct gang *gang) {
        struct utsname self;
        cleanup_free char *list = uname(&self) < 0 ? NULL : format_string("%s:%u", self.nodename, gang->plan.ranks);

        for (size_t i = 0; list && i < gang->n_hosts; i++) {
                if (gang->hosts[i].state != HOST_HELD)
                        continue;
                char *longer = format_string("%s,%s:%u", list, gang->hosts[i].name, gang->plan.ranks);
                free(list);
                list = longer;
        }
        return steal_pointer(&list);
}

/* This host's address on the job's network: on the way to another host; else that of an interface. */
static bool address_towards(const char *peer, char text[INET_ADDRSTRLEN]) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) }, own;
        socklen_t size = sizeof(own);
        cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd >= 0 && inet_pton(AF_INET, peer, &to.sin_addr) == 1 &&
               connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0 &&
               getsockname(fd, (struct sockaddr *) &own, &size) == 0 &&
               inet_ntop(AF_INET, &own.sin_addr, text, INET_ADDRSTRLEN);
}

/* What another host knows this one by. */
static bool address_there(const struct gang *gang, const struct gang_host *host, char text[INET_ADDRSTRLEN]) {
        const json_t *resolves = json_object_get(host->line, "resolves");
        const char *own = json_string_value(json_object_get(resolves, gang->plan.head));
        struct in_addr address;

        return own && inet_pton(AF_INET, own, &address) == 1 && ntohl(address.s_addr) >> 24 != IN_LOOPBACKNET &&
               inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN);
}

static bool own_address(const struct gang *gang, char text[INET_ADDRSTRLEN]) {
        struct ifaddrs *interfaces = NULL;
        bool found = false;

        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD &&
                    (address_towards(gang->hosts[i].address, text) || address_there(gang, &gang->hosts[i], text)))
                        return true;
        if (getifaddrs(&interfaces) < 0)
                return false;
        for (const struct ifaddrs *p = interfaces; p && !found; p = p->ifa_next)
                if (p->ifa_addr && p->ifa_addr->sa_family == AF_INET && (p->ifa_flags & IFF_UP) &&
                    !(p->ifa_flags & IFF_LOOPBACK) && (!gang->plan.network || network_has(gang->plan.network, p))) {
                        const struct sockaddr_in *own = (const struct sockaddr_in *) (const void *) p->ifa_addr;
                        found = inet_ntop(AF_INET, &own->sin_addr, text, INET_ADDRSTRLEN) != NULL;
                }
        freeifaddrs(interfaces);
        return found;
}

/* ---- the variables that travel ---- */

static bool matches(const char *name, const char *const *patterns, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (fnmatch(patterns[i], name, 0) == 0)
                        return true;
        return false;
}

static bool travels(const struct gang_plan *plan, const char *name) {
        static const char *const always[] = { "PATH",   "LD_LIBRARY_PATH", "PYTHONPATH",   "OMP_*",        "MKL_*",
                                              "NCCL_*", "UCX_*",           "BERTD_JOB_ID", "BERTD_ATTEMPT" };
        static const char *const commands[] = { "MASTER_ADDR",  "MASTER_PORT",      "BERTD_RUN_DIR",
                                                "BERTD_RESUME", "PYTHONUNBUFFERED", "GLOO_SOCKET_IFNAME" };
        static const char *const never[] = { "CUDA_VISIBLE_DEVICES", "NOTIFY_SOCKET", "SSH_*", "XDG_*", "TMPDIR" };

        if (matches(name, never, ELEMENTSOF(never)))
                return false;
        if (matches(name, always, ELEMENTSOF(always)) ||
            (plan->kind == JOB_COMMAND && matches(name, commands, ELEMENTSOF(commands))))
                return true;
        for (char **p = plan->travels; p && *p; p++)
                if (fnmatch(*p, name, 0) == 0)
                        return true;
        return false;
}

static void add_variables(const struct gang_plan *plan, struct words *words) {
        unsigned n = 0;

        for (char **p = environ; *p && n < TRAVELS_MAX; p++) {
                size_t length = strcspn(*p, "=");
                cleanup_free char *name = strndup(*p, length);
                if (!name || (*p)[length] != '=' || !travels(plan, name))
                        continue;
                add(words, "-x");
                add(words, "%s", name);
                n++;
        }
}

/* ---- mpirun ---- */

static void add_launcher(const struct gang *gang, struct words *words) {
        char number[24], agent[128];
        bool prrte = gang->mpi_major >= 5;

        /* A path with a blank or a colon would not be found. */
        (void) snprintf(agent, sizeof(agent), "/proc/%d/exe agent %s", (int) getpid(), gang->agent_name);
        (void) snprintf(number, sizeof(number), "%zu", MAX(gang->n_hosts + 1, (size_t) 2));
        add_parameter(words, "plm", prrte ? "ssh" : "rsh");
        add_parameter(words, prrte ? "plm_ssh_agent" : "plm_rsh_agent", agent);
        add_parameter(words, prrte ? "rml_base_radix" : "routed_radix", number); /* only this host starts daemons */
        if (!prrte) /* which would call "h2.example.com" h2 */
                add_parameter(words, "orte_keep_fqdn_hostnames", "1");
        if (gang->plan.scratch && !prrte) {
                add_parameter(words, "orte_local_tmpdir_base", gang->plan.scratch);
                add(words, "-x"); /* a rank of this host that got it, too, would refuse it beside mpirun's own folder */
                add(words, "OMPI_MCA_orte_local_tmpdir_base=");
        }
        if (gang->plan.network) {
                add_parameter(words, "btl_tcp_if_include", gang->plan.network);
                add_parameter(words, "oob_tcp_if_include", gang->plan.network);
        }
}

/* A word ":" begins another program to mpirun: rank.c takes away a "=" before it. */
static void add_word(struct words *words, const char *word) {
        bool separates = strcmp(word + strspn(word, "="), ":") == 0;

        add(words, "%s%s", separates ? "=" : "", word);
}

static void add_program(const struct gang *gang, unsigned hosts, struct words *words) {
        char path[PATH_MAX];

        if (gang->plan.kind == JOB_COMMAND) {
                executable_self(path, sizeof(path));
                add(words, "%s", path);
                add(words, "rank");
                add(words, "--ranks=%u", gang->plan.ranks);
                add(words, "--hosts=%u", hosts);
                add(words, "--grace=%u", gang->plan.grace_sec);
                if (gang->plan.lasts)
                        add(words, "--last");
                add(words, "--");
        }
        for (char **p = gang->plan.argv; *p; p++)
                add_word(words, *p);
}

static int make_argv(const struct gang *gang, struct words *words) {
        cleanup_free char *list = host_list(gang);
        unsigned hosts = count_held(gang) + 1;

        add(words, "mpirun");
        add(words, "-H");
        take_word(words, steal_pointer(&list));
        add(words, "-n");
        add(words, "%u", hosts * gang->plan.ranks);
        add(words, "--bind-to");
        add(words, "none");
        add(words, "--oversubscribe");
        add(words, "-wdir");
        add(words, "%s", gang->plan.kind == JOB_COMMAND ? gang->cwd : "/"); /* all paths of a trainer are absolute */
        add_launcher(gang, words);
        add_variables(&gang->plan, words);
        add_program(gang, hosts, words);
        return words->failed ? -ENOMEM : 0;
}

/* Appends the interface by which a host is in the job's network, once. */
static void add_interface(const struct gang_host *host, char *list, size_t size) {
        const char *name = json_string_value(json_object_get(json_object_get(host->line, "network"), "interface"));
        size_t n = strlen(list);

        if (!name || !host_is_name(name) || hosts_contain(list + 1, name))
                return;
        (void) snprintf(list + n, size - n, "%s%s", n > 1 ? "," : "", name);
}

/* NCCL and gloo know no networks, only interfaces; "=": these names, not all that begin so. */
static void set_interfaces(const struct gang *gang) {
        char list[1024] = "=";

        if (!gang->plan.network)
                return;
        add_interface(&gang->self, list, sizeof(list));
        for (size_t i = 0; i < gang->n_hosts; i++)
                if (gang->hosts[i].state == HOST_HELD)
                        add_interface(&gang->hosts[i], list, sizeof(list));
        if (!list[1])
                return;
        (void) setenv("NCCL_SOCKET_IFNAME", list, 0);
        if (!strchr(list, ',')) /* gloo takes one */
                (void) setenv("GLOO_SOCKET_IFNAME", list + 1, 0);
}

static __attribute__((noreturn)) void become_mpirun(char **argv, pid_t parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(1);
        (void) setsid();
        inherited_drop_signals();
        inherited_hand_on_limits();
        (void) execvp(argv[0], argv);
        int code = errno;
        (void) dprintf(2, "%s: %s\n", argv[0], code == ENOENT ? "command not found" : strerror(code));
        _exit(code == ENOENT ? 127 : 126);
}

int mpirun_start(struct gang *gang, struct error *error) {
        cleanup(words_free) struct words words = {};
        char address[INET_ADDRSTRLEN];
        pid_t parent = getpid();

        if (gang->plan.kind == JOB_COMMAND && !getenv("MASTER_ADDR") && own_address(gang, address))
                (void) setenv("MASTER_ADDR", address, 1);
        set_interfaces(gang);
        if (make_argv(gang, &words) < 0)
                return error_errno(error, ENOMEM, "mpirun");
        pid_t pid = fork();
        if (pid < 0)
                return error_errno(error, errno, "mpirun");
        if (pid == 0) {
                if (gang->plan.scratch && gang->mpi_major >= 5)
                        (void) setenv("TMPDIR", gang->plan.scratch, 1);
                become_mpirun(words.list, parent);
        }
        gang->mpirun = pid;
        gang->ran = true;
        return 0;
}

/* "mpirun (Open MPI) 4.1.4", "mpirun (Open MPI) 5.0.7" */
unsigned mpirun_major(void) {
        char *argv[] = { (char *) "mpirun", (char *) "--version", NULL }, text[256];
        uint64_t deadline = clock_monotonic_usec() + VERSION_LIMIT_USEC;
        unsigned major = 4;
        size_t n = 0;
        int fds[2];
        pid_t parent = getpid();

        if (pipe2(fds, O_CLOEXEC) < 0)
                return major;
        cleanup_close int from = fds[0], to = fds[1];
        pid_t pid = fork();
        if (pid == 0) {
                (void) dup2(to, 1);
                become_mpirun(argv, parent);
        }
        (void) close(steal_fd(&to));
        while (pid > 0 && n < sizeof(text) - 1) {
                uint64_t now = clock_monotonic_usec();
                struct pollfd p = { .fd = from, .events = POLLIN };
                if (now >= deadline || poll(&p, 1, (int) ((deadline - now) / 1000) + 1) <= 0)
                        break;
                ssize_t got = read(from, text + n, sizeof(text) - 1 - n);
                if (got <= 0)
                        break;
                n += (size_t) got;
        }
        if (pid > 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
        }
        text[n] = '\0';
        const char *name = strstr(text, "(Open MPI) ");
        if (name && sscanf(name, "(Open MPI) %u", &major) != 1)
                major = 4;
        return major;
}
