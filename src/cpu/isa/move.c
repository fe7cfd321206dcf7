/* move.c - concat and flatten where the plan could not make them views, and upsample_bilinear: operators that carry rows of channels. Depends on
 * kernels.h, lanes.h. */
#include "cpu/kernels.h"
#include "lanes.h"

enum { ROWS = 64 };

/* `to` = or += `from`, n floats. */
INLINE void carry(float *to, const float *from, int64_t n, bool add)
{
    if (!add)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        for (int64_t k = 0; k < n; k++)
            to[k] += from[k];
}

/* Channel slice of y[0] or dy[0] that input i holds. */
static float *slice(const cx_tensor *wide, const cx_call *c, int i)
{
    float *p = wide->p;
    for (int j = 0; j < i; j++)
        p += c->x[j].s.c;
    return p;
}

static void carry_pixels(float *to, int64_t ld_to, const float *from, int64_t ld_from, int64_t px, int64_t n, bool add)
{
#pragma omp parallel for schedule(static) if (px > ROWS)
    for (int64_t p = 0; p < px; p++)
        carry(to + p * ld_to, from + p * ld_from, n, add);
}

static cx_status concat_forward(const cx_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        carry_pixels(slice(&c->y[0], c, i), c->y[0].ld, c->x[i].p, c->x[i].ld, cx_pixels(c->x[i].s), c->x[i].s.c, false);
    return CX_OK;
}

static cx_status concat_backward(const cx_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->dx[i].p)
            carry_pixels(c->dx[i].p, c->dx[i].ld, slice(&c->dy[0], c, i), c->dy[0].ld, cx_pixels(c->dx[i].s), c->dx[i].s.c, c->dx_add[i]);
    return CX_OK;
}

static cx_status flatten_forward(const cx_call *c)
{
    const cx_tensor *x = &c->x[0], *y = &c->y[0];
    const int64_t area = x->s.h * x->s.w, n = x->s.c;
#pragma omp parallel for schedule(static) if (cx_pixels(x->s) > ROWS)
    for (int64_t p = 0; p < cx_pixels(x->s); p++)
        carry(y->p + p / area * y->ld + p % area * n, x->p + p * x->ld, n, false);
    return CX_OK;
}

static cx_status flatten_backward(const cx_call *c)
{
    const cx_tensor *dx = &c->dx[0], *dy = &c->dy[0];
    const int64_t area = dx->s.h * dx->s.w, n = dx->s.c;
    if (!dx->p)
        return CX_OK;
#pragma omp parallel for schedule(static) if (cx_pixels(dx->s) > ROWS)
    for (int64_t p = 0; p < cx_pixels(dx->s); p++)
        carry(dx->p + p * dx->ld, dy->p + p / area * dy->ld + p % area * n, n, c->dx_add[0]);
    return CX_OK;
}

/* ---- upsample_bilinear -------------------------------------------------------------------------------------------- */

/* Output coordinate lies between inputs lo and hi, with weights wlo and whi. */
typedef struct { int64_t lo, hi; float wlo, whi; } tap;

static tap tap_at(int64_t at, int64_t in, int64_t out, bool align_corners)
{
    double pos = 0;
    if (!align_corners)
        pos = ((double)at + 0.5) * (double)in / (double)out - 0.5;
    else if (out > 1)
        pos = (double)at * (double)(in - 1) / (double)(out - 1);
    pos = pos < 0 ? 0 : pos;
    const int64_t lo = (int64_t)pos < in - 1 ? (int64_t)pos : in - 1;
    return (tap){ lo, lo + 1 < in ? lo + 1 : in - 1, (float)(1 - (pos - (double)lo)), (float)(pos - (double)lo) };
}

static cx_status upsample_forward(const cx_call *c)
{
    const cx_upsample_attr *attr = c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    const int64_t ld = c->x[0].ld;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < y.n * y.h; row++) {
        const tap v = tap_at(row % y.h, x.h, y.h, attr->align_corners);
        const float *top = c->x[0].p + (row / y.h * x.h + v.lo) * x.w * ld, *low = c->x[0].p + (row / y.h * x.h + v.hi) * x.w * ld;
        for (int64_t q = 0; q < y.w; q++) {
            const tap u = tap_at(q, x.w, y.w, attr->align_corners);
            const float *x00 = top + u.lo * ld, *x01 = top + u.hi * ld, *x10 = low + u.lo * ld, *x11 = low + u.hi * ld;
            float *out = c->y[0].p + (row * y.w + q) * c->y[0].ld;
            for (int64_t k = 0; k < y.c; k++)
                out[k] = v.wlo * (u.wlo * x00[k] + u.whi * x01[k]) + v.whi * (u.wlo * x10[k] + u.whi * x11[k]);
        }
    }
    return CX_OK;
}

/* Adds one row of dy, weighted by w, to a row of dx. */
static void spread_row(const cx_call *c, float *dx, const float *dy, float w)
{
    const cx_upsample_attr *attr = c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    for (int64_t q = 0; q < y.w; q++) {
        const tap u = tap_at(q, x.w, y.w, attr->align_corners);
        float *lo = dx + u.lo * c->dx[0].ld, *hi = dx + u.hi * c->dx[0].ld;
        const float *g = dy + q * c->dy[0].ld, a = w * u.wlo, b = w * u.whi;
        for (int64_t k = 0; k < y.c; k++)
            lo[k] += a * g[k];
        if (b != 0)
            for (int64_t k = 0; k < y.c; k++)
                hi[k] += b * g[k];
    }
}

/* Each row of dx gathers from the rows of dy that read it, so that threads share nothing. */
static cx_status upsample_backward(const cx_call *c)
{
    const cx_upsample_attr *attr = c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    if (!c->dx[0].p)
        return CX_OK;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < x.n * x.h; row++) {
        float *dx = c->dx[0].p + row * x.w * c->dx[0].ld;
        for (int64_t q = 0; q < x.w && !c->dx_add[0]; q++)
            memset(dx + q * c->dx[0].ld, 0, (size_t)x.c * sizeof *dx);
        for (int64_t p = 0; p < y.h; p++) {
            const tap v = tap_at(p, x.h, y.h, attr->align_corners);
            const float w = (v.lo == row % x.h ? v.wlo : 0) + (v.hi == row % x.h ? v.whi : 0);
            if (w != 0)
                spread_row(c, dx, c->dy[0].p + (row / x.h * y.h + p) * y.w * c->dy[0].ld, w);
        }
    }
    return CX_OK;
}

CX_IMPL(concat, concat_forward, concat_backward)
CX_IMPL(flatten, flatten_forward, flatten_backward)
CX_IMPL(upsample_bilinear, upsample_forward, upsample_backward)
