/* ranks.h - GPUs that add their gradients among themselves, by NCCL; for cuda.c. */
#ifndef CX_CUDA_RANKS_H
#define CX_CUDA_RANKS_H
#include <cuda_runtime_api.h>
#include "cxnet/comm.h"

typedef struct cx_nccl cx_nccl;
/* All ranks of comm at once, each with its GPU; NCCL's unique id travels by comm. CX_E_UNSUPPORTED on all of them where one has no NCCL, or NCCL refuses.
 * comm must outlive it. */
cx_status cx_nccl_open(cudaStream_t stream, cx_comm *comm, cx_nccl **out, cx_error *err);
/* As cx_comm.sum. Queued on the stream; a graph may capture it once it has run with as many numbers. */
cx_status cx_nccl_sum(cx_nccl *c, float *x, int64_t n, cx_error *err);
void cx_nccl_close(cx_nccl *c);                    /* comm has its own sum again. NULL is allowed */
#endif
