/* kernels.h - the launchers of kernels/: one pair for each operator, with the contract that a reference and a CPU kernel have too (cx_call in op.h). Plain C,
 * included by src/cuda and by the tests. Depends on op.h, graph.h, update.h.
 *
 * Tensors and scratch of a call are device memory; attr, shapes and everything else are read on the host. A launcher checks nothing that the plan has checked,
 * queues its work on the stream of c->self and returns at once: CX_OK, or CX_E_INTERNAL when CUDA refuses a launch. A forward step takes every fold that its
 * operator's row allows, so do backward steps; x[0] and y[0] may be CX_BF16 where the file says so. No atomics on floats: the same bits from run to run. */
#ifndef CX_KERNELS_H
#define CX_KERNELS_H
#include "cxnet/graph.h"
#include "graph/update.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What c->self points at: begins the backend's handle. clock: seed and step of dropout, two numbers on the device that a captured step reads when it is
 * replayed; NULL: those of the call. */
typedef struct { void *stream; const uint64_t *clock; } cx_cuda_queue;

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

/* conv2d with cx_impl.dot: an x[0] in CX_BF16, of 8 channels or more, as many of y[0]. The members of a cx_impl. */
bool cx_cuda_accepts_conv2d_dot(const cx_call *c);
cx_status cx_cuda_fwd_conv2d_dot(const cx_call *c);
cx_status cx_cuda_bwd_conv2d_dot(const cx_call *c);
size_t cx_cuda_packed_conv2d_dot(const cx_call *c);
cx_status cx_cuda_pack_conv2d_dot(const cx_call *c);
/* conv_transpose2d likewise, of a stride above 1. */
bool cx_cuda_accepts_conv_transpose2d_dot(const cx_call *c);
cx_status cx_cuda_fwd_conv_transpose2d_dot(const cx_call *c);
cx_status cx_cuda_bwd_conv_transpose2d_dot(const cx_call *c);
size_t cx_cuda_packed_conv_transpose2d_dot(const cx_call *c);
cx_status cx_cuda_pack_conv_transpose2d_dot(const cx_call *c);

/* conv2d with fold.pool: 7x7 of stride 2 over at most three channels, in either type. The members of a cx_impl. */
bool cx_cuda_accepts_conv2d_stem(const cx_call *c);
cx_status cx_cuda_fwd_conv2d_stem(const cx_call *c);
size_t cx_cuda_packed_conv2d_stem(const cx_call *c);
cx_status cx_cuda_pack_conv2d_stem(const cx_call *c);

/* As cx_backend.update and sum_squares. *out: a double on the device. scratch: cx_cuda_sum_doubles(n) doubles on the device. */
cx_status cx_cuda_update(void *stream, const cx_update *u, int64_t n, float *param, const float *grad, float *m, float *v);
int64_t cx_cuda_sum_doubles(int64_t n);
cx_status cx_cuda_sum_squares(void *stream, int64_t n, const float *x, double *scratch, double *out);

/* As cx_backend.films, resize, clahe, beasf, whose checks they leave to it. work: on the device, as many bytes as the function beside says, at a multiple of 8;
 * zeros for BEASF. */
cx_status cx_cuda_films(void *stream, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, const cx_tensor *out);
size_t cx_cuda_resize_bytes(int width, int height, int side);
cx_status cx_cuda_resize(void *stream, const uint8_t *px, int width, int height, int side, uint8_t *out, void *work);
size_t cx_cuda_clahe_bytes(const cx_clahe *c, int n);
cx_status cx_cuda_clahe(void *stream, const cx_clahe *c, const uint8_t *px, int n, uint8_t *out, void *work);
size_t cx_cuda_beasf_bytes(int n);
cx_status cx_cuda_beasf(void *stream, const cx_beasf *b, const uint8_t *px, int n, int n_px, uint8_t *out, void *work);

/* ---- several ranks ----------------------------------------------------------------------------------------------------- */

/* own[0..n) <- the sum over ranks in their order, ((x0 + x1) + x2) ...; that of rank r, where it is not this one, lies at parts + r * pitch. */
cx_status cx_cuda_add_ranks(void *stream, float *own, const float *parts, int64_t pitch, int rank, int ranks, int64_t n);

/* As cx_backend.cam, but map is on the device, as is scratch: cx_cuda_cam_doubles(act.s) doubles, of which by_place needs none. act in either type, grad in
 * float32, both slices if need be. */
int64_t cx_cuda_cam_doubles(cx_shape act);
cx_status cx_cuda_cam(void *stream, bool by_place, cx_tensor act, cx_tensor grad, double *scratch, float *map);

/* ---- the roof ---------------------------------------------------------------------------------------------------------
 * Loops of as many threads as fill any GPU, each of which leaves a float in out, on the device (so that nothing is left out as useless). */
enum { CX_CUDA_ROOF_BLOCKS = 8192, CX_CUDA_ROOF_THREADS = CX_CUDA_ROOF_BLOCKS * 256, CX_CUDA_TURN_FLOPS = 64, CX_CUDA_DOT_FLOPS = 1024 };
/* x < 1: what a thread leaves goes to 8 / (1 - x) as the turns go up. */
cx_status cx_cuda_roof_fma(void *stream, int64_t turns, float x, float *out);
/* bfloat16 on tensor cores, by mma.sync. What a thread leaves is 512 x turns, exact while 16 x turns is (x: a bfloat16). */
cx_status cx_cuda_roof_dot(void *stream, int64_t turns, float x, float *out);
/* floats: a multiple of 4, 16-byte aligned. What the threads leave adds up to the sum of all. */
cx_status cx_cuda_roof_read(void *stream, int64_t floats, const float *from, float *out);
cx_status cx_cuda_roof_copy(void *stream, int64_t floats, const float *from, float *to);

/* ---- a step that is captured once and replayed ------------------------------------------------------------------------
 * What changes from step to step is read from device memory when the kernels run, and whether a step is sound is decided there, so that the host need not wait:
 *
 *     cx_cuda_sum_squares(stream, n, grad, scratch, squares);
 *     cx_cuda_clip(stream, squares, clip, loss, step);
 *     cx_cuda_update_from(stream, kind, scalars, step, n, param, grad, m, v);
 *
 * Before each replay the host writes scalars (cx_update_prepare of this step's cx_update) in stream order. It reads *step whenever it likes. */

/* The loss is not finite; it is, but the norm is not; another rank is gone, and what was added is void. */
typedef enum { CX_CUDA_SOUND, CX_CUDA_LOSS, CX_CUDA_NORM, CX_CUDA_LOST } cx_cuda_fault;

/* Of the last step, in device memory; zeros before the first. Once fault is not CX_CUDA_SOUND, nothing changes any of it but the host: norm and loss are then
 * those of the step at fault, whatever was queued behind it. */
typedef struct {
    double norm;                /* of the gradients before clipping; whatever came out where the loss is at fault */
    float loss;                 /* 0 where there is none */
    float scale;                /* what the update multiplies the gradients by */
    int32_t fault;              /* cx_cuda_fault */
} cx_cuda_step;

/* Reads *squares, the sum of squares of all gradients, and *loss (NULL: not looked at), both on the device, and writes *step. norm = sqrt(*squares). With
 * clip > 0 and norm > clip, scale is clip / norm, else 1: taken in double and rounded once, so it is the float that cx_update_prepare makes of such a
 * grad_scale. Does nothing after a fault. */
cx_status cx_cuda_clip(void *stream, const double *squares, double clip, const float *loss, cx_cuda_step *step);
/* cx_cuda_update with the numbers of *s, on the device. m NULL: SGD without momentum, whatever s->momentum says; v is Adam's and AdamW's, which differ only in
 * *s. step, on the device, may be NULL. With it, step->scale stands in for s->scale and, after a fault, param, m and v stay as they are. */
cx_status cx_cuda_update_from(void *stream, cx_optim_kind kind, const cx_scalars *s, const cx_cuda_step *step, int64_t n, float *param, const float *grad,
                              float *m, float *v);

/* With ranks such a step has more to it (cx_share in stepper.h), all on the device but *lost, which the host may set at any time:
 *
 *     cx_cuda_copy_when(stream, step, CX_CUDA_SOUND, statistics, kept, n);       before the forward pass
 *     cx_cuda_weigh_parts(stream, parts, rank, ranks, seed, loss);               behind it, and parts gathered from all ranks
 *     cx_cuda_note_lost(stream, lost, step);                                     behind the sum of the gradients, before cx_cuda_clip
 *     cx_cuda_copy_when(stream, step, CX_CUDA_LOST, kept, statistics, n);        behind the update */
typedef struct { double weight; float loss; } cx_cuda_part;         /* what the loss of a part divides by, and that loss */
/* *seed <- the share of part[rank], rounded to float, *loss <- that of the whole batch: the bits of cx_share_of and cx_share_loss. */
cx_status cx_cuda_weigh_parts(void *stream, const cx_cuda_part *part, int rank, int ranks, float *seed, float *loss);
/* A sound step is at fault where *lost, in pinned memory of the host. */
cx_status cx_cuda_note_lost(void *stream, const int32_t *lost, cx_cuda_step *step);
/* to[0..n) <- from[0..n) where step->fault is `when`. */
cx_status cx_cuda_copy_when(void *stream, const cx_cuda_step *step, cx_cuda_fault when, const float *from, float *to, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
