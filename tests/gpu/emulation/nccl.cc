/* See nccl.h. Owns a shared memory object that the id names; rank 0 removes it. A rank that dies leaves the others
 * waiting, as NCCL does. */
#include <signal.h>
#include <nccl.h>

#include "tests/gpu/emulation/fail.h"

#include <atomic>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RANKS_MAX 8
#define PIECE 16384 /* elements that are summed at a time */

struct shared {
        std::atomic<uint64_t> arrived; /* at all barriers so far, all ranks together */
        float piece[RANKS_MAX][PIECE];
};

struct emulated_comm {
        struct shared *shared;
        ncclUniqueId id;
        uint64_t barriers;
        int rank, n_ranks;
};

#define NCCL_CALL(call)                                       \
        do {                                                  \
                if (int status_ = emulated_fails_here(#call)) \
                        return (ncclResult_t) status_;        \
        } while (0)

const char *ncclGetErrorString(ncclResult_t r) {
        static char text[48];

        (void) snprintf(text, sizeof(text), "emulated result %d", (int) r);
        return text;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
        NCCL_CALL(ncclGetUniqueId);
        static unsigned n;

        memset(id, 0, sizeof(*id));
        snprintf(id->internal, sizeof(id->internal), "/bertd-nccl-%d-%u", (int) getpid(), n++);
        int fd = shm_open(id->internal, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(struct shared)) < 0)
                return ncclSystemError;
        return close(fd), ncclSuccess;
}

static void barrier(ncclComm_t comm) {
        uint64_t all = ++comm->barriers * (uint64_t) comm->n_ranks;

        comm->shared->arrived++;
        while (comm->shared->arrived < all)
                usleep(50);
}

ncclResult_t ncclCommInitRank(ncclComm_t *ret, int n_ranks, ncclUniqueId id, int rank) {
        NCCL_CALL(ncclCommInitRank);
        int fd = shm_open(id.internal, O_RDWR, 0);
        void *data = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (fd >= 0)
                close(fd);
        if (data == MAP_FAILED || n_ranks > RANKS_MAX)
                return ncclSystemError;
        *ret = new emulated_comm { (struct shared *) data, id, 0, rank, n_ranks };
        barrier(*ret);
        if (rank == 0)
                shm_unlink(id.internal); /* all have it */
        signal(SIGUSR1, SIG_IGN);        /* NCCL of 2022 took it for itself (nccl#704) */
        return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
        munmap(comm->shared, sizeof(*comm->shared));
        delete comm;
        return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }
/* The error that it fails with is the communicator's. */
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *ret) {
        *ret = (ncclResult_t) emulated_fails_here("ncclCommGetAsyncError");
        return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t) {
        NCCL_CALL(ncclAllReduce);
        for (size_t at = 0; at < n; at += PIECE) {
                size_t m = n - at < PIECE ? n - at : PIECE;
                memcpy(comm->shared->piece[comm->rank], (const float *) from + at, m * sizeof(float));
                barrier(comm);
                for (size_t i = 0; i < m; i++) {
                        float sum = 0;
                        for (int r = 0; r < comm->n_ranks; r++)
                                sum += comm->shared->piece[r][i];
                        ((float *) to)[at + i] = sum;
                }
                barrier(comm);
        }
        return ncclSuccess;
}
