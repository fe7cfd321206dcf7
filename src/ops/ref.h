/* ref.h - what the reference operators share: addressing of sliced tensors, masked gradients, checks of shapes. Private to src/ops. */
#ifndef CX_OPS_REF_H
#define CX_OPS_REF_H
#include <math.h>
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

/* x[0] behind the norm folded in front of it: u, before and after its ReLU. */
static inline float u_at(const cx_call *c, int64_t pixel, int64_t channel)
{
    float x = row_at(&c->x[0], pixel)[channel];
    return c->fold.pre.s.c ? fmaf(x, cx_row(&c->fold.pre, CX_FOLD_SCALE)[channel], cx_row(&c->fold.pre, CX_FOLD_SHIFT)[channel]) : x;
}
static inline float x_at(const cx_call *c, int64_t pixel, int64_t channel)
{
    float u = u_at(c, pixel, channel);
    return c->fold.pre_relu && u < 0 ? 0 : u;
}

/* The gradient that reaches an operator, its carry applied, through the ReLU folded into it. */
static inline double masked_dy(const cx_call *c, int64_t pixel, int64_t channel)
{
    const cx_tensor *carry = &c->fold.carry;
    if (c->relu && row_at(&c->y[0], pixel)[channel] <= 0)
        return 0;
    double dy = (double)row_at(&c->dy[0], pixel)[channel];
    if (!carry->s.c)
        return dy;
    return dy + (double)cx_row(carry, 0)[channel] * (double)row_at(&c->y[0], pixel)[channel] + (double)cx_row(carry, 1)[channel];
}

/* Some gradient of x[0] is wanted: its own, or only the sums that a folded norm needs. */
static inline bool wants_dx(const cx_call *c) { return wants_grad(c, 0) || c->fold.sums.s.c; }

/* g, the gradient of x[0] behind the norm folded in front of it, goes through that norm into dx[0] and into sum[2], which runs over one channel. */
static inline void put_gradient(const cx_call *c, int64_t pixel, int64_t channel, double g, double sum[2])
{
    if (c->fold.pre.s.c) {
        if (c->fold.pre_relu && u_at(c, pixel, channel) <= 0)
            g = 0;
        sum[0] += g;
        if (c->fold.sums.s.c)
            sum[1] += g * ((double)row_at(&c->x[0], pixel)[channel] - (double)cx_row(&c->fold.pre, CX_FOLD_MEAN)[channel]);
        g *= (double)cx_row(&c->fold.pre, CX_FOLD_SCALE)[channel];
    }
    if (wants_grad(c, 0))
        put(&row_at(&c->dx[0], pixel)[channel], c->dx_add[0], g);
}

static inline void put_sums(const cx_call *c, int64_t channel, const double sum[2])
{
    for (int row = 0; c->fold.sums.s.c && row < 2; row++)
        cx_row(&c->fold.sums, row)[channel] = (float)sum[row];
}

/* Mean and variance of each channel of t (statistics.c). */
void cx_ref_statistics(const cx_tensor *t, const cx_tensor *stats);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
#endif
