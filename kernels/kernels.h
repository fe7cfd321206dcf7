/* kernels.h - the launchers of kernels/: one pair for each operator, with the contract that a reference and a CPU kernel have too (cx_call in op.h). Plain C,
 * included by src/cuda and by the tests. Depends on op.h, graph.h.
 *
 * Tensors and scratch of a call are device memory; attr, shapes and everything else are read on the host. A launcher checks nothing that the plan has checked,
 * queues its work on the stream of c->self and returns at once: CX_OK, or CX_E_INTERNAL when CUDA refuses a launch. A forward step takes every fold that its
 * operator's row allows, so do backward steps; x[0] and y[0] may be CX_BF16 where the file says so. No atomics: the same bits from run to run. */
#ifndef CX_KERNELS_H
#define CX_KERNELS_H
#include "cxnet/graph.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What c->self points at: begins the backend's handle. */
typedef struct { void *stream; } cx_cuda_queue;

/* cx_status cx_cuda_fwd_relu(const cx_call *c), and so on for every row of ops.def; concat and flatten for plans without views. */
#define OP(ID, name, lo, hi, out, attr, flags, rtol, atol) \
    cx_status cx_cuda_fwd_##name(const cx_call *c); \
    cx_status cx_cuda_bwd_##name(const cx_call *c);
#include "cxnet/ops.def"
#undef OP
/* As cx_ref_fwd_statistics, cx_ref_bwd_statistics, cx_ref_fwd_convert. */
cx_status cx_cuda_fwd_statistics(const cx_call *c);
cx_status cx_cuda_bwd_statistics(const cx_call *c);
cx_status cx_cuda_fwd_convert(const cx_call *c);

/* As cx_backend.update and sum_squares. *out: a double on the device. scratch: cx_cuda_sum_doubles(n) doubles on the device. */
cx_status cx_cuda_update(void *stream, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
int64_t cx_cuda_sum_doubles(int64_t n);
cx_status cx_cuda_sum_squares(void *stream, int64_t n, const float *x, double *scratch, double *out);

#ifdef __cplusplus
}
#endif
#endif
