/*
 * See lease.h. What may hang (a resolver, a file system, a program) is asked in a child with a time limit; each answer
 * is a line of JSON, so one that hangs loses only those after it.
 */
#include "ctl/lease.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/executable.h"
#include "common/file.h"
#include "common/spec/host_inputs.h"
#include "common/hosts.h"
#include "common/input_hash.h"
#include "common/json_read.h"
#include "common/leash.h"
#include "common/network.h"
#include "common/utf8.h"
#include "ctl/format.h"

#define LIMIT_USEC (12 * USEC_PER_SEC) /* less than a head waits */
#define ANSWERS_MAX ((size_t) 1 << 20)

/* ---- in the child ---- */

static void answer(int fd, json_t *object) {
        cleanup_free char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

        if (text && write_all(fd, text, strlen(text)) == 0)
                (void) write_all(fd, "\n", 1);
        json_decref(object);
}

/* The first line that a program prints; it dies with this process. */
static void ask_program(int fd, const char *key, char *const *argv, const char *prefix) {
        char line[256] = "";
        int ends[2];
        size_t n = 0;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        pid_t pid = fork();
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (dup2(ends[1], STDOUT_FILENO) >= 0)
                        (void) execvp(argv[0], argv);
                _exit(127);
        }
        (void) close(ends[1]);
        for (ssize_t got; n < sizeof(line) - 1 && (got = read(ends[0], line + n, sizeof(line) - 1 - n)) > 0;)
                n += (size_t) got;
        (void) close(ends[0]);
        line[strcspn(line, "\n")] = '\0';
        size_t skip = strncmp(line, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;
        if (line[0] && text_is_line(line))
                answer(fd, json_pack("{ss}", key, line + skip));
}

/* The trainer beside this program in a build folder, else the installed one. */
static void ask_versions(int fd) {
        cleanup_free char *trainer = executable_beside("../trainer/bert-trainer", BERTD_BINDIR "/bert-trainer");

        if (trainer)
                ask_program(fd, "trainer", (char *const[]) { trainer, (char *) "--version", NULL }, "bert-trainer ");
        ask_program(fd, "mpi", (char *const[]) { (char *) "mpirun", (char *) "--version", NULL }, "mpirun (Open MPI) ");
}

static json_t *address_of(const char *name) {
        const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
        struct addrinfo *found = NULL;
        char text[INET_ADDRSTRLEN] = "";

        if (getaddrinfo(name, NULL, &hints, &found) == 0 && found)
                (void) getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
        if (found)
                freeaddrinfo(found);
        return json_string(text);
}

/* This host's own name, the head's, and those of the job's hosts. */
static void ask_resolver(int fd, const char *own, const char *of, const json_t *inputs) {
        cleanup_free char *head = of ? strndup(of, strcspn(of, ":")) : NULL;
        const json_t *hosts = json_object_get(inputs, "hosts");
        json_t *names = json_object();

        (void) json_object_set_new(names, own, address_of(own));
        if (head && host_is_name(head))
                (void) json_object_set_new(names, head, address_of(head));
        for (size_t i = 0; i < MIN(json_array_size(hosts), (size_t) BERTD_HOSTS_MAX); i++) {
                const char *name = json_plain_string(json_array_get(hosts, i));
                if (name && host_is_name(name) && !json_object_get(names, name))
                        (void) json_object_set_new(names, name, address_of(name));
        }
        answer(fd, json_pack("{so}", "resolves", names));
}

static void ask_network(int fd, const char *network) {
        struct ifaddrs *all = NULL;
        json_t *found = NULL;
        char text[INET_ADDRSTRLEN], problem[160];

        if (!network)
                return;
        if (getifaddrs(&all) < 0)
                all = NULL;
        for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
                if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !network_has(network, i))
                        continue;
                const struct sockaddr_in *address = (const struct sockaddr_in *) (const void *) i->ifa_addr;
                (void) inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
                found = i->ifa_flags & IFF_UP ? json_pack("{ssss}", "interface", i->ifa_name, "address", text)
                                              : json_pack("{ss}", "problem", "the interface is down");
        }
        freeifaddrs(all);
        if (!found) {
                (void) snprintf(problem, sizeof(problem),
                                "no interface of this host is %s%.64s; compare it with `ip address` there",
                                strchr(network, '/') ? "in " : "", network);
                found = json_pack("{ss}", "problem", problem);
        }
        answer(fd, json_pack("{so}", "network", found));
}

static void ask_inputs(int fd, const json_t *inputs) {
        static const char *const states[] = INPUT_STATE_NAMES;
        const json_t *paths = json_object_get(inputs, "paths");

        for (size_t i = 0; i < MIN(json_array_size(paths), (size_t) HOST_INPUTS_MAX); i++) {
                const char *path = json_plain_string(json_array_get(paths, i));
                struct input_hash hash;
                if (!path)
                        continue;
                input_look(path, &hash);
                answer(fd, json_pack("{s{sssssssIsb}}", "input", "path", path, "state", states[hash.state], "hash",
                                     hash.hash, "bytes", (json_int_t) hash.bytes, "corpus", (int) hash.corpus));
        }
}

/* A command's, with the PATH it will have. */
static void find_program(int fd, const json_t *inputs) {
        const json_t *program = json_object_get(inputs, "program");
        const char *name = json_text_or_empty(program, "name");
        cleanup_free char *path = NULL;

        if (!name[0])
                return;
        (void) setenv("PATH", json_text_or_empty(program, "search"), 1);
        bool there = chdir(json_text_or_empty(program, "folder")) == 0 && executable_find(name, &path) == 0 &&
                     executable_is(path);
        answer(fd, json_pack("{s{sssbss}}", "program", "name", name, "there", (int) there, "path", there ? path : ""));
}

static __attribute__((noreturn)) void ask_all(int fd, const struct lease_options *o, const char *own,
                                              const json_t *inputs, pid_t parent) {
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || dup2(null_fd, 2) < 0)
                _exit(1);
        close_others(fd); /* one that hangs in the kernel outlives bertctl: not with its connection to bertd */
        ask_network(fd, o->network);
        ask_versions(fd);
        ask_resolver(fd, own, o->of, inputs);
        ask_inputs(fd, inputs);
        find_program(fd, inputs);
        _exit(0);
}

/* ---- in bertctl ---- */

/* Reads until the end of file, the bound or the deadline (ret_late). The caller frees. */
static char *collect(int fd, uint64_t deadline, bool *ret_late) {
        cleanup_free char *text = malloc(ANSWERS_MAX + 1);
        size_t n = 0;

        while (text && n < ANSWERS_MAX) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                uint64_t now = clock_boottime_usec();
                *ret_late = now >= deadline;
                if (*ret_late || poll(&p, 1, (int) ((deadline - now) / 1000) + 1) < 0)
                        break;
                if (!p.revents)
                        continue;
                ssize_t got = read(fd, text + n, ANSWERS_MAX - n);
                if (got <= 0)
                        break;
                n += (size_t) got;
        }
        if (text)
                text[n] = '\0';
        return steal_pointer(&text);
}

static void take_answers(char *text, json_t *host) {
        json_t *inputs = json_array();
        char *rest = NULL;

        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                json_t *object = json_loads(line, 0, NULL), *input = json_object_get(object, "input");
                if (input)
                        (void) json_array_append(inputs, input);
                else if (object)
                        (void) json_object_update(host, object);
                json_decref(object);
        }
        (void) json_object_set_new(host, "inputs", inputs);
}

static void add_answers(const struct lease_options *o, const char *own, const json_t *inputs, json_t *host) {
        pid_t parent = getpid();
        bool late = false;
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        pid_t pid = fork();
        if (pid == 0)
                ask_all(ends[1], o, own, inputs, parent);
        (void) close(ends[1]);
        cleanup_free char *text = pid > 0 ? collect(ends[0], clock_boottime_usec() + LIMIT_USEC, &late) : NULL;
        (void) close(ends[0]);
        if (pid > 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, WNOHANG); /* it may hang in the kernel */
        }
        if (text)
                take_answers(text, host);
        if (late)
                (void) json_object_set_new(host, "late", json_true());
}

static json_t *gpus_of(const struct daemon_info *daemon) {
        json_t *gpus = json_array();

        for (char *const *gpu = daemon ? daemon->gpu_list : NULL; gpu && *gpu; gpu++) {
                const char *space = strchr(*gpu, ' ');
                if (space)
                        (void) json_array_append_new(
                                gpus, json_pack("{sssssO}", "uuid", space + 1, "name", "", "health", json_null()));
                json_t *last = space ? json_array_get(gpus, json_array_size(gpus) - 1) : NULL;
                if (last)
                        (void) json_object_set_new(last, "health", json_stringn(*gpu, (size_t) (space - *gpu)));
        }
        return gpus;
}

json_t *lease_host(const struct lease_options *o, const struct daemon_info *daemon, const json_t *inputs,
                   const json_t *refused) {
        struct utsname name = {};
        struct sysinfo memory = {};
        sd_id128_t boot = {};

        (void) uname(&name);
        (void) sd_id128_get_boot(&boot);
        (void) sysinfo(&memory);
        json_t *host = leash_line(LEASH_HOST);
        json_t *facts =
                json_pack("{si,ss,ss,ss,ss,ss,ss,sI,sI,sI,so,ss}", "version", LEASH_VERSION, "host", name.nodename,
                          "boot", SD_ID128_TO_UUID_STRING(boot), "bertd", daemon ? text_of(daemon->version) : "",
                          "trainer", "", "mpi", "", "launcher", daemon ? text_of(daemon->launcher) : "", "cpus",
                          (json_int_t) sysconf(_SC_NPROCESSORS_ONLN), "memory",
                          (json_int_t) ((uint64_t) memory.totalram * memory.mem_unit), "slots",
                          (json_int_t) (daemon ? daemon->slots : 0), "gpus", gpus_of(daemon), "draining",
                          daemon ? text_of(daemon->draining) : "");
        (void) json_object_update_new(host, facts);
        bool private_tmp = daemon && strcmp(text_of(daemon->launcher), "systemd") == 0; /* see systemd_unit.c */
        (void) json_object_set_new(host, "private_tmp", json_boolean(private_tmp));
        json_t *problem = json_deep_copy(refused);
        (void) json_object_del(problem, "type");
        if (problem)
                (void) json_object_set_new(host, "problem", problem);
        add_answers(o, name.nodename, inputs, host);
        (void) json_object_set_new(host, "clock_usec", json_integer((json_int_t) clock_realtime_usec()));
        return host;
}
