/*
 * As much of CUDA as the module uses, on the host: so that its kernels run, and are tested, where there is no GPU. A
 * block's threads are fibers that one thread takes turns with; they wait for each other at barriers and shuffles, and a
 * barrier that not all of them come to ends the program. Memory from cudaMalloc is malloc's, filled with NaN. Copies
 * and launches are done at once, or recorded for a graph. A block's warps run one after the other, from the first or
 * from the last, as far as the next barrier: one that is missing shows. What this cannot show: races within a warp,
 * static shared memory that is read before it is written (it holds the last block's), alignment, limits of registers
 * and shared memory, speed.
 */
#ifndef EMULATION_CUDA_RUNTIME_H
#define EMULATION_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <functional>
#include <tuple>

#define __global__
#ifndef __device__
#define __device__
#endif
#define __host__
#define __shared__ static
#define __launch_bounds__(threads)

struct dim3 {
        unsigned x, y, z;
        dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
struct alignas(8) float2 {
        float x, y;
};
struct alignas(8) uint2 {
        uint32_t x, y;
};
struct alignas(16) uint4 {
        uint32_t x, y, z, w;
};
struct alignas(16) float4 {
        float x, y, z, w;
};

/* Runs a kernel over its grid, block after block. */
/* Launches are checked and counted, and no kernel runs; memory is not filled. */
struct emulated_launches {
        uint64_t n;
        unsigned most_threads;
        size_t most_shared;
        uint64_t widest_grid;
        uint64_t products, odd_products, flat_products;
};
extern struct emulated_launches emulated_launches;
/* Of cuBLASLt's products: how many, of how many an address or a row is not a multiple of 16 bytes, and of how many the
 * first matrix begins with numbers that are all the same. */
void emulated_note_product(const void *a, const void *b, const void *d, size_t row_a, size_t row_b, size_t row_d);
extern bool emulated_dry;
/* The device's memory: what a run has of it, and how much is left. EMULATED_MEMORY: bytes of it in all, and others' use
 * of it; else there is no end to it, and it says that a TiB is free. */
extern size_t emulated_used_bytes;
size_t emulated_all_bytes(void);
size_t emulated_free_bytes(void);

/* Told of what is done, and of the device's memory that this reads and writes, as far as it is not the kernels' own
 * code, which traffic.cc listens to itself. NULL: nobody is told. */
struct emulated_watcher {
        void (*begin)(const char *what); /* the mangled name of who launches, or a word */
        void (*touch)(const void *p, size_t size, bool writes);
};
extern const struct emulated_watcher *emulated_watcher;
void emulated_touch(const void *p, size_t size, bool writes); /* tells it, if there is one */
void *emulated_block_of(const void *p, size_t *ret_size);     /* of cudaMalloc; NULL: not in one */

/* The status that this call fails with (fail.h), 0: it works. One that breaks the device, 700 and up, is every later
 * call's too, until EMULATED_FAIL changes. */
int emulated_fails(const char *call);
#define EMULATED_CALL(call)                              \
        do {                                             \
                if (int status_ = emulated_fails(#call)) \
                        return (cudaError_t) status_;    \
        } while (0)
extern bool emulated_busy; /* the stream's work does not end, as when it waits for a rank that died */
void emulated_pin(void *p, size_t size, bool pinned);
bool emulated_is_pinned(const void *p);

void emulate(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel);
void *emulated_shared(void); /* this block's dynamic shared memory */

void __syncthreads(void);
void __syncwarp(unsigned mask = ~0u);
int __syncthreads_or(int predicate);
uint64_t emulated_shuffle(uint64_t bits, unsigned lane); /* what that lane of the warp gave */
void emulated_copy16(void *to, const void *from, bool there);
void emulated_commit_copies(void);
void emulated_wait_copies(unsigned left);
void emulated_gather(uint64_t bits, uint64_t all[32]); /* what each lane of the warp gave */

template <class T> static inline T __shfl_sync(unsigned mask, T x, int lane) {
        uint64_t bits = 0;

        memcpy(&bits, &x, sizeof(x));
        bits = emulated_shuffle(bits, (unsigned) lane);
        memcpy(&x, &bits, sizeof(x));
        return x;
}
unsigned emulated_lane(void);
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int d) {
        return __shfl_sync(mask, x, (int) emulated_lane() ^ d);
}

static inline uint32_t __float_as_uint(float x) {
        uint32_t bits;

        return memcpy(&bits, &x, sizeof(x)), bits;
}
static inline float __uint_as_float(uint32_t bits) {
        float x;

        return memcpy(&x, &bits, sizeof(x)), x;
}

template <class T> static inline T min(T a, T b) { return a < b ? a : b; }
template <class T> static inline T max(T a, T b) { return a > b ? a : b; }

enum cudaError_t {
        cudaSuccess = 0,
        cudaErrorInvalidValue = 1,
        cudaErrorMemoryAllocation = 2,
        cudaErrorInitializationError = 3,
        cudaErrorInsufficientDriver = 35,
        cudaErrorNoDevice = 100,
        cudaErrorNotReady = 600,
        cudaErrorLaunchFailure = 719,
        cudaErrorStreamCaptureInvalidated = 901,
        cudaErrorGraphExecUpdateFailure = 910
};
typedef void *cudaStream_t, *cudaEvent_t;

cudaError_t emulated_take(void **ret, size_t size);
void emulated_give_back(void *p);

/* `work` is done, or recorded where the stream is; what may not be recorded ends the program. */
void emulated_do(const std::function<void()> &work, cudaStream_t stream);
void emulated_done_now(cudaStream_t stream, const char *what);
bool emulated_is_recorded(cudaStream_t stream);

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum { cudaHostAllocDefault, cudaEventDisableTiming, cudaStreamNonBlocking };
struct cudaDeviceProp {
        char name[256];
        int major, minor;
};

const char *cudaGetErrorString(cudaError_t r);
cudaError_t cudaGetLastError(void);
/* EMULATED_VISIBLE: what CUDA_VISIBLE_DEVICES is then is printed. */
static inline cudaError_t cudaGetDeviceCount(int *n) {
        EMULATED_CALL(cudaGetDeviceCount);
        if (getenv("EMULATED_VISIBLE"))
                fprintf(stderr, "emulation: rank %s visible: %s\n", getenv("OMPI_COMM_WORLD_RANK"),
                        getenv("CUDA_VISIBLE_DEVICES"));
        return *n = 2, cudaSuccess;
}
template <class K> static inline cudaError_t cudaFuncSetAttribute(K, int, int) {
        EMULATED_CALL(cudaFuncSetAttribute);
        return cudaSuccess;
}
static inline cudaError_t cudaSetDevice(int) {
        EMULATED_CALL(cudaSetDevice);
        return cudaSuccess;
}
/* EMULATED_PCI: addresses of the devices, with commas between. */
cudaError_t cudaDeviceGetPCIBusId(char *ret, int size, int device);
static inline cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
static inline cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 0, cudaSuccess; }
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
        EMULATED_CALL(cudaGetDeviceProperties);
        memcpy(p->name, "emulated", sizeof("emulated"));
        const char *sm = getenv("EMULATED_SM"); /* 70 for compute capability 7.0 */
        p->major = sm ? atoi(sm) / 10 : 9;
        p->minor = sm ? atoi(sm) % 10 : 0;
        return cudaSuccess;
}

static inline cudaError_t emulated_allocate(void **ret, size_t size) {
        *ret = aligned_alloc(256, (size + 255) / 256 * 256);
        if (!*ret)
                return cudaErrorMemoryAllocation;
        if (!emulated_dry)
                memset(*ret, 0xff, size < (1 << 20) ? size : 1 << 20); /* of large ones hardly more is used */
        return cudaSuccess;
}
static inline cudaError_t cudaMalloc(void **ret, size_t size) {
        EMULATED_CALL(cudaMalloc);
        return emulated_take(ret, size);
}
static inline cudaError_t cudaHostAlloc(void **ret, size_t size, int) {
        EMULATED_CALL(cudaHostAlloc);
        cudaError_t r = emulated_allocate(ret, size);
        if (r == cudaSuccess)
                emulated_pin(*ret, size, true);
        return r;
}
static inline cudaError_t cudaFree(void *p) { return emulated_give_back(p), cudaSuccess; }
static inline cudaError_t cudaFreeHost(void *p) { return emulated_pin(p, 0, false), free(p), cudaSuccess; }
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost };
struct cudaPointerAttributes {
        cudaMemoryType type;
};
static inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *ret, const void *p) {
        EMULATED_CALL(cudaPointerGetAttributes);
        ret->type = emulated_is_pinned(p) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
        return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream);
static inline cudaError_t cudaMemGetInfo(size_t *unused, size_t *all) {
        EMULATED_CALL(cudaMemGetInfo);
        return *unused = emulated_free_bytes(), *all = emulated_all_bytes(), cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *p, int value, size_t size, cudaStream_t stream) {
        EMULATED_CALL(cudaMemsetAsync);
        if (!emulated_dry)
                emulated_do(
                        [=] {
                                if (emulated_watcher)
                                        emulated_watcher->begin("zeroing");
                                emulated_touch(p, size, true);
                                memset(p, value, size);
                        },
                        stream);
        return cudaSuccess;
}

static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, int) {
        EMULATED_CALL(cudaStreamCreateWithFlags);
        return *ret = ret, cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
        EMULATED_CALL(cudaStreamWaitEvent);
        return emulated_done_now(stream, "cudaStreamWaitEvent"), cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
        EMULATED_CALL(cudaStreamSynchronize);
        return emulated_done_now(stream, "cudaStreamSynchronize"), cudaSuccess;
}
static inline cudaError_t cudaStreamQuery(cudaStream_t stream) {
        EMULATED_CALL(cudaStreamQuery);
        return emulated_done_now(stream, "cudaStreamQuery"), emulated_busy ? cudaErrorNotReady : cudaSuccess;
}
/* An event is the time when it was recorded. */
static inline cudaError_t cudaEventCreate(cudaEvent_t *ret) {
        EMULATED_CALL(cudaEventCreate);
        return *ret = calloc(1, sizeof(timespec)), cudaSuccess;
}
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, int) { return cudaEventCreate(ret); }
static inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), cudaSuccess; }
static inline cudaError_t cudaEventElapsedTime(float *ret, cudaEvent_t from, cudaEvent_t to) {
        EMULATED_CALL(cudaEventElapsedTime);
        const timespec *a = (const timespec *) from, *b = (const timespec *) to;

        *ret = (float) (b->tv_sec - a->tv_sec) * 1e3f + (float) (b->tv_nsec - a->tv_nsec) / 1e6f;
        return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
        EMULATED_CALL(cudaEventRecord);
        emulated_done_now(stream, "cudaEventRecord");
        clock_gettime(CLOCK_MONOTONIC, (timespec *) event);
        return cudaSuccess;
}
enum { cudaEventRecordDefault, cudaEventRecordExternal };
/* External: a node of the graph, where the stream is recorded, and nowhere else. */
static inline cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
        if (flags == cudaEventRecordDefault)
                return cudaEventRecord(event, stream);
        EMULATED_CALL(cudaEventRecordWithFlags);
        if (!emulated_is_recorded(stream))
                return cudaErrorInvalidValue;
        emulated_do([=] { clock_gettime(CLOCK_MONOTONIC, (timespec *) event); }, stream);
        return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
        EMULATED_CALL(cudaEventSynchronize);
        return cudaSuccess;
}

/* A graph is a list of what was recorded, which can take over the arguments of another that does the same in the same
 * order. */
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
typedef struct emulated_node *cudaGraphNode_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };
struct cudaGraphExecUpdateResultInfo {
        int result;
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *n);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned);
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

#endif
