/* pool.c - reference max_pool, avg_pool and global_avg_pool. */
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
    c->y[0].s = (cx_shape){ x.n, h / a->stride + 1, w / a->stride + 1, x.c };
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

static void clear_dx(const cx_call *c)
{
    if (!c->dx_add[0])
        for (int64_t i = 0; i < cx_pixels(c->dx[0].s); i++)
            for (int64_t k = 0; k < c->dx[0].s.c; k++)
                row_at(&c->dx[0], i)[k] = 0;
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
            float v = pixel_at(&c->x[0], n, y, x)[k];
            if (best < 0 || v > largest || (isnan(v) && !isnan(largest))) {
                best = (n * c->x[0].s.h + y) * c->x[0].s.w + x;
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
                    pixel_at(&c->y[0], n, p, q)[k] = row_at(&c->x[0], argmax_at(c, n, p, q, k))[k];
    return CX_OK;
}

cx_status cx_ref_bwd_max_pool(const cx_call *c)
{
    cx_shape y = c->y[0].s;
    if (!wants_grad(c, 0))
        return CX_OK;
    clear_dx(c);
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++)
            for (int64_t q = 0; q < y.w; q++)
                for (int64_t k = 0; k < y.c; k++)
                    row_at(&c->dx[0], argmax_at(c, n, p, q, k))[k] += pixel_at(&c->dy[0], n, p, q)[k];
    return CX_OK;
}

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
                sum += (double)pixel_at(&c->x[0], n, y, x)[k];
        pixel_at(&c->y[0], n, p, q)[k] = (float)(sum / divisor_of(c, w));
    }
    return CX_OK;
}

cx_status cx_ref_bwd_avg_pool(const cx_call *c)
{
    cx_shape s = c->y[0].s;
    if (!wants_grad(c, 0))
        return CX_OK;
    clear_dx(c);
    for (int64_t i = 0; i < cx_elems(s); i++) {
        int64_t k = i % s.c, q = i / s.c % s.w, p = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
        window w = window_at(c, p, q);
        double g = (double)pixel_at(&c->dy[0], n, p, q)[k] / divisor_of(c, w);
        for (int64_t y = w.y0; y < w.y1; y++)
            for (int64_t x = w.x0; x < w.x1; x++)
                put(&pixel_at(&c->dx[0], n, y, x)[k], true, g);
    }
    return CX_OK;
}

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
                sum += (double)row_at(&c->x[0], n * area + i)[k];
            row_at(&c->y[0], n)[k] = (float)(sum / (double)area);
        }
    return CX_OK;
}

cx_status cx_ref_bwd_global_avg_pool(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    int64_t area = x.h * x.w;
    if (!wants_grad(c, 0))
        return CX_OK;
    for (int64_t i = 0; i < cx_pixels(x); i++)
        for (int64_t k = 0; k < x.c; k++)
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], (double)row_at(&c->dy[0], i / area)[k] / (double)area);
    return CX_OK;
}
