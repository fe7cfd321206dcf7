/* upsample.c - reference bilinear resize to a given size, with PyTorch's two conventions of where pixel centres lie. */
#include "cxnet/op.h"
#include "ref.h"

cx_status cx_infer_upsample_bilinear(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_UPSAMPLE, err));
    const cx_upsample_attr *a = c->attr;
    if (a->out_h < 1 || a->out_w < 1)
        return cx_fail(err, CX_E_CONFIG, "upsample_bilinear: output size must be at least 1x1, is %dx%d", a->out_h, a->out_w);
    c->y[0].s = (cx_shape){ c->x[0].s.n, a->out_h, a->out_w, c->x[0].s.c };
    return CX_OK;
}

int64_t cx_flops_upsample_bilinear(const cx_call *c) { return 7 * cx_elems(c->y[0].s); }

/* Output coordinate `at` lies between inputs lo and hi, at distance frac from lo. */
typedef struct { int64_t lo, hi; double frac; } tap;

static tap tap_at(int64_t at, int64_t in, int64_t out, bool align_corners)
{
    double pos = 0;
    if (!align_corners)
        pos = ((double)at + 0.5) * (double)in / (double)out - 0.5;
    else if (out > 1)
        pos = (double)at * (double)(in - 1) / (double)(out - 1);
    if (pos < 0)
        pos = 0;
    int64_t lo = min64((int64_t)pos, in - 1);
    return (tap){ lo, min64(lo + 1, in - 1), pos - (double)lo };
}

cx_status cx_ref_fwd_upsample_bilinear(const cx_call *c)
{
    const cx_upsample_attr *a = c->attr;
    cx_shape x = c->x[0].s, y = c->y[0].s;
    for (int64_t i = 0; i < cx_pixels(y); i++) {
        int64_t n = i / y.w / y.h;
        tap v = tap_at(i / y.w % y.h, x.h, y.h, a->align_corners), u = tap_at(i % y.w, x.w, y.w, a->align_corners);
        const float *x00 = pixel_at(&c->x[0], n, v.lo, u.lo), *x01 = pixel_at(&c->x[0], n, v.lo, u.hi);
        const float *x10 = pixel_at(&c->x[0], n, v.hi, u.lo), *x11 = pixel_at(&c->x[0], n, v.hi, u.hi);
        for (int64_t k = 0; k < y.c; k++)
            row_at(&c->y[0], i)[k] = (float)((1 - v.frac) * ((1 - u.frac) * (double)x00[k] + u.frac * (double)x01[k])
                                             + v.frac * ((1 - u.frac) * (double)x10[k] + u.frac * (double)x11[k]));
    }
    return CX_OK;
}

/* The weight with which input `from` enters output `at` along one axis. */
static double weight_of(tap t, int64_t from)
{
    return (t.lo == from ? 1 - t.frac : 0) + (t.hi == from ? t.frac : 0);
}

/* One input pixel, gathering from the outputs of its image that read it, so that each gradient is one double sum. */
static void gather(const cx_call *c, int64_t n, int64_t iy, int64_t ix, int64_t k0, int64_t block)
{
    const cx_upsample_attr *a = c->attr;
    cx_shape x = c->x[0].s, y = c->y[0].s;
    double sum[REF_BLOCK] = { 0 };
    for (int64_t p = 0; p < y.h; p++) {
        double wy = weight_of(tap_at(p, x.h, y.h, a->align_corners), iy);
        if (wy == 0)
            continue;
        for (int64_t q = 0; q < y.w; q++) {
            double w = wy * weight_of(tap_at(q, x.w, y.w, a->align_corners), ix);
            if (w == 0)
                continue;
            for (int64_t k = 0; k < block; k++)
                sum[k] += w * (double)pixel_at(&c->dy[0], n, p, q)[k0 + k];
        }
    }
    for (int64_t k = 0; k < block; k++)
        put(&pixel_at(&c->dx[0], n, iy, ix)[k0 + k], c->dx_add[0], sum[k]);
}

cx_status cx_ref_bwd_upsample_bilinear(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    if (!wants_grad(c, 0))
        return CX_OK;
    for (int64_t i = 0; i < cx_pixels(x); i++)
        for (int64_t k = 0; k < x.c; k += REF_BLOCK)
            gather(c, i / x.w / x.h, i / x.w % x.h, i % x.w, k, min64(REF_BLOCK, x.c - k));
    return CX_OK;
}
