/* cuda.h - what the files of the CUDA backend share: the handle, as launchers see it (cx_call.self), and the lists of implementations. Depends on kernels.h. */
#ifndef CX_CUDA_H
#define CX_CUDA_H
#include "kernels.h"

struct cx_cudnn;
struct cx_cublaslt;
struct cx_nccl;

typedef struct {
    cx_cuda_queue queue;            /* first: what the launchers of kernels/ see */
    struct cx_cudnn *cudnn;         /* convolutions by cuDNN; NULL: not here */
    struct cx_cublaslt *cublaslt;   /* products by cuBLASLt; NULL: not here */
    struct cx_nccl *nccl;           /* the ranks that train with this one; NULL: alone, or joined by way of the host */
} cx_cuda_handle;

/* Of each operator, best first, as this handle has them. */
enum { CX_CUDA_MOST_IMPLS = 8 };
typedef struct { cx_impl impl[CX_OP_COUNT][CX_CUDA_MOST_IMPLS]; int n[CX_OP_COUNT]; } cx_cuda_impls;
void cx_cuda_list_impls(const cx_cuda_handle *h, cx_cuda_impls *out);

/* Where plans of libraries outlive the process: $CXNET_CACHE (empty: nowhere), or cx_cache_folder. NULL: nowhere. Owned by the caller. */
char *cx_cuda_cache_folder(void);

#endif
