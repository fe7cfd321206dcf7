/* roof.h - what a GPU can do at most; for src/cuda. Depends on graph.h. */
#ifndef CX_CUDA_ROOF_H
#define CX_CUDA_ROOF_H
#include "cxnet/graph.h"

/* cx_backend.roof. bf16_gflops is what mma.sync reaches, by which the kernels of this house multiply; Hopper's wgmma, which libraries use there, goes higher.
 * Its operands are all alike, which costs less power than a network's. cache_bytes stays 0: no loop for it yet. */
cx_status cx_cuda_roof(cx_backend *b, cx_roof *out, cx_error *err);

#endif
