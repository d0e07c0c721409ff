/* See doctor.h. The part of bertd: which one answers, who may use it, where it keeps its jobs, the GPUs, space for
 * checkpoints. */
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/file.h"
#include "common/paths.h"
#include "ctl/doctor.h"
#include "ctl/format.h"

#define GROUPS_MAX 1024
#define JOBS_LOOKED_AT 50 /* of the user's newest, for the size of a checkpoint */
#define KEEP_DEFAULT 3
#define CONFIG_MAX (1 << 20)
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42
#endif
#define LUSTRE_MAGIC 0x0bd00bd0

/* ---- the daemon and its socket ---- */

static bool in_list(gid_t gid, const gid_t *list, int n) {
        for (int i = 0; i < n; i++)
                if (list[i] == gid)
                        return true;
        return false;
}

/* Of the system's socket: this process's groups, and the user database's, which count from the next login on. */
static void check_group(struct doctor *doctor) {
        gid_t now[GROUPS_MAX], next[GROUPS_MAX];
        int n_next = GROUPS_MAX, n_now = getgroups(GROUPS_MAX, now);
        const struct passwd *pw = getpwuid(geteuid());
        struct stat st;
        cleanup_free char *cure = NULL;

        if (geteuid() == 0 || !pw || stat(BERTD_SYSTEM_SOCKET, &st) < 0)
                return;
        const struct group *group = getgrgid(st.st_gid);
        const char *name = group ? group->gr_name : "bertd";
        if (!(st.st_mode & (S_IWGRP | S_IWOTH))) {
                cure = format_string(
                        "groupadd --system bertd; usermod -aG bertd %s; systemctl restart bertd (as root), "
                        "then log in again",
                        pw->pw_name);
                doctor_say(doctor, doctor->client ? DOCTOR_WARN : DOCTOR_FAIL, "group", cure,
                           "only root may use the system daemon: the group bertd did not exist when it started");
                return;
        }
        if (getgrouplist(pw->pw_name, pw->pw_gid, next, &n_next) < 0)
                n_next = 0;
        if (in_list(st.st_gid, now, n_now) || getegid() == st.st_gid) {
                doctor_say(doctor, DOCTOR_OK, "group", NULL, "you are in group %s", name);
        } else if (in_list(st.st_gid, next, n_next)) {
                cure = format_string("log out and in again (or: newgrp %s)", name);
                doctor_say(doctor, doctor->client ? DOCTOR_WARN : DOCTOR_FAIL, "group", cure,
                           "you were added to group %s, but have not logged in since", name);
        } else if (!(st.st_mode & S_IWOTH)) {
                cure = format_string("adduser %s %s (as root), then log in again", pw->pw_name, name);
                doctor_say(doctor, doctor->client ? DOCTOR_WARN : DOCTOR_FAIL, "group", cure,
                           "you are not in group %s: you cannot use the system daemon", name);
        }
}

static void check_socket(struct doctor *doctor) {
        const char *path = client_socket(doctor->client);
        struct stat st;

        if (stat(path, &st) < 0)
                return;
        const struct group *group = getgrgid(st.st_gid);
        bool open = st.st_mode & S_IWOTH;
        cleanup_free char *cure = open ? format_string("chmod o-w %s", path) : NULL;
        doctor_say(doctor, open ? DOCTOR_WARN : DOCTOR_OK, "socket", cure, "%s, mode %04o, group %s%s", path,
                   (unsigned) st.st_mode & 07777, group ? group->gr_name : "?",
                   open ? ": every user of this host may submit jobs" : "");
}

void doctor_check_daemon(struct doctor *doctor) {
        struct error error = {};

        int r = client_connect(doctor->socket, &doctor->client, &error);
        if (r == 0)
                r = client_get_daemon(doctor->client, &doctor->daemon, &error);
        if (r < 0) {
                bool listens = doctor->client; /* and the error has the cure */
                client_free(doctor->client);
                doctor->client = NULL;
                doctor_say(doctor, DOCTOR_FAIL, "bertd",
                           listens          ? NULL
                           : geteuid() == 0 ? "systemctl enable --now bertd (or: bertd --detach)"
                                            : "bertd --detach",
                           "%s", error.text);
                check_group(doctor);
                return;
        }
        struct stat st;
        cleanup_free char *proc = format_string("/proc/%" PRIu64, doctor->daemon.pid);
        if (stat(client_socket(doctor->client), &st) == 0)
                doctor->daemon_uid = st.st_uid;
        if (proc && stat(proc, &st) == 0)
                doctor->daemon_uid = st.st_uid;
        doctor->system = doctor->daemon_uid == 0 &&
                         (geteuid() != 0 || strcmp(client_socket(doctor->client), BERTD_SYSTEM_SOCKET) == 0);
        bool same = strcmp(text_of(doctor->daemon.version), BERTD_VERSION) == 0;
        doctor_say(doctor, same ? DOCTOR_OK : DOCTOR_WARN, "bertd", same ? NULL : "restart bertd (jobs keep running)",
                   "%s bertd %s answers (pid %" PRIu64 ", %s launcher, %" PRIu64 " slots)%s",
                   doctor->system                    ? "the system's"
                   : doctor->daemon_uid == geteuid() ? "your own"
                                                     : "another user's",
                   text_of(doctor->daemon.version), doctor->daemon.pid, text_of(doctor->daemon.launcher),
                   doctor->daemon.slots, same ? "" : "; bertctl is " BERTD_VERSION);
        if (client_check_protocol(doctor->client, &error) < 0)
                doctor_say(doctor, DOCTOR_FAIL, "protocol", NULL, "%s", error.text);
        check_socket(doctor);
        check_group(doctor);
}

/* ---- GPUs ---- */

static bool read_line(const char *path, char *ret_line, size_t size) {
        cleanup_fclose FILE *file = fopen(path, "re");

        if (!file || !fgets(ret_line, (int) size, file))
                return false;
        ret_line[strcspn(ret_line, "\n")] = '\0';
        return true;
}

static bool has_nvidia_device(void) {
        char vendor[16];
        bool found = false;
        glob_t devices;

        if (glob("/sys/bus/pci/devices/*/vendor", GLOB_NOSORT, NULL, &devices) != 0)
                return false;
        for (size_t i = 0; !found && i < devices.gl_pathc; i++)
                found = read_line(devices.gl_pathv[i], vendor, sizeof(vendor)) && strcmp(vendor, "0x10de") == 0;
        globfree(&devices);
        return found;
}

static void check_drain(struct doctor *doctor) {
        const struct daemon_info *d = &doctor->daemon;
        char when[FORMAT_MAX];

        if (text_of(d->draining)[0])
                doctor_say(doctor, DOCTOR_WARN, "drained", "bertctl undrain (as root)",
                           "since %s: %s; nothing new starts", format_local_time(d->draining_since, when), d->draining);
}

void doctor_check_gpus(struct doctor *doctor) {
        char line[200] = "";
        check_drain(doctor);
        bool loaded = read_line("/proc/driver/nvidia/version", line, sizeof(line));
        const char *driver = line + (strncmp(line, "NVRM version: ", 14) == 0 ? 14 : 0);

        if (!loaded && has_nvidia_device())
                doctor_say(doctor, DOCTOR_WARN, "GPUs", "modprobe nvidia (or install the driver)",
                           "an NVIDIA device was found, but no driver: jobs cannot use it");
        else if (doctor->daemon.gpus == 0)
                doctor_say(doctor, loaded ? DOCTOR_WARN : DOCTOR_OK, "GPUs",
                           loaded ? "restart bertd; it detects GPUs at startup" : NULL, "%s%s",
                           loaded ? "bertd found no GPUs; driver " : "none", loaded ? driver : "");
        else
                doctor_say(doctor, DOCTOR_OK, "GPUs", NULL, "%" PRIu64 ", %" PRIu64 " in use by jobs%s%s",
                           doctor->daemon.gpus, doctor->daemon.gpus_used, loaded ? "; driver " : "",
                           loaded ? driver : "");
        for (char *const *note = doctor->daemon.gpu_notes; note && *note; note++)
                doctor_say(doctor, DOCTOR_WARN, "GPUs", "nvidia-smi (shows what uses it)", "%s", *note);
}

/* ---- folders and space ---- */

static const char *remote_name(const struct statfs *fs) {
        switch ((unsigned long) fs->f_type) {
        case NFS_SUPER_MAGIC:
                return "NFS";
        case SMB_SUPER_MAGIC:
        case SMB2_SUPER_MAGIC:
        case CIFS_SUPER_MAGIC:
                return "SMB";
        case CEPH_SUPER_MAGIC:
                return "Ceph";
        case FUSE_SUPER_MAGIC:
                return "FUSE";
        case LUSTRE_MAGIC:
                return "Lustre";
        default:
                return NULL;
        }
}

/* Only their users can decide when those can go. */
static void check_held(struct doctor *doctor) {
        const struct daemon_info *d = &doctor->daemon;
        bool many = d->keep_ended > 0 && d->held > d->keep_ended;

        if (d->held > 0)
                doctor_say(doctor, many ? DOCTOR_WARN : DOCTOR_OK, "ended jobs", many ? "bertctl rm JOB" : NULL,
                           "%" PRIu64 " hold checkpoints in the state folder; they are kept until `bertctl rm`",
                           d->held);
}

static void check_state_folder(struct doctor *doctor, const char *path) {
        struct statfs fs;

        if (statfs(path, &fs) < 0) {
                doctor_say(doctor, DOCTOR_WARN, "state folder", NULL, "%s: %s", path, strerror(errno));
                return;
        }
        if (remote_name(&fs))
                doctor_say(doctor, DOCTOR_FAIL, "state folder", "bertd --state-dir FOLDER_ON_A_LOCAL_DISK",
                           "%s is on %s: locks and commits are not safe there", path, remote_name(&fs));
        else if ((unsigned long) fs.f_type == TMPFS_MAGIC)
                doctor_say(doctor, DOCTOR_WARN, "state folder", "bertd --state-dir FOLDER_ON_A_LOCAL_DISK",
                           "%s is in memory: a reboot loses all jobs", path);
        else if (strncmp(path, "/tmp/", 5) == 0)
                doctor_say(doctor, DOCTOR_WARN, "state folder", "bertd --state-dir FOLDER_ON_A_LOCAL_DISK",
                           "%s: /tmp is cleaned periodically", path);
        else
                doctor_say(doctor, DOCTOR_OK, "state folder", NULL, "%s, on a local file system", path);
}

static uint64_t config_number(const json_t *config, const char *key) {
        json_int_t value = json_integer_value(json_object_get(config, key));
        return value > 0 && value < (1 << 24) ? (uint64_t) value : 0;
}

static bool config_says(const json_t *config, const char *key, const char *value) {
        const char *text = json_string_value(json_object_get(config, key));
        return text && strcmp(text, value) == 0;
}

/* Parameters of the encoder's layers: ALBERT has a sublayer once for each group that shares it. */
static uint64_t count_layers(const json_t *config, uint64_t h, uint64_t i) {
        uint64_t layers = config_number(config, "num_hidden_layers"),
                 groups = MAX(config_number(config, "num_hidden_groups"), UINT64_C(1)),
                 inner = MAX(config_number(config, "inner_group_num"), UINT64_C(1));
        uint64_t attention = 4 * (h * h + h) + 2 * h, feed_forward = 2 * h * i + i + h + 2 * h;
        const char *key = "cross_layer_sharing";

        if (!config_says(config, "model_type", "albert"))
                return layers * (attention + feed_forward);
        bool none = config_says(config, key, "none");
        uint64_t n_attention = none || config_says(config, key, "ffn") ? layers : groups;
        uint64_t n_feed_forward = none || config_says(config, key, "attention") ? layers : groups;
        return inner * (n_attention * attention + n_feed_forward * feed_forward);
}

static uint64_t count_parameters(const json_t *config) {
        uint64_t v = config_number(config, "vocab_size"), h = config_number(config, "hidden_size"), e = h,
                 i = config_number(config, "intermediate_size"), mapping = 0;
        uint64_t rows = v + config_number(config, "max_position_embeddings") + config_number(config, "type_vocab_size");

        if (config_says(config, "model_type", "albert")) {
                e = json_object_get(config, "embedding_size") ? config_number(config, "embedding_size") : 128;
                mapping = json_is_false(json_object_get(config, "embedding_mapping")) ? 0 : e * h + h;
        }
        uint64_t pooler = h * h + h, heads = h * e + e + 2 * e + v + 2 * h + 2;
        return rows * e + 2 * e + mapping + count_layers(config, h, i) + pooler + heads;
}

/* Weights and the optimizer's two moments, fp32: a checkpoint's bytes, by the model's config. 0 = it cannot be read. */
static uint64_t bytes_by_config(const char *path) {
        cleanup_free char *text = NULL;
        size_t size;
        json_t *config;

        if (!path || file_read(path, CONFIG_MAX, &text, &size, NULL) < 0 || !(config = json_loadb(text, size, 0, NULL)))
                return 0;
        uint64_t n = count_parameters(config);
        json_decref(config);
        return n * 3 * sizeof(float);
}

static uint64_t largest_checkpoint(struct doctor *doctor, char **ret_path) {
        cleanup_job_list struct job_list jobs = {};
        struct error ignored = {};
        uint64_t largest = 0;

        if (!doctor->client || client_list_jobs(doctor->client, false, JOBS_LOOKED_AT, &jobs, &ignored) < 0)
                return 0;
        for (size_t i = 0; i < jobs.n; i++) {
                const struct job_info *job = &jobs.jobs[i];
                struct stat st;
                if (job->uid != geteuid() || !text_of(job->checkpoint_path)[0] || stat(job->checkpoint_path, &st) < 0 ||
                    (uint64_t) st.st_size <= largest)
                        continue;
                largest = (uint64_t) st.st_size;
                free(*ret_path);
                *ret_path = strdup(job->checkpoint_path);
        }
        return largest;
}

/* The nearest parent folder that exists. */
static int statvfs_above(const char *path, struct statvfs *ret) {
        cleanup_free char *copy = strdup(path);

        while (copy && statvfs(copy, ret) < 0) {
                char *slash = strrchr(copy, '/');
                if (errno != ENOENT || !slash || slash == copy)
                        return -errno;
                *slash = '\0';
        }
        return copy ? 0 : -ENOMEM;
}

static void judge_space(struct doctor *doctor, const char *path, uint64_t checkpoint, uint64_t keep) {
        struct statvfs fs;
        char left[FORMAT_MAX], need[FORMAT_MAX], one[FORMAT_MAX];

        int r = statvfs_above(path, &fs);
        if (r < 0) {
                doctor_say(doctor, DOCTOR_WARN, "space", NULL, "%s: %s", path, strerror(-r));
                return;
        }
        uint64_t bytes = (uint64_t) fs.f_bavail * fs.f_frsize;
        uint64_t needed = checkpoint > 0 ? checkpoint * (keep + 1) : UINT64_C(1) << 30;
        (void) format_bytes(bytes, left);
        (void) format_bytes(needed, need);
        (void) format_bytes(checkpoint, one);
        if (fs.f_files > 0 && fs.f_favail < 1000)
                doctor_say(doctor, DOCTOR_FAIL, "space", "df -i (shows what is full)", "%s: %llu inodes free", path,
                           (unsigned long long) fs.f_favail);
        else if (checkpoint == 0)
                doctor_say(doctor, bytes < needed ? DOCTOR_WARN : DOCTOR_OK, "space",
                           bytes < needed ? "bertctl doctor SPEC.yaml (shows what a job needs)" : NULL, "%s: %s free",
                           path, left);
        else
                doctor_say(doctor, bytes < needed ? DOCTOR_FAIL : DOCTOR_OK, "space",
                           bytes < needed ? "set run_dir to a larger disk, or checkpoint.keep to fewer" : NULL,
                           "%s: %s free; a checkpoint is %s, and %" PRIu64 " kept plus one being written need %s", path,
                           left, one, keep, need);
}

void doctor_check_folders(struct doctor *doctor) {
        cleanup_free char *path = NULL, *state = NULL;
        uint64_t checkpoint = 0, keep = KEEP_DEFAULT;

        if (doctor->client)
                state = strdup(text_of(doctor->daemon.state_dir));
        else if (paths_state_dir(NULL, &state, NULL) < 0)
                return;
        if (!state)
                return;
        if (doctor->client || access(state, F_OK) == 0)
                check_state_folder(doctor, state);
        check_held(doctor);
        if (doctor->spec && doctor->spec->kind != JOB_COMMAND) {
                checkpoint = bytes_by_config(doctor->spec->model.config);
                keep = doctor->spec->checkpoint.keep;
        }
        if (doctor->spec && doctor->spec->run_dir)
                path = strdup(doctor->spec->run_dir);
        if (!doctor->spec)
                checkpoint = largest_checkpoint(doctor, &path);
        judge_space(doctor, path ? path : state, checkpoint, keep);
}
