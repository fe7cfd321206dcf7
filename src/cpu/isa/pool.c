/* pool.c - max_pool, avg_pool and global_avg_pool, with the channels of a window in registers. Depends on kernels.h, lanes.h. */
#include <math.h>
#include "cpu/kernels.h"
#include "lanes.h"

/* The real pixels [y0,y1) x [x0,x1) of the window of output (p,q), and its first row of channels in image n. */
typedef struct { int64_t y0, y1, x0, x1; } window;

static window window_at(const cx_call *c, int64_t p, int64_t q)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape s = c->x[0].s;
    const int64_t y = p * a->stride - a->pad, x = q * a->stride - a->pad, y1 = y + a->kernel, x1 = x + a->kernel;
    return (window){ y > 0 ? y : 0, y1 < s.h ? y1 : s.h, x > 0 ? x : 0, x1 < s.w ? x1 : s.w };
}

INLINE float *pixel(const cx_tensor *t, int64_t n, int64_t y, int64_t x)
{
    return t->p + ((n * t->s.h + y) * t->s.w + x) * t->ld;
}

/* Pixels to ask for in advance: worth a third of the time where a map is larger than the caches, in slices of wider maps and out. */
enum { AHEAD = 12 };

/* ---- forward ------------------------------------------------------------------------------------------------------- */

/* Where a value takes over: larger, or NaN. */
INLINE vf_mask wins(vf v, vf best)
{
    return (v > best) | (v != v);
}

INLINE vf vf_pick(vf_mask m, vf a, vf b)
{
    return (vf)(((vf_mask)a & m) | ((vf_mask)b & ~m));
}

INLINE void max_part(int V, int lanes, const cx_tensor *x, int64_t n, window w, int64_t k, float *y)
{
    vf best[WIDE];
    for (int v = 0; v < V; v++)
        best[v] = vf_load(pixel(x, n, w.y0, w.x0) + k + v * VL, lanes);
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++) {
            const float *at = pixel(x, n, r, s) + k;
            for (int v = 0; v < V; v++) {
                __builtin_prefetch(at + v * VL + AHEAD * x->ld);
                const vf t = vf_load(at + v * VL, lanes);
                best[v] = vf_pick(wins(t, best[v]), t, best[v]);
            }
        }
    for (int v = 0; v < V; v++)
        vf_store(y + v * VL, best[v], lanes);
}

INLINE void avg_part(int V, int lanes, const cx_tensor *x, int64_t n, window w, int64_t k, float scale, float *y)
{
    vf sum[WIDE] = { 0 };
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++) {
            const float *at = pixel(x, n, r, s) + k;
            for (int v = 0; v < V; v++)
                sum[v] += vf_load(at + v * VL, lanes);
        }
    for (int v = 0; v < V; v++)
        vf_store(y + v * VL, sum[v] * scale, lanes);
}

static float scale_of(const cx_call *c, window w)
{
    const cx_pool_attr *a = c->attr;
    return (float)(1 / (a->count_pad ? (double)a->kernel * a->kernel : (double)((w.y1 - w.y0) * (w.x1 - w.x0))));
}

static cx_status max_forward(const cx_call *c)
{
    const cx_shape s = c->y[0].s;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.n * s.h; row++)
        for (int64_t q = 0; q < s.w; q++) {
            const window w = window_at(c, row % s.h, q);
            float *y = c->y[0].p + (row * s.w + q) * c->y[0].ld;
#define CALL(V, lanes) max_part(V, lanes, &c->x[0], row / s.h, w, k, y + k)
            OVER_CHANNELS(s.c, CALL);
#undef CALL
        }
    return CX_OK;
}

static cx_status avg_forward(const cx_call *c)
{
    const cx_shape s = c->y[0].s;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.n * s.h; row++)
        for (int64_t q = 0; q < s.w; q++) {
            const window w = window_at(c, row % s.h, q);
            float *y = c->y[0].p + (row * s.w + q) * c->y[0].ld;
#define CALL(V, lanes) avg_part(V, lanes, &c->x[0], row / s.h, w, k, scale_of(c, w), y + k)
            OVER_CHANNELS(s.c, CALL);
#undef CALL
        }
    return CX_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------------------
 * Windows may overlap. Output rows go in bands; a band's windows reach at most kernel - stride rows into the next band's input rows, so all even bands run
 * first, then all odd ones, and no two threads ever write one row. The bands depend on the shape alone: the order of sums is fixed. */

INLINE void max_grad_part(int V, int lanes, const cx_call *c, int64_t n, window w, int64_t k, const float *dy)
{
    vf best[WIDE];
    vf_mask from[WIDE];
    int tap = 0;
    for (int v = 0; v < V; v++) {
        best[v] = vf_load(pixel(&c->x[0], n, w.y0, w.x0) + k + v * VL, lanes);
        from[v] = (vf_mask){ 0 };
    }
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++, tap++) {
            const float *at = pixel(&c->x[0], n, r, s) + k;
            for (int v = 0; v < V; v++) {
                __builtin_prefetch(at + v * VL + AHEAD * c->x[0].ld);
                const vf t = vf_load(at + v * VL, lanes);
                const vf_mask m = (t > best[v]) | ((t != t) & (best[v] == best[v]));
                best[v] = vf_pick(m, t, best[v]);
                from[v] = (from[v] & ~m) | (((vf_mask){ 0 } + tap) & m);
            }
        }
    tap = 0;
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++, tap++) {
            float *to = pixel(&c->dx[0], n, r, s) + k;
            for (int v = 0; v < V; v++) {
                __builtin_prefetch(to + v * VL + AHEAD * c->dx[0].ld, 1);
                const vf g = vf_where(from[v] == tap, vf_load(dy + v * VL, lanes));
                vf_store(to + v * VL, vf_load(to + v * VL, lanes) + g, lanes);
            }
        }
}

static void max_grad(const cx_call *c, int64_t n, window w, const float *dy)
{
#define CALL(V, lanes) max_grad_part(V, lanes, c, n, w, k, dy + k)
    OVER_CHANNELS(c->y[0].s.c, CALL);
#undef CALL
}

static void avg_grad(const cx_call *c, int64_t n, window w, const float *dy)
{
    const float scale = scale_of(c, w);
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++) {
            float *to = pixel(&c->dx[0], n, r, s);
            for (int64_t k = 0; k < c->y[0].s.c; k++)
                to[k] += dy[k] * scale;
        }
}

static void clear_rows(const cx_tensor *dx, int64_t n, int64_t y0, int64_t y1)
{
    y0 = y0 < 0 ? 0 : y0;
    y1 = y1 < dx->s.h ? y1 : dx->s.h;
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = 0; x < dx->s.w; x++)
            memset(pixel(dx, n, y, x), 0, (size_t)dx->s.c * sizeof(float));
}

typedef void (*grad_fn)(const cx_call *c, int64_t n, window w, const float *dy);

/* Band `b` of image n: clears the input rows that it is the first to write, then adds its windows. */
static void run_band(const cx_call *c, grad_fn grad, int64_t n, int64_t b, int64_t band, int64_t reach)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape s = c->y[0].s;
    const int64_t p0 = b * band, p1 = p0 + band < s.h ? p0 + band : s.h;
    if (!c->dx_add[0]) {
        const int64_t lo = b == 0 ? 0 : p0 * a->stride - a->pad, hi = p1 == s.h ? c->x[0].s.h : p1 * a->stride - a->pad;
        clear_rows(&c->dx[0], n, b % 2 ? lo + reach : lo, b % 2 ? hi : hi + reach);
    }
    for (int64_t p = p0; p < p1; p++)
        for (int64_t q = 0; q < s.w; q++)
            grad(c, n, window_at(c, p, q), pixel(&c->dy[0], n, p, q));
}

static cx_status backward(const cx_call *c, grad_fn grad)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape s = c->y[0].s;
    const int64_t reach = a->kernel > a->stride ? a->kernel - a->stride : 0, least = (reach + a->stride - 1) / a->stride;
    const int64_t band = least > 4 ? least : 4, bands = (s.h + band - 1) / band;
    if (!c->dx[0].p)
        return CX_OK;
    for (int odd = 0; odd < 2; odd++) {
        const int64_t mine = (bands + 1 - odd) / 2;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < s.n * mine; i++)
            run_band(c, grad, i / mine, i % mine * 2 + odd, band, reach);
    }
    return CX_OK;
}

static cx_status max_backward(const cx_call *c)
{
    return backward(c, max_grad);
}

static cx_status avg_backward(const cx_call *c)
{
    return backward(c, avg_grad);
}

/* ---- global_avg_pool -------------------------------------------------------------------------------------------------- */

enum { BLOCK = 64 };

static cx_status global_forward(const cx_call *c)
{
    const cx_shape s = c->x[0].s;
    const int64_t area = s.h * s.w, blocks = (s.c + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s.n * blocks; i++) {
        const int64_t n = i / blocks, k0 = i % blocks * BLOCK, len = s.c - k0 < BLOCK ? s.c - k0 : BLOCK;
        double sum[BLOCK] = { 0 };
        for (int64_t p = 0; p < area; p++) {
            const float *x = c->x[0].p + (n * area + p) * c->x[0].ld + k0;
            for (int64_t k = 0; k < len; k++)
                sum[k] += (double)x[k];
        }
        for (int64_t k = 0; k < len; k++)
            c->y[0].p[n * c->y[0].ld + k0 + k] = (float)(sum[k] / (double)area);
    }
    return CX_OK;
}

static cx_status global_backward(const cx_call *c)
{
    const cx_shape s = c->x[0].s;
    const int64_t area = s.h * s.w;
    const float scale = (float)(1 / (double)area);
    if (!c->dx[0].p)
        return CX_OK;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < s.n * area; p++) {
        const float *dy = c->dy[0].p + p / area * c->dy[0].ld;
        float *dx = c->dx[0].p + p * c->dx[0].ld;
        if (c->dx_add[0])
            for (int64_t k = 0; k < s.c; k++)
                dx[k] += dy[k] * scale;
        else
            for (int64_t k = 0; k < s.c; k++)
                dx[k] = dy[k] * scale;
    }
    return CX_OK;
}

CX_IMPL(max_pool, max_forward, max_backward)
CX_IMPL(avg_pool, avg_forward, avg_backward)
CX_IMPL(global_avg_pool, global_forward, global_backward)
