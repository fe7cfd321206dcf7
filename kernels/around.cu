/* around.cu - around.h: bytes of what is read and written. Gathering reads x or dy (and y where there is a carry or a mask) and writes the operand: 6 bytes an
 * element from float32 to bf16, 4 within bf16; taking y or dx reads the result and writes, or adds to, the tensor: 6 to 12. A handful of FLOPs an element. */
#include "around.h"
#include "quads.cuh"
#include "sums.cuh"
#include "workspace.h"

/* ---- elementwise: to = f(place), zero in channels that there are not ---------------------------------------------------- */

static __device__ __forceinline__ k_place inside(const k_place &p, int64_t c, bool wide)
{
    const int n = (int)max((int64_t)0, min((int64_t)4, c - p.k));
    return k_place{ p.row, p.k, n, wide && n == 4 };
}

template <class F> __global__ void __launch_bounds__(THREADS) fill_quads(F f, k_quads q, cx_tensor to, bool add)
{
    k_place p;
    float v[4] = { 0, 0, 0, 0 };
    if (!find_quad(q, &p))
        return;
    f(p, v);
    put_quad(to, p, add, v);
}

template <class F> static cx_status fill(const cx_call *c, F f, const cx_tensor &to, bool add)
{
    const k_quads q = { cx_pixels(to.s), (to.s.c + 3) / 4, to.s.c, is_wide(to) };
    LAUNCH(fill_quads<F>, quad_blocks(q), THREADS, stream_of(c), f, q, to, add);
    return launched();
}

struct u_quad {
    k_source s;
    bool wide;
    __device__ void operator()(const k_place &at, float v[4]) const
    {
        const k_place p = inside(at, s.x.s.c, wide);
        load_quad(s.x, p, v);
        for (int j = 0; s.pre.s.c && j < p.n; j++) {
            const float u = fmaf(v[j], row(s.pre, CX_FOLD_SCALE, p.k + j), row(s.pre, CX_FOLD_SHIFT, p.k + j));
            v[j] = s.relu && u < 0 ? 0 : u;
        }
    }
};

struct dy_quad {
    k_gradient g;
    bool wide, wide_y;
    __device__ void operator()(const k_place &at, float v[4]) const
    {
        const k_place p = inside(at, g.dy.s.c, wide), of_y = inside(at, g.dy.s.c, wide_y);
        float y[4] = { 0, 0, 0, 0 };
        load_quad(g.dy, p, v);
        if (g.relu || g.carry.s.c)
            load_quad(g.y, of_y, y);
        for (int j = 0; g.carry.s.c && j < p.n; j++)
            v[j] = (float)((double)v[j] + (double)row(g.carry, 0, p.k + j) * (double)y[j] + (double)row(g.carry, 1, p.k + j));
        for (int j = 0; g.relu && j < p.n; j++)
            v[j] = y[j] <= 0 ? 0 : v[j];
    }
};

/* Weights: a pixel of w is a tap of an output. */
struct weight_quad {
    cx_tensor w;
    bool wide;
    __device__ void operator()(const k_place &at, float v[4]) const
    {
        if (at.row < pixels(w.s))
            load_quad(w, inside(at, w.s.c, wide), v);
    }
};

struct y_quad {
    cx_tensor from, post;
    const float *bias;
    bool relu, wide;
    __device__ void operator()(const k_place &p, float v[4]) const
    {
        load_quad(from, inside(p, p.k + p.n, wide), v);
        UNROLL for (int j = 0; j < 4; j++) {            /* so that v stays in registers */
            if (j >= p.n)
                break;
            const float u = bias ? v[j] + bias[p.k + j] : v[j];
            v[j] = post.s.c ? fmaf(u, row(post, CX_FOLD_SCALE, p.k + j), row(post, CX_FOLD_SHIFT, p.k + j)) : u;
            v[j] = relu && v[j] < 0 ? 0 : v[j];
        }
    }
};

extern "C" cx_status cx_cuda_gather_u(const cx_call *c, cx_tensor to) { return fill(c, u_quad{ source_of(c), is_wide(c->x[0]) }, to, false); }

extern "C" cx_status cx_cuda_gather_dy(const cx_call *c, cx_tensor to)
{
    return fill(c, dy_quad{ gradient_of(c), is_wide(c->dy[0]), is_wide(c->y[0]) }, to, false);
}

extern "C" cx_status cx_cuda_gather_weights(const cx_call *c, cx_tensor to) { return fill(c, weight_quad{ c->x[1], is_wide(c->x[1]) }, to, false); }

extern "C" cx_status cx_cuda_take_y(const cx_call *c, cx_tensor from)
{
    return fill(c, y_quad{ from, c->fold.post, c->n_in > 2 ? c->x[2].p : nullptr, c->relu, is_wide(from) }, c->y[0], false);
}

extern "C" cx_status cx_cuda_take_dw(const cx_call *c, cx_tensor from)
{
    return fill(c, weight_quad{ from, is_wide(from) }, c->dx[1], c->dx_add[1]);
}

/* ---- sums over the pixels of a channel ---------------------------------------------------------------------------------- */

/* Chunks long enough that adding them costs little, and short enough to fill the chip. */
enum { SHORTEST = 256, MOST_CHUNKS = 256 };
typedef struct { int64_t length; unsigned chunks, columns; } k_cut;
static inline k_cut cut_pixels(const cx_shape &s)
{
    const int64_t all = cx_pixels(s), even = (all + MOST_CHUNKS - 1) / MOST_CHUNKS, length = even < SHORTEST ? (int64_t)SHORTEST : even;
    return k_cut{ length, (unsigned)((all + length - 1) / length), channel_blocks(s.c) };
}

/* f(pixel, channel, sum) adds to up to two sums. part[chunks][ROWS][C]. */
template <int ROWS, class F> __global__ void __launch_bounds__(THREADS) walk_columns(F f, k_cut cut, cx_shape s, double *part)
{
    const int64_t k = (int64_t)(blockIdx.x % cut.columns) * COLS + threadIdx.x % COLS, chunk = blockIdx.x / cut.columns;
    const int64_t end = k < s.c ? min((chunk + 1) * cut.length, pixels(s)) : 0;
    double sum[2] = { 0, 0 };
    for (int64_t p = chunk * cut.length + threadIdx.x / COLS; p < end; p += LINES)
        f(p, k, sum);
    sum_every<LINES, ROWS>(sum);
    for (int r = 0; r < ROWS && threadIdx.x < COLS && k < s.c; r++)
        part[(chunk * ROWS + r) * s.c + k] = sum[r];
}

/* to, if it is there, (+)= the chunks, in order. */
template <int ROWS, class F> static cx_status sum_columns(const cx_call *c, F f, const cx_shape &s, const cx_tensor &to, bool add, void *scratch)
{
    const k_cut cut = cut_pixels(s);
    LAUNCH((walk_columns<ROWS, F>), cut.chunks * cut.columns, THREADS, stream_of(c), f, cut, s, (double *)scratch);
    if (to.s.c)
        launch_parts<1>(c, (const double *)scratch, (int64_t)cut.chunks, ROWS * s.c, put_sum{ to, add });
    return launched();
}

struct gate_walk {
    k_gate gate;
    cx_tensor from;
    __device__ void operator()(int64_t pixel, int64_t k, double sum[2]) const { pass_gate(gate, pixel, k, (double)load(from, pixel, k), sum); }
};

struct bias_walk {
    k_gradient g;
    __device__ void operator()(int64_t pixel, int64_t k, double sum[2]) const { sum[0] += dy_at(g, pixel, k); }
};

static inline size_t chunk_bytes(const cx_shape &s) { return (size_t)cut_pixels(s).chunks * 2 * (size_t)s.c * sizeof(double); }

extern "C" size_t cx_cuda_take_bytes(const cx_call *c)
{
    const size_t x = chunk_bytes(c->x[0].s), y = chunk_bytes(c->dy[0].s);
    return x > y ? x : y;
}

extern "C" cx_status cx_cuda_take_dx(const cx_call *c, cx_tensor from, void *scratch)
{
    return sum_columns<2>(c, gate_walk{ gate_of(c), from }, c->x[0].s, c->fold.sums, false, scratch);
}

extern "C" cx_status cx_cuda_take_db(const cx_call *c, void *scratch)
{
    return sum_columns<1>(c, bias_walk{ gradient_of(c) }, c->dy[0].s, c->dx[2], c->dx_add[2], scratch);
}

/* ---- statistics ----------------------------------------------------------------------------------------------------------- */

static cx_call statistics_of(const cx_call *c, void *scratch)
{
    cx_call s = {};
    s.n_in = 1;
    s.x[0] = c->y[0];
    s.fold.stats = c->fold.stats;
    s.work = scratch;
    s.self = c->self;
    return s;
}

extern "C" size_t cx_cuda_statistics_bytes(const cx_call *c)
{
    const cx_call s = statistics_of(c, nullptr);
    return c->fold.stats.s.c ? cx_cuda_workspace_statistics(&s, false) : 0;
}

extern "C" cx_status cx_cuda_take_statistics(const cx_call *c, void *scratch)
{
    const cx_call s = statistics_of(c, scratch);
    return c->fold.stats.s.c && !c->redo ? cx_cuda_fwd_statistics(&s) : CX_OK;
}
