/* See proc_program.h. Owns nothing. */
#include "common/proc_program.h"

#include <signal.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/proc_files.h"

bool proc_runs(pid_t pid, const char *const *names, size_t n_names) {
        char exe[4096];

        proc_read_link(pid, "exe", exe, sizeof(exe));
        const char *slash = strrchr(exe, '/'), *name = slash ? slash + 1 : exe;
        for (size_t i = 0; i < n_names; i++) {
                size_t n = strlen(names[i]);
                if (strncmp(name, names[i], n) != 0)
                        continue;
                n += strspn(name + n, "0123456789.-"); /* its version */
                if (name[n] == '\0' || strcmp(name + n, "static") == 0 || strcmp(name + n, " (deleted)") == 0)
                        return true;
        }
        return false;
}

bool proc_is_shell(pid_t pid) {
        static const char *const names[] = { "sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "busybox" };

        return proc_runs(pid, names, ELEMENTSOF(names));
}

bool proc_ends_with_writer(const struct procs *procs, const struct proc *proc) {
        uint64_t in = proc_pipe(proc->pid, "fd/0");

        if (in == 0 || proc_catches(proc->pid, SIGTERM))
                return false;
        for (size_t i = 0; i < procs->n; i++) {
                pid_t pid = procs->list[i].pid;
                if (pid != proc->pid && (proc_pipe(pid, "fd/1") == in || proc_pipe(pid, "fd/2") == in))
                        return true;
        }
        return false;
}
