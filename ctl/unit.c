/* See unit.h. Owns nothing. Root asks systemd itself, as a host may have no D-Bus; others ask over D-Bus. */
#include "ctl/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/clock.h"

#define SERVICE "org.freedesktop.systemd1"
#define UNIT "org.freedesktop.systemd1.Unit"
#define SERVICE_PATH "/org/freedesktop/systemd1/unit/bertd_2eservice"
#define NOT_LOADED 5 /* of systemctl: bertd was installed without this unit, as older versions are */
#define ASK_LIMIT_USEC (2 * USEC_PER_SEC)

static bool is_installed(void) {
        static const char *const units[] = { "/etc/systemd/system/bertd.service",
                                             "/usr/local/lib/systemd/system/bertd.service",
                                             "/usr/lib/systemd/system/bertd.service",
                                             "/lib/systemd/system/bertd.service" };

        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (access(units[i], F_OK) == 0)
                        return true;
        return false;
}

static int open_systemd(sd_bus **ret) {
        if (geteuid() != 0)
                return sd_bus_open_system(ret);
        int r = sd_bus_new(ret);
        if (r >= 0)
                r = sd_bus_set_address(*ret, "unix:path=/run/systemd/private");
        return r < 0 ? r : sd_bus_start(*ret);
}

static enum unit_state state_of(const char *name) {
        static const struct {
                const char *name;
                enum unit_state state;
        } states[] = {
                { "active", UNIT_ACTIVE },     { "reloading", UNIT_CHANGING },    { "activating", UNIT_CHANGING },
                { "inactive", UNIT_INACTIVE }, { "deactivating", UNIT_CHANGING }, { "failed", UNIT_FAILED },
        };

        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (strcmp(states[i].name, name) == 0)
                        return states[i].state;
        return UNIT_UNKNOWN;
}

/* Between two starts of a failing service it is inactive, with a start job queued. */
static bool has_job(sd_bus *bus) {
        sd_bus_message *m = NULL;
        uint32_t id = 0;

        int r = sd_bus_get_property(bus, SERVICE, SERVICE_PATH, UNIT, "Job", NULL, &m, "(uo)");
        if (r >= 0)
                (void) sd_bus_message_read(m, "(uo)", &id, NULL);
        (void) sd_bus_message_unref(m);
        return id > 0;
}

enum unit_state unit_service_state(void) {
        sd_bus *bus = NULL;
        cleanup_free char *name = NULL;

        if (sd_booted() <= 0 || !is_installed())
                return UNIT_NONE;
        int r = open_systemd(&bus);
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(bus, ASK_LIMIT_USEC);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, SERVICE, SERVICE_PATH, UNIT, "ActiveState", NULL, &name);
        enum unit_state state = r < 0 ? UNIT_UNKNOWN : state_of(name);
        if (state == UNIT_INACTIVE && has_job(bus))
                state = UNIT_CHANGING;
        (void) sd_bus_close_unref(bus);
        return state;
}

/* Its exit code, which waits for the job's end; or −errno. */
static int run_systemctl(char *const *argv) {
        extern char **environ;
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int status;

        int r = posix_spawn_file_actions_init(&actions);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                return -r;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

int unit_stop_socket(struct error *error) {
        const char *const argv[] = { "systemctl", "--quiet", "stop", "bertd.socket", NULL };

        if (sd_booted() <= 0 || !is_installed())
                return 0;
        int r = run_systemctl((char *const *) argv);
        return r == 0 || r == NOT_LOADED
                       ? 0
                       : error_input(error, BERTCTL_EXIT_FAILED,
                                     "bertd.socket cannot be stopped, and its next client would start bertd again: "
                                     "see `systemctl status bertd.socket`");
}
