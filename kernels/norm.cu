/* norm.cu - batch_norm, whole and folded, and the two steps that a plan adds by itself. x[0] and y[0] in either type.
 *
 * Floor: memory. In float32, bytes an element: statistics 4 (x; 4 FLOPs), forward in training 12 (x twice, y; 9 FLOPs), forward otherwise 8 (5 FLOPs),
 * backward 20 (x and dy twice, dx; 15 FLOPs), a carry 12 (3 FLOPs). The folded form is vectors only. Without scratch a block must own its channels, so that
 * statistics and backward keep at most C / 8 multiprocessors busy; the other walks fill the chip. */
#include "common.cuh"

/* What needs whole channels: a block of CHANNELS x WALKERS threads walks all pixels of CHANNELS neighbours, a sector of 32 bytes in float32, and each thread
 * asks for AHEAD numbers before it uses the first. */
enum { CHANNELS = 8, WALKERS = 128, AHEAD = 4, WARPS = CHANNELS * WALKERS / WARP };

static inline dim3 owners(void) { return dim3(CHANNELS, WALKERS); }
static inline unsigned owner_blocks(const cx_tensor &x) { return (unsigned)((x.s.c + CHANNELS - 1) / CHANNELS); }
/* The channel of this thread; threads beyond the last channel walk along with it and own nothing. */
static __device__ __forceinline__ int64_t own_channel(int64_t c) { return min((int64_t)blockIdx.x * CHANNELS + threadIdx.x, c - 1); }
static __device__ __forceinline__ bool owns(int64_t c) { return (int64_t)blockIdx.x * CHANNELS + threadIdx.x < c; }

/* What does not: COLS x LINES threads, channels by blockIdx.x, pixels by blockIdx.y and then in strides. */
static inline dim3 walk_grid(const cx_tensor &x)
{
    const int64_t rows = (cx_pixels(x.s) + LINES * AHEAD - 1) / (LINES * AHEAD);
    return dim3(channel_blocks(x.s.c), (unsigned)(rows < 65535 ? rows : 65535));
}
#define EACH_PIXEL(i, n) for (int64_t i = (int64_t)blockIdx.y * LINES + threadIdx.y; i < (n); i += (int64_t)gridDim.y * LINES)

static __device__ __forceinline__ double wide(float v) { return (double)v; }
static __device__ __forceinline__ double wide(uint16_t v) { return (double)from_bf16(v); }

/* The sum of v over the walkers of a channel, for every thread of it: within warps, then over warps in order. All threads of the block call. */
static __device__ __forceinline__ double sum_walkers(double v)
{
    SHARED(double, part, WARPS * CHANNELS);
    const int id = (int)(threadIdx.y * CHANNELS + threadIdx.x);
    for (int d = CHANNELS; d < WARP; d *= 2)
        v += __shfl_xor_sync(FULL, v, d);
    if (id % WARP < CHANNELS)
        part[id / WARP * CHANNELS + id % WARP] = v;
    __syncthreads();
    double s = 0;
    for (int i = 0; i < WARPS; i++)
        s += part[i * CHANNELS + threadIdx.x];
    __syncthreads();
    return s;
}

/* ---- statistics ----------------------------------------------------------------------------------------------------- */

typedef struct { double mean, var; } k_moments;

/* Sums of d and d^2, where d is the distance from the first pixel's value: small where the mean is large, so the variance survives one pass. */
template <class T> static __device__ __forceinline__ void sum_distances(const T *x, int64_t ld, int64_t n, double first, double sum[2])
{
    for (int64_t i = threadIdx.y; i < n; i += WALKERS * AHEAD) {
        double d[AHEAD];
        for (int j = 0; j < AHEAD; j++)
            d[j] = i + j * WALKERS < n ? wide(x[(i + j * WALKERS) * ld]) - first : 0;
        for (int j = 0; j < AHEAD; j++) {
            sum[0] += d[j];
            sum[1] = fma(d[j], d[j], sum[1]);
        }
    }
}

/* Of channel k, for every thread of it; all threads of the block call. */
static __device__ __forceinline__ k_moments moments_of(const cx_tensor &x, int64_t k)
{
    const int64_t n = pixels(x.s);
    const double first = (double)load(x, 0, k), m = (double)n;
    double sum[2] = { 0, 0 };
    if (x.type == CX_BF16)
        sum_distances((const uint16_t *)(const void *)x.p + k, x.ld, n, first, sum);
    else
        sum_distances(x.p + k, x.ld, n, first, sum);
    const double shift = sum_walkers(sum[0]) / m, square = sum_walkers(sum[1]) / m, var = fma(-shift, shift, square);
    return k_moments{ first + shift, var < 0 ? 0 : var };
}

__global__ void __launch_bounds__(CHANNELS * WALKERS) statistics_fwd(cx_tensor x, cx_tensor stats)
{
    const int64_t k = own_channel(x.s.c);
    const k_moments s = moments_of(x, k);
    if (threadIdx.y == 0 && owns(x.s.c)) {
        stats.p[k] = (float)s.mean;
        stats.p[stats.ld + k] = (float)s.var;
    }
}

__global__ void __launch_bounds__(COLS * LINES) statistics_bwd(cx_tensor x, cx_tensor carry, cx_tensor dx)
{
    const int64_t k = (int64_t)blockIdx.x * COLS + threadIdx.x;
    if (k >= x.s.c)
        return;
    const double slope = (double)row(carry, 0, k), level = (double)row(carry, 1, k);
    EACH_PIXEL(i, pixels(x.s))
        put(dx, i, k, true, slope * (double)load(x, i, k) + level);
}

extern "C" cx_status cx_cuda_fwd_statistics(const cx_call *c)
{
    LAUNCH(statistics_fwd, owner_blocks(c->x[0]), owners(), stream_of(c), c->x[0], c->fold.stats);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_statistics(const cx_call *c)
{
    LAUNCH(statistics_bwd, walk_grid(c->x[0]), dim3(COLS, LINES), stream_of(c), c->x[0], c->fold.carry, c->dx[0]);
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

__global__ void __launch_bounds__(CHANNELS * WALKERS) norm_take_batch(cx_norm_attr a, cx_tensor x, cx_tensor run_mean, cx_tensor run_var, cx_tensor mean,
                                                                      cx_tensor r)
{
    const int64_t k = own_channel(x.s.c);
    const k_moments s = moments_of(x, k);
    if (threadIdx.y == 0 && owns(x.s.c)) {
        mean.p[k] = (float)s.mean;
        r.p[k] = (float)r_of(a, s.var);
        run_statistics(a, run_mean, run_var, k, (double)pixels(x.s), s);
    }
}

__global__ void __launch_bounds__(THREADS) norm_take_running(cx_norm_attr a, cx_tensor run_mean, cx_tensor run_var, cx_tensor mean, cx_tensor r)
{
    EACH_ELEMENT(k, mean.s.c) {
        mean.p[k] = run_mean.p[k];
        r.p[k] = (float)r_of(a, (double)run_var.p[k]);
    }
}

/* ---- the whole operator ----------------------------------------------------------------------------------------------- */

/* In doubles, as the reference: forward and backward then agree on every mask. */
typedef struct { cx_tensor x, gamma, beta, mean, r; bool relu; } k_norm;
typedef struct { double mean, r, gamma, beta; } k_channel;
static inline k_norm norm_of(const cx_call *c) { return k_norm{ c->x[0], c->x[1], c->x[2], c->y[1], c->y[2], c->relu }; }
static __device__ __forceinline__ k_channel channel_of(const k_norm &t, int64_t k)
{
    return k_channel{ (double)t.mean.p[k], (double)t.r.p[k], (double)t.gamma.p[k], (double)t.beta.p[k] };
}
static __device__ __forceinline__ double normal(const k_channel &n, double x) { return (x - n.mean) * n.r; }
static __device__ __forceinline__ double result(const k_channel &n, double normal_x) { return fma(normal_x, n.gamma, n.beta); }

__global__ void __launch_bounds__(COLS * LINES) norm_apply(k_norm t, cx_tensor y)
{
    const int64_t k = (int64_t)blockIdx.x * COLS + threadIdx.x;
    if (k >= y.s.c)
        return;
    const k_channel n = channel_of(t, k);
    EACH_PIXEL(i, pixels(y.s)) {
        const double v = result(n, normal(n, (double)load(t.x, i, k)));
        store(y, i, k, t.relu && v < 0 ? 0 : (float)v);
    }
}

/* One channel of the backward pass, as a thread walks it. */
template <class T> struct k_line { const T *x; const float *dy; int64_t x_ld, dy_ld, n; k_channel of; bool relu; };

/* AHEAD pixels from i on: normalised x, and the gradient behind the ReLU, which is 0 past the last pixel. */
template <class T> static __device__ __forceinline__ void take_pixels(const k_line<T> &l, int64_t i, double normal_x[AHEAD], double g[AHEAD])
{
    for (int j = 0; j < AHEAD; j++) {
        const int64_t at = i + j * WALKERS;
        normal_x[j] = normal(l.of, wide(l.x[min(at, l.n - 1) * l.x_ld]));
        g[j] = at < l.n ? (double)l.dy[at * l.dy_ld] : 0;
    }
    for (int j = 0; j < AHEAD; j++)
        if (l.relu && result(l.of, normal_x[j]) <= 0)
            g[j] = 0;
}

template <class T> static __device__ __forceinline__ void sum_gradients(const k_line<T> &l, double sum[2])
{
    double v[AHEAD], g[AHEAD];
    for (int64_t i = threadIdx.y; i < l.n; i += WALKERS * AHEAD) {
        take_pixels(l, i, v, g);
        for (int j = 0; j < AHEAD; j++) {
            sum[0] += g[j];
            sum[1] = fma(g[j], v[j], sum[1]);
        }
    }
}

/* dx = gamma r (g - level - slope normal(x)) */
template <class T> static __device__ __forceinline__ void put_gradients(const k_line<T> &l, double level, double slope, const cx_tensor &dx, int64_t k,
                                                                        bool add)
{
    const double scale = l.of.gamma * l.of.r;
    double v[AHEAD], g[AHEAD];
    for (int64_t i = threadIdx.y; i < l.n; i += WALKERS * AHEAD) {
        take_pixels(l, i, v, g);
        for (int j = 0; j < AHEAD; j++)
            if (i + j * WALKERS < l.n)
                put(dx, i + j * WALKERS, k, add, scale * (g[j] - level - v[j] * slope));
    }
}

typedef struct { cx_tensor dx, dgamma, dbeta; bool add[3]; } k_out;

/* T: the type of x. */
template <class T> __global__ void __launch_bounds__(CHANNELS * WALKERS) norm_bwd(k_norm t, cx_tensor dy, bool batch, k_out out)
{
    const int64_t k = own_channel(t.x.s.c);
    const k_line<T> l = { (const T *)(const void *)t.x.p + k, dy.p + k, t.x.ld, dy.ld, pixels(t.x.s), channel_of(t, k), t.relu };
    double sum[2] = { 0, 0 };
    sum_gradients(l, sum);
    const double dbeta = sum_walkers(sum[0]), dgamma = sum_walkers(sum[1]), m = (double)l.n;
    if (!owns(t.x.s.c))
        return;                     /* no barrier follows */
    if (out.dx.p)
        put_gradients(l, batch ? dbeta / m : 0, batch ? dgamma / m : 0, out.dx, k, out.add[0]);
    if (threadIdx.y == 0 && out.dgamma.p)
        put(out.dgamma, 0, k, out.add[1], dgamma);
    if (threadIdx.y == 0 && out.dbeta.p)
        put(out.dbeta, 0, k, out.add[2], dbeta);
}

/* ---- folded form (cx_fold in op.h): vectors only ------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS) norm_fold_fwd(cx_norm_attr a, k_norm t, cx_tensor run_mean, cx_tensor run_var, cx_tensor stats, cx_tensor pre)
{
    EACH_ELEMENT(k, t.x.s.c) {
        k_moments s = { (double)run_mean.p[k], (double)run_var.p[k] };
        if (stats.s.c) {
            s = k_moments{ (double)row(stats, 0, k), (double)row(stats, 1, k) };
            run_statistics(a, run_mean, run_var, k, (double)pixels(t.x.s), s);
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

extern "C" cx_status cx_cuda_fwd_batch_norm(const cx_call *c)
{
    const unsigned vectors = blocks_for(c->x[0].s.c);
    if (c->fold.pre.s.c) {
        if (!c->redo)
            LAUNCH(norm_fold_fwd, vectors, THREADS, stream_of(c), attr_of(c), norm_of(c), c->x[3], c->x[4], c->fold.stats, c->fold.pre);
        return launched();
    }
    if (!c->redo && uses_batch(c))
        LAUNCH(norm_take_batch, owner_blocks(c->x[0]), owners(), stream_of(c), attr_of(c), c->x[0], c->x[3], c->x[4], c->y[1], c->y[2]);
    else if (!c->redo)
        LAUNCH(norm_take_running, vectors, THREADS, stream_of(c), attr_of(c), c->x[3], c->x[4], c->y[1], c->y[2]);
    LAUNCH(norm_apply, walk_grid(c->x[0]), dim3(COLS, LINES), stream_of(c), norm_of(c), c->y[0]);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_batch_norm(const cx_call *c)
{
    const k_out out = { c->dx[0], c->dx[1], c->dx[2], { c->dx_add[0], c->dx_add[1], c->dx_add[2] } };
    if (c->fold.pre.s.c)
        LAUNCH(norm_fold_bwd, blocks_for(c->x[0].s.c), THREADS, stream_of(c), c->x[0].s, c->fold.pre, c->fold.sums, c->fold.carry, c->fold.carry_add, out);
    else if (c->x[0].type == CX_BF16)
        LAUNCH(norm_bwd<uint16_t>, owner_blocks(c->x[0]), owners(), stream_of(c), norm_of(c), c->dy[0], uses_batch(c), out);
    else
        LAUNCH(norm_bwd<float>, owner_blocks(c->x[0]), owners(), stream_of(c), norm_of(c), c->dy[0], uses_batch(c), out);
    return launched();
}
