/* check.h - calls of CUDA that fail become a cx_status with CUDA's text; for src/cuda. */
#ifndef CX_CUDA_CHECK_H
#define CX_CUDA_CHECK_H
#include <cuda_runtime_api.h>
#include "cxnet/status.h"

/* "cuda: WHAT: CUDA's text". CX_E_MEMORY when CUDA is out of memory, else CX_E_INTERNAL. Whoever calls CUDA next is not to blame. */
cx_status cx_cuda_fail(cx_error *err, cudaError_t e, const char *what);
/* The same for a launcher's status, which may be CX_OK. */
cx_status cx_cuda_launched(cx_error *err, cx_status s, const char *what);

/* Like TRY. */
#define CUDA(call) do { const cudaError_t e_ = (call); if (e_ != cudaSuccess) return cx_cuda_fail(err, e_, #call); } while (0)
#endif
