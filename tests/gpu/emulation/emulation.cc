/*
 * See cuda_runtime.h. Owns one fiber for each thread of a block, reused from block to block. A fiber runs until it
 * waits or ends; those that wait are let go when all others alive of their block, or of their warp, wait for the same;
 * warps take turns at barriers only. ucontext makes a fiber's stack; turns are taken by setjmp and longjmp, since
 * swapcontext calls the kernel each time.
 */
#include "trainer/ops/cuda/backend.h"

#include <setjmp.h>
#include <ucontext.h>

#include <map>
#include <mutex>
#include <typeinfo>
#include <vector>

#include "tests/gpu/emulation/fail.h"

#define THREADS_MAX 1024
#define WARP 32
#define STACK_BYTES (128 << 10)
#define SHARED_BYTES (228 << 10)

struct emulated_launches emulated_launches;
bool emulated_dry;
dim3 threadIdx, blockIdx, blockDim, gridDim;

bool emulated_busy;
const struct emulated_watcher *emulated_watcher;

/* ---- failures ---- */

static struct {
        std::mutex lock;
        char spec[64]; /* EMULATED_FAIL when the device broke */
        int status;    /* that it broke with */
        int of_launch; /* not asked for yet */
} broken;

int emulated_fails(const char *call) {
        const char *spec = getenv("EMULATED_FAIL");
        int status = emulated_fails_here(call);

        const std::lock_guard<std::mutex> guard(broken.lock);
        if (broken.status && (!spec || strcmp(spec, broken.spec) != 0))
                broken.status = 0;
        if (status >= 700 && status < 900) {
                broken.status = status;
                (void) snprintf(broken.spec, sizeof(broken.spec), "%s", spec);
        }
        return status ? status : broken.status;
}

const char *cudaGetErrorString(cudaError_t r) {
        static char text[64];

        (void) snprintf(text, sizeof(text), "emulated error %d", (int) r);
        return r == cudaSuccess ? "no error" : text;
}

cudaError_t cudaGetLastError(void) {
        int status = broken.of_launch;

        broken.of_launch = 0;
        return (cudaError_t) status;
}

/* ---- memory ---- */

size_t emulated_used_bytes;
static size_t free_bytes = (size_t) 1 << 40; /* as it says, where there is no end to it */
static std::map<void *, size_t> taken;
static std::mutex taken_lock;

/* EMULATED_MEMORY=ALL[:OTHERS] */
static size_t limit(size_t *ret_others) {
        const char *text = getenv("EMULATED_MEMORY");
        char *end = NULL;
        size_t all = text ? strtoull(text, &end, 10) : 0;

        *ret_others = end && *end == ':' ? strtoull(end + 1, NULL, 10) : 0;
        return all;
}

size_t emulated_all_bytes(void) {
        size_t others, all = limit(&others);

        return all ? all : free_bytes;
}

size_t emulated_free_bytes(void) {
        size_t others, all = limit(&others), used = others + emulated_used_bytes;

        return all == 0 ? free_bytes : all > used ? all - used : 0;
}

cudaError_t emulated_take(void **ret, size_t size) {
        const std::lock_guard<std::mutex> guard(taken_lock);

        if (getenv("EMULATED_MEMORY") && size > emulated_free_bytes())
                return cudaErrorMemoryAllocation;
        cudaError_t r = emulated_allocate(ret, size);
        if (r == cudaSuccess)
                taken[*ret] = size, emulated_used_bytes += size;
        return r;
}

void emulated_give_back(void *p) {
        const std::lock_guard<std::mutex> guard(taken_lock);
        auto found = taken.find(p);

        if (found != taken.end())
                emulated_used_bytes -= found->second, taken.erase(found);
        free(p);
}

void *emulated_block_of(const void *p, size_t *ret_size) {
        const std::lock_guard<std::mutex> guard(taken_lock);
        auto after = taken.upper_bound((void *) p);

        if (after == taken.begin() || (--after, (const char *) p >= (char *) after->first + after->second))
                return NULL;
        *ret_size = after->second;
        return after->first;
}

void emulated_touch(const void *p, size_t size, bool writes) {
        if (emulated_watcher)
                emulated_watcher->touch(p, size, writes);
}

static std::map<const char *, size_t> pinned; /* from where, how much */
static std::mutex pinned_lock;

void emulated_pin(void *p, size_t size, bool is) {
        const std::lock_guard<std::mutex> guard(pinned_lock);

        if (is)
                pinned[(const char *) p] = size;
        else
                pinned.erase((const char *) p);
}

bool emulated_is_pinned(const void *p) {
        const std::lock_guard<std::mutex> guard(pinned_lock);
        auto after = pinned.upper_bound((const char *) p);

        return after != pinned.begin() && (--after, (const char *) p < after->first + after->second);
}

/* A download to memory that is not pinned waits within the driver: nothing of ours may. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
        EMULATED_CALL(cudaMemcpyAsync);
        if (kind != cudaMemcpyDeviceToDevice)
                emulated_done_now(stream, "a copy from or to the host");
        if (kind == cudaMemcpyDeviceToHost && size && !emulated_is_pinned(to)) {
                fprintf(stderr, "emulation: a download of %zu bytes to memory that is not pinned\n", size);
                abort();
        }
        emulated_do(
                [=] {
                        if (emulated_watcher)
                                emulated_watcher->begin("copies");
                        emulated_touch(from, size, false);
                        emulated_touch(to, size, true);
                        memcpy(to, from, size);
                },
                stream);
        return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *ret, int size, int device) {
        EMULATED_CALL(cudaDeviceGetPCIBusId);
        const char *text = getenv("EMULATED_PCI");

        for (; text && device > 0; device--)
                text = strchr(text, ',') ? strchr(text, ',') + 1 : NULL;
        if (!text)
                return cudaErrorInvalidValue;
        snprintf(ret, (size_t) size, "%.*s", (int) strcspn(text, ","), text);
        return cudaSuccess;
}

/* ---- threads of a block ---- */

enum state { RUNNABLE, WAITS_FOR_WARP, WAITS_FOR_BLOCK, ENDED };

/* Of copy16, not there yet. */
struct copy {
        void *to;
        const void *from;
        unsigned group;
};

static struct fiber {
        ucontext_t context; /* where it begins */
        jmp_buf here;       /* where it goes on, once begun */
        bool begun;
        char *stack;
        dim3 index;
        enum state state;
        unsigned turn;     /* shuffles so far: which half of the slots is in use */
        uint64_t slots[2]; /* given to a shuffle */
        int predicate;     /* given to a barrier */
        std::vector<struct copy> copies;
        unsigned groups; /* of copies, committed */
} fibers[THREADS_MAX];
static jmp_buf scheduler;
static struct fiber *current;
static unsigned n_fibers;
static int block_or; /* of the last barrier: kept until all have come to the next one */
static const std::function<void()> *body;
alignas(256) static char shared_memory[SHARED_BYTES];

void *emulated_shared(void) { return shared_memory; }
unsigned emulated_lane(void) { return (unsigned) (current - fibers) % WARP; }

__attribute__((noinline)) static void wait_as(enum state state) {
        current->state = state;
        if (_setjmp(current->here) == 0)
                _longjmp(scheduler, 1);
}

static void run_fiber(void) {
        for (;;) {
                (*body)();
                wait_as(ENDED);
        }
}

/* Until it waits. */
__attribute__((noinline)) static void turn_to(struct fiber *fiber) {
        current = fiber;
        threadIdx = fiber->index;
        if (_setjmp(scheduler) != 0)
                return;
        if (fiber->begun)
                _longjmp(fiber->here, 1);
        fiber->begun = true;
        setcontext(&fiber->context);
}

void __syncwarp(unsigned) { wait_as(WAITS_FOR_WARP); }

int __syncthreads_or(int predicate) {
        current->predicate = predicate;
        wait_as(WAITS_FOR_BLOCK);
        return block_or;
}

void __syncthreads(void) { (void) __syncthreads_or(0); }

uint64_t emulated_shuffle(uint64_t bits, unsigned lane) {
        unsigned half = current->turn++ % 2;
        struct fiber *first = current - emulated_lane();

        current->slots[half] = bits;
        wait_as(WAITS_FOR_WARP);
        return first[lane].slots[half];
}

void emulated_gather(uint64_t bits, uint64_t all[WARP]) {
        unsigned half = current->turn++ % 2;
        struct fiber *first = current - emulated_lane();

        current->slots[half] = bits;
        wait_as(WAITS_FOR_WARP);
        for (unsigned i = 0; i < WARP; i++)
                all[i] = first[i].slots[half];
}

static void do_copy(const struct copy &copy) {
        emulated_touch(copy.from, 16, false);
        if (copy.from)
                memcpy(copy.to, copy.from, 16);
        else
                memset(copy.to, 0, 16);
}

/* A kernel must not mind when a copy is done: every other block does it at once, the rest when it is waited for. */
void emulated_copy16(void *to, const void *from, bool there) {
        const struct copy copy = { to, there ? from : NULL, current->groups };

        if ((uintptr_t) to % 16 || (there && (uintptr_t) from % 16)) {
                fprintf(stderr, "emulation: a copy of 16 bytes that is not aligned\n");
                abort();
        }
        if ((blockIdx.x + blockIdx.y + blockIdx.z) % 2)
                do_copy(copy);
        else
                current->copies.push_back(copy);
}

void emulated_commit_copies(void) { current->groups++; }

void emulated_wait_copies(unsigned left) {
        std::vector<struct copy> later;

        for (const struct copy &copy : current->copies)
                if (copy.group + left < current->groups)
                        do_copy(copy);
                else
                        later.push_back(copy);
        current->copies = later;
}

/* Lets a group go if all of it that is alive waits in `state`. */
static bool release_group(unsigned first, unsigned n, enum state state) {
        unsigned waiting = 0;
        int any = 0;

        for (unsigned i = first; i < first + n; i++)
                if (fibers[i].state == state)
                        any |= fibers[i].predicate, waiting++;
                else if (fibers[i].state != ENDED)
                        return false;
        for (unsigned i = first; i < first + n; i++)
                if (fibers[i].state == state)
                        fibers[i].state = RUNNABLE;
        if (state == WAITS_FOR_BLOCK)
                block_or = any;
        return waiting > 0;
}

/* Until all of it wait for the block, or have ended. */
static bool run_warp(unsigned first) {
        unsigned n = n_fibers - first < WARP ? n_fibers - first : WARP;
        bool alive;

        do {
                alive = false;
                for (unsigned i = first; i < first + n; i++) {
                        if (fibers[i].state == RUNNABLE)
                                turn_to(&fibers[i]);
                        alive |= fibers[i].state != ENDED;
                }
        } while (release_group(first, n, WAITS_FOR_WARP));
        return alive;
}

/* One warp after the other, as far as it gets: what should have waited for a barrier is then too early. Of every four
 * blocks two go from the last warp to the first. */
static bool run_warps(void) {
        unsigned n = (n_fibers + WARP - 1) / WARP;
        bool backward = (blockIdx.x + blockIdx.y + blockIdx.z) / 2 % 2, alive = false;

        for (unsigned i = 0; i < n; i++)
                alive |= run_warp((backward ? n - 1 - i : i) * WARP);
        return alive;
}

static void run_block(size_t shared) {
        for (unsigned i = 0; i < n_fibers; i++) {
                fibers[i].state = RUNNABLE;
                fibers[i].turn = 0;
                fibers[i].index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
        }
        memset(shared_memory, 0xff, shared); /* NaN */
        while (run_warps())
                if (!release_group(0, n_fibers, WAITS_FOR_BLOCK)) {
                        fprintf(stderr, "emulation: threads of a block wait for those that do not come\n");
                        abort();
                }
        for (unsigned i = 0; i < n_fibers; i++)
                if (!fibers[i].copies.empty()) {
                        fprintf(stderr, "emulation: copies that nobody waited for\n");
                        abort();
                }
}

static void prepare_fibers(unsigned n) {
        for (n_fibers = 0; n_fibers < n; n_fibers++) {
                struct fiber *f = &fibers[n_fibers];
                if (f->stack)
                        continue;
                f->stack = (char *) malloc(STACK_BYTES);
                getcontext(&f->context);
                f->context.uc_stack.ss_sp = f->stack;
                f->context.uc_stack.ss_size = STACK_BYTES;
                makecontext(&f->context, run_fiber, 0);
        }
}

/* What every GPU since sm_70 can start; shared memory as sm_90 has it. */
static void check_launch(dim3 grid, unsigned n, size_t shared) {
        if (n > THREADS_MAX || shared > SHARED_BYTES || grid.x > INT32_MAX || grid.y > UINT16_MAX ||
            grid.z > UINT16_MAX) {
                fprintf(stderr, "emulation: a grid of %u × %u × %u blocks of %u threads and %zu bytes\n", grid.x,
                        grid.y, grid.z, n, shared);
                abort();
        }
        struct emulated_launches *l = &emulated_launches;
        l->n++;
        l->most_threads = n > l->most_threads ? n : l->most_threads;
        l->most_shared = shared > l->most_shared ? shared : l->most_shared;
        uint64_t blocks = (uint64_t) grid.x * grid.y * grid.z;
        l->widest_grid = blocks > l->widest_grid ? blocks : l->widest_grid;
}

void emulated_note_product(const void *a, const void *b, const void *d, size_t row_a, size_t row_b, size_t row_d) {
        uintptr_t all = (uintptr_t) a | (uintptr_t) b | (uintptr_t) d | row_a | row_b | row_d;

        if (!emulated_dry)
                emulated_launches.flat_products += memcmp(a, (const char *) a + row_a / 2, row_a / 2) == 0;
        emulated_launches.products++;
        emulated_launches.odd_products += all % 16 != 0;
}

static void run_kernel(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel) {
        blockDim = block;
        gridDim = grid;
        body = &kernel;
        if (emulated_watcher)
                emulated_watcher->begin(kernel.target_type().name());
        prepare_fibers(block.x * block.y * block.z);
        for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
                for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
                        for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
                                run_block(shared);
}

/* ---- graphs ---- */

struct emulated_node {
        const std::type_info *kind; /* which call recorded it */
        std::function<void()> work;
};
struct emulated_graph {
        std::vector<emulated_node> nodes;
};
static struct emulated_graph *recording;
static cudaStream_t recorded_stream;
static bool graphs_fail;

static void run_or_record(const std::function<void()> &work, const std::type_info &kind) {
        if (recording)
                recording->nodes.push_back({ &kind, work });
        else
                work();
}

void emulated_do(const std::function<void()> &work, cudaStream_t stream) {
        if (recording && stream == recorded_stream)
                run_or_record(work, work.target_type());
        else
                work();
}

bool emulated_is_recorded(cudaStream_t stream) { return recording && stream == recorded_stream; }

void emulated_done_now(cudaStream_t stream, const char *what) {
        if (!recording || stream != recorded_stream)
                return;
        fprintf(stderr, "emulation: %s while the stream is recorded\n", what);
        abort();
}

void emulate(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel) {
        check_launch(grid, block.x * block.y * block.z, shared);
        broken.of_launch = emulated_fails("launch");
        if (!emulated_dry && !broken.of_launch)
                run_or_record([=] { run_kernel(grid, block, shared, kernel); }, kernel.target_type());
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
        EMULATED_CALL(cudaStreamBeginCapture);
        recording = new emulated_graph;
        recorded_stream = stream;
        return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *ret) {
        *ret = recording;
        recording = NULL;
        EMULATED_CALL(cudaStreamEndCapture);
        return graphs_fail ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *n) {
        EMULATED_CALL(cudaGraphGetNodes);
        return *n = graph->nodes.size(), cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned) {
        EMULATED_CALL(cudaGraphInstantiate);
        return *ret = new emulated_graph(*graph), cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *) {
        EMULATED_CALL(cudaGraphExecUpdate);
        if (exec->nodes.size() != graph->nodes.size())
                return cudaErrorGraphExecUpdateFailure;
        for (size_t i = 0; i < graph->nodes.size(); i++)
                if (*exec->nodes[i].kind != *graph->nodes[i].kind)
                        return cudaErrorGraphExecUpdateFailure;
        *exec = *graph;
        return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
        EMULATED_CALL(cudaGraphLaunch);
        for (const struct emulated_node &node : exec->nodes)
                node.work();
        return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }

/* For C. */
extern "C" {
void emulated_set_free(size_t bytes) { free_bytes = bytes; }
size_t emulated_used(void) { return emulated_used_bytes; }
void emulated_fail_graphs(bool fail) { graphs_fail = fail; }
void emulated_break(void) { cuda_fail("emulation", "broken"); }
void emulated_break_as(const char *text) { cuda_fail("emulation", text); }
void emulated_set_busy(bool busy) { emulated_busy = busy; }
void emulated_begin_dry(void) {
        emulated_dry = true;
        emulated_launches = {};
}
void emulated_count_products(uint64_t *n, uint64_t *odd, uint64_t *flat) {
        *n = emulated_launches.products;
        *odd = emulated_launches.odd_products;
        *flat = emulated_launches.flat_products;
}
void emulated_end_dry(uint64_t *n, unsigned *threads, size_t *shared, uint64_t *grid) {
        emulated_dry = false;
        *n = emulated_launches.n;
        *threads = emulated_launches.most_threads;
        *shared = emulated_launches.most_shared;
        *grid = emulated_launches.widest_grid;
}
}
