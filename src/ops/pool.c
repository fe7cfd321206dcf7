/* pool.c - reference max_pool, avg_pool and global_avg_pool, each behind fold.pre. */
#include <math.h>
#include "cxnet/op.h"
#include "ref.h"

/* pad <= kernel / 2, as in PyTorch: then every window holds at least one real pixel. */
static cx_status infer_window(cx_call *c, cx_op_id id, cx_error *err)
{
    TRY(cx_op_check(c, id, err));
    const cx_pool_attr *a = c->attr;
    cx_shape x = c->x[0].s;
    if (a->kernel < 1 || a->stride < 1)
        return cx_fail(err, CX_E_CONFIG, "%s: kernel and stride must be at least 1, are %d and %d", cx_ops[id].name, a->kernel, a->stride);
    if (a->pad < 0 || a->pad > a->kernel / 2)
        return cx_fail(err, CX_E_CONFIG, "%s: padding must be 0 to half the kernel (%d), is %d", cx_ops[id].name, a->kernel / 2, a->pad);
    int64_t h = x.h + 2 * (int64_t)a->pad - a->kernel, w = x.w + 2 * (int64_t)a->pad - a->kernel;
    if (h < 0 || w < 0)
        return cx_fail(err, CX_E_SHAPE, "%s: window %dx%d is larger than the padded input %lldx%lld", cx_ops[id].name, a->kernel, a->kernel,
                       (long long)(x.h + 2 * (int64_t)a->pad), (long long)(x.w + 2 * (int64_t)a->pad));
    c->y[0].s = cx_pooled(x, a);
    return CX_OK;
}

/* The real pixels [y0,y1) x [x0,x1) of the window of output (p,q). */
typedef struct { int64_t y0, y1, x0, x1; } window;

static window window_at(const cx_call *c, int64_t p, int64_t q)
{
    const cx_pool_attr *a = c->attr;
    int64_t y = p * a->stride - a->pad, x = q * a->stride - a->pad;
    return (window){ max64(y, 0), min64(y + a->kernel, c->x[0].s.h), max64(x, 0), min64(x + a->kernel, c->x[0].s.w) };
}

/* What the windows that hold a pixel send back to one of its channels, added in order, rounded each time. A plain call adds to what dx held. */
typedef double (*share_fn)(const cx_call *c, int64_t pixel, int64_t n, int64_t p, int64_t q, int64_t k);

static float gather(const cx_call *c, int64_t pixel, int64_t k, float start, share_fn share)
{
    const cx_pool_attr *a = c->attr;
    cx_shape x = c->x[0].s, y = c->y[0].s;
    int64_t row = pixel / x.w % x.h + a->pad, column = pixel % x.w + a->pad, n = pixel / x.w / x.h;
    float sum = start;
    for (int64_t p = max64(0, row - a->kernel + a->stride) / a->stride; p < y.h && p * a->stride <= row; p++)
        for (int64_t q = max64(0, column - a->kernel + a->stride) / a->stride; q < y.w && q * a->stride <= column; q++)
            put(&sum, true, share(c, pixel, n, p, q, k));
    return sum;
}

static cx_status pool_backward(const cx_call *c, share_fn share)
{
    for (int64_t k = 0; wants_dx(c) && k < c->x[0].s.c; k++) {
        double sums[2] = { 0 };
        for (int64_t i = 0; i < cx_pixels(c->x[0].s); i++)
            if (c->fold.pre.s.c)
                put_gradient(c, i, k, (double)gather(c, i, k, 0, share), sums);
            else
                row_at(&c->dx[0], i)[k] = gather(c, i, k, c->dx_add[0] ? row_at(&c->dx[0], i)[k] : 0, share);
        put_sums(c, k, sums);
    }
    return CX_OK;
}

/* ---- max_pool ---- */

cx_status cx_infer_max_pool(cx_call *c, cx_error *err) { return infer_window(c, CX_OP_MAX_POOL, err); }

int64_t cx_flops_max_pool(const cx_call *c)
{
    const cx_pool_attr *a = c->attr;
    return cx_elems(c->y[0].s) * a->kernel * a->kernel;
}

/* Offset of the first largest value in scan order (the one that takes the gradient, as in PyTorch); a NaN counts as largest. */
static int64_t argmax_at(const cx_call *c, int64_t n, int64_t p, int64_t q, int64_t k)
{
    window w = window_at(c, p, q);
    int64_t best = -1;
    float largest = 0;
    for (int64_t y = w.y0; y < w.y1; y++)
        for (int64_t x = w.x0; x < w.x1; x++) {
            int64_t pixel = (n * c->x[0].s.h + y) * c->x[0].s.w + x;
            float v = x_at(c, pixel, k);
            if (best < 0 || v > largest || (isnan(v) && !isnan(largest))) {
                best = pixel;
                largest = v;
            }
        }
    return best;
}

cx_status cx_ref_fwd_max_pool(const cx_call *c)
{
    cx_shape y = c->y[0].s;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++)
            for (int64_t q = 0; q < y.w; q++)
                for (int64_t k = 0; k < y.c; k++)
                    pixel_at(&c->y[0], n, p, q)[k] = x_at(c, argmax_at(c, n, p, q, k), k);
    return CX_OK;
}

static double max_share(const cx_call *c, int64_t pixel, int64_t n, int64_t p, int64_t q, int64_t k)
{
    return argmax_at(c, n, p, q, k) == pixel ? (double)pixel_at(&c->dy[0], n, p, q)[k] : 0;
}

cx_status cx_ref_bwd_max_pool(const cx_call *c) { return pool_backward(c, max_share); }

/* ---- avg_pool ---- */

cx_status cx_infer_avg_pool(cx_call *c, cx_error *err) { return infer_window(c, CX_OP_AVG_POOL, err); }

int64_t cx_flops_avg_pool(const cx_call *c)
{
    const cx_pool_attr *a = c->attr;
    return cx_elems(c->y[0].s) * a->kernel * a->kernel;
}

static double divisor_of(const cx_call *c, window w)
{
    const cx_pool_attr *a = c->attr;
    return a->count_pad ? (double)a->kernel * a->kernel : (double)((w.y1 - w.y0) * (w.x1 - w.x0));
}

cx_status cx_ref_fwd_avg_pool(const cx_call *c)
{
    cx_shape s = c->y[0].s;
    for (int64_t i = 0; i < cx_elems(s); i++) {
        int64_t k = i % s.c, q = i / s.c % s.w, p = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
        window w = window_at(c, p, q);
        double sum = 0;
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++)
                sum += (double)x_at(c, (n * c->x[0].s.h + y) * c->x[0].s.w + x, k);
        pixel_at(&c->y[0], n, p, q)[k] = (float)(sum / divisor_of(c, w));
    }
    return CX_OK;
}

static double avg_share(const cx_call *c, int64_t pixel, int64_t n, int64_t p, int64_t q, int64_t k)
{
    (void)pixel;
    return (double)pixel_at(&c->dy[0], n, p, q)[k] / divisor_of(c, window_at(c, p, q));
}

cx_status cx_ref_bwd_avg_pool(const cx_call *c) { return pool_backward(c, avg_share); }

/* ---- global_avg_pool ---- */

cx_status cx_infer_global_avg_pool(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_GLOBAL_AVG_POOL, err));
    c->y[0].s = (cx_shape){ c->x[0].s.n, 1, 1, c->x[0].s.c };
    return CX_OK;
}

int64_t cx_flops_global_avg_pool(const cx_call *c) { return cx_elems(c->x[0].s); }

cx_status cx_ref_fwd_global_avg_pool(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    int64_t area = x.h * x.w;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t k = 0; k < x.c; k++) {
            double sum = 0;
            for (int64_t i = 0; i < area; i++)
                sum += (double)x_at(c, n * area + i, k);
            row_at(&c->y[0], n)[k] = (float)(sum / (double)area);
        }
    return CX_OK;
}

cx_status cx_ref_bwd_global_avg_pool(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    int64_t area = x.h * x.w;
    for (int64_t k = 0; wants_dx(c) && k < x.c; k++) {
        double sums[2] = { 0 };
        for (int64_t i = 0; i < cx_pixels(x); i++)
            put_gradient(c, i, k, (double)row_at(&c->dy[0], i / area)[k] / (double)area, sums);
        put_sums(c, k, sums);
    }
    return CX_OK;
}
