/* pool.cu - max_pool, avg_pool and global_avg_pool behind fold.pre. Floor: forward the bytes of x and y; backward those of dy and dx, and of x where a maximum
 * or a folded norm needs it. kernel^2 FLOPs an output, four an input for the gate: little beside bytes. Gradients are gathered: each dx is written once. */
#include "walk.cuh"
#include "workspace.h"

/* Template arguments: the side of the window of a max_pool, or of either pool forward; ANY where only the call knows it; AVERAGE for avg_pool backward. */
enum { ANY = 0, AVERAGE = -1 };

/* whole: all windows have the divisor 1 / scale. Without padding no window hangs over a border. */
typedef struct { int kernel, stride, pad; bool whole; double scale; } k_pool;

static k_pool pool_of(const cx_call *c)
{
    const cx_pool_attr *a = (const cx_pool_attr *)c->attr;
    return k_pool{ a->kernel, a->stride, a->pad, a->count_pad || a->pad == 0, 1 / ((double)a->kernel * a->kernel) };
}

/* ---- where on a map -------------------------------------------------------------------------------------------------- */

/* Rows of a walk as places of maps of h x w: pixels, or groups of pixels. d: what DOWN rows are. */
typedef struct { int64_t n; int y, x; } k_spot;
typedef struct { int h, w; k_spot d; } k_map;

static k_map map_of(int64_t h, int64_t w)
{
    const int64_t rows = DOWN / w;
    return k_map{ (int)h, (int)w, { rows / h, (int)(rows % h), (int)(DOWN % w) } };
}
static __device__ __forceinline__ k_spot spot_at(const k_map &m, int64_t i)
{
    const int64_t row = i / m.w, n = row / m.h;
    return k_spot{ n, (int)(row - n * m.h), (int)(i - row * m.w) };
}
static __device__ __forceinline__ void go_on(const k_map &m, k_spot &at)
{
    at.n += m.d.n;
    at.y += m.d.y;
    at.x += m.d.x;
    if (at.x >= m.w) {
        at.x -= m.w;
        at.y++;
    }
    if (at.y >= m.h) {
        at.y -= m.h;
        at.n++;
    }
}

/* ---- windows -------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int clamp(int v, int n) { return min(max(v, 0), n - 1); }

/* Of each channel, the first largest value of the window that starts at (y0,x0), and at which pixel of its image it is; NaN counts as largest. Where the
 * window hangs over a border, pixels of the border (which it holds: pad <= kernel / 2) are read again. That changes neither the largest value nor which pixel
 * is first, and no load waits for a test. */
struct alignas(16) k_numbers { int v[4]; };
typedef struct { k_float4 value; k_numbers pixel; } k_best;

template <int K>
static __device__ __forceinline__ k_best best_of(const k_source &s, const k_pre &pre, const k_pool &a, const k_place &at, int64_t n, int y0, int x0)
{
    const int kernel = K > 0 ? K : a.kernel, h = (int)s.x.s.h, w = (int)s.x.s.w;
    k_best best = {};
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++) {
            const int y = clamp(y0 + i, h), x = clamp(x0 + j, w);
            float v[4];
            load_x(s, pre, in_row(at, pixel_at(s.x, n, y, x)), v);
            for (int k = 0; k < 4; k++)
                if (i + j == 0 || v[k] > best.value.v[k] || (v[k] != v[k] && best.value.v[k] == best.value.v[k])) {
                    best.value.v[k] = v[k];
                    best.pixel.v[k] = y * w + x;
                }
        }
    return best;
}

/* 1 / the divisor of the window that starts at (y0,x0). */
static __device__ __forceinline__ double scale_of(const k_pool &a, cx_shape x, int y0, int x0)
{
    if (a.whole)
        return a.scale;
    const int rows = min(y0 + a.kernel, (int)x.h) - max(y0, 0), columns = min(x0 + a.kernel, (int)x.w) - max(x0, 0);
    return 1 / ((double)rows * columns);
}

/* ---- forward: a thread has outputs ------------------------------------------------------------------------------------- */

template <int K> __global__ void __launch_bounds__(THREADS) max_fwd(k_source s, cx_tensor y, k_pool a, k_walk w, k_map m)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_pre pre = pre_of(s, at);
    for (k_spot o = spot_at(m, at.row); at.row < end; at.row += DOWN, go_on(m, o))
        store_quad(y, at, best_of<K>(s, pre, a, at, o.n, o.y * a.stride - a.pad, o.x * a.stride - a.pad).value.v);
}

template <int K> __global__ void __launch_bounds__(THREADS) avg_fwd(k_source s, cx_tensor y, k_pool a, k_walk w, k_map m)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const int kernel = K > 0 ? K : a.kernel, height = (int)s.x.s.h, width = (int)s.x.s.w;
    const k_pre pre = pre_of(s, at);
    for (k_spot o = spot_at(m, at.row); at.row < end; at.row += DOWN, go_on(m, o)) {
        const int y0 = o.y * a.stride - a.pad, x0 = o.x * a.stride - a.pad;
        const double scale = scale_of(a, s.x.s, y0, x0);
        double sum[4] = { 0, 0, 0, 0 };
        float v[4];
        for (int i = 0; i < kernel; i++)
            for (int j = 0; j < kernel; j++) {
                const int r = clamp(y0 + i, height), c = clamp(x0 + j, width);
                load_x(s, pre, in_row(at, pixel_at(s.x, o.n, r, c)), v);
                for (int k = 0; k < 4; k++)
                    sum[k] += r == y0 + i && c == x0 + j ? (double)v[k] : 0;
            }
        for (int k = 0; k < 4; k++)
            v[k] = (float)(sum[k] * scale);
        store_quad(y, at, v);
    }
}

extern "C" cx_status cx_cuda_fwd_max_pool(const cx_call *c)
{
    const cx_tensor &y = c->y[0];
    const k_pool a = pool_of(c);
    const k_walk w = walk_of(cx_pixels(y.s), y.s.c, c->x[0], y);
    const k_map m = map_of(y.s.h, y.s.w);
    if (a.kernel == 2)
        LAUNCH(max_fwd<2>, blocks_in(w), THREADS, stream_of(c), source_of(c), y, a, w, m);
    else if (a.kernel == 3)
        LAUNCH(max_fwd<3>, blocks_in(w), THREADS, stream_of(c), source_of(c), y, a, w, m);
    else
        LAUNCH(max_fwd<ANY>, blocks_in(w), THREADS, stream_of(c), source_of(c), y, a, w, m);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_avg_pool(const cx_call *c)
{
    const cx_tensor &y = c->y[0];
    const k_pool a = pool_of(c);
    const k_walk w = walk_of(cx_pixels(y.s), y.s.c, c->x[0], y);
    const k_map m = map_of(y.s.h, y.s.w);
    if (a.kernel == 2)
        LAUNCH(avg_fwd<2>, blocks_in(w), THREADS, stream_of(c), source_of(c), y, a, w, m);
    else
        LAUNCH(avg_fwd<ANY>, blocks_in(w), THREADS, stream_of(c), source_of(c), y, a, w, m);
    return launched();
}

/* ---- backward, windows apart (kernel <= stride) -----------------------------------------------------------------------
 * The input falls into cells of stride x stride pixels, each with the window of its first corner or, at the far borders, with none. A thread has cells. */

template <int K>
static __device__ __forceinline__ void cell_bwd(const k_gate &t, const k_pre &pre, const cx_tensor &dy, const k_pool &a, const k_place &at, const k_spot &cell,
                                                double sum[8])
{
    const int stride = K > 0 ? K : a.stride, y0 = cell.y * stride - a.pad, x0 = cell.x * stride - a.pad, h = (int)t.src.x.s.h, w = (int)t.src.x.s.w;
    const bool window = cell.y < dy.s.h && cell.x < dy.s.w;
    k_best best = {};
    float share[4] = { 0, 0, 0, 0 };
    if (window)
        load_quad(dy, in_row(at, pixel_at(dy, cell.n, cell.y, cell.x)), share);
    if (K == AVERAGE)
        for (int k = 0; k < 4; k++)
            share[k] = (float)((double)share[k] * scale_of(a, t.src.x.s, y0, x0));
    else if (window)
        best = best_of<K>(t.src, pre, a, at, cell.n, y0, x0);
    for (int i = 0; i < stride; i++)
        for (int j = 0; j < stride; j++) {
            const int y = y0 + i, x = x0 + j;
            double g[4];
            for (int k = 0; k < 4; k++)
                g[k] = window && (K == AVERAGE ? i < a.kernel && j < a.kernel : y * w + x == best.pixel.v[k]) ? (double)share[k] : 0;
            if (y >= 0 && y < h && x >= 0 && x < w)
                pass_gate(t, pre, in_row(at, pixel_at(t.src.x, cell.n, y, x)), g, sum);
        }
}

/* K is the stride too, unless it is ANY or AVERAGE. part: of both sums, if they are wanted. */
template <int K> __global__ void __launch_bounds__(THREADS) cells_bwd(k_gate t, cx_tensor dy, k_pool a, k_walk w, k_map cells, double *part)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_pre pre = pre_of(t.src, at);
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    for (k_spot o = spot_at(cells, at.row); at.row < end; at.row += DOWN, go_on(cells, o))
        cell_bwd<K>(t, pre, dy, a, at, o, sum);
    if (part)
        leave_sums<2>(w, sum, part);
}

/* ---- backward, overlapping windows ------------------------------------------------------------------------------------
 * A block takes tiles of pixels, of which a line has several. First it finds, once, what each window that reaches into the tile gives to whom; then each pixel
 * collects from the windows that hold it, in their order. Windows that shared memory has no room for wait for another round. */

enum { TILE_H = 8, TILE_W = 16, MINE = TILE_H * TILE_W / DOWN, WINDOWS = 64 };

/* Windows first .. first + n - 1 along one axis. */
typedef struct { int first, n; } k_holders;

/* Those that hold any of the pixels from .. to, of `out` windows. */
static __device__ __forceinline__ k_holders holding(const k_pool &a, int from, int to, int out)
{
    const int first = (int)((unsigned)max(0, from + a.pad - a.kernel + a.stride) / (unsigned)a.stride);
    const int last = min((int)((unsigned)(to + a.pad) / (unsigned)a.stride), out - 1);
    return k_holders{ first, max(0, last - first + 1) };
}

/* Of a tile: its image, its first pixel, and the windows that reach into it. */
typedef struct { int64_t n; int y, x; k_holders p, q; } k_pool_tile;

static __device__ __forceinline__ k_pool_tile tile_of(const k_pool &a, cx_shape x, cx_shape y, const k_spot &at)
{
    const int y0 = at.y * TILE_H, x0 = at.x * TILE_W;
    return k_pool_tile{ at.n, y0, x0, holding(a, y0, min(y0 + TILE_H, (int)x.h) - 1, (int)y.h), holding(a, x0, min(x0 + TILE_W, (int)x.w) - 1, (int)y.w) };
}

/* What `count` windows of the tile, the first of them its i-th, give, and to which pixel. */
template <int K>
static __device__ __forceinline__ void give(const k_gate &t, const k_pre &pre, const cx_tensor &dy, const k_pool &a, const k_pool_tile &tile, const k_place &at,
                                            int i, int count, k_float4 *share, k_numbers *winner)
{
    for (int j = (int)threadIdx.x / ACROSS; j < count; j += DOWN) {
        const int row = (int)((unsigned)(i + j) / (unsigned)tile.q.n), p = tile.p.first + row, q = tile.q.first + i + j - row * tile.q.n;
        const int y0 = p * a.stride - a.pad, x0 = q * a.stride - a.pad, slot = j * ACROSS + (int)threadIdx.x % ACROSS;
        k_float4 g;
        load_quad(dy, in_row(at, pixel_at(dy, tile.n, p, q)), g.v);
        if (K == AVERAGE)
            for (int k = 0; k < 4; k++)
                g.v[k] = (float)((double)g.v[k] * scale_of(a, t.src.x.s, y0, x0));
        else
            winner[slot] = best_of<K>(t.src, pre, a, at, tile.n, y0, x0).pixel;
        share[slot] = g;
    }
}

/* What pixel (y,x) takes from them, added to what it has taken: rounded each time, as in the reference. */
template <int K>
static __device__ __forceinline__ void collect(const cx_tensor &dy, const k_pool &a, const k_pool_tile &tile, int i, int count, int y, int x, int width,
                                               k_float4 *taken, const k_float4 *share, const k_numbers *winner)
{
    const k_holders p = holding(a, y, y, (int)dy.s.h), q = holding(a, x, x, (int)dy.s.w);
    k_float4 g = *taken;
    for (int row = p.first; row < p.first + p.n; row++) {
        const int first = (row - tile.p.first) * tile.q.n + q.first - tile.q.first - i;
        for (int j = max(first, 0); j < min(first + q.n, count); j++) {
            const int slot = j * ACROSS + (int)threadIdx.x % ACROSS;
            for (int k = 0; k < 4; k++)
                if (K == AVERAGE || winner[slot].v[k] == y * width + x)
                    g.v[k] += share[slot].v[k];
        }
    }
    *taken = g;
}

/* w walks over tiles, DOWN rows each. */
template <int K> __global__ void __launch_bounds__(THREADS, 2) tiles_bwd(k_gate t, cx_tensor dy, k_pool a, k_walk w, k_map tiles, double *part)
{
    SHARED(k_float4, share, WINDOWS * ACROSS);
    SHARED(k_numbers, winner, WINDOWS * ACROSS);
    SHARED(k_float4, taken, TILE_H * TILE_W * ACROSS);     /* of each pixel, by its own thread only */
    const k_place at = first_place(w);
    const k_pre pre = pre_of(t.src, at);
    const int64_t first = blockIdx.x / w.groups * w.length / DOWN, end = min(first + w.length / DOWN, w.pixels / DOWN);
    const int h = (int)t.src.x.s.h, width = (int)t.src.x.s.w, line = (int)threadIdx.x / ACROSS;
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    for (int64_t i = first; i < end; i++) {
        const k_pool_tile tile = tile_of(a, t.src.x.s, dy.s, spot_at(tiles, i));
        const int windows = tile.p.n * tile.q.n;
        for (int j = 0; j < MINE; j++)
            taken[j * THREADS + threadIdx.x] = k_float4{};
        for (int from = 0; from < windows; from += WINDOWS) {
            const int count = min((int)WINDOWS, windows - from);
            if (at.n > 0)
                give<K>(t, pre, dy, a, tile, at, from, count, share, winner);
            __syncthreads();
            for (int j = 0; j < MINE; j++) {
                const int y = tile.y + (line + j * DOWN) / TILE_W, x = tile.x + (line + j * DOWN) % TILE_W;
                if (at.n > 0 && y < h && x < width)
                    collect<K>(dy, a, tile, from, count, y, x, width, &taken[j * THREADS + threadIdx.x], share, winner);
            }
            __syncthreads();
        }
        for (int j = 0; j < MINE; j++) {
            const int y = tile.y + (line + j * DOWN) / TILE_W, x = tile.x + (line + j * DOWN) % TILE_W;
            const k_float4 g = taken[j * THREADS + threadIdx.x];
            double d[4] = { (double)g.v[0], (double)g.v[1], (double)g.v[2], (double)g.v[3] };
            if (at.n > 0 && y < h && x < width)
                pass_gate(t, pre, in_row(at, pixel_at(t.src.x, tile.n, y, x)), d, sum);
        }
    }
    if (part)
        leave_sums<2>(w, sum, part);
}

/* ---- backward, either way --------------------------------------------------------------------------------------------- */

static bool are_apart(const k_pool &a) { return a.kernel <= a.stride; }
/* What a backward pass walks over: cells, or tiles. */
static k_map places_of(const k_pool &a, cx_shape x)
{
    if (are_apart(a))
        return map_of((x.h + a.pad + a.stride - 1) / a.stride, (x.w + a.pad + a.stride - 1) / a.stride);
    return map_of(parts_of(x.h, TILE_H), parts_of(x.w, TILE_W));
}
template <class... T> static k_walk backward_walk(const k_pool &a, cx_shape x, const T &...tensors)
{
    const k_map m = places_of(a, x);
    return walk_of(x.n * m.h * m.w * (are_apart(a) ? 1 : (int)DOWN), x.c, tensors...);
}

static void backward_cells(const cx_call *c, const k_pool &a, const k_walk &w, bool average)
{
    const k_map m = places_of(a, c->x[0].s);
    if (average)
        LAUNCH(cells_bwd<AVERAGE>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
    else if (a.kernel == 2 && a.stride == 2)
        LAUNCH(cells_bwd<2>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
    else
        LAUNCH(cells_bwd<ANY>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
}

static void backward_tiles(const cx_call *c, const k_pool &a, const k_walk &w, bool average)
{
    const k_map m = places_of(a, c->x[0].s);
    if (average)
        LAUNCH(tiles_bwd<AVERAGE>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
    else if (a.kernel == 3)
        LAUNCH(tiles_bwd<3>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
    else
        LAUNCH(tiles_bwd<ANY>, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], a, w, m, gate_parts(c));
}

static cx_status backward(const cx_call *c, bool average)
{
    const k_pool a = pool_of(c);
    const k_walk w = backward_walk(a, c->x[0].s, c->x[0], c->dy[0], c->dx[0]);
    if (!wants_dx(c))
        return CX_OK;
    if (are_apart(a))
        backward_cells(c, a, w, average);
    else
        backward_tiles(c, a, w, average);
    add_gate(c, w);
    return launched();
}

extern "C" size_t cx_cuda_workspace_pool(const cx_call *c, bool backward)
{
    return backward ? gate_bytes(c, backward_walk(pool_of(c), c->x[0].s)) : 0;
}

extern "C" cx_status cx_cuda_bwd_max_pool(const cx_call *c) { return backward(c, false); }
extern "C" cx_status cx_cuda_bwd_avg_pool(const cx_call *c) { return backward(c, true); }

/* ---- global_avg_pool: a block has some channels of a film, forward ------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) global_fwd(k_source s, cx_tensor y, k_walk w)
{
    const k_place at = first_place(w);
    const int64_t area = s.x.s.h * s.x.s.w;
    const k_pre pre = pre_of(s, at);
    double sum[4] = { 0, 0, 0, 0 };
    float v[4];
    for (int64_t i = threadIdx.x / ACROSS; at.n > 0 && i < area; i += DOWN) {
        load_x(s, pre, in_row(at, blockIdx.x / w.groups * area + i), v);
        for (int j = 0; j < 4; j++)
            sum[j] += (double)v[j];
    }
    sum_every<DOWN, 4>(sum);
    for (int j = 0; j < 4; j++)
        v[j] = (float)(sum[j] / (double)area);
    if (threadIdx.x < ACROSS)
        store_quad(y, in_row(at, blockIdx.x / w.groups), v);
}

__global__ void __launch_bounds__(THREADS) global_bwd(k_gate t, cx_tensor dy, double scale, k_walk w, k_map m, double *part)
{
    k_place at = first_place(w);
    const int64_t end = last_place(w, at);
    const k_pre pre = pre_of(t.src, at);
    double sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 }, g[4];
    float v[4];
    for (k_spot o = spot_at(m, at.row); at.row < end; at.row += DOWN, go_on(m, o)) {
        load_quad(dy, in_row(at, o.n), v);
        for (int j = 0; j < 4; j++)
            g[j] = (double)v[j] * scale;
        pass_gate(t, pre, at, g, sum);
    }
    if (part)
        leave_sums<2>(w, sum, part);
}

extern "C" cx_status cx_cuda_fwd_global_avg_pool(const cx_call *c)
{
    const cx_tensor &x = c->x[0], &y = c->y[0];
    k_walk w = walk_of(cx_pixels(y.s), y.s.c, x, y);
    w.chunks = (unsigned)y.s.n;
    LAUNCH(global_fwd, blocks_in(w), THREADS, stream_of(c), source_of(c), y, w);
    return launched();
}

extern "C" size_t cx_cuda_workspace_global_avg_pool(const cx_call *c, bool backward)
{
    return backward ? gate_bytes(c, walk_of(cx_pixels(c->x[0].s), c->x[0].s.c)) : 0;
}

extern "C" cx_status cx_cuda_bwd_global_avg_pool(const cx_call *c)
{
    const cx_tensor &x = c->x[0];
    const k_walk w = walk_of(cx_pixels(x.s), x.s.c, x, c->dy[0], c->dx[0]);
    if (!wants_dx(c))
        return CX_OK;
    LAUNCH(global_bwd, blocks_in(w), THREADS, stream_of(c), gate_of(c), c->dy[0], 1 / ((double)x.s.h * (double)x.s.w), w, map_of(x.s.h, x.s.w),
           gate_parts(c));
    add_gate(c, w);
    return launched();
}
