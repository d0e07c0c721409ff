/*
 * See leash.h. Commands of the head. Each is `sh -c LINE` in its own session, with the lease's environment and the
 * variables that came with it. Invariant: a process that left its command behind keeps no pipe of ours open.
 */
#include "daemon/leash/leash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/environment.h"
#include "common/inherited.h"
#include "common/json_read.h"
#include "common/file.h"

#define PIPE_BYTES (1 << 20)
#define READ_BYTES ((size_t) 64 << 10)
#define DRAIN_READS 32 /* of a command that has exited: what its pipe may hold, twice */
#define VARIABLES_MAX 256
#define NOT_STARTED 126

/* The lease's own are not replaced: the GPUs that it was given, and the mark by which bertd finds its processes. */
static bool may_set(const char *name) {
        cleanup_free char *assignment = format_string("%s=", name);

        return assignment && name[0] && !strchr(name, '=') && variable_owner(assignment) == VARIABLE_JOB &&
               strcmp(name, "CUDA_VISIBLE_DEVICES") != 0;
}

/* In the child, before exec: it is a copy of a process with one thread. */
static void set_environment(json_t *variables) {
        const char *name;
        json_t *value;
        size_t n = 0;

        json_object_foreach(variables, name, value) {
                const char *text = json_plain_string(value);
                if (text && may_set(name) && n++ < VARIABLES_MAX)
                        (void) setenv(name, text, 1);
        }
}

static __attribute__((noreturn)) void become(const char *line, json_t *variables, const int outputs[2], pid_t parent) {
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(NOT_STARTED);
        (void) setsid();
        inherited_drop_signals();
        inherited_hand_on_limits();
        if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(outputs[0], 1) < 0 || dup2(outputs[1], 2) < 0)
                _exit(NOT_STARTED);
        set_environment(variables);
        (void) execl("/bin/sh", "sh", "-c", line, NULL);
        (void) dprintf(STDERR_FILENO, "bertd-leash: /bin/sh: %s\n", strerror(errno));
        _exit(NOT_STARTED);
}

static int spawn(struct leash_command *command, const char *line, json_t *variables) {
        int pipes[2][2] = { { -1, -1 }, { -1, -1 } };
        pid_t parent = getpid();

        for (int i = 0; i < 2; i++)
                if (pipe2(pipes[i], O_CLOEXEC) < 0) {
                        int r = -errno;
                        for (int k = 0; k < i; k++) {
                                (void) close(pipes[k][0]);
                                (void) close(pipes[k][1]);
                        }
                        return r;
                }
        pid_t pid = fork();
        int r = pid < 0 ? -errno : 0;
        if (pid == 0)
                become(line, variables, (int[]) { pipes[0][1], pipes[1][1] }, parent);
        for (int i = 0; i < 2; i++) {
                (void) close(pipes[i][1]);
                (void) fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
                (void) fcntl(pipes[i][0], F_SETPIPE_SZ, PIPE_BYTES);
                if (r < 0)
                        (void) close(pipes[i][0]);
                command->streams[i] = r < 0 ? -1 : pipes[i][0];
        }
        command->pid = r < 0 ? 0 : pid;
        return r;
}

static void refuse(struct leash *leash, uint64_t id, const char *why) {
        cleanup_free char *text = format_string("bertd-leash: the command is not started: %s\n", why);

        if (text && leash_writer_output(&leash->writer, id, 2, text, strlen(text)) < 0)
                leash_end(leash, true, false, "the output could not be sent");
        leash_send(leash, leash_exited(id, NOT_STARTED << 8));
}

void leash_command_start(struct leash *leash, const json_t *line) {
        const char *text = json_text_at(line, "line");
        struct leash_command *command = leash->commands;
        uint64_t id;

        if (!text || !leash_number(line, "id", INT64_MAX, &id)) {
                leash_end(leash, true, true, "the head sent a command without id or line");
                return;
        }
        while (command < leash->commands + LEASH_RUNS_MAX && command->pid != 0)
                command++;
        if (command == leash->commands + LEASH_RUNS_MAX) {
                refuse(leash, id, "too many run");
                return;
        }
        command->id = id;
        int r = spawn(command, text, json_object_get(line, "environment"));
        if (r < 0)
                refuse(leash, id, strerror(-r));
}

/* False: there is no more now. */
static bool read_once(struct leash *leash, struct leash_command *command, int stream) {
        char buffer[READ_BYTES];
        int *fd = &command->streams[stream];

        if (*fd < 0)
                return false;
        ssize_t n = read(*fd, buffer, sizeof(buffer));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) {
                (void) close(*fd);
                *fd = -1;
                return false;
        }
        if (leash_writer_output(&leash->writer, command->id, stream + 1, buffer, (size_t) n) < 0)
                leash_end(leash, true, false, "the output could not be sent");
        return true;
}

void leash_command_read(struct leash *leash, struct leash_command *command, int stream) {
        (void) read_once(leash, command, stream);
}

bool leash_command_exited(struct leash *leash, pid_t pid, int status) {
        for (struct leash_command *c = leash->commands; c < leash->commands + LEASH_RUNS_MAX; c++) {
                if (c->pid != pid)
                        continue;
                for (int i = 0; i < 2; i++) {
                        for (unsigned n = 0; n < DRAIN_READS && read_once(leash, c, i); n++)
                                ;
                        cleanup_close_p(&c->streams[i]);
                }
                leash_send(leash, leash_exited(c->id, status));
                *c = (struct leash_command) { .streams = { -1, -1 } };
                return true;
        }
        return false;
}
