/*
 * See start.h. Owns nothing. Invariant: nothing is launched before its intent row is durable.
 */
#include "daemon/attempt/start.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "common/hex.h"
#include "daemon/attempt/command.h"
#include "daemon/attempt/end.h"
#include "daemon/attempt/environment.h"
#include "daemon/attempt/folder.h"
#include "daemon/attempt/hosts.h"
#include "daemon/base/log.h"
#include "daemon/base/loop.h"
#include "daemon/base/process.h"
#include "daemon/launch/launcher.h"
#include "daemon/node/transition.h"
#include "daemon/rules/goodput.h"
#include "daemon/rules/ledger.h"

#define HELLO_TIMEOUT_USEC (60 * USEC_PER_SEC)

static void on_hello_timeout(void *userdata) {
        attempt_over(userdata, EXIT_CLASS_LAUNCH, "bertd-shim did not connect within 60 s");
}

static void on_unheard_shim_gone(void *userdata, int fd, uint32_t events) {
        attempt_over(userdata, EXIT_CLASS_LAUNCH, "bertd-shim exited before connecting; see shim.log beside its log");
}

static int make_nonce(char nonce[NONCE_SIZE]) {
        uint64_t random[2];

        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -errno;
        hex_128(random[0], random[1], nonce);
        return 0;
}

void attempt_start(struct node *node, struct job *job, uint64_t gpu_mask) {
        char nonce[NONCE_SIZE];
        struct error error = {};

        if (store_load_ledger(node->store, job, &error) < 0) {
                log_error("job %" PRIu64 " cannot be started now: %s", job->id, error.text);
                return;
        }
        char *gpus = gpus_visible(&node->options.gpus, gpu_mask);
        bool ready = gpus && make_nonce(nonce) >= 0 && attempt_choose_hosts(job, loop_realtime()) >= 0;
        struct attempt_run *run = ready ? attempt_run_new(node, job, PHASE_COMMITTING) : NULL;
        if (!run) {
                free(gpus);
                log_error("job %" PRIu64 " cannot be started now: out of memory", job->id);
                return;
        }
        struct checkpoint *from = ledger_choose(job);
        const struct checkpoint *newest = job_newest_good(job);
        uint32_t number = job->attempt.number + 1;
        job_push_attempt(job);
        job->attempt = (struct attempt) {
                .number = number,
                .open = true,
                .gpus = gpus,
                .started = loop_realtime(),
                .resumed = from != NULL,
                .first_step = from ? from->step : 0,
                .step = from ? from->step : 0,
                .checkpoint_step = newest ? newest->step : 0,
                .exit_code = -1,
                .exit_class = -1,
                .rank = -1,
        };
        memcpy(job->attempt.nonce, nonce, sizeof(nonce));
        memcpy(job->attempt.boot_id, node->boot_id, sizeof(job->attempt.boot_id));
        if (from) {
                from->restored++;
                from->dirty = true;
        }
        job->step = job->attempt.step;
        goodput_start_attempt(job);
        job->stop_reason = STOP_NONE;
        job_set_text(&job->status, NULL);
        job->not_before = 0;
        (void) node_move(node, job, EVENT_START, NULL);
        node_account(node);
}

void attempt_await_hello(struct attempt_run *run) { attempt_run_deadline(run, HELLO_TIMEOUT_USEC, on_hello_timeout); }

struct launch_parts {
        char *spec_path, *spec, *run_dir, *log, *scratch, *gpus, *command, *gang;
        size_t command_size;
        struct job_inputs inputs;
        struct strv argv, program, environment, shim_argv; /* `program`: what bertd-gang starts */
};

static void launch_parts_free(struct launch_parts *p) {
        free(p->spec_path);
        free(p->spec);
        free(p->run_dir);
        free(p->log);
        free(p->scratch);
        free(p->gpus);
        free(p->command);
        free(p->gang);
        free(p->inputs.environment);
        strv_free(&p->argv);
        strv_free(&p->program);
        strv_free(&p->environment);
        strv_free(&p->shim_argv);
}

static int gather_paths(struct node *node, struct job *job, struct launch_parts *p, struct error *error) {
        const char *state = node->options.state_dir;
        cleanup_free char *job_dir = files_job_dir(state, job->id);

        p->spec_path = job_dir ? format_string("%s/spec.yaml", job_dir) : NULL;
        p->run_dir = files_run_dir(state, job);
        p->log = files_attempt_path(state, job, "log");
        if (job_uses_mpirun(job))
                p->scratch = files_scratch(job, node->launchers[job->launcher]->private_shm);
        if (node->options.gpus.n > 0)
                p->gpus = strdup(job->attempt.gpus ? job->attempt.gpus : "");
        if (!p->spec_path || !p->run_dir || !p->log)
                return error_errno(error, ENOMEM, "paths");
        int r = store_load_ledger(node->store, job, error);
        if (r >= 0)
                r = store_load_spec(node->store, job->id, &p->spec, error);
        if (r >= 0)
                r = store_load_command(node->store, job->id, &p->command, &p->command_size, error);
        return r < 0 ? r : store_load_inputs(node->store, job->id, &p->inputs, error);
}

/* By bertd-gang: with leases of the other hosts. */
static bool has_gang(const struct node *node, const struct job *job) {
        return job_n_hosts(job) > 1 && !node->options.allocation;
}

static uint32_t n_allocated(const struct node *node, const struct job *job) {
        return node->options.allocation ? job_n_hosts(job) : 1;
}

static int gather_command(struct node *node, struct job *job, struct launch_parts *p, struct error *error) {
        const struct checkpoint *from = job->attempt.resumed ? job_checkpoint(job, job->attempt.first_step) : NULL;
        const char *resume = from ? from->path : "";
        struct command_input command = {
                .job = job,
                .trainer = node->trainer,
                .spec = p->spec_path,
                .run_dir = p->run_dir,
                .resume = resume,
                .scratch = p->scratch,
                .private_shm = node->launchers[job->launcher]->private_shm,
                .gang = has_gang(node, job),
                .hosts = n_allocated(node, job),
                .rank = node->gang,
                .command = p->command,
                .command_size = p->command_size,
        };
        struct environment_input environment = {
                .job = job,
                .run_dir = p->run_dir,
                .resume = resume,
                .visible_gpus = p->gpus,
                .hosts = n_allocated(node, job) > 1 ? job->hosts_in_use : NULL,
                .submitted = p->inputs.environment,
                .submitted_size = p->inputs.environment_size,
        };

        int r = command_argv(&command, command.gang ? &p->program : &p->argv, error);
        return r < 0 ? r : attempt_environment(&environment, &p->environment, error);
}

/* Its main child is bertd-gang, which starts the program on all hosts. */
static int gather_gang(struct node *node, const struct job *job, bool ran, struct launch_parts *p,
                       struct error *error) {
        /* Attempts that only waited may have pushed the one that ran out of the rows. */
        const struct gang_input input = { .job = job,
                                          .argv = &p->program,
                                          .spec = p->spec_path,
                                          .scratch = p->scratch,
                                          .private_shm = node->launchers[job->launcher]->private_shm,
                                          .ran = ran || job_has_stepped(job),
                                          .now_usec = loop_realtime() };
        cleanup_free char *dir = files_attempt_path(node->options.state_dir, job, "");

        p->gang = attempt_gang_document(&input);
        strv_add(&p->argv, node->gang);
        strv_add(&p->argv, "--dir");
        strv_take(&p->argv, steal_pointer(&dir));
        return p->gang && !p->argv.failed ? 0 : error_errno(error, ENOMEM, "gang");
}

static int gather_shim(struct node *node, const struct job *job, struct launch_parts *p, struct error *error) {
        cleanup_free char *dir = files_attempt_path(node->options.state_dir, job, "");

        strv_add(&p->shim_argv, "bertd-shim");
        strv_add(&p->shim_argv, "--job");
        strv_format(&p->shim_argv, "%" PRIu64, job->id);
        strv_add(&p->shim_argv, "--attempt");
        strv_format(&p->shim_argv, "%u", job->attempt.number);
        strv_add(&p->shim_argv, "--socket");
        strv_add(&p->shim_argv, node->options.socket);
        strv_add(&p->shim_argv, "--dir");
        strv_take(&p->shim_argv, steal_pointer(&dir));
        return p->shim_argv.failed ? error_errno(error, ENOMEM, "command") : 0;
}

/* ---- callbacks from the launcher ---- */

/* Without a watch the time limit of the hello ends a shim that never connects. */
static void on_launched(void *userdata, pid_t shim) {
        struct attempt_run *run = userdata;
        int fd = shim > 0 ? process_pidfd(shim) : -1;

        if (fd < 0)
                return;
        if (attempt_run_watch(run, fd, on_unheard_shim_gone) < 0)
                log_error("job %" PRIu64 ": cannot watch the launch of bertd-shim", run->job->id);
        else /* the launcher's report of a failed exec takes precedence */
                source_set_order(run->pidfd, LOOP_LAST);
}

static void on_launch_failed(void *userdata, const char *text) {
        struct attempt_run *run = userdata;

        if (run->phase == PHASE_LAUNCHING)
                attempt_not_started(run, text);
}

static void on_launch_refused(void *userdata, const char *text) { attempt_over(userdata, EXIT_CLASS_STOPPED, text); }

static const struct launch_events launch_events = { .launched = on_launched,
                                                    .failed = on_launch_failed,
                                                    .refused = on_launch_refused };

static int launch(struct attempt_run *run, struct error *error) {
        struct node *node = run->node;
        struct job *job = run->job;
        const struct launcher *launcher = attempt_run_launcher(run);
        cleanup(launch_parts_free) struct launch_parts p = {};

        if (!launcher)
                return error_set(error, ENOTSUP, "the job's launcher is not available in this daemon");
        int r = gather_paths(node, job, &p, error);
        if (r >= 0)
                r = gather_command(node, job, &p, error);
        if (r >= 0)
                r = gather_shim(node, job, &p, error);
        if (r < 0)
                return r;
        struct files_attempt files = { .argv = &p.argv,
                                       .environment = &p.environment,
                                       .inputs = &p.inputs,
                                       .spec = p.spec,
                                       .socket = node->options.socket,
                                       .run_dir = p.run_dir,
                                       .log = p.log,
                                       .hosts = n_allocated(node, job) > 1 ? job->hosts_in_use : NULL,
                                       .scratch = p.scratch };
        r = store_has_run(node->store, job, &files.ran, error);
        if (r >= 0 && has_gang(node, job))
                r = gather_gang(node, job, files.ran, &p, error);
        files.gang = p.gang;
        if (r >= 0)
                r = files_find_jobs(node, error);
        if (r >= 0)
                r = files_prepare(node->jobs_fd, job, &files, error);
        job_ledger_trim(job);
        if (r < 0)
                return r;
        cleanup_close int log = launcher->needs_log ? files_open_shim_log(node->jobs_fd, job) : -1;
        const struct launch_request request = { .node = node,
                                                .job = job,
                                                .shim = node->shim,
                                                .argv = &p.shim_argv,
                                                .environment = &p.environment,
                                                .inputs = &p.inputs,
                                                .log = log,
                                                .events = &launch_events,
                                                .userdata = run };
        return launcher->start(&request, &run->launch, error);
}

void attempt_launch(struct attempt_run *run) {
        struct error error = {};

        run->phase = PHASE_LAUNCHING;
        attempt_await_hello(run);
        int r = launch(run, &error);
        if (r < 0)
                run->phase = PHASE_COMMITTING; /* no process was started */
        if (r == -ENOSPC || r == -EDQUOT)
                attempt_over(run, EXIT_CLASS_DISK_FULL, error.text);
        else if (r < 0)
                attempt_not_started(run, error.text);
}
