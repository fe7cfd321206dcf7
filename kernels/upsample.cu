/* upsample.cu - upsample_bilinear. Floor: forward the bytes of x and y, backward those of dy and dx; 7 FLOPs an output. Where a pixel comes from is found once
 * for each column of a block and kept in shared memory, since it costs a division in double; a gradient is gathered from the outputs that read its pixel. */
#include "quads.cuh"

/* Columns (backward: or rows) whose taps a block holds; pixels that a line has, forward. */
enum { TAPS = 256, PIXELS = 8 };

/* One axis: in pixels become out. per: outputs an input. */
typedef struct { int in, out; bool corners; double per; } k_stretch;
/* Output `at` lies between inputs lo and hi, at distance frac from lo. */
typedef struct { int lo, hi; double frac; } k_tap;

static k_stretch axis_of(int64_t in, int64_t out, bool corners)
{
    const double per = !corners ? (double)out / (double)in : in > 1 ? (double)(out - 1) / (double)(in - 1) : 0;
    return k_stretch{ (int)in, (int)out, corners, per };
}

/* As the reference does it, step by step: the same doubles, hence the same neighbours. */
static __device__ __forceinline__ k_tap tap_at(const k_stretch &a, int at)
{
    double pos = 0;
    if (!a.corners)
        pos = ((double)at + 0.5) * (double)a.in / (double)a.out - 0.5;
    else if (a.out > 1)
        pos = (double)at * (double)(a.in - 1) / (double)(a.out - 1);
    if (pos < 0)
        pos = 0;
    const int lo = min((int)pos, a.in - 1);
    return k_tap{ lo, min(lo + 1, a.in - 1), pos - (double)lo };
}

/* The taps of `count` outputs from `first` on, by all threads of the block; they wait before they read. */
static __device__ __forceinline__ void fill(const k_stretch &a, int first, int count, int *lo, double *frac)
{
    for (int i = (int)(threadIdx.y * blockDim.x + threadIdx.x); i < count; i += (int)(blockDim.x * blockDim.y)) {
        const k_tap t = tap_at(a, first + i);
        lo[i] = t.lo;
        frac[i] = t.frac;
    }
}

/* blockDim.x neighbouring quads of channels, a power of two; a line for each of its pixels. */
static dim3 block_of(int64_t channels)
{
    unsigned w = 8;
    while (w > 1 && channels <= 4 * (w / 2))
        w /= 2;
    return dim3(w, THREADS / w);
}
static unsigned groups_of(int64_t channels, dim3 block) { return (unsigned)((channels + 4 * block.x - 1) / (4 * block.x)); }

/* Blocks for groups of channels and of `columns` columns, for rows, for images. */
static dim3 grid_of(cx_shape s, dim3 block, int columns)
{
    return dim3((unsigned)(groups_of(s.c, block) * ((s.w + columns - 1) / columns)), (unsigned)(s.h < 65535 ? s.h : 65535),
                (unsigned)(s.n < 65535 ? s.n : 65535));
}

/* The quad of this thread, of n <= 0 channels where there are none left. */
static __device__ __forceinline__ k_place quad_of_thread(int64_t c, unsigned groups, bool wide)
{
    const int64_t k = ((int64_t)(blockIdx.x % groups) * blockDim.x + threadIdx.x) * 4;
    const int n = (int)max(min(c - k, (int64_t)4), (int64_t)0);
    return k_place{ 0, k, n, wide && n == 4 };
}

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* A row of outputs between two rows of inputs, which begin at pixels top and bottom. */
static __device__ __forceinline__ void between(const cx_tensor &x, int64_t top, int64_t bottom, int lo, int hi, float v, float u, const k_place &p,
                                               float out[4])
{
    const k_place at[4] = { in_row(p, top + lo), in_row(p, top + hi), in_row(p, bottom + lo), in_row(p, bottom + hi) };
    k_fetched q[4];
    float from[4][4];
    for (int i = 0; i < 4; i++)
        q[i] = fetch_quad(x, at[i]);
    for (int i = 0; i < 4; i++)
        unpack_quad(x, at[i], q[i], from[i]);
    for (int j = 0; j < 4; j++) {
        const float above = (1 - u) * from[0][j] + u * from[1][j], below = (1 - u) * from[2][j] + u * from[3][j];
        out[j] = (1 - v) * above + v * below;
    }
}

__global__ void __launch_bounds__(THREADS) upsample_fwd(cx_tensor x, cx_tensor y, k_stretch v, k_stretch u, unsigned groups, int columns, bool wide)
{
    SHARED(int, lo, TAPS);
    SHARED(double, frac, TAPS);
    const k_place at = quad_of_thread(y.s.c, groups, wide);
    const int q0 = (int)(blockIdx.x / groups) * columns, count = min(columns, u.out - q0);
    fill(u, q0, count, lo, frac);
    __syncthreads();
    for (int64_t n = blockIdx.z; at.n > 0 && n < y.s.n; n += gridDim.z)
        for (int p = (int)blockIdx.y; p < v.out; p += (int)gridDim.y) {
            const k_tap t = tap_at(v, p);
            const int64_t top = pixel_at(x, n, t.lo, 0), bottom = pixel_at(x, n, t.hi, 0), to = pixel_at(y, n, p, q0);
            float out[4];
            for (int i = (int)threadIdx.y; i < count; i += (int)blockDim.y) {
                between(x, top, bottom, lo[i], min(lo[i] + 1, u.in - 1), (float)t.frac, (float)frac[i], at, out);
                store_quad(y, in_row(at, to + i), out);
            }
        }
}

extern "C" cx_status cx_cuda_fwd_upsample_bilinear(const cx_call *c)
{
    const cx_upsample_attr *a = (const cx_upsample_attr *)c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    const dim3 block = block_of(y.c);
    const int columns = block.y * PIXELS < TAPS ? (int)block.y * PIXELS : TAPS;
    LAUNCH(upsample_fwd, grid_of(y, block, columns), block, stream_of(c), c->x[0], c->y[0], axis_of(x.h, y.h, a->align_corners),
           axis_of(x.w, y.w, a->align_corners), groups_of(y.c, block), columns, is_wide(c->x[0]) && is_wide(c->y[0]));
    return launched();
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* Outputs first .. last along one axis. */
typedef struct { int first, last; } k_span;

/* A range that holds all outputs which read any of the inputs from .. to, and at most one more on each side. Those that lie before the first centre, or behind
 * the last one, read the input at that end. */
static __device__ __forceinline__ k_span readers(const k_stretch &a, int from, int to)
{
    const double half = a.corners ? 0 : 0.5;
    const int first = (int)floor(((double)(from - 1) + half) * a.per - half), last = (int)ceil(((double)(to + 1) + half) * a.per - half);
    return k_span{ from == 0 ? 0 : max(first, 0), to == a.in - 1 ? a.out - 1 : min(last, a.out - 1) };
}

/* The weight with which input `from` enters an output. */
static __device__ __forceinline__ double weight_of(int lo, double frac, int in, int from)
{
    return (lo == from ? 1 - frac : 0) + (min(lo + 1, in - 1) == from ? frac : 0);
}

/* The share of outputs [p0, p0 + rows) x [q.first, q.last], whose taps lie in tables: of columns from q0 on. */
typedef struct { const int *row_lo, *column_lo; const double *row_frac, *column_frac; int p0, q0, rows; } k_tables;

static __device__ __forceinline__ void gather(const cx_tensor &dy, const k_stretch &v, const k_stretch &u, const k_tables &t, int64_t n, int y, int x, k_span q,
                                              const k_place &at, double sum[4])
{
    for (int i = 0; i < t.rows; i++) {
        const double weight = weight_of(t.row_lo[i], t.row_frac[i], v.in, y);
        if (weight == 0)
            continue;
        for (int j = q.first; j <= q.last; j++) {
            const double w = weight * weight_of(t.column_lo[j - t.q0], t.column_frac[j - t.q0], u.in, x);
            float g[4];
            if (w == 0)
                continue;
            load_quad(dy, in_row(at, pixel_at(dy, n, t.p0 + i, j)), g);
            for (int k = 0; k < 4; k++)
                sum[k] += w * (double)g[k];
        }
    }
}

/* A thread has a quad of one input pixel; its block has a row of them, and takes what the tables have no room for in further rounds. */
__global__ void __launch_bounds__(THREADS) upsample_bwd(cx_tensor dy, cx_tensor dx, bool add, k_stretch v, k_stretch u, unsigned groups, bool wide)
{
    SHARED(int, row_lo, TAPS);
    SHARED(int, column_lo, TAPS);
    SHARED(double, row_frac, TAPS);
    SHARED(double, column_frac, TAPS);
    const k_place at = quad_of_thread(dx.s.c, groups, wide);
    const int x0 = (int)(blockIdx.x / groups * blockDim.y), x = x0 + (int)threadIdx.y;
    const k_span columns = readers(u, x0, min(x0 + (int)blockDim.y, u.in) - 1), mine = readers(u, x, x);
    const bool here = at.n > 0 && x < u.in;
    for (int64_t n = blockIdx.z; n < dx.s.n; n += gridDim.z)
        for (int y = (int)blockIdx.y; y < v.in; y += (int)gridDim.y) {
            const k_span rows = readers(v, y, y);
            double sum[4] = { 0, 0, 0, 0 };
            for (int p = rows.first; p <= rows.last; p += TAPS)
                for (int q = columns.first; q <= columns.last; q += TAPS) {
                    const k_tables t = { row_lo, column_lo, row_frac, column_frac, p, q, min((int)TAPS, rows.last - p + 1) };
                    const int held = min((int)TAPS, columns.last - q + 1);
                    fill(v, p, t.rows, row_lo, row_frac);
                    fill(u, q, held, column_lo, column_frac);
                    __syncthreads();
                    if (here)
                        gather(dy, v, u, t, n, y, x, k_span{ max(mine.first, q), min(mine.last, q + held - 1) }, at, sum);
                    __syncthreads();
                }
            if (here)
                put_quad(dx, in_row(at, pixel_at(dx, n, y, x)), add, sum);
        }
}

extern "C" cx_status cx_cuda_bwd_upsample_bilinear(const cx_call *c)
{
    const cx_upsample_attr *a = (const cx_upsample_attr *)c->attr;
    const cx_shape x = c->x[0].s, y = c->y[0].s;
    const dim3 block = block_of(x.c);
    if (c->dx[0].p)
        LAUNCH(upsample_bwd, grid_of(x, block, (int)block.y), block, stream_of(c), c->dy[0], c->dx[0], c->dx_add[0], axis_of(x.h, y.h, a->align_corners),
               axis_of(x.w, y.w, a->align_corners), groups_of(x.c, block), is_wide(c->dy[0]) && is_wide(c->dx[0]));
    return launched();
}
