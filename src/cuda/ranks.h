/* ranks.h - GPUs that add their gradients among themselves, by NCCL, and what becomes of them when one is gone; for src/cuda. */
#ifndef CX_CUDA_RANKS_H
#define CX_CUDA_RANKS_H
#include <cuda_runtime_api.h>
#include "cxnet/comm.h"

typedef struct cx_nccl cx_nccl;
/* All ranks of comm at once, each with its GPU; NCCL's unique id travels by comm. CX_E_UNSUPPORTED on all of them where one has no NCCL, or NCCL refuses.
 * CX_E_PEER: one has not come. comm must outlive it. */
cx_status cx_nccl_open(cudaStream_t stream, cx_comm *comm, cx_nccl **out, cx_error *err);
/* Memory for sums of so many numbers; waits where there was less. */
cx_status cx_nccl_reserve(cx_nccl *c, int64_t n, cx_error *err);
/* As cx_comm.sum. Queued on the stream; a graph may capture it where memory was reserved and as many numbers were added before. */
cx_status cx_nccl_sum(cx_nccl *c, float *x, int64_t n, cx_error *err);
/* all [ranks, bytes], on the device: that of this rank is there and goes to the others, theirs come. Queued, or captured. */
cx_status cx_nccl_gather(cx_nccl *c, void *all, size_t bytes, cx_error *err);

/* As cudaEventSynchronize or, event NULL, cudaStreamSynchronize; but while it waits it looks after the other ranks, by comm->look, by NCCL's own news, and by
 * the clock: comm->patience_s. When one is gone, *cx_nccl_lost is set first, so that what this rank makes of a sum without it can be told; then the device is
 * made to leave such sums, and once it has come to the end of its work, this returns CX_E_PEER, as do sum and gather from then on. Later waits are for sound
 * work: CX_OK. CX_E_PEER from them too where the device does not come to an end. c NULL: nobody is waited for. */
cx_status cx_nccl_wait(cx_nccl *c, cudaStream_t stream, cudaEvent_t event, cx_error *err);
/* CX_E_PEER with the reason once a rank is gone; CX_OK before, and for NULL. */
cx_status cx_nccl_gone(const cx_nccl *c, cx_error *err);
/* In pinned memory, which kernels may read in place: whether a rank is gone. */
const int32_t *cx_nccl_lost(const cx_nccl *c);
/* Memory that a captured sum is tied to. */
const void *cx_nccl_memory(const cx_nccl *c);
void cx_nccl_close(cx_nccl *c);                    /* comm has its own sum again. NULL is allowed */
#endif
