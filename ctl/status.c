/*
 * bertctl status: one job or the overview, once, as JSON, or refreshed in place. Invariant of the refresh: a frame
 * never has more rows than the window, so that going up by the frame's rows reaches its first line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/command.h"
#include "ctl/elsewhere.h"
#include "ctl/json.h"
#include "ctl/status_view.h"

#define REFRESH_USEC USEC_PER_SEC
#define GPU_USAGE_RECENT_USEC (5 * USEC_PER_SEC)
#define GPU_USAGE_PAUSE_USEC (USEC_PER_SEC / 5)
#define GPU_USAGE_TRIES 5
#define RECENT_JOBS 200 /* among which those that ended last are looked for */

static int by_end(const void *a, const void *b) {
        const struct job_info *x = a, *y = b;
        return x->ended < y->ended ? 1 : x->ended > y->ended ? -1 : x->id < y->id ? 1 : -1;
}

/* As the queue has them: priority, then age. */
static int by_turn(const void *a, const void *b) {
        const struct job_info *x = a, *y = b;
        if (x->priority != y->priority)
                return x->priority < y->priority ? 1 : -1;
        return x->id > y->id ? 1 : x->id < y->id ? -1 : 0;
}

/* Moves the jobs of `recent` that ended last into `ended`. */
static int pick_ended(struct job_list *recent, struct job_list *ended, struct error *error) {
        qsort(recent->jobs, recent->n, sizeof(*recent->jobs), by_end);
        for (size_t i = 0; i < recent->n && ended->n < OVERVIEW_ENDED_MAX; i++)
                if (job_has_ended(&recent->jobs[i]) && job_list_add(ended, &recent->jobs[i]) < 0)
                        return error_input(error, BERTCTL_EXIT_FAILED, "out of memory");
        return 0;
}

static int read_overview(struct client *client, struct overview *ret, struct error *error) {
        cleanup_job_list struct job_list recent = {};

        *ret = (struct overview) { .socket = client_socket(client), .uid = getuid() };
        int r = client_get_daemon(client, &ret->daemon, error);
        if (r == 0)
                r = client_list_jobs(client, true, 0, &ret->active, error);
        if (r == 0)
                r = client_list_jobs(client, false, RECENT_JOBS, &recent, error);
        if (r == 0 && ret->active.n > 0)
                qsort(ret->active.jobs, ret->active.n, sizeof(*ret->active.jobs), by_turn);
        if (r == 0 && recent.n > 0)
                r = pick_ended(&recent, &ret->ended, error);
        return r;
}

static json_t *json_section(const struct overview *overview, enum overview_section section) {
        json_t *array = json_array();

        for (size_t i = 0; i < overview->active.n; i++)
                if (overview_section_of(&overview->active.jobs[i]) == section)
                        (void) json_array_append_new(array, json_job(&overview->active.jobs[i]));
        return array;
}

static json_t *json_overview(const struct overview *overview) {
        json_t *object = json_object();

        (void) json_object_set_new(object, "daemon", json_daemon(&overview->daemon, overview->socket));
        (void) json_object_set_new(object, "running", json_section(overview, SECTION_RUNNING));
        (void) json_object_set_new(object, "waiting", json_section(overview, SECTION_WAITING));
        (void) json_object_set_new(object, "paused", json_section(overview, SECTION_PAUSED));
        (void) json_object_set_new(object, "ended", json_jobs(&overview->ended));
        return object;
}

/* When the job's newest checkpoint was written; 0 if unknown. Best effort: the job is shown without it, too. */
static uint64_t checkpoint_time(struct client *client, const struct job_info *job) {
        cleanup_message sd_bus_message *reply = NULL;
        struct error ignored = {};
        uint64_t created = 0;

        if (!job->checkpoint_path || !job->checkpoint_path[0] ||
            client_call(client, "GetCheckpoints", &reply, &ignored, "t", job->id) < 0)
                return 0;
        int r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        while (r > 0 && created == 0) {
                struct checkpoint_info checkpoint;
                r = checkpoint_info_read(reply, &checkpoint);
                if (r > 0 && checkpoint.step == job->checkpoint_step)
                        created = checkpoint.created;
                checkpoint_info_clear(&checkpoint);
        }
        return created;
}

/* Reading a job makes bertd query the GPU driver, without waiting for it: what it knew may be half a minute old. */
static bool lacks_gpu_usage(const struct job_info *job) {
        return job->gpu_usage_read > 0 && job->gpu_usage_read + GPU_USAGE_RECENT_USEC < clock_realtime_usec();
}

/* With figures of its GPUs that are not old, unless the driver takes its time. */
static int read_job(struct client *client, uint64_t id, struct job_info *ret, struct error *error) {
        int r = client_get_job(client, id, ret, error);

        for (int i = 0; r >= 0 && i < GPU_USAGE_TRIES && lacks_gpu_usage(ret); i++) {
                (void) usleep(GPU_USAGE_PAUSE_USEC);
                job_info_clear(ret);
                *ret = (struct job_info) {};
                r = client_get_job(client, id, ret, error);
        }
        return r;
}

/* What a frame is drawn from: the job (id > 0) or the overview. Ages in it are the drawing's. */
struct shown {
        uint64_t id, checkpoint_created;
        struct job_info job;
        struct overview overview;
};

static void shown_clear(struct shown *shown) {
        job_info_clear(&shown->job);
        overview_clear(&shown->overview);
}
#define cleanup_shown cleanup(shown_clear)

static int read_shown(struct client *client, struct shown *shown, struct error *error) {
        int r;

        shown_clear(shown);
        shown->job = (struct job_info) {};
        shown->overview = (struct overview) {};
        if (shown->id == 0)
                return read_overview(client, &shown->overview, error);
        r = read_job(client, shown->id, &shown->job, error);
        if (r >= 0)
                shown->checkpoint_created = checkpoint_time(client, &shown->job);
        return r;
}

static int draw(const struct shown *shown, FILE *out, const struct term *term, struct error *error) {
        return shown->id == 0 ? status_draw_overview(out, term, &shown->overview, error)
                              : status_draw_job(out, term, &shown->job, shown->checkpoint_created, error);
}

/* Nothing will change any more. */
static bool is_over(const struct shown *shown) { return shown->id > 0 && job_is_at_rest(&shown->job); }

static bool job_moves(const struct job_info *job) {
        return overview_section_of(job) == SECTION_RUNNING && !job_has_ended(job);
}

/* Progress of a running job is not a durable change: WaitChange does not report it. */
static bool moves(const struct shown *shown) {
        const struct job_list *active = &shown->overview.active;

        if (shown->id > 0)
                return job_moves(&shown->job);
        for (size_t i = 0; i < active->n; i++)
                if (job_moves(&active->jobs[i]))
                        return true;
        return false;
}

static int print_json(struct client *client, uint64_t id, struct error *error) {
        cleanup_job_info struct job_info job = {};
        cleanup_overview struct overview overview = {};

        int r = id > 0 ? read_job(client, id, &job, error) : read_overview(client, &overview, error);
        if (r < 0)
                return r;
        return json_print(stdout, id > 0 ? json_job(&job) : json_overview(&overview), error);
}

/* Cuts the text after `rows` lines; returns how many lines it has then. */
static unsigned cut_rows(char *text, unsigned rows) {
        unsigned n = 0;

        for (char *p = text; *p; p++)
                if (*p == '\n' && ++n == rows) {
                        p[1] = '\0';
                        break;
                }
        return n;
}

/* One frame over the last one. */
static int show(struct ctl *ctl, const struct shown *shown, unsigned *rows) {
        cleanup_free char *text = NULL;
        size_t size;
        bool in_place = ctl->term.tty;

        term_init(&ctl->term, STDOUT_FILENO);
        FILE *stream = open_memstream(&text, &size);
        if (!stream)
                return error_input(&ctl->error, BERTCTL_EXIT_FAILED, "out of memory");
        int r = draw(shown, stream, &ctl->term, &ctl->error);
        (void) fclose(stream);
        if (r < 0)
                return r;
        if (in_place && *rows > 0)
                (void) printf("\033[%uA\r\033[J", *rows);
        else if (*rows > 0)
                (void) putchar('\n');
        /* The last frame stays on the screen: it may scroll. */
        *rows = cut_rows(text, in_place && !is_over(shown) && ctl->term.height > 1 ? ctl->term.height - 1 : 0);
        (void) fputs(text, stdout);
        if (fflush(stdout) == EOF)
                return -EIO; /* main reports the output's error */
        return 0;
}

/* Values that bertd reported relative to the time of the call. */
static void pass_time(struct shown *shown, uint64_t usec) {
        shown->job.next_try_usec -= MIN(usec, shown->job.next_try_usec);
        for (size_t i = 0; i < shown->overview.active.n; i++) {
                struct job_info *job = &shown->overview.active.jobs[i];
                job->next_try_usec -= MIN(usec, job->next_try_usec);
        }
}

/* Waits until there is something new to read. Meanwhile ages in a terminal advance without a call to bertd. */
static int await_news(struct ctl *ctl, struct client *client, struct shown *shown, uint64_t *serial, unsigned *rows) {
        int r = 0;

        if (moves(shown)) {
                term_pause(REFRESH_USEC / 1000);
                return 0;
        }
        while (r == 0) {
                r = client_next_change(client, serial, REFRESH_USEC, &ctl->error);
                term_pause(0);
                pass_time(shown, REFRESH_USEC);
                if (r == 0 && ctl->term.tty)
                        r = show(ctl, shown, rows);
        }
        return r;
}

/* What has changed is asked first: a change while it is read is then not missed. */
static int read_and_show(struct ctl *ctl, struct client *client, struct shown *shown, uint64_t *serial,
                         unsigned *rows) {
        int r = *serial == 0 ? client_next_change(client, serial, 0, &ctl->error) : 0;

        if (r >= 0)
                r = read_shown(client, shown, &ctl->error);
        return r < 0 ? r : show(ctl, shown, rows);
}

/* A daemon that restarts leaves the old frame standing. */
static int watch(struct ctl *ctl, struct client *client, uint64_t id) {
        cleanup_shown struct shown shown = { .id = id };
        uint64_t serial = 0;
        unsigned rows = 0;

        for (;;) {
                int r = read_and_show(ctl, client, &shown, &serial, &rows);
                if (r >= 0 && is_over(&shown))
                        return 0;
                if (r >= 0)
                        r = await_news(ctl, client, &shown, &serial, &rows);
                if (r < 0 && ctl->error.exit == BERTCTL_EXIT_NO_DAEMON && rows > 0 && !client_is_silent(client)) {
                        ctl->error = (struct error) {};
                        serial = 0;
                        r = client_reconnect(client, CLIENT_PATIENCE_USEC, &ctl->error);
                }
                if (r < 0)
                        return r;
        }
}

static int show_once(struct ctl *ctl, struct client *client, uint64_t id) {
        cleanup_shown struct shown shown = { .id = id };

        int r = read_shown(client, &shown, &ctl->error);
        return r < 0 ? r : draw(&shown, stdout, &ctl->term, &ctl->error);
}

int command_status(struct ctl *ctl, int argc, char **argv) {
        bool json = false, follow = false;
        const char *hosts = NULL;
        uint64_t id = 0;
        const struct option_spec options[] = {
                { .name = "watch",
                  .letter = 'w',
                  .kind = OPTION_FLAG,
                  .value = &follow,
                  .help = "refresh the display until the job has ended or is paused" },
                OPTION_HOSTS(hosts),
                OPTION_JSON(json),
        };
        struct arguments arguments;
        cleanup_client struct client *client = NULL;

        int r = command_begin(ctl, options, ELEMENTSOF(options), argc, argv, 0, 1, &arguments);
        if (r <= 0)
                return command_exit(ctl, r);
        if (json && follow)
                return command_exit(ctl, error_input(&ctl->error, BERTCTL_EXIT_USAGE,
                                                     "status: --watch and --json cannot be combined"));
        if (hosts && follow)
                return command_exit(ctl, error_input(&ctl->error, BERTCTL_EXIT_USAGE,
                                                     "status: --watch and --hosts cannot be combined"));
        if (hosts)
                return elsewhere_status(
                        ctl, &(struct elsewhere_options) { .hosts = hosts,
                                                           .json = json,
                                                           .job = arguments.n > 0 ? arguments.words[0] : NULL });
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0 && arguments.n == 1)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (r == 0)
                r = json     ? print_json(client, id, &ctl->error)
                    : follow ? watch(ctl, client, id)
                             : show_once(ctl, client, id);
        return command_exit(ctl, r);
}
