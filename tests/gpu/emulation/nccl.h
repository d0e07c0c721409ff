/* As much of NCCL as collective.cu uses, over shared memory between the ranks of one host: nccl.cc, a library
 * of its own. Sums are taken in
 * the order of ranks. */
#ifndef EMULATION_NCCL_H
#define EMULATION_NCCL_H

#include <stddef.h>

typedef void *cudaStream_t;

struct ncclUniqueId {
        char internal[128];
};
struct emulated_comm;
typedef struct emulated_comm *ncclComm_t;
enum ncclResult_t { ncclSuccess = 0, ncclSystemError = 2, ncclRemoteError = 6, ncclInProgress = 7 };
enum ncclDataType_t { ncclFloat32 = 7 };
enum ncclRedOp_t { ncclSum = 0 };

/* libnccl.so.2, which the module loads. */
extern "C" {
const char *ncclGetErrorString(ncclResult_t r);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *ret, int n_ranks, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *ret);
ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t);
}

#endif
