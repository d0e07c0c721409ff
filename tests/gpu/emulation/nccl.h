/* As much of NCCL as collective.cu uses, over shared memory between the ranks of one host: nccl.cc. Sums are taken in
 * the order of ranks. */
#ifndef EMULATION_NCCL_H
#define EMULATION_NCCL_H

#include <cuda_runtime.h>

struct ncclUniqueId {
        char internal[128];
};
struct emulated_comm;
typedef struct emulated_comm *ncclComm_t;
enum ncclResult_t { ncclSuccess, ncclSystemError, ncclInProgress };
enum ncclDataType_t { ncclFloat32 };
enum ncclRedOp_t { ncclSum };

const char *ncclGetErrorString(ncclResult_t r);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *ret, int n_ranks, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *ret);
ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t);

#endif
