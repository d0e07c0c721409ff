/*
 * See gang.h: the start of the program that reaches a host: ssh, and for this host bertctl itself. The process ends
 * with this one (PDEATHSIG); what it prints is kept, the last of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/inherited.h"
#include "common/ssh.h"
#include "daemon/gang/gang.h"

static int on_said(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct gang_host *host = userdata;
        char buffer[1024];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n <= 0) {
                if (n == 0 || errno != EAGAIN)
                        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                return 0;
        }
        size_t keep = MIN(host->n_said, sizeof(host->said) - 1 - (size_t) n); /* of a flood its end */
        memmove(host->said, host->said + host->n_said - keep, keep);
        memcpy(host->said + keep, buffer, (size_t) n);
        host->n_said = keep + (size_t) n;
        return 0;
}

/* For a shell: words that would need quotes are skipped. */
static bool is_plain(const char *text) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/";

        return text && text[0] && strspn(text, plain) == strlen(text);
}

static char *lease_command(const struct gang *gang) {
        const struct gang_plan *p = &gang->plan;
        bool network = is_plain(p->network), name = is_plain(p->name);

        return format_string("bertctl lease --of %s:%" PRIu64
                             " --attempt %u --ranks %u --gpus %u --threads %u --memory "
                             "%" PRIu64 " --host-timeout %u --inputs%s%s%s%s%s",
                             p->head, p->job, p->attempt, p->ranks, p->gpus, MAX(p->threads, 1u), p->memory,
                             p->host_timeout_sec, network ? " --network " : "", network ? p->network : "",
                             name ? " --name " : "", name ? p->name : "", p->unmanaged ? " --unmanaged" : "");
}

static __attribute__((noreturn)) void become_ssh(char **argv, int in, int out, int error, pid_t parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(1);
        (void) setsid();
        inherited_drop_signals();
        ssh_forget_login();
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0)
                _exit(1);
        (void) execvp(argv[0], argv);
        (void) dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
}

static int spawn(struct gang_host *host, char **argv) {
        int down[2] = { -1, -1 }, up[2] = { -1, -1 }, error[2] = { -1, -1 };
        pid_t parent = getpid();

        int r = pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0 ? -errno : 0;
        cleanup_close int down_read = down[0], down_write = down[1], up_read = up[0], up_write = up[1],
                          error_read = error[0], error_write = error[1];
        if (r < 0)
                return r;
        host->ssh = fork();
        if (host->ssh < 0) {
                host->ssh = 0;
                return -errno;
        }
        if (host->ssh == 0)
                become_ssh(argv, down_read, up_write, error_write, parent);
        host->error_fd = steal_fd(&error_read);
        (void) fcntl(host->error_fd, F_SETFL, O_NONBLOCK);
        r = sd_event_add_io(host->gang->event, &host->error_source, host->error_fd, EPOLLIN, on_said, host);
        int opened = lines_open(&host->lines, host->gang->event, steal_fd(&up_read), steal_fd(&down_write),
                                host_on_readable, host);
        return MIN(r, opened);
}

static void call(struct gang_host *host, char **argv) {
        host->heard_usec = host->beat_usec = clock_boottime_usec();
        host->closed = false;
        host->n_said = 0;
        host_set_state(host, HOST_CALLED);
        int r = spawn(host, argv);
        if (r >= 0) {
                host_send(host, json_incref(host->gang->inputs));
                return;
        }
        struct gang_verdict v =
                gang_verdict(EXIT_CLASS_WAIT, host->name, "%s could not be started: %s", argv[0], strerror(-r));
        host_lost(host, &v);
}

void host_call(struct gang_host *host) {
        const char *argv[SSH_WORDS_MAX];
        cleanup_free char *command = lease_command(host->gang);

        ssh_words(host->name, command ? command : "false", argv);
        call(host, (char **) argv);
}

void host_call_self(struct gang_host *host) {
        char *network = host->gang->plan.network;
        char *argv[] = { (char *) "bertctl",
                         (char *) "lease",
                         (char *) "--probe",
                         (char *) "--inputs",
                         network ? (char *) "--network" : NULL,
                         network,
                         NULL };

        call(host, argv);
}
