/*
 * See gpu_watch.h. Owns the child, its pipe and the timers. Invariants: one child at most, even one that the driver holds and that
 * cannot be killed; an answer that begins before a GPU was let go says nothing of it.
 */
#include "daemon/gpu/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/base/log.h"

#define FRESH_USEC (3 * USEC_PER_SEC)
#define SOON_USEC (2 * USEC_PER_SEC)
#define IDLE_USEC (30 * USEC_PER_SEC)
#define DEADLINE_TEXT "the driver does not answer"

struct gpu_watch {
        sd_event *loop;
        const struct gpus *gpus;
        void (*on_change)(void *userdata);
        void *userdata;
        bool absent;              /* no NVML: there is nothing to watch */
        bool again;               /* ask once more when the child under way has ended */
        pid_t pid;                /* of the child, 0 = none */
        uint64_t asked, answered; /* boot time; `asked` of the last child, `answered` 0 = never yet */
        uint64_t covers;          /* when the child began that answered last */
        uint64_t released_at;     /* boot time of the last release */
        uint64_t used;            /* bit mask */
        struct nvml_answer answer;
        struct gpu_health health[GPUS_MAX];
        sd_event_source *child, *pipe, *deadline, *timer;
};

static void ask(struct gpu_watch *w);

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        ask(userdata);
        return 0;
}

static void arm(struct gpu_watch *w) {
        uint64_t usec = gpu_watch_blocked(w, GPU_FREE) ? SOON_USEC : IDLE_USEC;

        w->timer = sd_event_source_disable_unref(w->timer);
        (void) sd_event_add_time_relative(w->loop, &w->timer, CLOCK_BOOTTIME, usec, USEC_PER_SEC / 10, on_timer, w);
}

/* MIG instances are not in the driver's list of GPUs, nor are their processes: they are not watched. */
static bool watched(const struct gpu_watch *w, uint32_t i) {
        return !(w->used & UINT64_C(1) << i) && strncmp(w->gpus->names[i], "MIG-", 4) != 0;
}

static void judge_one(struct gpu_watch *w, uint32_t i, int result) {
        struct gpu_health *h = &w->health[i];
        enum gpu_state before = h->state;
        char note[GPU_NOTE_MAX];

        if (!watched(w, i))
                return;
        memcpy(note, h->note, sizeof(note));
        if (result < 0)
                gpu_unknown(h, result == -ETIMEDOUT ? DEADLINE_TEXT : "the driver ends whoever asks");
        else if (w->answer.status == NVML_FAILED)
                gpu_unknown(h, w->answer.text);
        else
                gpu_judge(h, gpus_listed(&w->answer, w->gpus->names[i]));
        if (h->state != before)
                log_info("GPU %u (%s): %s", i, w->gpus->names[i], h->note[0] ? h->note : "free");
}

static bool under_way(const struct gpu_watch *w) { return w->pid > 0 || w->pipe; }

static void ask_again(struct gpu_watch *w) {
        if (!w->again || under_way(w))
                return;
        w->again = false;
        ask(w);
}

static void conclude(struct gpu_watch *w, int result) {
        w->pipe = sd_event_source_disable_unref(w->pipe);
        w->deadline = sd_event_source_disable_unref(w->deadline);
        w->absent = result >= 0 && w->answer.status == NVML_ABSENT;
        w->covers = w->asked;
        w->answered = clock_boottime_usec();
        for (uint32_t i = 0; !w->absent && i < w->gpus->n; i++)
                judge_one(w, i, result);
        /* Without a driver all are as free as they were before one was looked for; it may come back after an upgrade. */
        for (uint32_t i = 0; w->absent && i < w->gpus->n; i++)
                w->health[i] = (struct gpu_health) { .baseline = UINT64_MAX };
        arm(w);
        w->on_change(w->userdata);
        ask_again(w);
}

static int on_pipe(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct gpu_watch *w = userdata;

        conclude(w, nvml_probe_read(fd, &w->answer));
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        struct gpu_watch *w = userdata;

        if (w->pid > 0)
                (void) kill(w->pid, SIGKILL);
        conclude(w, -ETIMEDOUT);
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata) {
        struct gpu_watch *w = userdata;

        w->child = sd_event_source_disable_unref(w->child);
        w->pid = 0;
        ask_again(w);
        return 0;
}

static void ask(struct gpu_watch *w) {
        int fd;

        if (under_way(w)) {
                arm(w);
                return;
        }
        w->asked = clock_boottime_usec();
        int r = nvml_probe_start(&w->pid, &fd);
        if (r < 0) {
                log_error("the GPUs' driver cannot be asked: %s", strerror(-r));
                arm(w);
                return;
        }
        r = sd_event_add_child(w->loop, &w->child, w->pid, WEXITED, on_child, w);
        if (r >= 0)
                r = sd_event_add_io(w->loop, &w->pipe, fd, EPOLLIN, on_pipe, w);
        if (r < 0)
                (void) close(fd);
        else
                (void) sd_event_source_set_io_fd_own(w->pipe, 1);
        if (r >= 0)
                r = sd_event_add_time_relative(w->loop, &w->deadline, CLOCK_BOOTTIME, NVML_ANSWER_USEC, 0, on_deadline,
                                               w);
        if (r < 0)
                log_error("the GPUs' driver cannot be watched: %s", strerror(-r));
}

int gpu_watch_new(sd_event *loop, const struct gpus *gpus, void (*on_change)(void *userdata), void *userdata,
                  struct gpu_watch **ret) {
        *ret = NULL;
        if (gpus->n == 0)
                return 0;
        struct gpu_watch *w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct gpu_watch) {
                .loop = sd_event_ref(loop), .gpus = gpus, .on_change = on_change, .userdata = userdata
        };
        for (uint32_t i = 0; i < GPUS_MAX; i++)
                w->health[i].baseline = UINT64_MAX;
        ask(w);
        *ret = w;
        return 0;
}

void gpu_watch_free(struct gpu_watch *w) {
        if (!w)
                return;
        if (w->pid > 0)
                (void) kill(w->pid, SIGKILL);
        (void) sd_event_source_disable_unref(w->child);
        (void) sd_event_source_disable_unref(w->pipe);
        (void) sd_event_source_disable_unref(w->deadline);
        (void) sd_event_source_disable_unref(w->timer);
        (void) sd_event_unref(w->loop);
        free(w);
}

void gpu_watch_holder(struct gpu_watch *w, uint32_t gpu, uint64_t job) {
        const uint64_t bit = UINT64_C(1) << gpu;
        struct gpu_health *h = &w->health[gpu];

        if (job > 0) {
                w->used |= bit;
                h->job = job;
                h->state = GPU_FREE;
                h->note[0] = '\0';
        } else if (w->used & bit) {
                w->used &= ~bit;
                h->released = true;
                w->released_at = clock_boottime_usec();
        }
}

static bool recent(const struct gpu_watch *w) {
        return w->answered > 0 && w->answered + FRESH_USEC >= clock_boottime_usec();
}

bool gpu_watch_fresh(struct gpu_watch *w) {
        if (!w || w->absent || (recent(w) && w->covers >= w->released_at))
                return true;
        w->again = true;
        ask_again(w);
        return false;
}

void gpu_watch_refresh(struct gpu_watch *w) {
        if (w && !w->absent && !recent(w) && !under_way(w))
                ask(w);
}

uint64_t gpu_watch_blocked(const struct gpu_watch *w, enum gpu_state state) {
        uint64_t mask = 0;

        for (uint32_t i = 0; w && i < w->gpus->n; i++)
                if (watched(w, i) && w->health[i].state != GPU_FREE &&
                    (state == GPU_FREE || w->health[i].state == state))
                        mask |= UINT64_C(1) << i;
        return mask;
}

const char *gpu_watch_note(const struct gpu_watch *w, uint32_t gpu) {
        return w && watched(w, gpu) ? w->health[gpu].note : "";
}
