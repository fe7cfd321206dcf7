/* conv.c - reference conv2d and conv_transpose2d: shape rules, forward and backward as plain loops with double sums. */
#include "cxnet/op.h"
#include "ref.h"

/* ---- conv2d: y[n,p,q,o] = bias[o] + sum over (a,b,i) of x[n, p*stride + a - top, q*stride + b - left, i] * w[o,a,b,i], x behind fold.pre ---- */

cx_status cx_infer_conv2d(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_CONV2D, err));
    const cx_conv_attr *a = c->attr;
    cx_shape x = c->x[0].s, w = c->x[1].s;
    if (a->stride < 1)
        return cx_fail(err, CX_E_CONFIG, "conv2d: stride must be at least 1, is %d", a->stride);
    if (a->pad_top < 0 || a->pad_bottom < 0 || a->pad_left < 0 || a->pad_right < 0)
        return cx_fail(err, CX_E_CONFIG, "conv2d: padding must not be negative, is top %d, bottom %d, left %d, right %d",
                       a->pad_top, a->pad_bottom, a->pad_left, a->pad_right);
    if (w.c != x.c)
        return cx_fail(err, CX_E_SHAPE, "conv2d: weight has %lld input channels, x has %lld", (long long)w.c, (long long)x.c);
    int64_t h = x.h + a->pad_top + a->pad_bottom, wide = x.w + a->pad_left + a->pad_right;
    if (w.h > h || w.w > wide)
        return cx_fail(err, CX_E_SHAPE, "conv2d: kernel %lldx%lld is larger than the padded input %lldx%lld",
                       (long long)w.h, (long long)w.w, (long long)h, (long long)wide);
    if (has_input(c, 2))
        TRY(cx_op_check_vector(c, CX_OP_CONV2D, 2, "bias", w.n, err));
    c->y[0].s = cx_conv_map(c);
    return CX_OK;
}

int64_t cx_flops_conv2d(const cx_call *c)
{
    const cx_shape w = c->x[1].s;
    const int64_t kernel = c->fold.pool.kernel;
    return 2 * cx_elems(cx_conv_map(c)) * w.h * w.w * w.c + kernel * kernel * cx_elems(c->y[0].s);
}

/* A finished number of the map. */
static float conv_at(const cx_call *c, int64_t n, int64_t p, int64_t q, int64_t o)
{
    const cx_conv_attr *a = c->attr;
    cx_shape x = c->x[0].s, w = c->x[1].s;
    double sum = has_input(c, 2) ? (double)c->x[2].p[o] : 0;
    for (int64_t ky = 0; ky < w.h; ky++) {
        int64_t iy = p * a->stride + ky - a->pad_top;
        if (iy < 0 || iy >= x.h)
            continue;
        for (int64_t kx = 0; kx < w.w; kx++) {
            int64_t ix = q * a->stride + kx - a->pad_left;
            if (ix < 0 || ix >= x.w)
                continue;
            const float *weight = pixel_at(&c->x[1], o, ky, kx);
            int64_t pixel = (n * x.h + iy) * x.w + ix;
            for (int64_t i = 0; i < x.c; i++)
                sum += (double)x_at(c, pixel, i) * (double)weight[i];
        }
    }
    const cx_tensor *post = &c->fold.post;
    if (post->s.c)
        sum = sum * (double)cx_row(post, CX_FOLD_SCALE)[o] + (double)cx_row(post, CX_FOLD_SHIFT)[o];
    return (float)relu_if(c, sum);
}

/* The largest of a window of the map, as max_pool has it: a NaN counts as largest. */
static float pooled_at(const cx_call *c, int64_t n, int64_t p, int64_t q, int64_t o)
{
    const cx_pool_attr *a = &c->fold.pool;
    const cx_shape map = cx_conv_map(c);
    const int64_t y0 = p * a->stride - a->pad, x0 = q * a->stride - a->pad;
    float largest = -INFINITY;
    for (int64_t y = max64(y0, 0); y < min64(y0 + a->kernel, map.h); y++)
        for (int64_t x = max64(x0, 0); x < min64(x0 + a->kernel, map.w); x++) {
            const float v = conv_at(c, n, y, x, o);
            if (v > largest || isnan(v))
                largest = v;
        }
    return largest;
}

cx_status cx_ref_fwd_conv2d(const cx_call *c)
{
    cx_shape y = c->y[0].s;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++)
            for (int64_t q = 0; q < y.w; q++) {
                float *out = pixel_at(&c->y[0], n, p, q);
                for (int64_t o = 0; o < y.c; o++)
                    out[o] = c->fold.pool.kernel ? pooled_at(c, n, p, q, o) : conv_at(c, n, p, q, o);
            }
    if (c->fold.stats.s.c && !c->redo)
        cx_ref_statistics(&c->y[0], &c->fold.stats);
    return CX_OK;
}

/* dx of one input pixel, a block of channels: every output pixel whose window holds it. sums: what put_gradient wants of each channel. */
static void conv_dx(const cx_call *c, int64_t n, int64_t iy, int64_t ix, int64_t i0, int64_t block, double sums[][2])
{
    const cx_conv_attr *a = c->attr;
    cx_shape y = c->y[0].s, w = c->x[1].s;
    double sum[REF_BLOCK] = { 0 };
    for (int64_t ky = 0; ky < w.h; ky++) {
        int64_t p = iy + a->pad_top - ky;
        if (p < 0 || p % a->stride || p / a->stride >= y.h)
            continue;
        for (int64_t kx = 0; kx < w.w; kx++) {
            int64_t q = ix + a->pad_left - kx;
            if (q < 0 || q % a->stride || q / a->stride >= y.w)
                continue;
            int64_t pixel = (n * y.h + p / a->stride) * y.w + q / a->stride;
            for (int64_t o = 0; o < y.c; o++) {
                double g = masked_dy(c, pixel, o);
                const float *weight = pixel_at(&c->x[1], o, ky, kx) + i0;
                for (int64_t i = 0; i < block; i++)
                    sum[i] += g * (double)weight[i];
            }
        }
    }
    for (int64_t i = 0; i < block; i++)
        put_gradient(c, (n * c->x[0].s.h + iy) * c->x[0].s.w + ix, i0 + i, sum[i], sums[i]);
}

static void conv_dx_block(const cx_call *c, int64_t i0, int64_t block)
{
    cx_shape x = c->x[0].s;
    double sums[REF_BLOCK][2] = { 0 };
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t iy = 0; iy < x.h; iy++)
            for (int64_t ix = 0; ix < x.w; ix++)
                conv_dx(c, n, iy, ix, i0, block, sums);
    for (int64_t i = 0; i < block; i++)
        put_sums(c, i0 + i, sums[i]);
}

/* dw of one (o, ky, kx), a block of input channels: every output pixel. */
static void conv_dw(const cx_call *c, int64_t o, int64_t ky, int64_t kx, int64_t i0, int64_t block)
{
    const cx_conv_attr *a = c->attr;
    cx_shape x = c->x[0].s, y = c->y[0].s;
    double sum[REF_BLOCK] = { 0 };
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++) {
            int64_t iy = p * a->stride + ky - a->pad_top;
            if (iy < 0 || iy >= x.h)
                continue;
            for (int64_t q = 0; q < y.w; q++) {
                int64_t ix = q * a->stride + kx - a->pad_left;
                if (ix < 0 || ix >= x.w)
                    continue;
                double g = masked_dy(c, (n * y.h + p) * y.w + q, o);
                for (int64_t i = 0; i < block; i++)
                    sum[i] += g * (double)x_at(c, (n * x.h + iy) * x.w + ix, i0 + i);
            }
        }
    float *dw = pixel_at(&c->dx[1], o, ky, kx) + i0;
    for (int64_t i = 0; i < block; i++)
        put(&dw[i], c->dx_add[1], sum[i]);
}

static void bias_grad(const cx_call *c)
{
    for (int64_t o = 0; o < c->y[0].s.c; o++) {
        double sum = 0;
        for (int64_t pixel = 0; pixel < cx_pixels(c->y[0].s); pixel++)
            sum += masked_dy(c, pixel, o);
        put(&c->dx[2].p[o], c->dx_add[2], sum);
    }
}

cx_status cx_ref_bwd_conv2d(const cx_call *c)
{
    cx_shape w = c->x[1].s;
    if (wants_dx(c))
        for (int64_t i = 0; i < w.c; i += REF_BLOCK)
            conv_dx_block(c, i, min64(REF_BLOCK, w.c - i));
    if (wants_grad(c, 1))
        for (int64_t o = 0; o < w.n; o++)
            for (int64_t ky = 0; ky < w.h; ky++)
                for (int64_t kx = 0; kx < w.w; kx++)
                    for (int64_t i = 0; i < w.c; i += REF_BLOCK)
                        conv_dw(c, o, ky, kx, i, min64(REF_BLOCK, w.c - i));
    if (wants_grad(c, 2))
        bias_grad(c);
    return CX_OK;
}

/* ---- conv_transpose2d: y[n, h*stride + a - pad, w*stride + b - pad, o] += x[n,h,w,i] * w[i,a,b,o] ----------------------- */

cx_status cx_infer_conv_transpose2d(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_CONV_TRANSPOSE2D, err));
    const cx_convt_attr *a = c->attr;
    cx_shape x = c->x[0].s, w = c->x[1].s;
    if (a->stride < 1)
        return cx_fail(err, CX_E_CONFIG, "conv_transpose2d: stride must be at least 1, is %d", a->stride);
    if (a->pad < 0)
        return cx_fail(err, CX_E_CONFIG, "conv_transpose2d: padding must not be negative, is %d", a->pad);
    if (w.n != x.c)
        return cx_fail(err, CX_E_SHAPE, "conv_transpose2d: weight has %lld input channels (its first dimension), x has %lld", (long long)w.n, (long long)x.c);
    if (has_input(c, 2))
        TRY(cx_op_check_vector(c, CX_OP_CONV_TRANSPOSE2D, 2, "bias", w.c, err));
    cx_shape y = { x.n, (x.h - 1) * a->stride + w.h - 2 * (int64_t)a->pad, (x.w - 1) * a->stride + w.w - 2 * (int64_t)a->pad, w.c };
    if (y.h < 1 || y.w < 1)
        return cx_fail(err, CX_E_SHAPE, "conv_transpose2d: padding %d leaves an output of %lldx%lld", a->pad, (long long)y.h, (long long)y.w);
    c->y[0].s = y;
    return CX_OK;
}

int64_t cx_flops_conv_transpose2d(const cx_call *c)
{
    cx_shape w = c->x[1].s;
    return 2 * cx_elems(c->x[0].s) * w.h * w.w * w.c;
}

/* One output pixel, a block of channels: every input pixel that reaches it. */
static void convt_at(const cx_call *c, int64_t n, int64_t p, int64_t q, int64_t o0, int64_t block)
{
    const cx_convt_attr *a = c->attr;
    cx_shape x = c->x[0].s, w = c->x[1].s;
    double sum[REF_BLOCK] = { 0 };
    for (int64_t ky = 0; ky < w.h; ky++) {
        int64_t iy = p + a->pad - ky;
        if (iy < 0 || iy % a->stride || iy / a->stride >= x.h)
            continue;
        for (int64_t kx = 0; kx < w.w; kx++) {
            int64_t ix = q + a->pad - kx;
            if (ix < 0 || ix % a->stride || ix / a->stride >= x.w)
                continue;
            const float *in = pixel_at(&c->x[0], n, iy / a->stride, ix / a->stride);
            for (int64_t i = 0; i < x.c; i++) {
                const float *weight = pixel_at(&c->x[1], i, ky, kx) + o0;
                for (int64_t o = 0; o < block; o++)
                    sum[o] += (double)in[i] * (double)weight[o];
            }
        }
    }
    float *out = pixel_at(&c->y[0], n, p, q) + o0;
    for (int64_t o = 0; o < block; o++)
        out[o] = (float)relu_if(c, sum[o] + (has_input(c, 2) ? (double)c->x[2].p[o0 + o] : 0));
}

cx_status cx_ref_fwd_conv_transpose2d(const cx_call *c)
{
    cx_shape y = c->y[0].s;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t p = 0; p < y.h; p++)
            for (int64_t q = 0; q < y.w; q++)
                for (int64_t o = 0; o < y.c; o += REF_BLOCK)
                    convt_at(c, n, p, q, o, min64(REF_BLOCK, y.c - o));
    return CX_OK;
}

static double convt_dx_at(const cx_call *c, int64_t n, int64_t iy, int64_t ix, int64_t i)
{
    const cx_convt_attr *a = c->attr;
    cx_shape y = c->y[0].s, w = c->x[1].s;
    double sum = 0;
    for (int64_t ky = 0; ky < w.h; ky++) {
        int64_t p = iy * a->stride + ky - a->pad;
        if (p < 0 || p >= y.h)
            continue;
        for (int64_t kx = 0; kx < w.w; kx++) {
            int64_t q = ix * a->stride + kx - a->pad;
            if (q < 0 || q >= y.w)
                continue;
            const float *weight = pixel_at(&c->x[1], i, ky, kx);
            for (int64_t o = 0; o < y.c; o++)
                sum += masked_dy(c, (n * y.h + p) * y.w + q, o) * (double)weight[o];
        }
    }
    return sum;
}

static double convt_dw_at(const cx_call *c, int64_t i, int64_t ky, int64_t kx, int64_t o)
{
    const cx_convt_attr *a = c->attr;
    cx_shape x = c->x[0].s, y = c->y[0].s;
    double sum = 0;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t iy = 0; iy < x.h; iy++) {
            int64_t p = iy * a->stride + ky - a->pad;
            if (p < 0 || p >= y.h)
                continue;
            for (int64_t ix = 0; ix < x.w; ix++) {
                int64_t q = ix * a->stride + kx - a->pad;
                if (q >= 0 && q < y.w)
                    sum += masked_dy(c, (n * y.h + p) * y.w + q, o) * (double)pixel_at(&c->x[0], n, iy, ix)[i];
            }
        }
    return sum;
}

cx_status cx_ref_bwd_conv_transpose2d(const cx_call *c)
{
    cx_shape x = c->x[0].s, w = c->x[1].s;
    if (wants_grad(c, 0))
        for (int64_t n = 0; n < x.n; n++)
            for (int64_t iy = 0; iy < x.h; iy++)
                for (int64_t ix = 0; ix < x.w; ix++)
                    for (int64_t i = 0; i < x.c; i++)
                        put(&pixel_at(&c->dx[0], n, iy, ix)[i], c->dx_add[0], convt_dx_at(c, n, iy, ix, i));
    if (wants_grad(c, 1))
        for (int64_t i = 0; i < w.n; i++)
            for (int64_t ky = 0; ky < w.h; ky++)
                for (int64_t kx = 0; kx < w.w; kx++)
                    for (int64_t o = 0; o < w.c; o++)
                        put(&pixel_at(&c->dx[1], i, ky, kx)[o], c->dx_add[1], convt_dw_at(c, i, ky, kx, o));
    if (wants_grad(c, 2))
        bias_grad(c);
    return CX_OK;
}
