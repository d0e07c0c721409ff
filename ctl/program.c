/*
 * See program.h. Tries the exec itself: a traced child executes the program and is killed as soon as the exec has
 * succeeded, before its first instruction. If that is not possible (no ptrace, no further process), stat and access
 * decide.
 */
#include "ctl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/executable.h"
#include "common/file.h"

/* The result of the exec, 0 or −errno; −ENOSYS: it could not be tried. */
static int try_exec(const char *path, char *const *argv) {
        int fds[2], code = 0, status = 0;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -ENOSYS;
        cleanup_close int reader = fds[0], writer = fds[1];
        pid_t pid = fork();
        if (pid < 0)
                return -ENOSYS;
        if (pid == 0) {
                /* The program would run on if its tracer died. */
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
                        _exit(1);
                (void) execv(path, argv);
                code = errno;
                (void) !write(writer, &code, sizeof(code));
                _exit(1);
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (WIFSTOPPED(status)) {
                (void) kill(pid, SIGKILL);
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                        ;
                return 0;
        }
        (void) close(steal_fd(&writer));
        return read(reader, &code, sizeof(code)) == sizeof(code) ? -code : -ENOSYS;
}

struct shebang {
        char line[EXECUTABLE_HEAD_MAX + 1]; /* empty: not a script */
        bool cr;                            /* the line ended in one, which was removed */
        char *program;                      /* the interpreter, or what env looks for, in `words`; NULL: not known */
        bool by_env;
        char words[EXECUTABLE_HEAD_MAX + 1];
};

/* Of env's own words. */
static bool is_skipped(const struct shebang *shebang, const char *word) {
        return word == shebang->words || strcmp(word, "-S") == 0 || strcmp(word, "-i") == 0 || strchr(word, '=');
}

static void read_shebang(const char *path, struct shebang *ret) {
        char *state = NULL;

        *ret = (struct shebang) {};
        executable_script_line(path, ret->line);
        size_t n = strlen(ret->line);
        ret->cr = n > 0 && ret->line[n - 1] == '\r';
        ret->line[n - ret->cr] = '\0';
        memcpy(ret->words, ret->line, sizeof(ret->words));
        ret->program = strtok_r(ret->words, " \t", &state);
        const char *slash = ret->program ? strrchr(ret->program, '/') : NULL;
        ret->by_env = slash && strcmp(slash, "/env") == 0;
        while (ret->by_env && ret->program && is_skipped(ret, ret->program))
                ret->program = strtok_r(NULL, " \t", &state);
        if (ret->by_env && ret->program && ret->program[0] == '-') /* what follows may be its argument */
                ret->program = NULL;
}

/* "./a.sh: /bin/bash^M: bad interpreter: No such file or directory" */
static int bad_interpreter(const char *name, const struct shebang *shebang, int r, struct error *error) {
        const char *cr = shebang->cr ? "^M" : "";
        cleanup_free char *cure =
                shebang->cr ? format_string("; its lines end in CR LF: `sed -i 's/\\r$//' %s`", name) : NULL;

        const char *what = shebang->cr || !shebang->program ? shebang->line : shebang->program;
        return error_input(error, BERTCTL_EXIT_USAGE, "%s: %s%s%s: bad interpreter: %s%s", name,
                           shebang->by_env && !shebang->cr ? "/usr/bin/env: " : "", what, cr, strerror(-r),
                           cure ? cure : "");
}

/* What a shell alone knows how to run. */
static const char *of_a_shell(const char *name, enum program_use use) {
        static const char *const builtins[] = { "cd",   "source", ".",     "export", "ulimit",
                                                "eval", "set",    "alias", "module", "conda" };
        const char *equals = strchr(name, '=');

        if (use == PROGRAM_ON_EXIT)
                return strpbrk(name, " \t") ? "; put shell commands in a script" : "";
        if (equals && equals != name && strcspn(name, "/ \t") > (size_t) (equals - name))
                return "; to set variables: `bertctl submit -- env NAME=VALUE COMMAND...`";
        if (strpbrk(name, " \t;|&<>$()"))
                return "; it is one word, quoted as it is: leave out the quotes, or let a shell read it: `bertctl "
                       "submit -- sh "
                       "-c '...'`";
        for (size_t i = 0; i < ELEMENTSOF(builtins); i++)
                if (strcmp(name, builtins[i]) == 0)
                        return "; it is a shell builtin: `bertctl submit -- bash -c '...'`";
        return "";
}

static int not_found(const char *name, enum program_use use, struct error *error) {
        if (strchr(name, '/'))
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: No such file or directory%s", name,
                                   of_a_shell(name, use));
        cleanup_free char *how = use == PROGRAM_OF_JOB ? program_command(name) : NULL;
        if (how)
                return error_input(error, BERTCTL_EXIT_USAGE,
                                   "%s: command not found; to run the one in this folder: `bertctl submit -- %s`", name,
                                   how);
        return error_input(error, BERTCTL_EXIT_USAGE, "%s: command not found%s", name, of_a_shell(name, use));
}

static int denied(const char *name, const char *path, enum program_use use, struct error *error) {
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: Is a directory", name);
        bool readable = access(path, X_OK) < 0 && access(path, R_OK) == 0;
        cleanup_free char *how = readable && use == PROGRAM_OF_JOB ? program_command(path) : NULL;
        if (how)
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: Permission denied; run it as `bertctl submit -- %s`",
                                   name, how);
        return error_input(error, BERTCTL_EXIT_USAGE, "%s: Permission denied%s", name,
                           readable && use == PROGRAM_ON_EXIT ? "; make it executable: chmod +x" : "");
}

/* A shell takes for its own script what the kernel knows no format of, unless it looks binary. */
static int unknown_format(const char *name, const char *path, struct error *error) {
        char head[EXECUTABLE_HEAD_MAX + 1];
        size_t n = executable_head(path, head);
        const char *newline = memchr(head, '\n', n);
        bool elf = n > 4 && memcmp(head, "\177ELF", 4) == 0;

        if (!elf && !memchr(head, '\0', newline ? (size_t) (newline - head) : n))
                return 0;
        return error_input(error, BERTCTL_EXIT_USAGE, "%s: cannot execute binary file: Exec format error", name);
}

/* All that follows env is one word to the kernel: "python3 -u" is the name that env looks for. */
static const char *word_of_env(const struct shebang *shebang) {
        const char *word = shebang->line + strcspn(shebang->line, " \t");

        word += strspn(word, " \t");
        const char *second = word + strcspn(word, " \t");
        second += strspn(second, " \t");
        return shebang->by_env && word[0] != '-' && !strchr(word, '=') && *second ? word : NULL;
}

static int check_script(const char *name, const char *path, struct error *error) {
        struct shebang shebang;
        cleanup_free char *interpreter = NULL;

        read_shebang(path, &shebang);
        if (!shebang.line[0])
                return 0;
        int r = shebang.program ? executable_find(shebang.program, &interpreter) : 0;
        if (r == 0 && interpreter && !executable_is(interpreter))
                r = access(interpreter, F_OK) < 0 ? -ENOENT : -EACCES;
        if (shebang.cr)
                r = -ENOENT;
        if (r < 0)
                return bad_interpreter(name, &shebang, r, error);
        const char *word = word_of_env(&shebang);
        if (!word)
                return 0;
        return error_input(error, BERTCTL_EXIT_USAGE,
                           "%s: /usr/bin/env: '%s': No such file or directory; with arguments: #!/usr/bin/env -S %s",
                           name, word, word);
}

static int exec_error(const char *name, const char *path, enum program_use use, int r, struct error *error) {
        struct shebang shebang;

        switch (-r) {
        case EACCES:
        case EISDIR:
                return denied(name, path, use, error);
        case ENOEXEC:
                return unknown_format(name, path, error);
        case ENOENT:
                if (access(path, F_OK) < 0)
                        return not_found(name, use, error);
                read_shebang(path, &shebang);
                if (shebang.line[0])
                        return bad_interpreter(name, &shebang, r, error);
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: cannot execute: required file not found", name);
        default:
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: %s", name, strerror(-r));
        }
}

/* What may be so because it is tried here and now, of a file that may be executed: a security module that allows no
 * tracing, want of memory, an interpreter that is looked at by itself. */
static bool is_of_the_trial(int r) {
        return r == -ENOSYS || r == -EPERM || r == -EACCES || r == -EAGAIN || r == -ENOMEM || r == -EMFILE ||
               r == -ENFILE;
}

int program_check(char *const *argv, enum program_use use, struct error *error) {
        cleanup_free char *path = NULL;
        const char *name = argv[0];

        if (!name[0])
                return error_input(error, BERTCTL_EXIT_USAGE, "empty command");
        int r = executable_find(name, &path);
        if (r == -ENOENT)
                return not_found(name, use, error);
        if (r < 0)
                return error_input(error, BERTCTL_EXIT_USAGE, "%s: %s", name, strerror(-r));
        r = access(path, F_OK) < 0 ? -errno : executable_is(path) ? try_exec(path, argv) : -EACCES;
        bool said = r < 0 && (!is_of_the_trial(r) || !executable_is(path));
        return said ? exec_error(name, path, use, r, error) : check_script(name, path, error);
}

/* ---- taken for a spec ---- */

/* A word as a shell takes it. */
static char *quoted(const char *word) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=./:@%,~";
        bool odd = word[strspn(word, plain)] != '\0';

        return format_string(odd ? "\"%s\"" : "%s", word);
}

static const char *interpreter_of(const char *path, struct shebang *shebang) {
        static const struct {
                const char *ending, *interpreter;
        } known[] = { { ".py", "python3" }, { ".sh", "bash" },   { ".bash", "bash" },
                      { ".pl", "perl" },    { ".R", "Rscript" }, { ".jl", "julia" } };
        const char *dot = strrchr(path, '.');

        read_shebang(path, shebang);
        if (shebang->program) {
                const char *slash = strrchr(shebang->program, '/');
                return slash ? slash + 1 : shebang->program;
        }
        for (size_t i = 0; dot && i < ELEMENTSOF(known); i++)
                if (strcmp(dot, known[i].ending) == 0)
                        return known[i].interpreter;
        return NULL;
}

char *program_command(const char *path) {
        char head[EXECUTABLE_HEAD_MAX + 1];
        struct shebang shebang;
        cleanup_free char *found = NULL, *word = quoted(path);

        if (!word || (access(path, F_OK) < 0 && (strchr(path, '/') || executable_find(path, &found) < 0)))
                return NULL;
        if (found)
                return steal_pointer(&word);
        bool elf = executable_head(path, head) > 4 && memcmp(head, "\177ELF", 4) == 0;
        const char *interpreter = interpreter_of(path, &shebang), *here = strchr(path, '/') ? "" : "./";
        if (executable_is(path) && (elf || shebang.line[0]))
                return format_string("%s%s", here, word);
        if (interpreter)
                return format_string("%s %s", interpreter, word);
        return elf || executable_is(path) ? format_string("%s%s", here, word) : NULL;
}
