/* ref.h - what the reference operators share: addressing of sliced tensors, masked gradients, checks of shapes. Private to src/ops. */
#ifndef CX_OPS_REF_H
#define CX_OPS_REF_H
#include "cxnet/op.h"

/* Every row has these four functions, in the file of its family. */
#define OP(ID, name, lo, hi, out, attr, flags, rtol, atol) \
    cx_status cx_infer_##name(cx_call *c, cx_error *err); \
    cx_status cx_ref_fwd_##name(const cx_call *c); \
    cx_status cx_ref_bwd_##name(const cx_call *c); \
    int64_t cx_flops_##name(const cx_call *c);
#include "cxnet/ops.def"
#undef OP

enum { REF_BLOCK = 64 };   /* channels summed side by side in double, without a workspace */

#define SHAPE_FMT "(%lld,%lld,%lld,%lld)"
#define SHAPE_ARGS(shape) (long long)(shape).n, (long long)(shape).h, (long long)(shape).w, (long long)(shape).c

/* The number of inputs, the presence of attributes and required inputs, and dimensions >= 1 whose product is countable. */
cx_status cx_op_check(const cx_call *c, cx_op_id id, cx_error *err);
/* Input i, called `what` in messages, is a vector (1,1,1,channels). */
cx_status cx_op_check_vector(const cx_call *c, cx_op_id id, int i, const char *what, int64_t channels, cx_error *err);

static inline bool has_input(const cx_call *c, int i) { return i < c->n_in && c->x[i].s.c > 0; }
static inline bool wants_grad(const cx_call *c, int i) { return i < c->n_in && c->dx[i].p != NULL; }

/* The channels of one pixel: by its place in (n,y,x) order, or by coordinates. */
static inline float *row_at(const cx_tensor *t, int64_t pixel) { return t->p + pixel * t->ld; }
static inline float *pixel_at(const cx_tensor *t, int64_t n, int64_t y, int64_t x) { return row_at(t, (n * t->s.h + y) * t->s.w + x); }

/* NaN passes through a ReLU, so that a broken run is seen and not hidden. */
static inline double relu_if(const cx_call *c, double v) { return c->relu && v < 0 ? 0 : v; }
static inline void put(float *dst, bool add, double v) { *dst = (float)(add ? (double)*dst + v : v); }

/* The gradient that reaches an operator through the ReLU folded into it. */
static inline double masked_dy(const cx_call *c, int64_t pixel, int64_t channel)
{
    if (c->relu && row_at(&c->y[0], pixel)[channel] <= 0)
        return 0;
    return row_at(&c->dy[0], pixel)[channel];
}

/* Mean and variance of each channel of t (statistics.c). */
void cx_ref_statistics(const cx_tensor *t, const cx_tensor *stats);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
#endif
