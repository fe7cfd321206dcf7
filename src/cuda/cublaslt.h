/* cublaslt.h - linear layers and 1x1 convolutions as matrix products by cuBLASLt, on channel slices in place. Opened at run time (library.h). Depends on
 * graph.h. */
#ifndef CX_CUBLASLT_H
#define CX_CUBLASLT_H
#include "cxnet/graph.h"

/* The library, and for each shape the algorithm that its heuristics suggest: chosen once, and among those that give the same bits every time. One thread at a
 * time. */
typedef struct cx_cublaslt cx_cublaslt;
cx_status cx_cublaslt_open(cx_cublaslt **out, cx_error *err);       /* CX_E_UNSUPPORTED: it is not here */
void cx_cublaslt_close(cx_cublaslt *l);                             /* NULL is fine */

/* Implementations for op, best first; *n is 0 for operators without. They accept calls whose c->self is a cx_cuda_handle with cuBLASLt in it. */
const cx_impl *cx_cublaslt_impls(cx_op_id op, int *n);

#endif
