/* eltwise.c - relu, leaky_relu, add, sigmoid, softmax and dropout: loops over rows of channels that the compiler turns into vectors. Depends on kernels.h,
 * lanes.h, and on ops/dropout.h for which elements dropout keeps. */
#include <math.h>
#include "cpu/kernels.h"
#include "lanes.h"
#include "ops/dropout.h"

enum { CHUNK = 8192 };

/* out = f(a, b) over n values that lie together; b may be NULL. */
typedef void (*row_fn)(const cx_call *c, const float *a, const float *b, float *out, int64_t n);

static bool dense(const cx_tensor *t)
{
    return !t || t->ld == t->s.c;
}

/* Rows of channels, or long rows over many pixels when nothing is sliced. */
static void each_row(const cx_call *c, row_fn f, const cx_tensor *a, const cx_tensor *b, const cx_tensor *out)
{
    const int64_t px = cx_pixels(out->s), w = out->s.c, step = w < CHUNK ? CHUNK / w : 1;
    const bool together = dense(a) && dense(b) && dense(out);
#pragma omp parallel for schedule(static) if (px > step)
    for (int64_t p0 = 0; p0 < px; p0 += step) {
        const int64_t p1 = p0 + step < px ? p0 + step : px, pixels = together ? p1 - p0 : 1;
        for (int64_t p = p0; p < p1; p += pixels)
            f(c, a->p + p * a->ld, b ? b->p + p * b->ld : NULL, out->p + p * out->ld, pixels * w);
    }
}

/* dx[i] from dy and b, by `set` or `add` as the call wants. */
static void each_grad_row(const cx_call *c, int i, row_fn set, row_fn add, const cx_tensor *b)
{
    if (c->dx[i].p)
        each_row(c, c->dx_add[i] ? add : set, &c->dy[0], b, &c->dx[i]);
}

/* Defines name##_set and name##_add, which store or add the value of an expression of a[i], b[i] and the call. */
#define GRAD(name, value) \
    static void name##_set(const cx_call *c, const float *a, const float *b, float *out, int64_t n) \
    { \
        (void)c, (void)b; \
        for (int64_t i = 0; i < n; i++) \
            out[i] = (value); \
    } \
    static void name##_add(const cx_call *c, const float *a, const float *b, float *out, int64_t n) \
    { \
        (void)c, (void)b; \
        for (int64_t i = 0; i < n; i++) \
            out[i] += (value); \
    }

/* ---- relu, leaky_relu, add ------------------------------------------------------------------------------------------- */

GRAD(relu_grad, b[i] <= 0 ? 0 : a[i])
GRAD(pass_grad, a[i])
GRAD(leaky_grad, b[i] <= 0 ? a[i] * ((const cx_leaky_attr *)c->attr)->slope : a[i])

static void relu_row(const cx_call *c, const float *a, const float *b, float *out, int64_t n)
{
    (void)c, (void)b;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < 0 ? 0 : a[i];
}

static void leaky_row(const cx_call *c, const float *a, const float *b, float *out, int64_t n)
{
    (void)b;
    const float slope = ((const cx_leaky_attr *)c->attr)->slope;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] <= 0 ? a[i] * slope : a[i];
}

static void add_row(const cx_call *c, const float *a, const float *b, float *out, int64_t n)
{
    (void)c;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_relu_row(const cx_call *c, const float *a, const float *b, float *out, int64_t n)
{
    (void)c;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i] < 0 ? 0 : a[i] + b[i];
}

static cx_status relu_forward(const cx_call *c)
{
    each_row(c, relu_row, &c->x[0], NULL, &c->y[0]);
    return CX_OK;
}

static cx_status relu_backward(const cx_call *c)
{
    each_grad_row(c, 0, relu_grad_set, relu_grad_add, &c->y[0]);
    return CX_OK;
}

static cx_status leaky_forward(const cx_call *c)
{
    each_row(c, leaky_row, &c->x[0], NULL, &c->y[0]);
    return CX_OK;
}

static cx_status leaky_backward(const cx_call *c)
{
    each_grad_row(c, 0, leaky_grad_set, leaky_grad_add, &c->x[0]);
    return CX_OK;
}

static cx_status add_forward(const cx_call *c)
{
    each_row(c, c->relu ? add_relu_row : add_row, &c->x[0], &c->x[1], &c->y[0]);
    return CX_OK;
}

static cx_status add_backward(const cx_call *c)
{
    for (int i = 0; i < 2; i++)
        if (c->relu)
            each_grad_row(c, i, relu_grad_set, relu_grad_add, &c->y[0]);
        else
            each_grad_row(c, i, pass_grad_set, pass_grad_add, NULL);
    return CX_OK;
}

/* ---- sigmoid, softmax -------------------------------------------------------------------------------------------------- */

GRAD(sigmoid_grad, a[i] * b[i] * (1 - b[i]))

/* e^x for |x| <= 87, and at the nearer of these beyond; NaN stays NaN. 2^n e^r with n = round(x / ln 2), and Cephes' polynomial for e^r (S. Moshier, expf.c):
 * within a unit of the last place. Without branches, so that loops over it become vectors. */
INLINE float exp_bounded(float x)
{
    const float shift = 12582912;                            /* 1.5 * 2^23: a float this large holds integers in its low bits */
    x = x < -87 ? -87 : x;
    x = x > 87 ? 87 : x;
    const float t = x * 1.44269504f + shift, n = t - shift, r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits + 127) << 23;                               /* the exponent of 2^n; what else is in t is shifted out */
    float power;
    memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1) * power;
}

static void sigmoid_row(const cx_call *c, const float *a, const float *b, float *out, int64_t n)
{
    (void)c, (void)b;
    for (int64_t i = 0; i < n; i++)
        out[i] = 1 / (1 + exp_bounded(-a[i]));
}

static cx_status sigmoid_forward(const cx_call *c)
{
    each_row(c, sigmoid_row, &c->x[0], NULL, &c->y[0]);
    return CX_OK;
}

static cx_status sigmoid_backward(const cx_call *c)
{
    each_grad_row(c, 0, sigmoid_grad_set, sigmoid_grad_add, &c->y[0]);
    return CX_OK;
}

static cx_status softmax_forward(const cx_call *c)
{
    const int64_t px = cx_pixels(c->x[0].s), n = c->x[0].s.c;
#pragma omp parallel for schedule(static) if (px * n > CHUNK)
    for (int64_t p = 0; p < px; p++) {
        const float *x = c->x[0].p + p * c->x[0].ld;
        float *y = c->y[0].p + p * c->y[0].ld, largest = x[0];
        double sum = 0;
        for (int64_t k = 1; k < n; k++)
            largest = x[k] > largest ? x[k] : largest;
        for (int64_t k = 0; k < n; k++)
            sum += (double)expf(x[k] - largest);
        for (int64_t k = 0; k < n; k++)
            y[k] = (float)((double)expf(x[k] - largest) / sum);
    }
    return CX_OK;
}

static cx_status softmax_backward(const cx_call *c)
{
    const int64_t px = cx_pixels(c->x[0].s), n = c->x[0].s.c;
    if (!c->dx[0].p)
        return CX_OK;
#pragma omp parallel for schedule(static) if (px * n > CHUNK)
    for (int64_t p = 0; p < px; p++) {
        const float *y = c->y[0].p + p * c->y[0].ld, *dy = c->dy[0].p + p * c->dy[0].ld;
        float *dx = c->dx[0].p + p * c->dx[0].ld;
        double dot = 0;
        for (int64_t k = 0; k < n; k++)
            dot += (double)y[k] * (double)dy[k];
        for (int64_t k = 0; k < n; k++) {
            const double g = (double)y[k] * ((double)dy[k] - dot);
            dx[k] = (float)(c->dx_add[0] ? (double)dx[k] + g : g);
        }
    }
    return CX_OK;
}

/* ---- dropout -------------------------------------------------------------------------------------------------------------- */

/* Elements 4*quad .. 4*quad+3 in dense order, which may lie in two or more pixels. */
static void drop_quad(const cx_call *c, const cx_tensor *from, const cx_tensor *to, bool add, int64_t quad, float rate, float scale)
{
    const int64_t n = cx_elems(from->s), w = from->s.c;
    float uniform[4] = { 1, 1, 1, 1 };
    if (rate > 0)
        dropout_draw(c, quad, uniform);
    for (int64_t e = 4 * quad; e < 4 * quad + 4 && e < n; e++) {
        float *dst = to->p + e / w * to->ld + e % w;
        const float v = uniform[e - 4 * quad] >= rate ? from->p[e / w * from->ld + e % w] * scale : 0;
        *dst = add ? *dst + v : v;
    }
}

static void drop(const cx_call *c, const cx_tensor *from, const cx_tensor *to, bool add)
{
    const float rate = c->training ? ((const cx_dropout_attr *)c->attr)->rate : 0, scale = (float)(1 / (1 - (double)rate));
    const int64_t quads = (cx_elems(from->s) + 3) / 4;
#pragma omp parallel for schedule(static) if (quads > CHUNK / 16)
    for (int64_t q = 0; q < quads; q++)
        drop_quad(c, from, to, add, q, rate, scale);
}

static cx_status dropout_forward(const cx_call *c)
{
    drop(c, &c->x[0], &c->y[0], false);
    return CX_OK;
}

static cx_status dropout_backward(const cx_call *c)
{
    if (c->dx[0].p)
        drop(c, &c->dy[0], &c->dx[0], c->dx_add[0]);
    return CX_OK;
}

CX_IMPL(relu, relu_forward, relu_backward)
CX_IMPL(leaky_relu, leaky_forward, leaky_backward)
CX_IMPL(add, add_forward, add_backward)
CX_IMPL(sigmoid, sigmoid_forward, sigmoid_backward)
CX_IMPL(softmax, softmax_forward, softmax_backward)
CX_IMPL(dropout, dropout_forward, dropout_backward)
