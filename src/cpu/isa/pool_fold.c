/* pool_fold.c - pools that carry out the norm and the ReLU in front of them (cx_fold.pre): u is computed while the windows are read, and the gradient of u lies
 * in scratch, a band of rows at a time, before it goes through the gate. Depends on kernels.h, conv.h. */
#include <math.h>
#include "cpu/kernels.h"
#include "conv.h"

enum { BAND = 8, GATE_PX = 64 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

typedef struct { int64_t y0, y1, x0, x1; } window;

static window window_at(const cx_call *c, int64_t p, int64_t q)
{
    const cx_pool_attr *a = c->attr;
    const int64_t y = p * a->stride - a->pad, x = q * a->stride - a->pad;
    return (window){ max64(y, 0), min64(y + a->kernel, c->x[0].s.h), max64(x, 0), min64(x + a->kernel, c->x[0].s.w) };
}

static float share_of(const cx_call *c, window w)
{
    const cx_pool_attr *a = c->attr;
    return (float)(1 / (a->count_pad ? (double)a->kernel * a->kernel : (double)((w.y1 - w.y0) * (w.x1 - w.x0))));
}

INLINE const float *pixel(const cx_tensor *t, int64_t n, int64_t y, int64_t x) { return t->p + ((n * t->s.h + y) * t->s.w + x) * t->ld; }
INLINE vf pick(vf_mask m, vf a, vf b) { return (vf)(((vf_mask)a & m) | ((vf_mask)b & ~m)); }
INLINE vf_mask wins(vf v, vf best) { return (v > best) | ((v != v) & (best == best)); }

/* The largest u of a window, and which of its pixels holds it first. */
INLINE vf largest(const cx_source *s, int64_t n, window w, int64_t k, int lanes, vf_mask *where)
{
    const float *first = pixel(&s->t, n, w.y0, w.x0);
    vf best = cx_read(s, first, first, k, lanes);
    vf_mask at = { 0 };
    int32_t i = 0;
    for (int64_t y = w.y0; y < w.y1; y++)
        for (int64_t x = w.x0; x < w.x1; x++, i++) {
            const float *from = pixel(&s->t, n, y, x);
            const vf v = cx_read(s, from, from, k, lanes);
            const vf_mask m = wins(v, best);
            best = pick(m, v, best);
            at = (at & ~m) | (((vf_mask){ 0 } + i) & m);
        }
    *where = at;
    return best;
}

INLINE vf average(const cx_source *s, int64_t n, window w, int64_t k, int lanes, float share)
{
    vf sum = { 0 };
    for (int64_t y = w.y0; y < w.y1; y++)
        for (int64_t x = w.x0; x < w.x1; x++) {
            const float *from = pixel(&s->t, n, y, x);
            sum += cx_read(s, from, from, k, lanes);
        }
    return sum * share;
}

static cx_status forward(const cx_call *c, bool max)
{
    const cx_source s = cx_source_x(c);
    const cx_shape y = c->y[0].s;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < y.n * y.h; row++)
        for (int64_t q = 0; q < y.w; q++) {
            const window w = window_at(c, row % y.h, q);
            const float share = share_of(c, w);
            float *to = c->y[0].p + (row * y.w + q) * c->y[0].ld;
            for (int64_t k = 0; k < y.c; k += VL) {
                const int lanes = (int)min64(VL, y.c - k);
                vf_mask where;
                if (lanes == VL)
                    vf_store(to + k, max ? largest(&s, row / y.h, w, k, VL, &where) : average(&s, row / y.h, w, k, VL, share), VL);
                else
                    vf_store(to + k, max ? largest(&s, row / y.h, w, k, lanes, &where) : average(&s, row / y.h, w, k, lanes, share), lanes);
            }
        }
    return CX_OK;
}

/* One window's gradient goes to its pixels that lie in rows y0 .. y1-1, at g. */
INLINE void spread(const cx_call *c, const cx_source *s, bool max, int64_t n, window w, const float *dy, int64_t k, int lanes, int64_t y0, int64_t y1, float *g)
{
    const vf d = vf_load(dy + k, lanes) * (max ? 1 : share_of(c, w));
    const int64_t channels = s->t.s.c;
    vf_mask where = { 0 };
    int32_t i = 0;
    if (max)
        largest(s, n, w, k, lanes, &where);
    for (int64_t y = w.y0; y < w.y1; y++)
        for (int64_t x = w.x0; x < w.x1; x++, i++) {
            float *to = g + ((y - y0) * s->t.s.w + x) * channels + k;
            if (y >= y0 && y < y1)
                vf_store(to, vf_load(to, lanes) + (max ? vf_where(where == i, d) : d), lanes);
        }
}

/* The gradient of u of rows y0 .. y1-1 of image n: every window that holds one of them. */
static void band_gradient(const cx_call *c, const cx_source *s, bool max, int64_t n, int64_t y0, int64_t y1, float *g)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape y = c->y[0].s;
    const int64_t channels = s->t.s.c, p0 = up_div(max64(0, y0 + a->pad - a->kernel + 1), a->stride), p1 = min64(y.h, (y1 - 1 + a->pad) / a->stride + 1);
    memset(g, 0, (size_t)((y1 - y0) * s->t.s.w * channels) * sizeof *g);
    for (int64_t p = p0; p < p1; p++)
        for (int64_t q = 0; q < y.w; q++) {
            const window w = window_at(c, p, q);
            const float *dy = pixel(&c->dy[0], n, p, q);
            int64_t k = 0;
            for (; k + VL <= channels; k += VL)
                spread(c, s, max, n, w, dy, k, VL, y0, y1, g);
            if (k < channels)
                spread(c, s, max, n, w, dy, k, (int)(channels - k), y0, y1, g);
        }
}

/* Pixels first .. first+n-1, whose gradients of u lie `pitch` apart (0: all the same), through the gate into one chunk. */
static void gate_run(const cx_gate *gate, int64_t first, int64_t n, const float *g, int64_t pitch, cx_parts parts, int64_t chunk)
{
    for (int64_t i = 0; i < n; i += GATE_PX) {
        int64_t px[GATE_PX], rows = min64(GATE_PX, n - i);
        for (int64_t r = 0; r < rows; r++)
            px[r] = first + i + r;
        CX_FN(gate_rows)(gate, px, rows, g + i * pitch, pitch, 0, gate->x.s.c, i == 0, parts, chunk);
    }
}

typedef struct { int64_t chunks; size_t shared, per_thread; } layout;

static layout lay_out(const cx_call *c, int64_t chunks, int64_t floats)
{
    return (layout){ chunks, cx_align64(cx_parts_bytes(chunks, c->x[0].s.c)), cx_align64((size_t)floats * sizeof(float)) };
}

static layout bands_of(const cx_call *c)
{
    const cx_shape x = c->x[0].s;
    return lay_out(c, x.n * up_div(x.h, BAND), min64(BAND, x.h) * x.w * x.c);
}

static layout images_of(const cx_call *c) { return lay_out(c, c->x[0].s.n, c->x[0].s.c); }
static size_t bytes_of(layout l) { return l.shared + l.per_thread * (size_t)omp_get_max_threads(); }
static size_t bands_workspace(const cx_call *c, bool backward) { return backward ? bytes_of(bands_of(c)) : 0; }
static size_t images_workspace(const cx_call *c, bool backward) { return backward ? bytes_of(images_of(c)) : 0; }

static cx_status backward(const cx_call *c, bool max)
{
    const cx_source s = cx_source_x(c);
    const cx_gate gate = cx_gate_of(c);
    const cx_shape x = c->x[0].s;
    const layout l = bands_of(c);
    const cx_parts parts = cx_parts_at(c->work, x.c);
    const int64_t bands = up_div(x.h, BAND);
#pragma omp parallel for schedule(dynamic, 1) num_threads(CX_FN(threads_that_fit)(c->work_bytes, l.shared, l.per_thread))
    for (int64_t t = 0; t < l.chunks; t++) {
        float *g = (float *)((char *)c->work + l.shared + (size_t)omp_get_thread_num() * l.per_thread);
        const int64_t n = t / bands, y0 = t % bands * BAND, y1 = min64(x.h, y0 + BAND);
        band_gradient(c, &s, max, n, y0, y1, g);
        gate_run(&gate, (n * x.h + y0) * x.w, (y1 - y0) * x.w, g, x.c, parts, t);
    }
    if (gate.sums)
        CX_FN(merge_sums)(parts, l.chunks, &c->fold.sums);
    return CX_OK;
}

static cx_status max_forward(const cx_call *c) { return forward(c, true); }
static cx_status max_backward(const cx_call *c) { return backward(c, true); }
static cx_status avg_forward(const cx_call *c) { return forward(c, false); }
static cx_status avg_backward(const cx_call *c) { return backward(c, false); }

static cx_status global_forward(const cx_call *c)
{
    const cx_source s = cx_source_x(c);
    const cx_shape x = c->x[0].s;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t k = 0; k < x.c; k += VL) {
            double sum[VL] = { 0 };
            const int lanes = (int)min64(VL, x.c - k);
            for (int64_t p = 0; p < x.h * x.w; p++) {
                const float *from = c->x[0].p + (n * x.h * x.w + p) * c->x[0].ld;
                const vf u = cx_read(&s, from, from, k, lanes);
                for (int i = 0; i < lanes; i++)
                    sum[i] += (double)u[i];
            }
            for (int i = 0; i < lanes; i++)
                c->y[0].p[n * c->y[0].ld + k + i] = (float)(sum[i] / (double)(x.h * x.w));
        }
    return CX_OK;
}

static cx_status global_backward(const cx_call *c)
{
    const cx_gate gate = cx_gate_of(c);
    const cx_shape x = c->x[0].s;
    const int64_t area = x.h * x.w;
    const layout l = images_of(c);
    const cx_parts parts = cx_parts_at(c->work, x.c);
#pragma omp parallel for schedule(static) num_threads(CX_FN(threads_that_fit)(c->work_bytes, l.shared, l.per_thread))
    for (int64_t n = 0; n < x.n; n++) {
        float *g = (float *)((char *)c->work + l.shared + (size_t)omp_get_thread_num() * l.per_thread);
        for (int64_t k = 0; k < x.c; k++)
            g[k] = c->dy[0].p[n * c->dy[0].ld + k] * (float)(1 / (double)area);
        gate_run(&gate, n * area, area, g, 0, parts, n);
    }
    if (gate.sums)
        CX_FN(merge_sums)(parts, l.chunks, &c->fold.sums);
    return CX_OK;
}

static bool has_pre(const cx_call *c) { return c->fold.pre.s.c > 0; }

const cx_impl CX_FN(max_pool_fold) = { "max_pool folded " CX_ISA_NAME, has_pre, bands_workspace, max_forward, max_backward, NULL, NULL };
const cx_impl CX_FN(avg_pool_fold) = { "avg_pool folded " CX_ISA_NAME, has_pre, bands_workspace, avg_forward, avg_backward, NULL, NULL };
const cx_impl CX_FN(global_avg_pool_fold) = { "global_avg_pool folded " CX_ISA_NAME, has_pre, images_workspace, global_forward, global_backward, NULL, NULL };
