/*
 * bertctl status: one job or the overview, once, as JSON, or refreshed in place. Invariant of the refresh: a frame never has more
 * rows than the window, so that going up by the frame's rows reaches its first line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/status_view.h"

#define REFRESH_SEC 1
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

/* Draws the job (id > 0) or the overview. ret_over: nothing will change any more. */
static int draw(struct client *client, uint64_t id, FILE *out, const struct term *term, bool *ret_over,
                struct error *error) {
        cleanup_job_info struct job_info job = {};
        cleanup_overview struct overview overview = {};

        *ret_over = false;
        if (id == 0) {
                int r = read_overview(client, &overview, error);
                return r < 0 ? r : status_draw_overview(out, term, &overview, error);
        }
        int r = client_get_job(client, id, &job, error);
        if (r < 0)
                return r;
        *ret_over = job_is_at_rest(&job);
        return status_draw_job(out, term, &job, checkpoint_time(client, &job), error);
}

static int print_json(struct client *client, uint64_t id, struct error *error) {
        cleanup_job_info struct job_info job = {};
        cleanup_overview struct overview overview = {};

        int r = id > 0 ? client_get_job(client, id, &job, error) : read_overview(client, &overview, error);
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

/* One frame over the last one. A daemon that restarts leaves the old frame standing. */
static int refresh(struct ctl *ctl, struct client *client, uint64_t id, unsigned *rows, bool *ret_over) {
        cleanup_free char *text = NULL;
        size_t size;
        bool in_place = ctl->term.tty;

        term_init(&ctl->term, STDOUT_FILENO);
        FILE *stream = open_memstream(&text, &size);
        if (!stream)
                return error_input(&ctl->error, BERTCTL_EXIT_FAILED, "out of memory");
        int r = draw(client, id, stream, &ctl->term, ret_over, &ctl->error);
        (void) fclose(stream);
        if (r < 0)
                return r;
        if (in_place && *rows > 0)
                (void) printf("\033[%uA\r\033[J", *rows);
        else if (*rows > 0)
                (void) putchar('\n');
        /* The last frame stays on the screen: it may scroll. */
        *rows = cut_rows(text, in_place && !*ret_over && ctl->term.height > 1 ? ctl->term.height - 1 : 0);
        (void) fputs(text, stdout);
        if (fflush(stdout) == EOF)
                return -EIO; /* main reports the output's error */
        return 0;
}

static int watch(struct ctl *ctl, struct client *client, uint64_t id) {
        unsigned rows = 0;
        bool over = false;

        for (;;) {
                int r = refresh(ctl, client, id, &rows, &over);
                if (r < 0 && ctl->error.exit == BERTCTL_EXIT_NO_DAEMON && rows > 0 && !client_is_silent(client)) {
                        ctl->error = (struct error) {};
                        r = client_reconnect(client, CLIENT_PATIENCE_USEC, &ctl->error);
                }
                if (r < 0 || over)
                        return r;
                term_pause(REFRESH_SEC * 1000);
        }
}

int command_status(struct ctl *ctl, int argc, char **argv) {
        bool json = false, follow = false, over;
        uint64_t id = 0;
        const struct option_spec options[] = {
                { .name = "watch",
                  .letter = 'w',
                  .kind = OPTION_FLAG,
                  .value = &follow,
                  .help = "refresh the display until the job has ended or is paused" },
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
        r = client_connect(ctl->socket, &client, &ctl->error);
        if (r == 0 && arguments.n == 1)
                r = client_find_job(client, arguments.words[0], &id, &ctl->error);
        if (r == 0)
                r = json     ? print_json(client, id, &ctl->error)
                    : follow ? watch(ctl, client, id)
                             : draw(client, id, stdout, &ctl->term, &over, &ctl->error);
        return command_exit(ctl, r);
}
