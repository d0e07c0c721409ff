/* See doctor.h. The host's part: systemd and its sessions, cgroups, limits, memory, the clock, Open MPI. Nothing is
 * changed. */
#include <fcntl.h>
#include <linux/magic.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/parse.h"
#include "ctl/doctor.h"
#include "ctl/format.h"

#define BUS_TIMEOUT_USEC (2 * USEC_PER_SEC)
#define OLDEST_SYSTEMD 247

static const char *user_name(void) {
        static char name[64];
        const struct passwd *pw = getpwuid(geteuid());

        (void) snprintf(name, sizeof(name), "%.63s", pw ? pw->pw_name : "USER");
        return name;
}

/* ---- systemd and logind ---- */

static void check_systemd(struct doctor *doctor, sd_bus *bus) {
        cleanup_free char *version = NULL;
        int number = 0;

        if (sd_booted() <= 0) {
                doctor_say(doctor, DOCTOR_OK, "systemd", NULL,
                           "not running on this host: bertd starts jobs itself, and your init must start bertd");
                return;
        }
        if (!bus || sd_bus_get_property_string(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                               "org.freedesktop.systemd1.Manager", "Version", NULL, &version) < 0) {
                doctor_say(doctor, DOCTOR_WARN, "systemd", "systemctl status dbus",
                           "it does not answer on the system bus: jobs cannot run as separate units");
                return;
        }
        (void) sscanf(version, "%d", &number);
        doctor_say(doctor, number >= OLDEST_SYSTEMD ? DOCTOR_OK : DOCTOR_WARN, "systemd", NULL, "version %s%s", version,
                   number >= OLDEST_SYSTEMD ? "" : ": older than any version tested");
}

static bool lingers(void) {
        cleanup_free char *path = format_string("/var/lib/systemd/linger/%s", user_name());
        return path && access(path, F_OK) == 0;
}

/* Of a user's own bertd: what ends the place it lives in ends its jobs. */
static void check_own_daemon(struct doctor *doctor, bool kills) {
        cleanup_free char *session = NULL, *unit = NULL, *cure = NULL;
        pid_t pid = (pid_t) doctor->daemon.pid;
        bool in_session = sd_pid_get_session(pid, &session) >= 0;
        bool in_manager = !in_session && sd_pid_get_user_unit(pid, &unit) >= 0;

        cure = format_string("loginctl enable-linger %s && systemd-run --user bertd; or as root, for all users: "
                             "systemctl enable --now bertd",
                             user_name());
        if (in_session && kills && geteuid() != 0)
                doctor_say(doctor, DOCTOR_FAIL, "logout", cure,
                           "KillUserProcesses=yes: your bertd and its jobs end with session %s", session);
        else if (in_manager && !lingers())
                doctor_say(doctor, DOCTOR_FAIL, "logout", cure,
                           "your bertd runs in your user manager, which ends when you log out: lingering is off");
        else
                doctor_say(doctor, DOCTOR_OK, "logout", NULL, "your bertd (pid %d) survives a logout: %s", (int) pid,
                           in_manager   ? "lingering is on"
                           : in_session ? "KillUserProcesses=no"
                                        : "it is not part of a session");
}

static void check_logout(struct doctor *doctor, sd_bus *bus) {
        int kills = 0;

        if (!bus ||
            sd_bus_get_property_trivial(bus, "org.freedesktop.login1", "/org/freedesktop/login1",
                                        "org.freedesktop.login1.Manager", "KillUserProcesses", NULL, 'b', &kills) < 0) {
                doctor_say(doctor, DOCTOR_OK, "logout", NULL, "no logind on this host: a logout does not end bertd");
                return;
        }
        if (doctor->system)
                doctor_say(doctor, DOCTOR_OK, "logout", NULL,
                           "KillUserProcesses=%s, linger %s: neither affects jobs of the system daemon",
                           kills ? "yes" : "no", lingers() ? "on" : "off");
        else if (doctor->client)
                check_own_daemon(doctor, kills);
        else
                doctor_say(doctor, kills ? DOCTOR_WARN : DOCTOR_OK, "logout", NULL, "KillUserProcesses=%s, linger %s%s",
                           kills ? "yes" : "no", lingers() ? "on" : "off",
                           kills ? ": processes end with the session that started them" : "");
}

static void check_boot(struct doctor *doctor) {
        if (sd_booted() <= 0 || !doctor->client)
                return;
        if (!doctor->system)
                doctor_say(doctor, lingers() ? DOCTOR_OK : DOCTOR_WARN, "reboot",
                           lingers() ? NULL : "systemctl enable --now bertd (as root)",
                           lingers() ? "lingering is on: a user unit of bertd is started again"
                                     : "after a reboot, jobs of your bertd wait until you start it again");
        else if (access("/etc/systemd/system/multi-user.target.wants/bertd.service", F_OK) == 0)
                doctor_say(doctor, DOCTOR_OK, "reboot", NULL, "bertd.service is enabled");
        else
                doctor_say(doctor, DOCTOR_WARN, "reboot", "systemctl enable bertd",
                           "bertd.service is not enabled: after a reboot, jobs wait until it is started");
}

/* ---- cgroups ---- */

static bool has_memory_controller(void) {
        cleanup_free char *text = NULL;
        size_t size;

        return file_read("/sys/fs/cgroup/cgroup.controllers", 4096, &text, &size, NULL) == 0 && strstr(text, "memory");
}

static void check_cgroups(struct doctor *doctor) {
        static const char cure[] = "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory";
        struct statfs fs;

        if (statfs("/sys/fs/cgroup", &fs) < 0)
                doctor_say(doctor, DOCTOR_WARN, "cgroups", NULL, "/sys/fs/cgroup is not mounted: no limits for jobs");
        else if (fs.f_type == CGROUP2_SUPER_MAGIC && has_memory_controller())
                doctor_say(doctor, DOCTOR_OK, "cgroups", NULL, "version 2, with the memory controller");
        else if (fs.f_type == CGROUP2_SUPER_MAGIC)
                doctor_say(doctor, DOCTOR_WARN, "cgroups", cure,
                           "version 2 without the memory controller: memory limits of jobs are not enforced");
        else
                doctor_say(doctor, DOCTOR_WARN, "cgroups", cure,
                           "%s: memory limits and OOM kills are only detected if systemd has the memory controller",
                           access("/sys/fs/cgroup/unified", F_OK) == 0 ? "hybrid" : "version 1");
}

/* ---- limits ---- */

static const struct limit {
        int resource;
        const char *what, *cure;
        rlim_t least; /* soft limit below which a job is in danger */
        enum doctor_level level;
} limits[] = {
        { RLIMIT_CPU, "seconds of CPU time (-t): jobs are killed after that", "ulimit -t unlimited", RLIM_INFINITY,
          DOCTOR_FAIL },
        { RLIMIT_FSIZE, "blocks per file (-f): a checkpoint may not fit", "ulimit -f unlimited", RLIM_INFINITY,
          DOCTOR_WARN },
        { RLIMIT_AS, "bytes of addresses (-v)", "ulimit -v unlimited", RLIM_INFINITY, DOCTOR_WARN },
        { RLIMIT_DATA, "bytes of data (-d)", "ulimit -d unlimited", RLIM_INFINITY, DOCTOR_WARN },
        { RLIMIT_NOFILE, "open files (-n)", "ulimit -n 4096", 1024, DOCTOR_WARN },
        { RLIMIT_NPROC, "processes (-u)", "ulimit -u 8192", 1024, DOCTOR_WARN },
        { RLIMIT_STACK, "bytes of stack (-s)", "ulimit -s 8192", 1 << 20, DOCTOR_WARN },
};

static void check_limits(struct doctor *doctor) {
        struct rlimit limit;
        bool found = false;

        for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
                if (getrlimit((__rlimit_resource_t) limits[i].resource, &limit) < 0 ||
                    limit.rlim_cur >= limits[i].least)
                        continue;
                found = true;
                doctor_say(doctor, limits[i].level, "ulimits", limits[i].cure,
                           "%llu %s; a job gets the limits of the shell that submits it",
                           (unsigned long long) limit.rlim_cur, limits[i].what);
        }
        if (found)
                return;
        struct rlimit files = {}, memlock = {};
        char locked[FORMAT_MAX] = "unlimited";
        (void) getrlimit(RLIMIT_NOFILE, &files);
        if (getrlimit(RLIMIT_MEMLOCK, &memlock) == 0 && memlock.rlim_cur != RLIM_INFINITY)
                (void) format_bytes(memlock.rlim_cur, locked);
        doctor_say(doctor, DOCTOR_OK, "ulimits", NULL,
                   "no limit on CPU time, file size or memory; %llu open files; %s of locked memory",
                   (unsigned long long) files.rlim_cur, locked);
}

/* ---- memory ---- */

static uint64_t meminfo(const char *key) {
        cleanup_fclose FILE *file = fopen("/proc/meminfo", "re");
        char line[256], name[64];
        unsigned long long kib;

        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "%63[^:]: %llu", name, &kib) == 2 && strcmp(name, key) == 0)
                        return (uint64_t) kib * 1024;
        return 0;
}

static void check_memory(struct doctor *doctor) {
        char available[FORMAT_MAX], swap[FORMAT_MAX];
        cleanup_free char *overcommit = NULL;
        size_t size;

        (void) format_bytes(meminfo("MemAvailable"), available);
        (void) format_bytes(meminfo("SwapTotal"), swap);
        if (file_read("/proc/sys/vm/overcommit_memory", 64, &overcommit, &size, NULL) == 0 && overcommit[0] == '2')
                doctor_say(doctor, DOCTOR_WARN, "memory", "sysctl vm.overcommit_memory=0",
                           "vm.overcommit_memory=2: large reservations (CUDA, checkpoints) are refused");
        else
                doctor_say(doctor, DOCTOR_OK, "memory", NULL, "%s available, %s of swap", available, swap);
}

static void check_shm(struct doctor *doctor) {
        struct statvfs fs;
        char free_text[FORMAT_MAX], total[FORMAT_MAX];

        if (statvfs("/dev/shm", &fs) < 0) {
                doctor_say(doctor, DOCTOR_FAIL, "/dev/shm", "mount -t tmpfs tmpfs /dev/shm",
                           "missing: jobs with several ranks cannot run");
                return;
        }
        uint64_t size = (uint64_t) fs.f_blocks * fs.f_frsize, left = (uint64_t) fs.f_bavail * fs.f_frsize;
        bool narrow = size <= UINT64_C(64) << 20 || left < UINT64_C(32) << 20;
        doctor_say(doctor, narrow ? DOCTOR_WARN : DOCTOR_OK, "/dev/shm",
                   narrow ? "mount -o remount,size=1G /dev/shm (in a container: --shm-size 1g)" : NULL, "%s, %s free%s",
                   format_bytes(size, total), format_bytes(left, free_text), narrow ? ": many ranks may not fit" : "");
}

/* ---- the rest ---- */

static void check_clock(struct doctor *doctor) {
        struct timex timex = {};
        int state = adjtimex(&timex);

        if (state < 0)
                doctor_say(doctor, DOCTOR_OK, "clock", NULL, "unknown whether it is synchronised");
        else if (state == TIME_ERROR || (timex.status & STA_UNSYNC))
                doctor_say(doctor, DOCTOR_WARN, "clock", "timedatectl set-ntp true",
                           "not synchronised: times in logs and events may be wrong; jobs are not affected");
        else
                doctor_say(doctor, DOCTOR_OK, "clock", NULL, "synchronised");
}

/* `mpirun --version` with its output at `to`, ended after 5 s; its pid, or −1. */
static pid_t start_mpirun(int to) {
        char *const argv[] = { (char[]) { "timeout" },
                               (char[]) { "-k" },
                               (char[]) { "1" },
                               (char[]) { "5" },
                               (char[]) { "mpirun" },
                               (char[]) { "--version" },
                               NULL };
        posix_spawn_file_actions_t actions;
        pid_t pid = -1;

        if (posix_spawn_file_actions_init(&actions) != 0)
                return -1;
        bool ok = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
                  posix_spawn_file_actions_adddup2(&actions, to, STDOUT_FILENO) == 0 &&
                  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                  posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0;
        (void) posix_spawn_file_actions_destroy(&actions);
        return ok ? pid : -1;
}

/* The first line of mpirun --version. */
static bool mpi_version(char *ret_line, size_t size) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return false;
        cleanup_fclose FILE *from = fdopen(ends[0], "r");
        pid_t pid = start_mpirun(ends[1]);
        (void) close(ends[1]);
        bool got = pid > 0 && from && fgets(ret_line, (int) size, from);
        if (pid > 0)
                (void) waitpid(pid, NULL, 0);
        ret_line[got ? strcspn(ret_line, "\n") : 0] = '\0';
        return got && ret_line[0];
}

static void check_mpi(struct doctor *doctor) {
        char line[128];

        if (!mpi_version(line, sizeof(line)))
                doctor_say(doctor, doctor->spec && doctor->spec->resources.ranks > 1 ? DOCTOR_FAIL : DOCTOR_WARN, "MPI",
                           "apt install openmpi-bin", "no mpirun: training jobs with several ranks cannot run");
        else
                doctor_say(doctor, strstr(line, "Open MPI") ? DOCTOR_OK : DOCTOR_WARN, "MPI",
                           strstr(line, "Open MPI") ? NULL : "apt install openmpi-bin", "%s", line);
}

void doctor_check_host(struct doctor *doctor) {
        sd_bus *bus = NULL;

        if (sd_booted() > 0 && sd_bus_open_system(&bus) >= 0)
                (void) sd_bus_set_method_call_timeout(bus, BUS_TIMEOUT_USEC);
        check_systemd(doctor, bus);
        check_logout(doctor, bus);
        check_boot(doctor);
        (void) sd_bus_flush_close_unref(bus);
        check_cgroups(doctor);
        check_limits(doctor);
        check_memory(doctor);
        check_shm(doctor);
        check_clock(doctor);
        check_mpi(doctor);
}
