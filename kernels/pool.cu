/* pool.cu - max_pool, avg_pool and global_avg_pool behind fold.pre. Floor: forward the bytes of x and y; backward those of dy and dx, and of x where a maximum
 * or a folded norm needs it. kernel^2 FLOPs an output, four an input for the gate: little beside bytes. Gradients are gathered: each dx is written once. */
#include "common.cuh"

/* WINDOWS: of one channel each, that a block keeps in shared memory. BUSY: blocks that fill a GPU. MANY: more than that, after which threads take several. */
enum { LARGE_BLOCK = 1024, WINDOWS = 4096, BUSY = 128, MANY = 8192 };
/* Template arguments: the side of the window of a max_pool, or of either pool forward; ANY where only the call knows it; AVERAGE for avg_pool backward. */
enum { ANY = 0, AVERAGE = -1 };

/* whole: all windows have the divisor 1 / scale. Without padding no window hangs over a border. */
typedef struct { int kernel, stride, pad; bool whole; double scale; } k_pool;

static k_pool pool_of(const cx_call *c)
{
    const cx_pool_attr *a = (const cx_pool_attr *)c->attr;
    return k_pool{ a->kernel, a->stride, a->pad, a->count_pad || a->pad == 0, 1 / ((double)a->kernel * a->kernel) };
}

/* ---- who does what --------------------------------------------------------------------------------------------------
 * A block has blockDim.x neighbouring channels, and on its blockDim.y lines it walks the places of a map: pixels, or groups of pixels. */

typedef struct { int64_t places, step, dn; int h, w, dy, dx; } k_map;
typedef struct { int64_t i, n; int y, x; } k_place;
typedef struct { dim3 grid, block; k_map map; } k_plan;

static __device__ __forceinline__ int64_t channel_of_thread() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

static __device__ __forceinline__ k_place place_at(const k_map &m, int64_t i)
{
    const int64_t row = i / m.w, n = row / m.h;
    return k_place{ i, n, (int)(row - n * m.h), (int)(i - row * m.w) };
}
static __device__ __forceinline__ k_place place_of_line(const k_map &m) { return place_at(m, (int64_t)blockIdx.y * blockDim.y + threadIdx.y); }

static __device__ __forceinline__ void go_on(const k_map &m, k_place &at)
{
    at.i += m.step;
    at.n += m.dn;
    at.y += m.dy;
    at.x += m.dx;
    if (at.x >= m.w) {
        at.x -= m.w;
        at.y++;
    }
    if (at.y >= m.h) {
        at.y -= m.h;
        at.n++;
    }
}

/* Powers of two. Where sums over all pixels are wanted, one block has all pixels of its channels: then many blocks of few channels keep more bytes in flight
 * than whole sectors (8 channels) would save. */
static dim3 block_of(int64_t channels, unsigned widest, unsigned threads, bool sums)
{
    unsigned w = widest;
    while (w > 1 && (channels <= w / 2 || (sums && channels < (int64_t)w * BUSY)))
        w /= 2;
    return dim3(w, threads / w);
}

/* together: places that a block takes in one go. */
static k_plan plan_of(dim3 block, int64_t channels, cx_shape places, unsigned together, bool sums)
{
    const int64_t groups = (channels + block.x - 1) / block.x, goes = (cx_pixels(places) + together - 1) / together;
    const int64_t most = MANY / groups < 1 ? 1 : MANY / groups;
    const unsigned down = (unsigned)(sums ? 1 : goes < most ? goes : most);
    const int64_t step = (int64_t)down * together, rows = step / places.w;
    const k_map m = { cx_pixels(places), step, rows / places.h, (int)places.h, (int)places.w, (int)(rows % places.h), (int)(step % places.w) };
    return k_plan{ dim3((unsigned)groups, down), block, m };
}

/* One thread, one pixel and channel at a time. */
static k_plan plan_pixels(int64_t channels, cx_shape pixels, bool sums)
{
    const dim3 block = sums ? block_of(channels, 8, LARGE_BLOCK, true) : block_of(channels, 32, THREADS, false);
    return plan_of(block, channels, pixels, block.y, sums);
}

/* The sum over the lines of a channel, as a tree, for every thread of it; all threads of the block call. */
static __device__ __forceinline__ double sum_tree(double v)
{
    SHARED(double, part, LARGE_BLOCK);
    const unsigned at = threadIdx.y * blockDim.x + threadIdx.x;
    part[at] = v;
    for (unsigned half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            part[at] += part[at + half * blockDim.x];
    }
    __syncthreads();
    const double s = part[threadIdx.x];
    __syncthreads();
    return s;
}

/* All threads of the block call. */
static __device__ __forceinline__ void put_sums(const k_gate &t, int64_t k, const double sum[2])
{
    for (int r = 0; t.sums.s.c && r < 2; r++) {
        const double s = sum_tree(sum[r]);
        if (threadIdx.y == 0 && k < t.sums.s.c)
            t.sums.p[r * t.sums.ld + k] = (float)s;
    }
}

/* ---- windows -------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int clamp(int v, int n) { return min(max(v, 0), n - 1); }

/* The first largest value of the window that starts at (y0,x0), and where it is; NaN counts as largest. Where the window hangs over a border, pixels of the
 * border (which it holds: pad <= kernel / 2) are read again. That changes neither the largest value nor which pixel is first, and no load waits for a test. */
typedef struct { int y, x; float v; } k_best;

template <int K> static __device__ __forceinline__ k_best best_of(const k_source &s, const k_pool &a, int64_t n, int y0, int x0, int64_t k)
{
    const int kernel = K > 0 ? K : a.kernel, h = (int)s.x.s.h, w = (int)s.x.s.w;
    k_best best = { 0, 0, 0 };
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++) {
            const int y = clamp(y0 + i, h), x = clamp(x0 + j, w);
            const float v = x_at(s, pixel_at(s.x, n, y, x), k);
            if (i + j == 0 || v > best.v || (v != v && best.v == best.v))
                best = k_best{ y, x, v };
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

/* ---- forward -------------------------------------------------------------------------------------------------------- */

template <int K> __global__ void __launch_bounds__(THREADS) max_fwd(k_source s, cx_tensor y, k_pool a, k_map m)
{
    const int64_t k = channel_of_thread();
    for (k_place at = place_of_line(m); k < y.s.c && at.i < m.places; go_on(m, at))
        store(y, at.i, k, best_of<K>(s, a, at.n, at.y * a.stride - a.pad, at.x * a.stride - a.pad, k).v);
}

template <int K> __global__ void __launch_bounds__(THREADS) avg_fwd(k_source s, cx_tensor y, k_pool a, k_map m)
{
    const int64_t k = channel_of_thread();
    const int kernel = K > 0 ? K : a.kernel, h = (int)s.x.s.h, w = (int)s.x.s.w;
    for (k_place at = place_of_line(m); k < y.s.c && at.i < m.places; go_on(m, at)) {
        const int y0 = at.y * a.stride - a.pad, x0 = at.x * a.stride - a.pad;
        const double scale = scale_of(a, s.x.s, y0, x0);
        double sum = 0;
        for (int i = 0; i < kernel; i++)
            for (int j = 0; j < kernel; j++) {
                const int r = clamp(y0 + i, h), c = clamp(x0 + j, w);
                const float v = x_at(s, pixel_at(s.x, at.n, r, c), k);
                sum += r == y0 + i && c == x0 + j ? (double)v : 0;
            }
        store(y, at.i, k, (float)(sum * scale));
    }
}

extern "C" cx_status cx_cuda_fwd_max_pool(const cx_call *c)
{
    const k_pool a = pool_of(c);
    const k_plan p = plan_pixels(c->y[0].s.c, c->y[0].s, false);
    if (a.kernel == 2)
        LAUNCH(max_fwd<2>, p.grid, p.block, stream_of(c), source_of(c), c->y[0], a, p.map);
    else if (a.kernel == 3)
        LAUNCH(max_fwd<3>, p.grid, p.block, stream_of(c), source_of(c), c->y[0], a, p.map);
    else
        LAUNCH(max_fwd<ANY>, p.grid, p.block, stream_of(c), source_of(c), c->y[0], a, p.map);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_avg_pool(const cx_call *c)
{
    const k_pool a = pool_of(c);
    const k_plan p = plan_pixels(c->y[0].s.c, c->y[0].s, false);
    if (a.kernel == 2)
        LAUNCH(avg_fwd<2>, p.grid, p.block, stream_of(c), source_of(c), c->y[0], a, p.map);
    else
        LAUNCH(avg_fwd<ANY>, p.grid, p.block, stream_of(c), source_of(c), c->y[0], a, p.map);
    return launched();
}

/* ---- backward, windows apart (kernel <= stride) -----------------------------------------------------------------------
 * The input falls into cells of stride x stride pixels, each with the window of its first corner or, at the far borders, with none. A thread has a cell. */

template <int K>
static __device__ __forceinline__ void cell_bwd(const k_gate &t, const cx_tensor &dy, const k_pool &a, const k_place &at, int64_t k, double sum[2])
{
    const int stride = K > 0 ? K : a.stride, y0 = at.y * stride - a.pad, x0 = at.x * stride - a.pad, h = (int)t.src.x.s.h, w = (int)t.src.x.s.w;
    const bool window = at.y < dy.s.h && at.x < dy.s.w;
    k_best best = { 0, 0, 0 };
    float g = window ? load(dy, pixel_at(dy, at.n, at.y, at.x), k) : 0;
    if (K == AVERAGE)
        g = (float)((double)g * scale_of(a, t.src.x.s, y0, x0));
    else if (window)
        best = best_of<K>(t.src, a, at.n, y0, x0, k);
    for (int i = 0; i < stride; i++)
        for (int j = 0; j < stride; j++) {
            const int y = y0 + i, x = x0 + j;
            const bool takes = window && (K == AVERAGE ? i < a.kernel && j < a.kernel : y == best.y && x == best.x);
            if (y >= 0 && y < h && x >= 0 && x < w)
                pass_gate(t, pixel_at(t.src.x, at.n, y, x), k, takes ? (double)g : 0, sum);
        }
}

/* K is the stride too, unless it is ANY or AVERAGE. */
template <int K> __global__ void __launch_bounds__(LARGE_BLOCK) cells_bwd(k_gate t, cx_tensor dy, k_pool a, k_map cells)
{
    const int64_t k = channel_of_thread();
    double sum[2] = { 0, 0 };
    for (k_place at = place_of_line(cells); k < dy.s.c && at.i < cells.places; go_on(cells, at))
        cell_bwd<K>(t, dy, a, at, k, sum);
    put_sums(t, k, sum);
}

/* ---- backward, overlapping windows ------------------------------------------------------------------------------------
 * A block takes a tile of pixels, one for each line. First it finds, once, what each window that reaches into the tile gives to whom; then each pixel collects
 * from the windows that hold it, in their order. Windows that shared memory has no room for wait for another round. */

/* Windows first .. first + n - 1 along one axis. */
typedef struct { int first, n; } k_span;

/* Those that hold any of the pixels from .. to, of `out` windows. */
static __device__ __forceinline__ k_span holding(const k_pool &a, int from, int to, int out)
{
    const int first = (int)((unsigned)max(0, from + a.pad - a.kernel + a.stride) / (unsigned)a.stride);
    const int last = min((int)((unsigned)(to + a.pad) / (unsigned)a.stride), out - 1);
    return k_span{ first, max(0, last - first + 1) };
}

/* Of a tile: its image, its windows, and the pixels [y,..) x [x, x + wide) that these reach. */
typedef struct { int64_t n; k_span p, q; int y, x, wide; } k_tile;

static __device__ __forceinline__ k_tile tile_of(const k_pool &a, cx_shape x, cx_shape y, const k_place &at, int tile_h, int tile_w)
{
    const int y0 = at.y * tile_h, x0 = at.x * tile_w;
    const k_span p = holding(a, y0, min(y0 + tile_h, (int)x.h) - 1, (int)y.h), q = holding(a, x0, min(x0 + tile_w, (int)x.w) - 1, (int)y.w);
    return k_tile{ at.n, p, q, p.first * a.stride - a.pad, q.first * a.stride - a.pad, max(q.n - 1, 0) * a.stride + a.kernel };
}
static __device__ __forceinline__ int number_of(const k_tile &t, int y, int x) { return (y - t.y) * t.wide + x - t.x; }

/* What `count` windows of the tile, the first of them its i-th, give, and to which pixel. */
template <int K>
static __device__ __forceinline__ void give(const k_gate &t, const cx_tensor &dy, const k_pool &a, const k_tile &tile, int i, int count, int64_t k,
                                            float *share, int *winner)
{
    for (int j = (int)threadIdx.y; j < count; j += (int)blockDim.y) {
        const int row = (int)((unsigned)(i + j) / (unsigned)tile.q.n), p = tile.p.first + row, q = tile.q.first + i + j - row * tile.q.n;
        const int y0 = p * a.stride - a.pad, x0 = q * a.stride - a.pad, slot = j * (int)blockDim.x + (int)threadIdx.x;
        const float g = load(dy, pixel_at(dy, tile.n, p, q), k);
        if (K == AVERAGE) {
            share[slot] = (float)((double)g * scale_of(a, t.src.x.s, y0, x0));
        } else {
            const k_best best = best_of<K>(t.src, a, tile.n, y0, x0, k);
            share[slot] = g;
            winner[slot] = number_of(tile, best.y, best.x);
        }
    }
}

/* What pixel (y,x) takes from them, added to g: rounded each time, as in the reference. */
template <int K>
static __device__ __forceinline__ float collect(const cx_tensor &dy, const k_pool &a, const k_tile &tile, int i, int count, int y, int x, float g,
                                                const float *share, const int *winner)
{
    const k_span p = holding(a, y, y, (int)dy.s.h), q = holding(a, x, x, (int)dy.s.w);
    const int number = number_of(tile, y, x);
    for (int row = p.first; row < p.first + p.n; row++) {
        const int first = (row - tile.p.first) * tile.q.n + q.first - tile.q.first - i;
        for (int j = max(first, 0); j < min(first + q.n, count); j++) {
            const int slot = j * (int)blockDim.x + (int)threadIdx.x;
            if (K == AVERAGE || winner[slot] == number)
                g += share[slot];
        }
    }
    return g;
}

template <int K> __global__ void __launch_bounds__(LARGE_BLOCK) tiles_bwd(k_gate t, cx_tensor dy, k_pool a, k_map tiles, int tile_h, int tile_w)
{
    SHARED(float, share, WINDOWS);
    SHARED(int, winner, WINDOWS);
    const int64_t k = channel_of_thread();
    const int room = WINDOWS / (int)blockDim.x, line_y = (int)threadIdx.y / tile_w, line_x = (int)threadIdx.y % tile_w;
    double sum[2] = { 0, 0 };
    for (k_place at = place_at(tiles, blockIdx.y); at.i < tiles.places; go_on(tiles, at)) {
        const k_tile tile = tile_of(a, t.src.x.s, dy.s, at, tile_h, tile_w);
        const int y = at.y * tile_h + line_y, x = at.x * tile_w + line_x, windows = tile.p.n * tile.q.n;
        const bool here = k < dy.s.c && y < t.src.x.s.h && x < t.src.x.s.w;
        float g = 0;
        for (int i = 0; i < windows; i += room) {
            const int count = min(room, windows - i);
            if (k < dy.s.c)
                give<K>(t, dy, a, tile, i, count, k, share, winner);
            __syncthreads();
            if (here)
                g = collect<K>(dy, a, tile, i, count, y, x, g, share, winner);
            __syncthreads();
        }
        if (here)
            pass_gate(t, pixel_at(t.src.x, at.n, y, x), k, (double)g, sum);
    }
    put_sums(t, k, sum);
}

/* ---- backward, either way --------------------------------------------------------------------------------------------- */

static void backward_cells(const cx_call *c, const k_pool &a, bool average)
{
    const cx_shape x = c->x[0].s, cells = { x.n, (x.h + a.pad + a.stride - 1) / a.stride, (x.w + a.pad + a.stride - 1) / a.stride, x.c };
    const k_plan p = plan_pixels(x.c, cells, c->fold.sums.s.c);
    if (average)
        LAUNCH(cells_bwd<AVERAGE>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map);
    else if (a.kernel == 2 && a.stride == 2)
        LAUNCH(cells_bwd<2>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map);
    else
        LAUNCH(cells_bwd<ANY>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map);
}

static void backward_tiles(const cx_call *c, const k_pool &a, bool average)
{
    const cx_shape x = c->x[0].s;
    const bool sums = c->fold.sums.s.c;
    const dim3 block = block_of(x.c, 8, LARGE_BLOCK, sums);
    int tw = 1;
    while (tw * tw < (int)block.y)
        tw *= 2;
    const int th = (int)block.y / tw;
    const k_plan p = plan_of(block, x.c, cx_shape{ x.n, (x.h + th - 1) / th, (x.w + tw - 1) / tw, x.c }, 1, sums);
    if (average)
        LAUNCH(tiles_bwd<AVERAGE>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map, th, tw);
    else if (a.kernel == 3)
        LAUNCH(tiles_bwd<3>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map, th, tw);
    else
        LAUNCH(tiles_bwd<ANY>, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], a, p.map, th, tw);
}

static cx_status backward(const cx_call *c, bool average)
{
    const k_pool a = pool_of(c);
    if (!wants_dx(c))
        return CX_OK;
    if (a.kernel <= a.stride)
        backward_cells(c, a, average);
    else
        backward_tiles(c, a, average);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_max_pool(const cx_call *c) { return backward(c, false); }
extern "C" cx_status cx_cuda_bwd_avg_pool(const cx_call *c) { return backward(c, true); }

/* ---- global_avg_pool -------------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) global_fwd(k_source s, cx_tensor y)
{
    const int64_t k = channel_of_thread(), area = s.x.s.h * s.x.s.w;
    for (int64_t n = blockIdx.y; n < y.s.n; n += gridDim.y) {
        double sum = 0;
        for (int64_t i = threadIdx.y; k < y.s.c && i < area; i += blockDim.y)
            sum += (double)x_at(s, n * area + i, k);
        sum = sum_tree(sum);
        if (threadIdx.y == 0 && k < y.s.c)
            store(y, n, k, (float)(sum / (double)area));
    }
}

__global__ void __launch_bounds__(LARGE_BLOCK) global_bwd(k_gate t, cx_tensor dy, double scale, k_map m)
{
    const int64_t k = channel_of_thread();
    double sum[2] = { 0, 0 };
    for (k_place at = place_of_line(m); k < dy.s.c && at.i < m.places; go_on(m, at))
        pass_gate(t, at.i, k, (double)load(dy, at.n, k) * scale, sum);
    put_sums(t, k, sum);
}

/* 16 channels: a whole sector in bf16 too. */
extern "C" cx_status cx_cuda_fwd_global_avg_pool(const cx_call *c)
{
    const cx_shape y = c->y[0].s;
    const dim3 block = block_of(y.c, 16, THREADS, false), grid((unsigned)((y.c + block.x - 1) / block.x), (unsigned)(y.n < 65535 ? y.n : 65535));
    LAUNCH(global_fwd, grid, block, stream_of(c), source_of(c), c->y[0]);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_global_avg_pool(const cx_call *c)
{
    const cx_shape x = c->x[0].s;
    const k_plan p = plan_pixels(x.c, x, c->fold.sums.s.c);
    if (!wants_dx(c))
        return CX_OK;
    LAUNCH(global_bwd, p.grid, p.block, stream_of(c), gate_of(c), c->dy[0], 1 / ((double)x.h * (double)x.w), p.map);
    return launched();
}
