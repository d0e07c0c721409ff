/*
 * See watch.h. Owns the child, its pipe and the timers. Invariants: at most one child, even if it is stuck in the
 * driver and cannot be killed; an answer whose child started before a GPU was released is not used for that GPU.
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
#include "daemon/base/log.h"
#include "daemon/base/loop.h"

#define FRESH_USEC (3 * USEC_PER_SEC)
#define SOON_USEC (2 * USEC_PER_SEC)
#define IDLE_USEC (30 * USEC_PER_SEC)
#define USE_USEC (IDLE_USEC + NVML_ANSWER_USEC + 5 * USEC_PER_SEC) /* how old figures may be */
#define DEADLINE_TEXT "the driver does not answer"

struct gpu_watch {
        struct loop *loop;
        const struct gpus *gpus;
        void (*on_change)(void *userdata);
        void *userdata;
        bool absent;              /* no NVML: there is nothing to watch */
        bool again;               /* query again when the current child has exited */
        pid_t pid;                /* of the child, 0 = none */
        uint64_t asked, answered; /* boot time; of the last query and answer; 0 = none yet */
        uint64_t covers;          /* start of the child that answered last */
        uint64_t last_good;       /* boot time of the last answer that has GPUs in it; 0 = none yet */
        uint64_t released_at;     /* boot time of the last release */
        uint64_t used;            /* bit mask */
        struct nvml_answer answer;
        struct gpu_health health[GPUS_MAX];
        struct source *child, *pipe;
        struct timer deadline, timer;
};

static void ask(struct gpu_watch *w);

static void on_timer(void *userdata) { ask(userdata); }

static void arm(struct gpu_watch *w) {
        uint64_t usec = gpu_watch_blocked(w) ? SOON_USEC : IDLE_USEC;

        loop_after(w->loop, &w->timer, usec, on_timer, w);
}

/* A driver that does not list MIG devices reports nothing of them: they are not watched. */
static bool watched(const struct gpu_watch *w, uint32_t i) {
        return !(w->used & UINT64_C(1) << i) && (w->answer.lists_mig || strncmp(w->gpus->names[i], "MIG-", 4) != 0);
}

/* Another name of the list for the same GPU, which then counts once: by the name that a job holds, else by the first.
 * −1: none. */
static int other_name(const struct gpu_watch *w, uint32_t i, const struct nvml_gpu *gpu) {
        for (uint32_t j = 0; gpu && j < w->gpus->n; j++)
                if (j != i && (j < i || w->used >> j & 1) && gpus_listed(&w->answer, w->gpus->names[j]) == gpu)
                        return (int) j;
        return -1;
}

static void judge_listed(struct gpu_watch *w, uint32_t i) {
        const struct nvml_gpu *gpu = gpus_listed(&w->answer, w->gpus->names[i]);
        int other = other_name(w, i, gpu);
        char text[GPU_NAME_MAX + 32];

        (void) snprintf(text, sizeof(text), "the same GPU as %d (%s)", other, other >= 0 ? w->gpus->names[other] : "");
        if (other >= 0)
                gpu_withhold(&w->health[i], text);
        else if (gpu && gpu->is_divided)
                gpu_withhold(&w->health[i], "MIG is enabled: jobs get its MIG devices instead");
        else
                gpu_judge(&w->health[i], gpu);
}

static void judge_one(struct gpu_watch *w, uint32_t i, int result) {
        struct gpu_health *h = &w->health[i];
        enum gpu_state before = h->state;
        char note[GPU_NOTE_MAX];

        if (!watched(w, i))
                return;
        memcpy(note, h->note, sizeof(note));
        if (result < 0)
                gpu_unknown(h, result == -ETIMEDOUT ? DEADLINE_TEXT : "the NVML query crashed");
        else if (w->answer.status == NVML_FAILED)
                gpu_unknown(h, w->answer.text);
        else
                judge_listed(w, i);
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
        w->pipe = source_free(w->pipe);
        timer_disarm(&w->deadline);
        w->absent = result >= 0 && w->answer.status == NVML_ABSENT;
        w->covers = w->asked;
        w->answered = loop_boottime();
        if (result >= 0)
                w->last_good = w->answer.status == NVML_OK ? w->answered : 0;
        else if (result != -ETIMEDOUT)
                w->last_good = 0; /* half an answer may have been read over it */
        for (uint32_t i = 0; !w->absent && i < w->gpus->n; i++)
                judge_one(w, i, result);
        /* Without a driver all GPUs keep their last state; the driver may return after an upgrade. */
        for (uint32_t i = 0; w->absent && i < w->gpus->n; i++)
                w->health[i] = (struct gpu_health) { .baseline = UINT64_MAX };
        arm(w);
        w->on_change(w->userdata);
        ask_again(w);
}

static void on_pipe(void *userdata, int fd, uint32_t events) {
        struct gpu_watch *w = userdata;

        conclude(w, nvml_probe_read(fd, &w->answer));
}

static void on_deadline(void *userdata) {
        struct gpu_watch *w = userdata;

        if (w->pid > 0)
                (void) kill(w->pid, SIGKILL);
        conclude(w, -ETIMEDOUT);
}

static void on_child(void *userdata, const siginfo_t *si) {
        struct gpu_watch *w = userdata;

        w->child = source_free(w->child);
        w->pid = 0;
        ask_again(w);
}

static void ask(struct gpu_watch *w) {
        int fd;

        if (under_way(w)) {
                arm(w);
                return;
        }
        w->asked = loop_boottime();
        int r = nvml_probe_start(&w->pid, &fd);
        if (r < 0) {
                log_error("cannot query the GPU driver: %s", strerror(-r));
                arm(w);
                return;
        }
        loop_after(w->loop, &w->deadline, NVML_ANSWER_USEC, on_deadline, w);
        (void) loop_watch_child(w->loop, w->pid, on_child, w, &w->child);
        r = loop_watch(w->loop, fd, EPOLLIN, on_pipe, w, &w->pipe);
        if (r < 0)
                log_error("cannot watch the GPU driver: %s", strerror(-r));
}

int gpu_watch_new(struct loop *loop, const struct gpus *gpus, void (*on_change)(void *userdata), void *userdata,
                  struct gpu_watch **ret) {
        *ret = NULL;
        if (gpus->n == 0)
                return 0;
        struct gpu_watch *w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (struct gpu_watch) { .loop = loop, .gpus = gpus, .on_change = on_change, .userdata = userdata };
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
        (void) source_free(w->child);
        (void) source_free(w->pipe);
        timer_disarm(&w->deadline);
        timer_disarm(&w->timer);
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
                w->released_at = loop_boottime();
        }
}

static bool recent(const struct gpu_watch *w) { return w->answered > 0 && w->answered + FRESH_USEC >= loop_boottime(); }

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

uint64_t gpu_watch_in_state(const struct gpu_watch *w, enum gpu_state state) {
        uint64_t mask = 0;

        for (uint32_t i = 0; w && i < w->gpus->n; i++)
                if (watched(w, i) && w->health[i].state == state)
                        mask |= UINT64_C(1) << i;
        return mask;
}

uint64_t gpu_watch_blocked(const struct gpu_watch *w) {
        return gpu_watch_in_state(w, GPU_BUSY) | gpu_watch_in_state(w, GPU_QUARANTINED) |
               gpu_watch_in_state(w, GPU_UNKNOWN);
}

uint64_t gpu_watch_age(const struct gpu_watch *w) {
        uint64_t now = loop_boottime();

        return w && !w->absent && w->last_good && w->last_good + USE_USEC >= now ? now - w->last_good : UINT64_MAX;
}

const struct nvml_gpu *gpu_watch_use(const struct gpu_watch *w, const char *name) {
        return gpu_watch_age(w) < UINT64_MAX ? gpus_listed(&w->answer, name) : NULL;
}

const char *gpu_watch_note(const struct gpu_watch *w, uint32_t gpu) {
        return w && watched(w, gpu) ? w->health[gpu].note : "";
}
