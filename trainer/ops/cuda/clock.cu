/* The device's clock: events in the stream, which the host runs ahead of, or in a graph. */
#include "trainer/ops/cuda/backend.h"

static cudaEvent_t stamps[OPS_STAMPS];

void cuda_stamp(unsigned i) {
        if (cuda_works() && (stamps[i] || cuda_check(cudaEventCreate(&stamps[i]), "clock")))
                (void) cuda_check(cudaEventRecordWithFlags(stamps[i], cuda_backend.stream,
                                                           cuda_backend.recording ? cudaEventRecordExternal
                                                                                  : cudaEventRecordDefault),
                                  "clock");
}

double cuda_between(unsigned from, unsigned to) {
        float milliseconds = 0;

        if (!stamps[from] || !stamps[to] ||
            cudaEventElapsedTime(&milliseconds, stamps[from], stamps[to]) != cudaSuccess) {
                (void) cudaGetLastError();
                return 0;
        }
        return milliseconds > 0 ? milliseconds / 1e3 : 0;
}

void cuda_clock_close(void) {
        for (cudaEvent_t &stamp : stamps) {
                if (stamp)
                        (void) cudaEventDestroy(stamp);
                stamp = NULL;
        }
}
