/* batch_norm.c - batch normalisation with a folded ReLU, forward and backward, at the speed of memory. Depends on kernels.h, fold.h.
 *
 * Pixels are cut into chunks that depend on the shape alone; partial results of chunks are merged in order in double, so the bits are the same for any number
 * of threads. Each thread walks its chunks up in the first pass (statistics, or dgamma and dbeta) and down in the second (normalise, or dx), so that what was
 * read last, and is still in the caches, is used first. Blocks of channels that fit the caches were tried: strided rows cost more than they save. */
#include <math.h>
#include "cpu/kernels.h"
#include "fold.h"

enum { SUB = 16, MIN_CHUNKS = 48, MAX_CHUNK_PX = 256, MERGE = 32 };

typedef struct { int64_t px, chunk_px, chunks, c; } blocks;

/* How a call is cut: a function of the shape only. */
static blocks cut(cx_shape s)
{
    blocks b = { .px = cx_pixels(s), .c = s.c };
    b.chunk_px = (b.px / MIN_CHUNKS + SUB - 1) / SUB * SUB;
    b.chunk_px = b.chunk_px < SUB ? SUB : b.chunk_px > MAX_CHUNK_PX ? MAX_CHUNK_PX : b.chunk_px;
    b.chunks = (b.px + b.chunk_px - 1) / b.chunk_px;
    return b;
}

/* The pixels of chunk k. */
static range chunk_at(blocks b, int64_t k)
{
    const int64_t lo = k * b.chunk_px, hi = lo + b.chunk_px;
    return (range){ lo, hi < b.px ? hi : b.px };
}


/* y = (x - mean) scale + beta: less rounding than x a + b when the mean is large. */
typedef struct { const float *mean, *scale, *beta; } affine;

INLINE affine affine_at(affine a, int64_t k)
{
    return (affine){ a.mean + k, a.scale + k, a.beta + k };
}

static bool uses_batch(const cx_call *c)
{
    return c->training && !((const cx_norm_attr *)c->attr)->frozen;
}

/* The affine of a call whose y[1] (mean) and y[2] (1/sqrt(var + eps)) are known. */
static affine known_affine(const cx_call *c, float *scale)
{
    for (int64_t k = 0; k < c->x[0].s.c; k++)
        scale[k] = c->x[1].p[k] * c->y[2].p[k];
    return (affine){ c->y[1].p, scale, c->x[2].p };
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

INLINE void normalise_part(int V, int lanes, bool relu, bool stream, const float *x, affine a, float *y)
{
    for (int v = 0; v < V; v++) {
        const int64_t o = v * VL;
        vf t = (vf_load(x + o, lanes) - vf_load(a.mean + o, lanes)) * vf_load(a.scale + o, lanes) + vf_load(a.beta + o, lanes);
        if (relu)
            t = vf_relu(t);
        if (stream)
            vf_stream(y + o, t);
        else
            vf_store(y + o, t, lanes);
    }
}

INLINE void normalise_rows(bool relu, bool stream, const cx_call *c, range px, affine a)
{
    for (int64_t p = px.lo; p < px.hi; p++) {
        const float *x = c->x[0].p + p * c->x[0].ld;
        float *y = c->y[0].p + p * c->y[0].ld;
#define CALL(V, lanes) normalise_part(V, lanes, relu, stream, x + k, affine_at(a, k), y + k)
        OVER_CHANNELS(c->x[0].s.c, CALL);
#undef CALL
    }
    if (stream)
        vf_fence();
}

static void normalise_chunk(const cx_call *c, range px, affine a)
{
    const bool stream = can_stream(&c->y[0]);
    if (c->relu && stream)
        normalise_rows(true, true, c, px, a);
    else if (c->relu)
        normalise_rows(true, false, c, px, a);
    else if (stream)
        normalise_rows(false, true, c, px, a);
    else
        normalise_rows(false, false, c, px, a);
}

/* Batch mean, 1/sqrt(var + eps), running statistics and scale from the statistics of x. */
static void take_stats(const cx_call *c, const cx_tensor *stats, float *scale)
{
    const cx_norm_attr *attr = c->attr;
    const double kept = 1 - (double)attr->momentum, fresh = (double)attr->momentum, m = (double)cx_pixels(c->x[0].s);
    for (int64_t k = 0; k < c->x[0].s.c; k++) {
        const double mean = (double)cx_row(stats, 0)[k], var = (double)cx_row(stats, 1)[k], running = attr->unbiased && m > 1 ? var * m / (m - 1) : var;
        c->y[1].p[k] = (float)mean;
        c->y[2].p[k] = (float)(1 / sqrt(var + (double)attr->eps));
        c->x[3].p[k] = (float)(kept * (double)c->x[3].p[k] + fresh * mean);
        c->x[4].p[k] = (float)(kept * (double)c->x[4].p[k] + fresh * running);
        scale[k] = c->x[1].p[k] * c->y[2].p[k];
    }
}

/* A call of the statistics step for x; their rows lie at `rows`, its scratch behind them. */
static cx_call stats_call(const cx_call *c, float *rows)
{
    const int64_t n = c->x[0].s.c;
    return (cx_call){ .x = { c->x[0] }, .fold = { .stats = { .s = { 1, 1, 2, n }, .ld = n, .p = rows } }, .work = rows ? rows + 2 * n : NULL };
}

static void forward_batch(const cx_call *c, blocks b, float *scale)
{
    const affine a = { c->y[1].p, scale, c->x[2].p };
    const cx_call stats = stats_call(c, scale + b.c);
    CX_FN(statistics_impl).fwd(&stats);
    take_stats(c, &stats.fold.stats, scale);
#pragma omp parallel
    {
        const range mine = my_share(b.chunks);
        for (int64_t i = mine.hi - 1; i >= mine.lo; i--)
            normalise_chunk(c, chunk_at(b, i), a);
    }
}

static cx_status forward(const cx_call *c)
{
    const cx_norm_attr *attr = c->attr;
    const blocks b = cut(c->x[0].s);
    float *scale = c->work;
    if (uses_batch(c) && !c->redo) {
        forward_batch(c, b, scale);
        return CX_OK;
    }
    if (!c->redo)
        for (int64_t k = 0; k < b.c; k++) {
            c->y[1].p[k] = c->x[3].p[k];
            c->y[2].p[k] = (float)(1 / sqrt((double)c->x[4].p[k] + (double)attr->eps));
        }
    const affine a = known_affine(c, scale);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b.chunks; i++)
        normalise_chunk(c, chunk_at(b, i), a);
    return CX_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

/* The gradient behind the folded ReLU: kept where the rebuilt output is positive. */
INLINE vf masked(bool relu, vf g, vf centred, vf scale, vf beta)
{
    return relu ? vf_where(~(centred * scale + beta <= (vf){ 0 }), g) : g;
}

/* sum += sum g, dot += sum g (x - mean) over n pixels. */
INLINE void reduce_sub(int V, int lanes, bool relu, const float *x, int64_t ldx, const float *dy, int64_t ldy, int n, affine a, float *sum, float *dot)
{
    vf s[WIDE] = { 0 }, t[WIDE] = { 0 }, mean[WIDE], scale[WIDE], beta[WIDE];
    for (int v = 0; v < V; v++) {
        mean[v] = vf_load(a.mean + v * VL, lanes);
        scale[v] = vf_load(a.scale + v * VL, lanes);
        beta[v] = vf_load(a.beta + v * VL, lanes);
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < V; v++) {
            const vf d = vf_load(x + i * ldx + v * VL, lanes) - mean[v];
            const vf g = masked(relu, vf_load(dy + i * ldy + v * VL, lanes), d, scale[v], beta[v]);
            s[v] += g;
            t[v] += g * d;
        }
    for (int v = 0; v < V; v++) {
        vf_store(sum + v * VL, vf_load(sum + v * VL, lanes) + s[v], lanes);
        vf_store(dot + v * VL, vf_load(dot + v * VL, lanes) + t[v], lanes);
    }
}

INLINE void reduce_rows(bool relu, const cx_call *c, range px, affine a, float *sum, float *dot)
{
    const cx_tensor *x = &c->x[0], *dy = &c->dy[0];
    for (int64_t p = px.lo; p < px.hi; p += SUB) {
        const int n = px.hi - p < SUB ? (int)(px.hi - p) : SUB;
        const float *xp = x->p + p * x->ld, *gp = dy->p + p * dy->ld;
#define CALL(V, lanes) reduce_sub(V, lanes, relu, xp + k, x->ld, gp + k, dy->ld, n, affine_at(a, k), sum + k, dot + k)
        OVER_CHANNELS(x->s.c, CALL);
#undef CALL
    }
}

static void reduce_chunk(const cx_call *c, range px, affine a, float *part)
{
    float *sum = part, *dot = part + c->x[0].s.c;
    memset(part, 0, (size_t)c->x[0].s.c * 2 * sizeof *part);
    if (c->relu)
        reduce_rows(true, c, px, a, sum, dot);
    else
        reduce_rows(false, c, px, a, sum, dot);
}

/* dx = scale g + slope (x - mean) + level; slope and level are zero with running statistics. */
typedef struct { affine a; const float *slope, *level; } gradient;

/* How dx takes a value. */
typedef enum { STORE, STREAM, ADD } taking;

INLINE void dx_part(int V, int lanes, bool relu, taking how, const float *x, const float *dy, gradient g, float *dx)
{
    for (int v = 0; v < V; v++) {
        const int64_t o = v * VL;
        const vf scale = vf_load(g.a.scale + o, lanes), d = vf_load(x + o, lanes) - vf_load(g.a.mean + o, lanes);
        vf t = scale * masked(relu, vf_load(dy + o, lanes), d, scale, vf_load(g.a.beta + o, lanes));
        t += d * vf_load(g.slope + o, lanes) + vf_load(g.level + o, lanes);
        if (how == STREAM)
            vf_stream(dx + o, t);
        else
            vf_store(dx + o, how == ADD ? vf_load(dx + o, lanes) + t : t, lanes);
    }
}

INLINE void dx_rows(bool relu, taking how, const cx_call *c, range px, gradient g)
{
    for (int64_t p = px.lo; p < px.hi; p++) {
        const float *x = c->x[0].p + p * c->x[0].ld, *dy = c->dy[0].p + p * c->dy[0].ld;
        float *dx = c->dx[0].p + p * c->dx[0].ld;
#define CALL(V, lanes) dx_part(V, lanes, relu, how, x + k, dy + k, (gradient){ affine_at(g.a, k), g.slope + k, g.level + k }, dx + k)
        OVER_CHANNELS(c->x[0].s.c, CALL);
#undef CALL
    }
    if (how == STREAM)
        vf_fence();
}

static void dx_chunk(const cx_call *c, range px, gradient g)
{
    const taking how = c->dx_add[0] ? ADD : can_stream(&c->dx[0]) ? STREAM : STORE;
    if (c->relu && how == ADD)
        dx_rows(true, ADD, c, px, g);
    else if (c->relu && how == STREAM)
        dx_rows(true, STREAM, c, px, g);
    else if (c->relu)
        dx_rows(true, STORE, c, px, g);
    else if (how == ADD)
        dx_rows(false, ADD, c, px, g);
    else if (how == STREAM)
        dx_rows(false, STREAM, c, px, g);
    else
        dx_rows(false, STORE, c, px, g);
}

static void put(const cx_call *c, int i, int64_t k, double value)
{
    if (c->dx[i].p)
        c->dx[i].p[k] = (float)(c->dx_add[i] ? (double)c->dx[i].p[k] + value : value);
}

/* Channels k0 .. k1-1: chunks in order -> dgamma, dbeta, and what dx takes from them. */
static void merge_grads(const cx_call *c, blocks b, const float *part, int64_t k0, int64_t k1, float *slope, float *level)
{
    const int n = (int)(k1 - k0);
    double dbeta[MERGE] = { 0 }, dot[MERGE] = { 0 };
    for (int64_t i = 0; i < b.chunks; i++) {
        const float *ps = part + 2 * i * b.c + k0, *pd = ps + b.c;
        for (int k = 0; k < n; k++) {
            dbeta[k] += (double)ps[k];
            dot[k] += (double)pd[k];
        }
    }
    for (int k = 0; k < n; k++) {
        const double r = (double)c->y[2].p[k0 + k], scale = (double)c->x[1].p[k0 + k] * r, m = (double)b.px;
        put(c, 1, k0 + k, dot[k] * r);
        put(c, 2, k0 + k, dbeta[k]);
        slope[k0 + k] = uses_batch(c) ? (float)(-scale * r * r * dot[k] / m) : 0;
        level[k0 + k] = uses_batch(c) ? (float)(-scale * dbeta[k] / m) : 0;
    }
}

static cx_status backward(const cx_call *c)
{
    const blocks b = cut(c->x[0].s);
    float *scale = c->work, *slope = scale + b.c, *level = slope + b.c, *part = level + b.c;
    const gradient g = { known_affine(c, scale), slope, level };
#pragma omp parallel
    {
        const range mine = my_share(b.chunks);
        for (int64_t i = mine.lo; i < mine.hi; i++)
            reduce_chunk(c, chunk_at(b, i), g.a, part + 2 * i * b.c);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t k = 0; k < b.c; k += MERGE)
            merge_grads(c, b, part, k, k + MERGE < b.c ? k + MERGE : b.c, slope, level);
        for (int64_t i = mine.hi - 1; i >= mine.lo && c->dx[0].p; i--)
            dx_chunk(c, chunk_at(b, i), g);
    }
    return CX_OK;
}

/* Forward: scale, then the statistics and what their step wants. Backward: scale, slope, level [c] each, then two partial results [c] a chunk. */
static size_t workspace(const cx_call *c, bool backward)
{
    const blocks b = cut(c->x[0].s);
    const cx_call stats = stats_call(c, NULL);
    return backward ? (size_t)((b.chunks * 2 + 3) * b.c) * sizeof(float) : (size_t)(3 * b.c) * sizeof(float) + CX_FN(statistics_impl).workspace(&stats, false);
}

const cx_impl CX_FN(batch_norm_impls)[] = {
    { .name = "batch_norm " CX_ISA_NAME, .accepts = cx_is_plain, .workspace = workspace, .fwd = forward, .bwd = backward },
};
const int CX_FN(batch_norm_n) = 1;
