#include "common/paths.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/file.h"

static const char *environment_path(const char *name) {
        const char *value = secure_getenv(name);
        return value && value[0] ? value : NULL;
}

static const char *home_folder(void) {
        const char *home = environment_path("HOME");
        const struct passwd *pw = home ? NULL : getpwuid(geteuid());

        return home ? home : pw ? pw->pw_dir : NULL;
}

int paths_expand(const char *base, const char *path, char **ret_path, struct error *error) {
        const char *home = path[0] == '~' ? home_folder() : NULL;

        if (path[0] == '~' && path[1] != '/' && path[1] != '\0')
                return error_set(error, EINVAL,
                                 "%s: only ~/ is expanded here; write the full path, or ./%s for a file of that name",
                                 path, path);
        if (path[0] == '$')
                return error_set(
                        error, EINVAL,
                        "%s: variables are not expanded here; write the full path, or ./%s for a file of that name",
                        path, path);
        if (path[0] == '~' && (!home || home[0] != '/'))
                return error_set(error, EINVAL, "%s: no home folder; set HOME, or write the full path", path);
        char *full = home ? path_absolute(home, path[1] ? path + 2 : ".") : path_absolute(base, path);
        if (!full)
                return error_errno(error, ENOMEM, "%s", path);
        *ret_path = full;
        return 0;
}

static int absolute(const char *path, char **ret_path, struct error *error) {
        cleanup_free char *cwd = getcwd(NULL, 0);
        if (!cwd && path[0] != '/' && path[0] != '~')
                return error_errno(error, errno, "current folder");
        return paths_expand(cwd ? cwd : "/", path, ret_path, error);
}

static int machine_id(char id[33], struct error *error) {
        cleanup_free char *text = NULL;
        size_t size;

        /* A home folder may be shared by several hosts: each has its own state. */
        if (file_read("/etc/machine-id", 4096, &text, &size, NULL) < 0 || size < 32) {
                if (gethostname(id, 33) < 0)
                        return error_errno(error, errno, "host name");
                id[32] = '\0';
                return 0;
        }
        memcpy(id, text, 32);
        id[32] = '\0';
        return 0;
}

static int user_state_dir(char **ret_path, struct error *error) {
        char id[33];
        const char *base = environment_path("XDG_STATE_HOME"), *home = home_folder();

        int r = machine_id(id, error);
        if (r < 0)
                return r;
        if (!home && !base)
                return error_set(error, ENOENT, "no home folder for uid %u: set BERTD_STATE_DIR", (unsigned) geteuid());
        char *path = base && base[0] == '/' ? format_string("%s/bertd/%s", base, id)
                                            : format_string("%s/.local/state/bertd/%s", home ? home : "/", id);
        if (!path)
                return error_errno(error, ENOMEM, "state folder");
        *ret_path = path;
        return 0;
}

int paths_state_dir(const char *override, char **ret_path, struct error *error) {
        const char *given = override ? override : environment_path("BERTD_STATE_DIR");

        if (given)
                return absolute(given, ret_path, error);
        if (geteuid() == 0)
                return absolute(BERTD_SYSTEM_STATE_DIR, ret_path, error);
        return user_state_dir(ret_path, error);
}

static int checked_socket(char *path, char **ret_path, struct error *error) {
        cleanup_free char *owned = path;

        if (!owned)
                return error_errno(error, ENOMEM, "socket path");
        if (strlen(owned) >= sizeof(((struct sockaddr_un *) NULL)->sun_path))
                return error_set(error, ENAMETOOLONG,
                                 "%s: socket path longer than %zu bytes; give a shorter one with --socket", owned,
                                 sizeof(((struct sockaddr_un *) NULL)->sun_path) - 1);
        *ret_path = steal_pointer(&owned);
        return 0;
}

int paths_socket(const char *override, const char *state_dir, char **ret_path, struct error *error) {
        const char *given = override ? override : environment_path("BERTD_SOCKET");
        const char *runtime = environment_path("XDG_RUNTIME_DIR");
        char *path = NULL;

        if (given) {
                int r = absolute(given, &path, error);
                return r < 0 ? r : checked_socket(path, ret_path, error);
        }
        if (geteuid() == 0)
                return checked_socket(strdup(BERTD_SYSTEM_SOCKET), ret_path, error);
        if (runtime)
                return checked_socket(format_string("%s/bertd/bertd.sock", runtime), ret_path, error);
        return checked_socket(format_string("%s/bertd.sock", state_dir), ret_path, error);
}

int paths_user_socket(char **ret_path, struct error *error) {
        const char *runtime = environment_path("XDG_RUNTIME_DIR");
        const char *given = environment_path("BERTD_STATE_DIR");
        cleanup_free char *state_dir = NULL, *fallback = NULL;

        cleanup_free char *path = runtime ? format_string("%s/bertd/bertd.sock", runtime) : NULL;
        if (path && access(path, F_OK) == 0)
                return checked_socket(steal_pointer(&path), ret_path, error);
        int r = given ? absolute(given, &state_dir, error) : user_state_dir(&state_dir, error);
        fallback = r < 0 ? NULL : format_string("%s/bertd.sock", state_dir);
        if (path && (!fallback || access(fallback, F_OK) < 0))
                return checked_socket(steal_pointer(&path), ret_path, error);
        return r < 0 ? r : checked_socket(steal_pointer(&fallback), ret_path, error);
}
