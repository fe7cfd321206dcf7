/* norm.cu - batch_norm, whole and folded, and the two steps that a plan adds by itself. x[0] and y[0] in either type.
 *
 * Floor: memory. In float32, bytes an element: statistics 4 (x; 4 FLOPs), forward in training 12 (x twice, y; 9 FLOPs), forward otherwise 8 (5 FLOPs),
 * backward 20 (x and dy twice, dx; 15 FLOPs), a carry 12 (3 FLOPs). The folded form is vectors only. All FLOPs are in double: as many as the reference's, so
 * that forward and backward agree on every mask. */
#include "walk.cuh"
#include "workspace.h"

/* ---- statistics ----------------------------------------------------------------------------------------------------- */

enum { AHEAD = 4 };                             /* quads that a thread asks for before it uses the first */

/* Sums of d and d^2, where d is the distance from the first pixel's value: small where the mean is large, so the variance survives one pass. */
__global__ void __launch_bounds__(THREADS) sum_distances(cx_tensor x, k_walk w, double *part)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    float first[4];
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    load_row(x, 0, at, first);
    for (; at.row < end; at.row += AHEAD * DOWN) {
        k_fetched q[AHEAD];
        for (int i = 0; i < AHEAD; i++)
            q[i] = fetch_quad(x, steps_on(at, i, end));
        for (int i = 0; i < AHEAD; i++) {
            const k_place p = steps_on(at, i, end);
            float v[4];
            unpack_quad(x, p, q[i], v);
            for (int j = 0; j < 4; j++) {
                const double d = p.n > 0 ? (double)v[j] - (double)first[j] : 0;
                sum[j] += d;
                sum[4 + j] = fma(d, d, sum[4 + j]);
            }
        }
    }
    leave_sums<2>(w, sum, part);
}

typedef struct { double mean, var; } k_moments;
static __device__ __forceinline__ k_moments moments_of(const cx_tensor &x, int64_t k, const double sum[2])
{
    const double m = (double)pixels(x.s), shift = sum[0] / m, var = fma(-shift, shift, sum[1] / m);
    return k_moments{ (double)load(x, 0, k) + shift, var < 0 ? 0 : var };
}

/* done(k, sums of distances) for each channel of x[0]. */
template <class F> static void take_moments(const cx_call *c, F done)
{
    const cx_tensor &x = c->x[0];
    const k_walk w = walk_of(cx_pixels(x.s), x.s.c, x);
    LAUNCH(sum_distances, blocks_in(w), THREADS, stream_of(c), x, w, (double *)c->work);
    launch_parts<2>(c, (const double *)c->work, w.chunks, w.c, done);
}

struct put_statistics {
    cx_tensor x, stats;
    __device__ void operator()(int64_t k, const double *sum) const
    {
        const k_moments s = moments_of(x, k, sum);
        put(stats, 0, k, false, s.mean);
        put(stats, 1, k, false, s.var);
    }
};

__global__ void __launch_bounds__(THREADS) add_carry(cx_tensor x, cx_tensor carry, cx_tensor dx, k_walk w)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    float slope[4], level[4];
    load_row(carry, 0, at, slope);
    load_row(carry, 1, at, level);
    for (; at.row < end; at.row += DOWN) {
        float v[4];
        double g[4];
        load_quad(x, at, v);
        for (int j = 0; j < 4; j++)
            g[j] = (double)slope[j] * (double)v[j] + (double)level[j];
        put_quad(dx, at, true, g);
    }
}

extern "C" size_t cx_cuda_workspace_statistics(const cx_call *c, bool backward)
{
    return backward ? 0 : walk_bytes(walk_of(cx_pixels(c->x[0].s), c->x[0].s.c), 2);
}

extern "C" cx_status cx_cuda_fwd_statistics(const cx_call *c)
{
    take_moments(c, put_statistics{ c->x[0], c->fold.stats });
    return launched();
}

extern "C" cx_status cx_cuda_bwd_statistics(const cx_call *c)
{
    const k_walk w = walk_of(cx_pixels(c->x[0].s), c->x[0].s.c, c->x[0], c->dx[0]);
    LAUNCH(add_carry, blocks_in(w), THREADS, stream_of(c), c->x[0], c->fold.carry, c->dx[0], w);
    return launched();
}

/* ---- what is used: batch statistics or running ones ------------------------------------------------------------------- */

static inline cx_norm_attr attr_of(const cx_call *c) { return *(const cx_norm_attr *)c->attr; }
static inline bool uses_batch(const cx_call *c) { return c->training && !attr_of(c).frozen; }

static __device__ __forceinline__ double r_of(const cx_norm_attr &a, double var) { return 1 / sqrt(var + (double)a.eps); }

static __device__ __forceinline__ void run_statistics(const cx_norm_attr &a, const cx_tensor &mean, const cx_tensor &var, int64_t k, double m, k_moments s)
{
    const double kept = 1 - (double)a.momentum, share = (double)a.momentum, spread = a.unbiased && m > 1 ? s.var * m / (m - 1) : s.var;
    mean.p[k] = (float)(kept * (double)mean.p[k] + share * s.mean);
    var.p[k] = (float)(kept * (double)var.p[k] + share * spread);
}

struct take_batch {
    cx_norm_attr a;
    cx_tensor x, run_mean, run_var, mean, r;
    __device__ void operator()(int64_t k, const double *sum) const
    {
        const k_moments s = moments_of(x, k, sum);
        mean.p[k] = (float)s.mean;
        r.p[k] = (float)r_of(a, s.var);
        run_statistics(a, run_mean, run_var, k, (double)pixels(x.s), s);
    }
};

__global__ void __launch_bounds__(THREADS) norm_take_running(cx_norm_attr a, cx_tensor run_mean, cx_tensor run_var, cx_tensor mean, cx_tensor r)
{
    EACH_ELEMENT(k, mean.s.c) {
        mean.p[k] = run_mean.p[k];
        r.p[k] = (float)r_of(a, (double)run_var.p[k]);
    }
}

/* ---- the whole operator ----------------------------------------------------------------------------------------------- */

typedef struct { cx_tensor x, gamma, beta, mean, r; bool relu; } k_norm;
static inline k_norm norm_of(const cx_call *c) { return k_norm{ c->x[0], c->x[1], c->x[2], c->y[1], c->y[2], c->relu }; }

/* Of this thread's channels. */
typedef struct { float mean[4], r[4], gamma[4], beta[4]; } k_channels;
static __device__ __forceinline__ k_channels channels_of(const k_norm &t, const k_place &p)
{
    k_channels n;
    load_row(t.mean, 0, p, n.mean);
    load_row(t.r, 0, p, n.r);
    load_row(t.gamma, 0, p, n.gamma);
    load_row(t.beta, 0, p, n.beta);
    return n;
}
static __device__ __forceinline__ double normal(const k_channels &n, int j, float x) { return ((double)x - (double)n.mean[j]) * (double)n.r[j]; }
static __device__ __forceinline__ double result(const k_channels &n, int j, double normal_x) { return fma(normal_x, (double)n.gamma[j], (double)n.beta[j]); }

__global__ void __launch_bounds__(THREADS) norm_apply(k_norm t, cx_tensor y, k_walk w)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_channels n = channels_of(t, at);
    for (; at.row < end; at.row += AHEAD * DOWN) {
        k_fetched q[AHEAD];
        for (int i = 0; i < AHEAD; i++)
            q[i] = fetch_quad(t.x, steps_on(at, i, end));
        for (int i = 0; i < AHEAD; i++) {
            const k_place p = steps_on(at, i, end);
            float v[4];
            unpack_quad(t.x, p, q[i], v);
            for (int j = 0; j < 4; j++) {
                const double u = result(n, j, normal(n, j, v[j]));
                v[j] = t.relu && u < 0 ? 0 : (float)u;
            }
            store_quad(y, p, v);
        }
    }
}

/* Normalised x of a quad, and its gradient behind the ReLU. */
static __device__ __forceinline__ void take_quad(const k_norm &t, const k_channels &n, const cx_tensor &dy, const k_place &p, double normal_x[4], double g[4])
{
    float x[4], d[4];
    const k_fetched from = fetch_quad(dy, p);
    load_quad(t.x, p, x);
    unpack_quad(dy, p, from, d);
    for (int j = 0; j < 4; j++) {
        normal_x[j] = normal(n, j, x[j]);
        g[j] = t.relu && result(n, j, normal_x[j]) <= 0 ? 0 : (double)d[j];
    }
}

__global__ void __launch_bounds__(THREADS) sum_gradients(k_norm t, cx_tensor dy, k_walk w, double *part)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_channels n = channels_of(t, at);
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 }, v[4], g[4];
    for (; at.row < end; at.row += DOWN) {
        take_quad(t, n, dy, at, v, g);
        for (int j = 0; j < 4; j++) {
            sum[j] += g[j];
            sum[4 + j] = fma(g[j], v[j], sum[4 + j]);
        }
    }
    leave_sums<2>(w, sum, part);
}

typedef struct { cx_tensor dx, dgamma, dbeta; bool add[3]; } k_out;

/* dgamma, dbeta and, for those who go on, their own sums as doubles: mean[0..c) and mean[c..2c), divided by the pixels. */
struct put_sums {
    k_out out;
    double *mean, m;
    int64_t c;
    __device__ void operator()(int64_t k, const double *sum) const
    {
        mean[k] = sum[0] / m;
        mean[c + k] = sum[1] / m;
        if (out.dgamma.p)
            put(out.dgamma, 0, k, out.add[1], sum[1]);
        if (out.dbeta.p)
            put(out.dbeta, 0, k, out.add[2], sum[0]);
    }
};

/* dx = gamma r (g - level - slope normal(x)); mean: level and slope, as put_sums leaves them, or NULL: both 0. */
__global__ void __launch_bounds__(THREADS) put_gradients(k_norm t, cx_tensor dy, const double *mean, cx_tensor dx, bool add, k_walk w)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_channels n = channels_of(t, at);
    double level[4], slope[4], v[4], g[4];
    for (int j = 0; j < 4; j++) {
        level[j] = mean && j < at.n ? mean[at.k + j] : 0;
        slope[j] = mean && j < at.n ? mean[w.c + at.k + j] : 0;
    }
    for (; at.row < end; at.row += DOWN) {
        take_quad(t, n, dy, at, v, g);
        for (int j = 0; j < 4; j++)
            g[j] = (double)n.gamma[j] * (double)n.r[j] * (g[j] - level[j] - v[j] * slope[j]);
        put_quad(dx, at, add, g);
    }
}

static void backward(const cx_call *c, const k_out &out)
{
    const cx_tensor &x = c->x[0], &dy = c->dy[0];
    const k_walk w = walk_of(cx_pixels(x.s), x.s.c, x, dy, out.dx);
    double *mean = (double *)c->work, *part = mean + 2 * x.s.c;
    if (uses_batch(c) || out.dgamma.p || out.dbeta.p) {
        LAUNCH(sum_gradients, blocks_in(w), THREADS, stream_of(c), norm_of(c), dy, w, part);
        launch_parts<2>(c, (const double *)part, w.chunks, w.c, put_sums{ out, mean, (double)w.pixels, w.c });
    }
    if (out.dx.p)
        LAUNCH(put_gradients, blocks_in(w), THREADS, stream_of(c), norm_of(c), dy, uses_batch(c) ? mean : nullptr, out.dx, out.add[0], w);
}

/* ---- folded form (cx_fold in op.h): vectors only ------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS) norm_fold_fwd(cx_norm_attr a, k_norm t, cx_tensor run_mean, cx_tensor run_var, cx_tensor stats, int parts,
                                                         cx_tensor pre)
{
    EACH_ELEMENT(k, t.x.s.c) {
        k_moments s = { (double)run_mean.p[k], (double)run_var.p[k] };
        if (stats.s.c) {
            s = k_moments{ (double)row(stats, 0, k), (double)row(stats, 1, k) };
            run_statistics(a, run_mean, run_var, k, (double)pixels(t.x.s) * parts, s);
        }
        const double r = r_of(a, s.var), scale = (double)t.gamma.p[k] * r;
        pre.p[CX_FOLD_SCALE * pre.ld + k] = (float)scale;
        pre.p[CX_FOLD_SHIFT * pre.ld + k] = (float)((double)t.beta.p[k] - s.mean * scale);
        pre.p[CX_FOLD_MEAN * pre.ld + k] = (float)s.mean;
        pre.p[CX_FOLD_R * pre.ld + k] = (float)r;
    }
}

__global__ void __launch_bounds__(THREADS) norm_fold_bwd(cx_shape s, cx_tensor pre, cx_tensor sums, cx_tensor carry, bool carry_add, k_out out)
{
    EACH_ELEMENT(k, s.c) {
        const double m = (double)pixels(s), sum = (double)row(sums, 0, k), dot = (double)row(sums, 1, k), scale = (double)row(pre, CX_FOLD_SCALE, k);
        const double mean = (double)row(pre, CX_FOLD_MEAN, k), r = (double)row(pre, CX_FOLD_R, k), b = -scale * r * r * dot / m;
        if (out.dgamma.p)
            put(out.dgamma, 0, k, out.add[1], dot * r);
        if (out.dbeta.p)
            put(out.dbeta, 0, k, out.add[2], sum);
        if (carry.s.c) {
            put(carry, 0, k, carry_add, b);
            put(carry, 1, k, carry_add, -scale * sum / m - b * mean);
        }
    }
}

/* ---- launchers ---------------------------------------------------------------------------------------------------------- */

/* Forward: the parts of sum_distances. Backward: two doubles a channel, then the parts of sum_gradients. */
extern "C" size_t cx_cuda_workspace_batch_norm(const cx_call *c, bool backward)
{
    const size_t parts = walk_bytes(walk_of(cx_pixels(c->x[0].s), c->x[0].s.c), 2);
    if (c->fold.pre.s.c || (!backward && !uses_batch(c)))
        return 0;
    return backward ? parts + (size_t)c->x[0].s.c * 2 * sizeof(double) : parts;
}

extern "C" cx_status cx_cuda_fwd_batch_norm(const cx_call *c)
{
    const unsigned vectors = blocks_for(c->x[0].s.c);
    if (c->fold.pre.s.c) {
        if (!c->redo)
            LAUNCH(norm_fold_fwd, vectors, THREADS, stream_of(c), attr_of(c), norm_of(c), c->x[3], c->x[4], c->fold.stats, cx_fold_parts(&c->fold),
                   c->fold.pre);
        return launched();
    }
    if (!c->redo && uses_batch(c))
        take_moments(c, take_batch{ attr_of(c), c->x[0], c->x[3], c->x[4], c->y[1], c->y[2] });
    else if (!c->redo)
        LAUNCH(norm_take_running, vectors, THREADS, stream_of(c), attr_of(c), c->x[3], c->x[4], c->y[1], c->y[2]);
    const k_walk w = walk_of(cx_pixels(c->x[0].s), c->x[0].s.c, c->x[0], c->y[0]);
    LAUNCH(norm_apply, blocks_in(w), THREADS, stream_of(c), norm_of(c), c->y[0], w);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_batch_norm(const cx_call *c)
{
    const k_out out = { c->dx[0], c->dx[1], c->dx[2], { c->dx_add[0], c->dx_add[1], c->dx_add[2] } };
    if (c->fold.pre.s.c)
        LAUNCH(norm_fold_bwd, blocks_for(c->x[0].s.c), THREADS, stream_of(c), c->x[0].s, c->fold.pre, c->fold.sums, c->fold.carry, c->fold.carry_add, out);
    else
        backward(c, out);
    return launched();
}
