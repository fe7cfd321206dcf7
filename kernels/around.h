/* around.h - what stands around a library's convolution, which knows no folds: operands gathered for it, results taken from it. Plain C. Depends on kernels.h.
 *
 * A gathered tensor is dense, of either type, and may have more channels than there are, zero from there on (libraries want multiples of 8). Each queues its
 * work on the stream of c->self. */
#ifndef CX_CUDA_AROUND_H
#define CX_CUDA_AROUND_H
#include "kernels.h"
#ifdef __cplusplus
extern "C" {
#endif

cx_status cx_cuda_gather_u(const cx_call *c, cx_tensor to);          /* x[0] behind its prologue */
cx_status cx_cuda_gather_dy(const cx_call *c, cx_tensor to);         /* dy[0] with its carry, behind the mask of the folded ReLU */
cx_status cx_cuda_gather_weights(const cx_call *c, cx_tensor to);    /* x[1]; to.s.n may be larger too */
cx_status cx_cuda_take_y(const cx_call *c, cx_tensor from);          /* y[0]: + bias, post, ReLU */
cx_status cx_cuda_take_dx(const cx_call *c, cx_tensor from, void *scratch);     /* dx[0] and sums, from the gradient of u */
cx_status cx_cuda_take_dw(const cx_call *c, cx_tensor from);         /* dx[1] */
cx_status cx_cuda_take_db(const cx_call *c, void *scratch);          /* dx[2], from dy[0] */
cx_status cx_cuda_take_statistics(const cx_call *c, void *scratch);  /* those of y[0], if they are wanted and this is no redo */
size_t cx_cuda_statistics_bytes(const cx_call *c);                   /* of scratch for them */
/* Bytes of scratch for take_dx and take_db. */
size_t cx_cuda_take_bytes(const cx_call *c);

#ifdef __cplusplus
}
#endif
#endif
