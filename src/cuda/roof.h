/* roof.h - what a GPU can do at most; for src/cuda. Depends on graph.h. */
#ifndef CX_CUDA_ROOF_H
#define CX_CUDA_ROOF_H
#include "cxnet/graph.h"

/* cx_backend.roof. bf16_gflops and cache_bytes stay 0: no loop for them yet. */
cx_status cx_cuda_roof(cx_backend *b, cx_roof *out, cx_error *err);

#endif
