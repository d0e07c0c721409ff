/*
 * NCCL: sums of gradients over ranks, on a stream of their own beside backward. Two events tie the streams together: `ready` (the
 * operations are done with a bucket) and `done` (all sums are there). NCCL_ALGO and NCCL_PROTO decide the order of additions; they
 * are a function of the topology and the size, so runs on the same hosts have the same bits.
 */
#include "trainer/cuda/backend.h"

#include <errno.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(ncclUniqueId) == OPS_COLLECTIVE_ID_BYTES, "an id is sent as so many bytes");

static struct {
        ncclComm_t comm;
        cudaStream_t stream;
        cudaEvent_t ready, done;
} c;

static int complain(ncclResult_t r, char *text, size_t size) {
        snprintf(text, size, "NCCL: %s", ncclGetErrorString(r));
        return -EIO;
}

static int make_id(void *id, char *text, size_t size) {
        ncclResult_t r = ncclGetUniqueId((ncclUniqueId *) id);

        return r == ncclSuccess ? 0 : complain(r, text, size);
}

static void stop(void) {
        if (c.comm)
                (void) (cuda_works() ? ncclCommDestroy(c.comm) : ncclCommAbort(c.comm));
        if (c.ready)
                (void) cudaEventDestroy(c.ready);
        if (c.done)
                (void) cudaEventDestroy(c.done);
        if (c.stream)
                (void) cudaStreamDestroy(c.stream);
        c = {};
}

static int prepare(char *text, size_t size) {
        if (cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking) != cudaSuccess ||
            cudaEventCreateWithFlags(&c.ready, cudaEventDisableTiming) != cudaSuccess ||
            cudaEventCreateWithFlags(&c.done, cudaEventDisableTiming) != cudaSuccess) {
                snprintf(text, size, "no stream for NCCL");
                return -ENOMEM;
        }
        return 0;
}

static int start(const void *id, uint32_t rank, uint32_t n_ranks, char *text, size_t size) {
        ncclUniqueId unique;

        memcpy(&unique, id, sizeof(unique));
        ncclResult_t r = ncclCommInitRank(&c.comm, (int) n_ranks, unique, (int) rank);
        return r == ncclSuccess ? 0 : complain(r, text, size);
}

static void sum(void *data, size_t n) {
        if (!cuda_works() || !cuda_check(cudaEventRecord(c.ready, cuda_backend.stream), "all-reduce") ||
            !cuda_check(cudaStreamWaitEvent(c.stream, c.ready, 0), "all-reduce"))
                return;
        ncclResult_t r = ncclAllReduce(data, data, n, ncclFloat32, ncclSum, c.comm, c.stream);
        if (r != ncclSuccess)
                cuda_fail("NCCL", ncclGetErrorString(r));
}

static void finish(void) {
        if (cuda_works() && cuda_check(cudaEventRecord(c.done, c.stream), "all-reduce"))
                (void) cuda_check(cudaStreamWaitEvent(cuda_backend.stream, c.done, 0), "all-reduce");
}

const char *cuda_collective_failed(void) {
        ncclResult_t r = ncclSuccess;

        if (!c.comm || (ncclCommGetAsyncError(c.comm, &r) == ncclSuccess && (r == ncclSuccess || r == ncclInProgress)))
                return NULL;
        return ncclGetErrorString(r);
}

const struct ops_collective cuda_collective = { prepare, make_id, start, stop, sum, finish };
