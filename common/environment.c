/*
 * See environment.h. Variables are listed one by one, so that a job keeps e.g. its LISTEN_ADDR; only variables that MPI
 * launchers set for a rank have no fixed list and are matched by prefix (PMIX_MCA_ is a user's setting). Of Slurm's,
 * those of the task are dropped, not those of the allocation.
 */
#include "common/environment.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "bertd/progress.h"
#include "common/cleanup.h"

static const char *const bertds[] = { BERTD_ENV_JOB_ID, BERTD_ENV_ATTEMPT,  BERTD_ENV_RUN_DIR, BERTD_ENV_RESUME,
                                      BERTD_ENV_NONCE,  BERTD_ENV_REPEATED, BERTD_ENV_STACKS };
/* sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5); terminal size. */
static const char *const managers[] = {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDNAMES",
        "JOURNAL_STREAM",
        "INVOCATION_ID",
        "MAINPID",
        "MANAGERPID",
        "SYSTEMD_EXEC_PID",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "COLUMNS",
        "LINES",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "FLUX_JOB_SIZE",
        "FLUX_TASK_RANK",
        "ALPS_APP_PE",
        "PALS_RANKID",
        "PMI_RANK",
        "PMI_SIZE",
        "PMI_FD",
        "PMI_PORT",
        "MPI_LOCALNRANKS",
        "MPI_LOCALRANKID",
        "TORCHELASTIC_ERROR_FILE",
};
static const char *const prefixes[] = { "PMIX_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "JSM_NAMESPACE_" };

static bool is_one_of(const char *assignment, const char *const *names, size_t n) {
        size_t length = strcspn(assignment, "=");

        for (size_t i = 0; i < n; i++)
                if (strlen(names[i]) == length && strncmp(assignment, names[i], length) == 0)
                        return true;
        return false;
}

enum variable_owner variable_owner(const char *assignment) {
        if (is_one_of(assignment, bertds, ELEMENTSOF(bertds)))
                return VARIABLE_BERTD;
        if (is_one_of(assignment, managers, ELEMENTSOF(managers)))
                return VARIABLE_MANAGER;
        if (strncmp(assignment, "PMIX_MCA_", strlen("PMIX_MCA_")) == 0)
                return VARIABLE_JOB;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++)
                if (strncmp(assignment, prefixes[i], strlen(prefixes[i])) == 0)
                        return VARIABLE_MANAGER;
        return VARIABLE_JOB;
}
