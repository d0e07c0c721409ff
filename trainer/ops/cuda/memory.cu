/*
 * Device memory and copies. Small uploads go through a ring of pinned slots, so the host is SLOTS of them ahead of the device before it
 * waits. A download waits for all work before it, and looks meanwhile whether a collective broke. A fetch goes by a separate stream.
 */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "trainer/ops/cuda/backend.h"

namespace {
constexpr unsigned SLOTS = 64;
constexpr unsigned LOOKS_AWAKE = 200; /* at the stream, of some microseconds each */
constexpr size_t SLOT_BYTES = (size_t) 256 << 10;
constexpr size_t STORE_PIECE = (size_t) 16 << 10; /* elements, on the stack */
} // namespace

static struct {
        char *slots; /* SLOTS × SLOT_BYTES, pinned */
        cudaEvent_t free[SLOTS];
        unsigned next;
} staging;

static struct {
        cudaStream_t stream;
        cudaEvent_t mark;
        bool marked; /* what is fetched is as it was meant: nothing had broken */
} beside;

void *cuda_allocate(size_t size) {
        void *data = NULL;
        cudaError_t r = cudaMalloc(&data, size ? size : 1);

        if (r == cudaErrorMemoryAllocation) {
                (void) cudaGetLastError(); /* the caller reports it: nothing broke */
                return NULL;
        }
        if (!cuda_check(r, "allocate"))
                return NULL;
        cuda_zero(data, size);
        return data;
}

void cuda_release(void *data, size_t size) { (void) cudaFree(data); }

void *cuda_allocate_host(size_t size) {
        void *data = NULL;

        if (cudaHostAlloc(&data, size ? size : 1, cudaHostAllocDefault) != cudaSuccess) {
                (void) cudaGetLastError();
                return NULL;
        }
        memset(data, 0, size);
        return data;
}

void cuda_release_host(void *data, size_t size) { (void) cudaFreeHost(data); }

void cuda_upload(void *to, const void *from, size_t size) {
        for (size_t at = 0; at < size && cuda_works(); at += SLOT_BYTES) {
                unsigned i = staging.next++ % SLOTS;
                size_t n = size - at < SLOT_BYTES ? size - at : SLOT_BYTES;
                char *slot = staging.slots + i * SLOT_BYTES;
                if (!cuda_check(cudaEventSynchronize(staging.free[i]), "upload"))
                        return;
                memcpy(slot, (const char *) from + at, n);
                (void) cuda_check(
                        cudaMemcpyAsync((char *) to + at, slot, n, cudaMemcpyHostToDevice, cuda_backend.stream),
                        "upload");
                (void) cuda_check(cudaEventRecord(staging.free[i], cuda_backend.stream), "upload");
        }
}

/* Until the stream is empty. What takes longer than a moment is a step: the core is left to others. */
static void wait_for_stream(void) {
        const struct timespec nap = { 0, 20000 };
        cudaError_t r;

        for (unsigned looks = 0; (r = cudaStreamQuery(cuda_backend.stream)) == cudaErrorNotReady; looks++) {
                if (looks > LOOKS_AWAKE)
                        (void) nanosleep(&nap, NULL);
                const char *failed = cuda_collective_failed();
                if (failed) {
                        cuda_fail("NCCL", failed);
                        return;
                }
        }
        (void) cudaGetLastError(); /* "not ready" is none */
        (void) cuda_check(r, "kernel");
}

static bool is_pinned(const void *p) {
        struct cudaPointerAttributes attributes = {};

        return cudaPointerGetAttributes(&attributes, p) == cudaSuccess && attributes.type == cudaMemoryTypeHost;
}

/* Where something broke, `to` is all ones: NaN. A copy to memory that is not pinned would wait within the driver, where a collective that broke
 * is not seen: it goes by way of the slots, whose uploads are before it in the stream. */
void cuda_download(void *to, const void *from, size_t size) {
        bool direct = size > SLOT_BYTES && is_pinned(to);
        size_t most = direct ? size : SLOTS * SLOT_BYTES;

        for (size_t at = 0; at < size && cuda_works(); at += most) {
                size_t n = size - at < most ? size - at : most;
                char *own = (char *) to + at, *target = direct ? own : staging.slots;
                if (cuda_check(cudaMemcpyAsync(target, (const char *) from + at, n, cudaMemcpyDeviceToHost,
                                               cuda_backend.stream),
                               "download"))
                        wait_for_stream();
                if (!direct && cuda_works())
                        memcpy(own, target, n);
        }
        if (!cuda_works())
                memset(to, 0xff, size);
}

void cuda_zero(void *data, size_t size) {
        if (cuda_works())
                (void) cuda_check(cudaMemsetAsync(data, 0, size, cuda_backend.stream), "zero");
}

void cuda_zero_fresh(struct tensor t) {
        if (t.fresh && t.data)
                cuda_zero(t.data, (size_t) t.rows * t.stride * dtype_size(t.dtype));
}

void cuda_copy(void *to, const void *from, size_t size) {
        if (cuda_works())
                (void) cuda_check(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, cuda_backend.stream),
                                  "copy");
}

void *cuda_allocate_spare(size_t size) {
        size_t unused = 0, all = 0;

        return cuda_memory(&unused, &all) && unused >= size + CUDA_COLLECTIVE_BYTES ? cuda_allocate(size) : NULL;
}

bool cuda_memory(size_t *ret_free, size_t *ret_all) {
        if (cudaMemGetInfo(ret_free, ret_all) == cudaSuccess)
                return true;
        (void) cudaGetLastError();
        return false;
}

void cuda_mark(void) {
        beside.marked = cuda_works() && cuda_check(cudaEventRecord(beside.mark, cuda_backend.stream), "mark");
}

bool cuda_fetch(void *to, const void *from, size_t size) {
        return beside.marked && cudaSetDevice(cuda_backend.device) == cudaSuccess &&
               cudaStreamWaitEvent(beside.stream, beside.mark, 0) == cudaSuccess &&
               cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, beside.stream) == cudaSuccess &&
               cudaStreamSynchronize(beside.stream) == cudaSuccess;
}

/* A piece of elements on the host. */
struct piece {
        alignas(float4) char data[STORE_PIECE * sizeof(float)];
};

static void narrow(enum dtype to, const double *values, struct piece *piece, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (to == DTYPE_FP32)
                        ((float *) piece->data)[i] = (float) values[i];
                else if (to == DTYPE_BF16)
                        ((__nv_bfloat16 *) piece->data)[i] = __float2bfloat16_rn((float) values[i]);
                else
                        ((__half *) piece->data)[i] = __float2half_rn((float) values[i]);
}

static void widen(enum dtype from, const struct piece *piece, double *values, size_t n) {
        for (size_t i = 0; i < n; i++)
                values[i] = from == DTYPE_FP32   ? ((const float *) piece->data)[i]
                            : from == DTYPE_BF16 ? __bfloat162float(((const __nv_bfloat16 *) piece->data)[i])
                                                 : __half2float(((const __half *) piece->data)[i]);
}

/* Called from several threads at once: initialisation. In the stream's order, as all that is called before and after. */
void cuda_store(enum dtype of, void *data, size_t first, const double *values, size_t n) {
        struct piece piece;

        if (!cuda_check(cudaSetDevice(cuda_backend.device), "store"))
                return;
        for (size_t at = 0; at < n && cuda_works(); at += STORE_PIECE) {
                size_t m = n - at < STORE_PIECE ? n - at : STORE_PIECE;
                narrow(of, values + at, &piece, m);
                if (cuda_check(cudaMemcpyAsync((char *) data + (first + at) * dtype_size(of), piece.data,
                                               m * dtype_size(of), cudaMemcpyHostToDevice, cuda_backend.stream),
                               "store"))
                        wait_for_stream();
        }
}

void cuda_load(enum dtype of, const void *data, size_t first, double *values, size_t n) {
        struct piece piece;

        for (size_t at = 0; at < n; at += STORE_PIECE) {
                size_t m = n - at < STORE_PIECE ? n - at : STORE_PIECE;
                cuda_download(piece.data, (const char *) data + (first + at) * dtype_size(of), m * dtype_size(of));
                widen(of, &piece, values + at, m);
        }
}

int cuda_memory_open(char *text, size_t size) {
        cudaError_t r = cudaMalloc((void **) &cuda_backend.scratch, CUDA_SCRATCH_BYTES);

        if (r == cudaSuccess)
                r = cudaHostAlloc((void **) &staging.slots, SLOTS * SLOT_BYTES, cudaHostAllocDefault);
        for (unsigned i = 0; r == cudaSuccess && i < SLOTS; i++)
                r = cudaEventCreateWithFlags(&staging.free[i], cudaEventDisableTiming);
        if (r == cudaSuccess)
                r = cudaStreamCreateWithFlags(&beside.stream, cudaStreamNonBlocking);
        if (r == cudaSuccess)
                r = cudaEventCreateWithFlags(&beside.mark, cudaEventDisableTiming);
        if (r == cudaSuccess)
                return 0;
        snprintf(text, size, "no memory: %s", cudaGetErrorString(r));
        return -ENOMEM;
}

void cuda_memory_close(void) {
        for (unsigned i = 0; i < SLOTS; i++)
                if (staging.free[i])
                        (void) cudaEventDestroy(staging.free[i]);
        if (beside.mark)
                (void) cudaEventDestroy(beside.mark);
        if (beside.stream)
                (void) cudaStreamDestroy(beside.stream);
        (void) cudaFreeHost(staging.slots);
        (void) cudaFree(cuda_backend.scratch);
        staging = {};
        beside = {};
}
