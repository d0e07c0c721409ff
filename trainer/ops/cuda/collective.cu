/*
 * NCCL: sums of gradients over ranks, on a separate stream beside backward. Two events tie the streams together: `ready` (the
 * operations are done with a bucket) and `done` (all sums are complete). NCCL_ALGO and NCCL_PROTO decide the order of additions; they
 * are a function of the topology and the size, so runs on the same hosts have the same bits.
 *
 * libnccl.so.2 is loaded when there are ranks to sum over: one GPU needs none, and neither does a build.
 */
#include "trainer/ops/cuda/backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

static constexpr char LIBRARY[] = "libnccl.so.2";

/* As much of NCCL 2's interface as is used here. */
namespace nccl {
enum result { SUCCESS = 0, IN_PROGRESS = 7 };
enum type { FLOAT32 = 7 };
enum operation { SUM = 0 };
struct unique_id {
        char bytes[OPS_COLLECTIVE_ID_BYTES];
};
typedef struct communicator *comm;
} // namespace nccl

#if __has_include(<nccl.h>)
static_assert(sizeof(ncclUniqueId) == sizeof(nccl::unique_id) && (int) ncclSuccess == nccl::SUCCESS &&
                      (int) ncclInProgress == nccl::IN_PROGRESS && (int) ncclFloat32 == nccl::FLOAT32 &&
                      (int) ncclSum == nccl::SUM,
              "NCCL's header has other values");
#endif

static struct {
        void *handle;
        const char *(*error)(enum nccl::result);
        enum nccl::result (*new_id)(struct nccl::unique_id *);
        enum nccl::result (*init)(nccl::comm *, int n_ranks, struct nccl::unique_id, int rank);
        enum nccl::result (*destroy)(nccl::comm);
        enum nccl::result (*abort)(nccl::comm);
        enum nccl::result (*broken)(nccl::comm, enum nccl::result *);
        enum nccl::result (*sum)(const void *, void *, size_t, enum nccl::type, enum nccl::operation, nccl::comm,
                                 cudaStream_t);
} library;

static struct {
        nccl::comm comm;
        cudaStream_t stream;
        cudaEvent_t ready, done;
} c;

template <class F> static bool find(F *ret, const char *name) {
        *ret = (F) dlsym(library.handle, name);
        return *ret != NULL;
}

/* Once in a process: a library that has its own threads is not unloaded. */
static int load(char *text, size_t size) {
        if (library.handle)
                return 0;
        library.handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (!library.handle) {
                snprintf(text, size, "NCCL, which sums over ranks, cannot be loaded: %s; install it or use one rank",
                         dlerror());
                return -ENOSYS;
        }
        if (find(&library.error, "ncclGetErrorString") && find(&library.new_id, "ncclGetUniqueId") &&
            find(&library.init, "ncclCommInitRank") && find(&library.destroy, "ncclCommDestroy") &&
            find(&library.abort, "ncclCommAbort") && find(&library.broken, "ncclCommGetAsyncError") &&
            find(&library.sum, "ncclAllReduce"))
                return 0;
        snprintf(text, size, "%s cannot be used: %s", LIBRARY, dlerror());
        (void) dlclose(library.handle);
        library = {};
        return -ENOSYS;
}

static int complain(enum nccl::result r, char *text, size_t size) {
        snprintf(text, size, "NCCL: %s", library.error(r));
        return -EIO;
}

static int make_id(void *id, char *text, size_t size) {
        enum nccl::result r = library.new_id((struct nccl::unique_id *) id);

        return r == nccl::SUCCESS ? 0 : complain(r, text, size);
}

static void stop(void) {
        if (c.comm)
                (void) (cuda_works() ? library.destroy(c.comm) : library.abort(c.comm));
        if (c.ready)
                (void) cudaEventDestroy(c.ready);
        if (c.done)
                (void) cudaEventDestroy(c.done);
        if (c.stream)
                (void) cudaStreamDestroy(c.stream);
        c = {};
}

static int prepare(char *text, size_t size) {
        int r = load(text, size);

        if (r < 0)
                return r;
        if (cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking) != cudaSuccess ||
            cudaEventCreateWithFlags(&c.ready, cudaEventDisableTiming) != cudaSuccess ||
            cudaEventCreateWithFlags(&c.done, cudaEventDisableTiming) != cudaSuccess) {
                snprintf(text, size, "no stream for NCCL");
                return -ENOMEM;
        }
        return 0;
}

static int start(const void *id, uint32_t rank, uint32_t n_ranks, char *text, size_t size) {
        struct nccl::unique_id unique;

        memcpy(&unique, id, sizeof(unique));
        enum nccl::result r = library.init(&c.comm, (int) n_ranks, unique, (int) rank);
        return r == nccl::SUCCESS ? 0 : complain(r, text, size);
}

static void sum(void *data, size_t n) {
        if (!cuda_works() || !cuda_check(cudaEventRecord(c.ready, cuda_backend.stream), "all-reduce") ||
            !cuda_check(cudaStreamWaitEvent(c.stream, c.ready, 0), "all-reduce"))
                return;
        enum nccl::result r = library.sum(data, data, n, nccl::FLOAT32, nccl::SUM, c.comm, c.stream);
        if (r != nccl::SUCCESS)
                cuda_fail("NCCL", library.error(r));
}

static void finish(void) {
        if (cuda_works() && cuda_check(cudaEventRecord(c.done, c.stream), "all-reduce"))
                (void) cuda_check(cudaStreamWaitEvent(cuda_backend.stream, c.done, 0), "all-reduce");
}

const char *cuda_collective_failed(void) {
        enum nccl::result r = nccl::SUCCESS;

        if (!c.comm || (library.broken(c.comm, &r) == nccl::SUCCESS && (r == nccl::SUCCESS || r == nccl::IN_PROGRESS)))
                return NULL;
        return library.error(r);
}

const struct ops_collective cuda_collective = { prepare, make_id, start, stop, sum, finish };
