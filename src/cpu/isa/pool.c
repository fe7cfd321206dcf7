/* pool.c - max_pool, avg_pool and global_avg_pool, behind a norm where a plan folded one in, with the channels of a window in registers. Depends on kernels.h,
 * fold.h. */
#include <math.h>
#include "cpu/kernels.h"
#include "fold.h"
#include "pool.h"

/* The real pixels [y0,y1) x [x0,x1) of the window of output (p,q), and its first row of channels in image n. */
typedef struct { int64_t y0, y1, x0, x1; } window;

static window window_at(const cx_call *c, int64_t p, int64_t q)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape s = c->x[0].s;
    const int64_t y = p * a->stride - a->pad, x = q * a->stride - a->pad, y1 = y + a->kernel, x1 = x + a->kernel;
    return (window){ y > 0 ? y : 0, y1 < s.h ? y1 : s.h, x > 0 ? x : 0, x1 < s.w ? x1 : s.w };
}

INLINE int64_t place(const cx_tensor *t, int64_t n, int64_t y, int64_t x) { return ((n * t->s.h + y) * t->s.w + x) * t->ld; }
INLINE float *pixel(const cx_tensor *t, int64_t n, int64_t y, int64_t x) { return t->p + place(t, n, y, x); }   /* of float32 */

/* Pixels to ask for in advance: worth a third of the time where a map is larger than the caches, in slices of wider maps and out. */
enum { AHEAD = 12 };

/* ---- forward ------------------------------------------------------------------------------------------------------- */

/* Four vectors of each row of a prologue at most; nothing without one. */
typedef struct { vf scale[WIDE], shift[WIDE]; } affine;

INLINE affine affine_at(int V, int lanes, bool pre, const float *scale, const float *shift, int64_t k)
{
    affine a = { { { 0 } }, { { 0 } } };
    for (int v = 0; v < V && pre; v++) {
        a.scale[v] = vf_load(scale + k + v * VL, lanes);
        a.shift[v] = vf_load(shift + k + v * VL, lanes);
    }
    return a;
}

/* Where a value takes over: larger, or NaN. */
INLINE vf_mask wins(vf v, vf best)
{
    return (v > best) | (v != v);
}

INLINE vf vf_pick(vf_mask m, vf a, vf b)
{
    return (vf)(((vf_mask)a & m) | ((vf_mask)b & ~m));
}

/* A ReLU changes no order, so it follows the maximum. near: x lies in a cache. */
INLINE void max_part(int V, int lanes, bool pre, bool near, const cx_source *x, int64_t n, window w, int64_t k, const cx_tensor *y, int64_t to)
{
    const affine a = affine_at(V, lanes, pre, x->scale, x->shift, k);
    vf best[WIDE];
    for (int v = 0; v < V; v++)
        best[v] = (vf){ 0 } - INFINITY;
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++) {
            const int64_t at = place(&x->t, n, r, s) + k;
            for (int v = 0; v < V; v++) {
                if (!near)
                    __builtin_prefetch(vt_at(&x->t, at + v * VL + AHEAD * x->t.ld));
                vf t = vt_load(x->t.type, x->t.p, at + v * VL, lanes);
                if (pre)
                    t = v_fma(t, a.scale[v], a.shift[v]);
                best[v] = vf_pick(wins(t, best[v]), t, best[v]);
            }
        }
    for (int v = 0; v < V; v++)
        vt_store(y->type, y->p, to + v * VL, pre && x->relu ? vf_relu(best[v]) : best[v], lanes);
}

INLINE void avg_part(int V, int lanes, bool pre, const cx_source *x, int64_t n, window w, int64_t k, float scale, const cx_tensor *y, int64_t to)
{
    const affine a = affine_at(V, lanes, pre, x->scale, x->shift, k);
    vf sum[WIDE] = { 0 };
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++) {
            const int64_t at = place(&x->t, n, r, s) + k;
            for (int v = 0; v < V; v++) {
                vf t = vt_load(x->t.type, x->t.p, at + v * VL, lanes);
                if (pre) {
                    t = v_fma(t, a.scale[v], a.shift[v]);
                    if (x->relu)
                        t = vf_relu(t);
                }
                sum[v] += t;
            }
        }
    for (int v = 0; v < V; v++)
        vt_store(y->type, y->p, to + v * VL, sum[v] * scale, lanes);
}

static float scale_of(const cx_call *c, window w)
{
    const cx_pool_attr *a = c->attr;
    return (float)(1 / (a->count_pad ? (double)a->kernel * a->kernel : (double)((w.y1 - w.y0) * (w.x1 - w.x0))));
}

/* One window, all channels. */
INLINE void forward_window(bool max, bool pre, bool near, const cx_call *c, const cx_source *x, int64_t n, window w, const cx_tensor *y, int64_t to)
{
    const float scale = max ? 1 : scale_of(c, w);
#define MAX(V, lanes) max_part(V, lanes, pre, near, x, n, w, k, y, to + k)
#define AVG(V, lanes) avg_part(V, lanes, pre, x, n, w, k, scale, y, to + k)
    if (max)
        OVER_CHANNELS(y->s.c, MAX);
    else
        OVER_CHANNELS(y->s.c, AVG);
#undef MAX
#undef AVG
}

INLINE cx_status forward(const cx_call *c, bool max, bool pre)
{
    const cx_source x = cx_source_x(c);
    const cx_tensor y = c->y[0];
    const cx_shape s = y.s;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s.n * s.h; row++)
        for (int64_t q = 0; q < s.w; q++)
            forward_window(max, pre, false, c, &x, row / s.h, window_at(c, row % s.h, q), &y, (row * s.w + q) * y.ld);
    return CX_OK;
}

void CX_FN(max_row)(const cx_tensor *x, int64_t y0, int64_t y1, const cx_pool_attr *a, const cx_tensor *y, int64_t row)
{
    cx_source s = cx_plain(*x);
    s.t.type = CX_F32;
    for (int64_t q = 0; q < y->s.w; q++) {
        const int64_t at = q * a->stride - a->pad;
        const window w = { y0, y1, max64(at, 0), min64(at + a->kernel, x->s.w) };
        forward_window(true, false, true, NULL, &s, 0, w, y, (row * y->s.w + q) * y->ld);
    }
}

static cx_status max_forward(const cx_call *c)
{
    return c->fold.pre.s.c ? forward(c, true, true) : forward(c, true, false);
}

static cx_status avg_forward(const cx_call *c)
{
    return c->fold.pre.s.c ? forward(c, false, true) : forward(c, false, false);
}

/* ---- backward ------------------------------------------------------------------------------------------------------
 * Windows may overlap. Output rows go in bands; a band's windows reach at most kernel - stride rows into the next band's input rows, so all even bands run
 * first, then all odd ones, and no two threads ever write one row. The bands depend on the shape alone: the order of sums is fixed. A band is also the chunk
 * whose sums (of a prologue's gradient) are added up by themselves; every window adds its share, so overlapping ones need not meet first. */

typedef struct { int64_t reach, rows, bands; } cut;

static cut cut_of(const cx_call *c)
{
    const cx_pool_attr *a = c->attr;
    const int64_t reach = a->kernel > a->stride ? a->kernel - a->stride : 0, least = (reach + a->stride - 1) / a->stride, rows = least > 4 ? least : 4;
    return (cut){ reach, rows, (c->y[0].s.h + rows - 1) / rows };
}

static size_t workspace(const cx_call *c, bool backward)
{
    return backward && c->fold.sums.s.c ? cx_parts_bytes(c->y[0].s.n * cut_of(c).bands, c->y[0].s.c) : 0;
}

/* How dx takes a value. */
typedef enum { STORE, STREAM, ADD } taking;

INLINE void take(taking how, float *to, vf v, int lanes)
{
    if (how == STREAM)
        vf_stream(to, v);
    else
        vf_store(to, how == ADD ? vf_load(to, lanes) + v : v, lanes);
}

/* Sums of a window's gradients, added to those of its chunk. */
INLINE void add_up(int V, int lanes, const cx_gate *gate, const vf *s, const vf *t, int64_t k, float *sum)
{
    float *dot = sum + gate->x.s.c;
    for (int v = 0; v < V && gate->sums; v++) {
        const int64_t at = k + v * VL;
        vf_store(sum + at, vf_load(sum + at, lanes) + s[v], lanes);
        vf_store(dot + at, vf_load(dot + at, lanes) + t[v], lanes);
    }
}

/* The first of the largest takes the gradient, a NaN the first of all. */
INLINE void max_grad_part(int V, int lanes, bool pre, const cx_gate *gate, int64_t n, window w, int64_t k, const float *dy, float *sum)
{
    const affine a = affine_at(V, lanes, pre, gate->scale, gate->shift, k);
    vf best[WIDE], x[WIDE], h[WIDE], dot[WIDE];
    vf_mask from[WIDE];
    int tap = 0;
    for (int v = 0; v < V; v++) {
        x[v] = vt_load(gate->x.type, gate->x.p, place(&gate->x, n, w.y0, w.x0) + k + v * VL, lanes);
        best[v] = pre ? v_fma(x[v], a.scale[v], a.shift[v]) : x[v];
        from[v] = (vf_mask){ 0 };
    }
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t s = w.x0; s < w.x1; s++, tap++) {
            const int64_t at = place(&gate->x, n, r, s) + k;
            for (int v = 0; v < V; v++) {
                __builtin_prefetch(vt_at(&gate->x, at + v * VL + AHEAD * gate->x.ld));
                const vf raw = vt_load(gate->x.type, gate->x.p, at + v * VL, lanes), t = pre ? v_fma(raw, a.scale[v], a.shift[v]) : raw;
                const vf_mask m = ~(t <= best[v]) & (best[v] == best[v]);
                best[v] = vf_pick(m, t, best[v]);
                x[v] = vf_pick(m, raw, x[v]);
                from[v] = (from[v] & ~m) | (((vf_mask){ 0 } + tap) & m);
            }
        }
    for (int v = 0; v < V; v++) {
        h[v] = vf_load(dy + v * VL, lanes);
        if (pre) {
            if (gate->relu)
                h[v] = vf_where(~(best[v] <= (vf){ 0 }), h[v]);
            dot[v] = h[v] * (x[v] - vf_load(gate->mean + k + v * VL, lanes));
        }
    }
    if (pre)
        add_up(V, lanes, gate, h, dot, k, sum);
    tap = 0;
    for (int v = 0; v < V && pre; v++)
        h[v] *= a.scale[v];
    for (int64_t r = w.y0; r < w.y1 && gate->dx.p; r++)
        for (int64_t s = w.x0; s < w.x1; s++, tap++) {
            float *to = pixel(&gate->dx, n, r, s) + k;
            for (int v = 0; v < V; v++) {
                __builtin_prefetch(to + v * VL + AHEAD * gate->dx.ld, 1);
                take(ADD, to + v * VL, vf_where(from[v] == tap, h[v]), lanes);
            }
        }
}

INLINE void avg_grad_part(int V, int lanes, bool pre, taking how, const cx_gate *gate, int64_t n, window w, int64_t k, float scale, const float *dy, float *sum)
{
    const affine a = affine_at(V, lanes, pre, gate->scale, gate->shift, k);
    vf g[WIDE], mean[WIDE], s[WIDE] = { 0 }, t[WIDE] = { 0 };
    for (int v = 0; v < V; v++) {
        g[v] = vf_load(dy + v * VL, lanes) * scale;
        if (pre)
            mean[v] = vf_load(gate->mean + k + v * VL, lanes);
    }
    for (int64_t r = w.y0; r < w.y1; r++)
        for (int64_t q = w.x0; q < w.x1; q++) {
            float *to = gate->dx.p ? pixel(&gate->dx, n, r, q) + k : NULL;
            for (int v = 0; v < V; v++) {
                vf h = g[v];
                if (pre) {
                    const vf x = vt_load(gate->x.type, gate->x.p, place(&gate->x, n, r, q) + k + v * VL, lanes);
                    if (gate->relu)
                        h = vf_where(~(v_fma(x, a.scale[v], a.shift[v]) <= (vf){ 0 }), h);
                    s[v] += h;
                    t[v] = v_fma(h, x - mean[v], t[v]);
                    h *= a.scale[v];
                }
                if (to)
                    take(how, to + v * VL, h, lanes);
            }
        }
    if (pre)
        add_up(V, lanes, gate, s, t, k, sum);
}

/* One backward call. sum: the part of a chunk. */
typedef struct {
    const cx_call *c;
    cx_gate gate;
    cut cut;
    taking how;                     /* avg_pool's */
    cx_parts parts;
} job;
typedef void (*grad_fn)(const job *j, int64_t n, window w, const float *dy, float *sum);

static void max_grad(const job *j, int64_t n, window w, const float *dy, float *sum)
{
    const int64_t channels = j->gate.x.s.c;
#define PRE(V, lanes) max_grad_part(V, lanes, true, &j->gate, n, w, k, dy + k, sum)
#define PLAIN(V, lanes) max_grad_part(V, lanes, false, &j->gate, n, w, k, dy + k, sum)
    if (j->gate.scale)
        OVER_CHANNELS(channels, PRE);
    else
        OVER_CHANNELS(channels, PLAIN);
#undef PRE
#undef PLAIN
}

static void avg_grad(const job *j, int64_t n, window w, const float *dy, float *sum)
{
    const int64_t channels = j->gate.x.s.c;
    const float scale = scale_of(j->c, w);
#define CALL(V, lanes) avg_grad_part(V, lanes, pre, how, &j->gate, n, w, k, scale, dy + k, sum)
#define CASE(p, h) if ((j->gate.scale != NULL) == p && j->how == h) { const bool pre = p; const taking how = h; OVER_CHANNELS(channels, CALL); }
    CASE(true, STORE)
    CASE(true, STREAM)
    CASE(true, ADD)
    CASE(false, STORE)
    CASE(false, STREAM)
    CASE(false, ADD)
#undef CASE
#undef CALL
}

static void clear_rows(const cx_tensor *dx, int64_t n, int64_t y0, int64_t y1)
{
    y0 = y0 < 0 ? 0 : y0;
    y1 = y1 < dx->s.h ? y1 : dx->s.h;
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = 0; x < dx->s.w; x++)
            memset(pixel(dx, n, y, x), 0, (size_t)dx->s.c * sizeof(float));
}

/* Band `b` of image n: clears the input rows that it is the first to write, then adds its windows. */
static void run_band(const job *j, grad_fn grad, int64_t n, int64_t b)
{
    const cx_pool_attr *a = j->c->attr;
    const cx_shape s = j->c->y[0].s;
    const int64_t p0 = b * j->cut.rows, p1 = p0 + j->cut.rows < s.h ? p0 + j->cut.rows : s.h, reach = j->cut.reach;
    float *sum = j->gate.sums ? j->parts.p + (n * j->cut.bands + b) * j->parts.pitch : NULL;
    if (sum)
        memset(sum, 0, (size_t)s.c * 2 * sizeof *sum);
    if (j->gate.dx.p && !j->gate.add && j->how != STREAM) {
        const int64_t lo = b == 0 ? 0 : p0 * a->stride - a->pad, hi = p1 == s.h ? j->gate.x.s.h : p1 * a->stride - a->pad;
        clear_rows(&j->gate.dx, n, b % 2 ? lo + reach : lo, b % 2 ? hi : hi + reach);
    }
    for (int64_t p = p0; p < p1; p++)
        for (int64_t q = 0; q < s.w; q++)
            grad(j, n, window_at(j->c, p, q), pixel(&j->c->dy[0], n, p, q), sum);
    if (j->how == STREAM)
        vf_fence();
}

static cx_status backward(const cx_call *c, grad_fn grad, taking how)
{
    const job j = { c, cx_gate_of(c), cut_of(c), how, cx_parts_at(c->work, c->x[0].s.c) };
    if (!j.gate.dx.p && !j.gate.sums)
        return CX_OK;
    for (int odd = 0; odd < 2; odd++) {
        const int64_t mine = (j.cut.bands + 1 - odd) / 2;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < c->y[0].s.n * mine; i++)
            run_band(&j, grad, i / mine, i % mine * 2 + odd);
    }
    if (j.gate.sums)
        CX_FN(merge_sums)(j.parts, c->y[0].s.n * j.cut.bands, &c->fold.sums);
    return CX_OK;
}

static cx_status max_backward(const cx_call *c)
{
    return backward(c, max_grad, ADD);
}

/* Windows that tile the input write each pixel once, past the caches where that pays; others add to what was cleared. */
static cx_status avg_backward(const cx_call *c)
{
    const cx_pool_attr *a = c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    const bool apart = a->kernel <= a->stride, tile = a->kernel == a->stride && a->pad == 0 && x.h == y.h * a->kernel && x.w == y.w * a->kernel;
    return backward(c, avg_grad, c->dx_add[0] || !apart ? ADD : tile && can_stream(&c->dx[0]) ? STREAM : STORE);
}

/* ---- global_avg_pool -------------------------------------------------------------------------------------------------- */

enum { BLOCK = 64, PIXELS = 64 };

INLINE void store(int V, int lanes, const cx_tensor *y, int64_t at, const float *from)
{
    for (int v = 0; v < V; v++)
        vt_store(y->type, y->p, at + v * VL, vf_load(from + v * VL, lanes), lanes);
}

static cx_status global_forward(const cx_call *c)
{
    const cx_source x = cx_source_x(c);
    const cx_shape s = c->x[0].s;
    const int64_t area = s.h * s.w, blocks = (s.c + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s.n * blocks; i++) {
        const int64_t n = i / blocks, k0 = i % blocks * BLOCK, len = s.c - k0 < BLOCK ? s.c - k0 : BLOCK;
        double sum[BLOCK] = { 0 };
        for (int64_t p = 0; p < area; p++) {
            float u[BLOCK];
            CX_FN(read_rows)(&x, n * area + p, 1, k0, len, u, BLOCK);
            for (int64_t k = 0; k < len; k++)
                sum[k] += (double)u[k];
        }
        float mean[BLOCK];
        for (int64_t k = 0; k < len; k++)
            mean[k] = (float)(sum[k] / (double)area);
#define CALL(V, lanes) store(V, lanes, &c->y[0], n * c->y[0].ld + k0 + k, mean + k)
        OVER_CHANNELS(len, CALL);
#undef CALL
    }
    return CX_OK;
}

static size_t global_workspace(const cx_call *c, bool backward)
{
    return backward && c->fold.sums.s.c ? cx_parts_bytes(c->x[0].s.n, c->x[0].s.c) : 0;
}

/* Behind a prologue: all pixels of image n have the same gradient g of channels k0 .. k0+len-1. */
static void global_gate(const cx_gate *gate, int64_t n, int64_t area, const float *g, int64_t k0, int64_t len, cx_parts parts)
{
    for (int64_t p0 = 0; p0 < area; p0 += PIXELS) {
        int64_t px[PIXELS], rows = area - p0 < PIXELS ? area - p0 : PIXELS;
        for (int64_t r = 0; r < rows; r++)
            px[r] = n * area + p0 + r;
        CX_FN(gate_rows)(gate, px, rows, g, 0, k0, len, p0 == 0, parts, n);
    }
}

static cx_status global_backward(const cx_call *c)
{
    const cx_gate gate = cx_gate_of(c);
    const cx_parts parts = cx_parts_at(c->work, c->x[0].s.c);
    const cx_shape s = c->x[0].s;
    const int64_t area = s.h * s.w, blocks = (s.c + BLOCK - 1) / BLOCK;
    const float scale = (float)(1 / (double)area);
    if (!gate.dx.p && !gate.sums)
        return CX_OK;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s.n * blocks; i++) {
        const int64_t n = i / blocks, k0 = i % blocks * BLOCK, len = s.c - k0 < BLOCK ? s.c - k0 : BLOCK;
        float g[BLOCK];
        for (int64_t k = 0; k < len; k++)
            g[k] = c->dy[0].p[n * c->dy[0].ld + k0 + k] * scale;
        if (gate.scale) {
            global_gate(&gate, n, area, g, k0, len, parts);
            continue;
        }
        for (int64_t p = n * area; p < (n + 1) * area; p++) {
            float *dx = gate.dx.p + p * gate.dx.ld + k0;
            for (int64_t k = 0; k < len; k++)
                dx[k] = gate.add ? dx[k] + g[k] : g[k];
        }
    }
    if (gate.sums)
        CX_FN(merge_sums)(parts, s.n, &c->fold.sums);
    return CX_OK;
}

#define POOL(op, bytes, forward, backward) \
    const cx_impl CX_FN(op##_impls)[] = { { .name = #op " " CX_ISA_NAME, .workspace = bytes, .fwd = forward, .bwd = backward, .bf16 = true } }; \
    const int CX_FN(op##_n) = 1;
POOL(max_pool, workspace, max_forward, max_backward)
POOL(avg_pool, workspace, avg_forward, avg_backward)
POOL(global_avg_pool, global_workspace, global_forward, global_backward)
