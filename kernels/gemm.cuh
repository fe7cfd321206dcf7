/* gemm.cuh - one tile of the matrix products behind convolutions (implicit GEMM, float32): 256 threads make 64 x 64 of the result, 4 x 4 each, in steps of 16
 * along K (dot.cuh: on tensor cores). A step brings 8 KiB for 131,072 FLOPs, 16 a byte of L2: FLOPs are the floor where K and the outputs are 64 or more, below that the bytes of x and y.
 *
 * Reading (padding, prologue, carry, mask), multiplying and storing (bias, norm, ReLU, gate, sums) are apart and meet in shared memory.
 *
 * A convolution has a small side and a large side: place p of the small one meets place p * stride + tap - pad of the large one, and its weights are
 * (channels of the small side, KH, KW, channels of the large side). conv2d goes down, from large to small, and its gradient up; conv_transpose2d the other way
 * round. Going up, the result is made phase by phase: places that are equal modulo the stride meet the same taps, and no others. */
#ifndef CX_GEMM_CUH
#define CX_GEMM_CUH
#include "quads.cuh"
#include "sums.cuh"

enum { TILE = 64, STEP = 16, LANES = 16, QUADS = TILE / 4, PITCH = QUADS + 1 };
enum { NOWHERE = -(1 << 30) };                  /* a coordinate outside of every source, at every tap */

typedef struct { cx_shape small, large; int kh, kw, stride, top, left; } k_window;

/* ---- blocks, on the host: from shapes only -------------------------------------------------------------------------- */

/* Of convolve: block (tile * phases + phase) * columns + column, each of rows x width numbers of the result: neighbours read the same pixels of the source.
 * across: phases along x. */
typedef struct { unsigned columns, tiles, phases, across; } k_blocks;
static inline k_blocks blocks_down(const k_window &w, int rows = TILE, int width = TILE)
{
    return k_blocks{ (unsigned)parts_of(w.small.c, width), (unsigned)parts_of(cx_pixels(w.small), rows), 1, 1 };
}
static inline k_blocks blocks_up(const k_window &w, int rows = TILE, int width = TILE)
{
    const int64_t s = w.stride, h = w.large.h, x = w.large.w, across = s < x ? s : x;
    return k_blocks{ (unsigned)parts_of(w.large.c, width), (unsigned)parts_of(w.large.n * parts_of(h, s) * parts_of(x, s), rows),
                     (unsigned)(across * (s < h ? s : h)), (unsigned)across };
}
static inline unsigned blocks_in(const k_blocks &g) { return g.columns * g.tiles * g.phases; }
/* Two doubles for each tile and channel: sums of a gate, or mean and squares. */
static inline size_t tile_bytes(const k_blocks &g, int64_t channels) { return (size_t)g.tiles * g.phases * (size_t)channels * 2 * sizeof(double); }

/* Of correlate: block (chunk * rows + row) * columns + column. Enough chunks of pixels to fill the GPU several times over, none so long that its float32 sums
 * lose digits, none so short that adding the chunks takes longer than making them. */
enum { FILL = 528, SHORTEST = 256, LONGEST = 4096 };
typedef struct { unsigned columns, rows, chunks; int64_t length; } k_chunks;
static inline k_chunks chunks_for(int64_t pixels, int64_t columns, int64_t rows, int step, int blocks = FILL)
{
    int64_t length = parts_of(pixels, parts_of(blocks, columns * rows));
    length = length < SHORTEST ? (int64_t)SHORTEST : length > LONGEST ? (int64_t)LONGEST : parts_of(length, step) * step;
    return k_chunks{ (unsigned)columns, (unsigned)rows, (unsigned)parts_of(pixels, length), length };
}
static inline k_chunks chunks_of(const k_window &w)
{
    return chunks_for(cx_pixels(w.small), parts_of((int64_t)w.kh * w.kw * w.large.c, TILE), parts_of(w.small.c, TILE), STEP);
}
static inline unsigned blocks_in(const k_chunks &g) { return g.columns * g.rows * g.chunks; }

static inline k_window conv2d_window(const cx_call *c)
{
    const cx_conv_attr *a = (const cx_conv_attr *)c->attr;
    return k_window{ c->y[0].s, c->x[0].s, (int)c->x[1].s.h, (int)c->x[1].s.w, a->stride, a->pad_top, a->pad_left };
}

static inline k_window conv_transpose2d_window(const cx_call *c)
{
    const cx_convt_attr *a = (const cx_convt_attr *)c->attr;
    return k_window{ c->x[0].s, c->y[0].s, (int)c->x[1].s.h, (int)c->x[1].s.w, a->stride, a->pad, a->pad };
}

/* conv.cu: what all convolutions share. Scratch for the gradients of weights and bias; the chunks of correlate, in c->work, added into dx[1]; dx[2]. */
size_t cx_cuda_gradient_bytes(const cx_call *c, const k_chunks &g);
void cx_cuda_add_chunks(const cx_call *c, const k_chunks &g);
void cx_cuda_bias_gradient(const cx_call *c);

/* ---- multiplying ---------------------------------------------------------------------------------------------------- */

/* A slab is STEP rows of one k each, PITCH quads apart: 16 threads that write 16 k at once then meet two to a bank, not sixteen. */
static __device__ __forceinline__ void multiply(const k_float4 *a, const k_float4 *b, float acc[4][4])
{
    const int y = threadIdx.x / LANES, x = threadIdx.x % LANES;
    for (int k = 0; k < STEP; k++) {
        const k_float4 p = a[k * PITCH + y], q = b[k * PITCH + x];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                acc[i][j] += p.v[i] * q.v[j];
    }
}

/* Of a slab, a thread brings one k of four places LANES apart. Neighbouring threads have neighbouring k, or neighbouring places: as memory has them. */
template <bool K_FAST> static __device__ __forceinline__ int my_k(void) { return K_FAST ? threadIdx.x % LANES : threadIdx.x / LANES; }
template <bool K_FAST> static __device__ __forceinline__ int my_place(void) { return my_k<!K_FAST>(); }
template <bool K_FAST> static __device__ __forceinline__ void lay(k_float4 *slab, const float v[4])
{
    float *to = (float *)(void *)slab + my_k<K_FAST>() * PITCH * 4 + my_place<K_FAST>();
    for (int i = 0; i < 4; i++)
        to[i * LANES] = v[i];
}

/* result <- the sum over all steps, row by row. The reader's next step is on its way while this one is multiplied. */
template <class Reader> static __device__ __forceinline__ void multiply_all(Reader &r, int64_t steps, k_float4 *result)
{
    SHARED(k_float4, a, STEP * PITCH);
    SHARED(k_float4, b, STEP * PITCH);
    float acc[4][4] = {}, v[4] = {}, w[4] = {};
    if (steps > 0)
        r.read(v, w);
    for (int64_t s = 1; s <= steps; s++) {
        lay<Reader::A_K_FAST>(a, v);
        lay<Reader::B_K_FAST>(b, w);
        __syncthreads();
        if (s < steps)
            r.read(v, w);
        multiply(a, b, acc);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        k_float4 q;
        for (int j = 0; j < 4; j++)
            q.v[j] = acc[i][j];
        result[(threadIdx.x / LANES * 4 + i) * QUADS + threadIdx.x % LANES] = q;
    }
    __syncthreads();
}

/* ---- reading: pixels at their taps, and weights ----------------------------------------------------------------------- */

static __device__ __forceinline__ float number(const k_source &s, int64_t pixel, int64_t k) { return x_at(s, pixel, k); }
static __device__ __forceinline__ float number(const k_gradient &g, int64_t pixel, int64_t k) { return (float)dy_at(g, pixel, k); }

/* One axis of one phase. */
typedef struct {
    int places, out, out_step;      /* of the result: place j is coordinate out + j * out_step; */
    int in, in_step, dir, extent;   /* its tap t meets coordinate in + j * in_step + t * dir of the source, if that is below extent, */
    int taps, tap, tap_step;        /* and row or column tap + t * tap_step of the weights */
} k_axis;
static __device__ __forceinline__ k_axis axis_down(int64_t small, int64_t large, int taps, int stride, int pad)
{
    return k_axis{ (int)small, 0, 1, -pad, stride, 1, (int)large, taps, 0, 1 };
}
static __device__ __forceinline__ k_axis axis_up(int64_t small, int64_t large, int taps, int stride, int pad, int phase)
{
    const int first = (phase + pad) % stride;
    return k_axis{ (int)((large - phase + stride - 1) / stride), phase, stride, (phase + pad) / stride, 1, -1, (int)small,
                   first < taps ? (taps - 1 - first) / stride + 1 : 0, first, stride };
}

/* A row of the tile: its pixel in the result, -1 where there is none; the first pixel of its image in the source, and where tap 0 is. */
typedef struct { int64_t result, image; int y, x; } k_row;
template <int ROWS> static __device__ __forceinline__ void place_rows(k_row *rows, const k_axis &y, const k_axis &x, const cx_shape &result, int64_t first)
{
    if (threadIdx.x < ROWS) {
        const int64_t at = first + threadIdx.x, per = (int64_t)y.places * x.places, n = at / per;
        const int jy = (int)(at % per) / x.places, jx = (int)(at % per) % x.places;
        const bool in = n < result.n;
        rows[threadIdx.x] = k_row{ in ? (n * result.h + y.out + jy * y.out_step) * result.w + x.out + jx * x.out_step : -1, n * y.extent * x.extent,
                                   in ? y.in + jy * y.in_step : NOWHERE, in ? x.in + jx * x.in_step : NOWHERE };
    }
    __syncthreads();
}

/* What a block makes, ROWS x COLUMNS of it, and its rows. empty: there are none; phases are not all as large as the first. */
typedef struct { unsigned tile; int column; bool empty; k_axis y, x; } k_tile;
template <bool UP, int ROWS, int COLUMNS> static __device__ __forceinline__ k_tile find_tile(const k_window &w, const k_blocks &g, k_row *rows)
{
    const unsigned tile = blockIdx.x / g.columns, phase = tile % g.phases;
    const int64_t first = (int64_t)(tile / g.phases) * ROWS;
    const k_axis y = UP ? axis_up(w.small.h, w.large.h, w.kh, w.stride, w.top, phase / g.across) : axis_down(w.small.h, w.large.h, w.kh, w.stride, w.top);
    const k_axis x = UP ? axis_up(w.small.w, w.large.w, w.kw, w.stride, w.left, phase % g.across) : axis_down(w.small.w, w.large.w, w.kw, w.stride, w.left);
    place_rows<ROWS>(rows, y, x, UP ? w.large : w.small, first);
    return k_tile{ tile, (int)(blockIdx.x % g.columns) * COLUMNS, first >= w.small.n * y.places * x.places, y, x };
}

/* Where along K a thread is: K runs over taps, and within a tap over channels. */
struct k_cursor {
    int channel, ty, tx;
    __device__ __forceinline__ bool advance(int by, int channels, int taps_x)
    {
        const int before = channel += by;
        while (channel >= channels) {
            channel -= channels;
            if (++tx == taps_x) {
                tx = 0;
                ty++;
            }
        }
        return channel != before;
    }
};

template <bool UP, class Source> struct k_taps {
    static constexpr bool A_K_FAST = true, B_K_FAST = !UP;
    const Source &src;
    const k_axis y, x;
    const k_row *rows;
    const float *weight;            /* at the first of this thread's outputs */
    const int outputs;              /* from there on */
    const int channels, kw;
    const int64_t next_tap, next_channel, next_output;
    k_cursor at, weight_at;
    int64_t pixel[4];

    __device__ __forceinline__ k_taps(const k_window &w, const k_axis &y_, const k_axis &x_, const Source &s, const float *p, const k_row *r, int column)
        : src(s), y(y_), x(x_), rows(r), weight(p + (column + my_place<!UP>()) * (UP ? 1 : w.kh * w.kw * w.large.c)),
          outputs((int)(UP ? w.large.c : w.small.c) - column - my_place<!UP>()), channels((int)(UP ? w.small.c : w.large.c)), kw(w.kw), next_tap(w.large.c),
          next_channel(UP ? w.kh * w.kw * w.large.c : 1), next_output(UP ? 1 : w.kh * w.kw * w.large.c), at{ my_k<true>(), 0, 0 },
          weight_at{ my_k<!UP>(), 0, 0 }
    {
        at.advance(0, channels, x.taps);
        weight_at.advance(0, channels, x.taps);
        locate();
    }
    __device__ __forceinline__ void locate(void)
    {
        const k_row *r = rows + my_place<true>();
        for (int i = 0; i < 4; i++, r += LANES) {
            const int sy = r->y + at.ty * y.dir, sx = r->x + at.tx * x.dir;
            const bool in = at.ty < y.taps && sy >= 0 && sy < y.extent && sx >= 0 && sx < x.extent;
            pixel[i] = in ? r->image + (int64_t)sy * x.extent + sx : -1;
        }
    }
    __device__ __forceinline__ void read(float v[4], float w[4])
    {
        const k_cursor &c = UP ? weight_at : at;
        const int64_t tap = (y.tap + c.ty * y.tap_step) * kw + x.tap + c.tx * x.tap_step, from = tap * next_tap + c.channel * next_channel;
        for (int i = 0; i < 4; i++)
            v[i] = pixel[i] < 0 ? 0 : number(src, pixel[i], at.channel);
        for (int i = 0; i < 4; i++)
            w[i] = c.ty < y.taps && i * LANES < outputs ? weight[from + i * LANES * next_output] : 0;
        if (at.advance(STEP, channels, x.taps))
            locate();
        if (UP)
            weight_at.advance(STEP, channels, x.taps);
    }
};

/* ---- storing: four neighbouring columns a thread ------------------------------------------------------------------------ */

/* Rows of vectors at a thread's channels; `none` for channels that are not there, or without such a vector. */
static __device__ __forceinline__ void four_of(const cx_tensor &t, int which, const k_place &p, float none, float v[4])
{
    UNROLL for (int j = 0; j < 4; j++)
        v[j] = j < p.n && t.s.c ? row(t, which, p.k + j) : none;
}

/* keep: what a block made, ROWS x COLUMNS numbers in shared memory, rows APART apart. Thread t has the quad t % ACROSS of every SHARERS-th row. */

/* y[0]; part: mean and sum of squared deviations of each tile and channel, if statistics are wanted. */
typedef struct { cx_tensor y, post; const float *bias; bool relu, wide; double *part; } k_output;
static inline k_output output_of(const cx_call *c, bool stats)
{
    return k_output{ c->y[0], c->fold.post, c->n_in > 2 ? c->x[2].p : nullptr, c->relu, is_wide(c->y[0]), stats ? (double *)c->work : nullptr };
}
template <int ROWS, int COLUMNS, int APART>
static __device__ __forceinline__ void keep(const k_output &o, float *result, const k_row *rows, int64_t tile, int64_t column)
{
    constexpr int ACROSS = COLUMNS / 4, SHARERS = THREADS / ACROSS;
    const int64_t c = o.y.s.c, left = pixels(o.y.s) - tile * ROWS;
    k_place p = { 0, column + threadIdx.x % ACROSS * 4, 0, false };
    float bias[4], scale[4], shift[4], sum[4] = { 0, 0, 0, 0 }, squares[4] = { 0, 0, 0, 0 };
    double mean[4], square[4];
    p.n = (int)max((int64_t)0, min(c - p.k, (int64_t)4));
    p.wide = o.wide && p.n == 4;
    four_of(o.post, CX_FOLD_SCALE, p, 1, scale);
    four_of(o.post, CX_FOLD_SHIFT, p, 0, shift);
    UNROLL for (int j = 0; j < 4; j++)
        bias[j] = j < p.n && o.bias ? o.bias[p.k + j] : 0;
    for (int r = threadIdx.x / ACROSS; r < ROWS && rows[r].result >= 0; r += SHARERS) {
        k_float4 *const at = (k_float4 *)(void *)&result[r * APART + threadIdx.x % ACROSS * 4], q = *at;
        float v[4];
        UNROLL for (int j = 0; j < 4; j++) {
            v[j] = fmaf(q.v[j] + bias[j], scale[j], shift[j]);
            v[j] = o.relu && v[j] < 0 ? 0 : v[j];
            sum[j] += v[j];
        }
        p.row = rows[r].result;
        store_quad(o.y, p, v);
        if (o.part)
            *at = k_float4{ { v[0], v[1], v[2], v[3] } };
    }
    if (!o.part)
        return;
    UNROLL for (int j = 0; j < 4; j++)
        mean[j] = (double)sum[j];
    sum_every<SHARERS, 4>(mean);
    UNROLL for (int j = 0; j < 4; j++)
        mean[j] /= (double)min(left, (int64_t)ROWS);
    for (int r = threadIdx.x / ACROSS; r < ROWS && rows[r].result >= 0; r += SHARERS) {
        const k_float4 q = *(const k_float4 *)(const void *)&result[r * APART + threadIdx.x % ACROSS * 4];
        UNROLL for (int j = 0; j < 4; j++)
            squares[j] = fmaf(q.v[j] - (float)mean[j], q.v[j] - (float)mean[j], squares[j]);
    }
    UNROLL for (int j = 0; j < 4; j++)
        square[j] = (double)squares[j];
    sum_every<SHARERS, 4>(square);
    UNROLL for (int j = 0; j < 4; j++)
        if (threadIdx.x < ACROSS && j < p.n) {
            o.part[tile * 2 * c + p.k + j] = mean[j];
            o.part[(tile * 2 + 1) * c + p.k + j] = square[j];
        }
}

/* dx[0], behind the gate; part: its two sums for each tile and channel, if wanted. */
typedef struct { k_gate gate; bool wide; double *part; } k_gated;
static inline k_gated gated_of(const cx_call *c)
{
    return k_gated{ gate_of(c), is_wide(c->x[0]) && is_wide(c->dx[0]), c->fold.sums.s.c ? (double *)c->work : nullptr };
}
/* As pass_gate, in float32. What a thread reads of TOGETHER rows is on its way at the same time. */
enum { TOGETHER = 4 };
template <int ROWS, int COLUMNS, int APART>
static __device__ __forceinline__ void keep(const k_gated &o, float *result, const k_row *rows, int64_t tile, int64_t column)
{
    constexpr int ACROSS = COLUMNS / 4, SHARERS = THREADS / ACROSS;
    const k_gate &t = o.gate;
    const bool normed = t.src.pre.s.c > 0;
    static_assert(ROWS % (SHARERS * TOGETHER) == 0, "whole turns");
    const int64_t c = t.src.x.s.c;
    k_place p = { 0, column + threadIdx.x % ACROSS * 4, 0, false };
    float scale[4], shift[4], mean[4], sum[2][4] = { { 0, 0, 0, 0 }, { 0, 0, 0, 0 } };
    p.n = (int)max((int64_t)0, min(c - p.k, (int64_t)4));
    p.wide = o.wide && p.n == 4;
    four_of(t.src.pre, CX_FOLD_SCALE, p, 1, scale);
    four_of(t.src.pre, CX_FOLD_SHIFT, p, 0, shift);
    UNROLL for (int j = 0; j < 4; j++)
        mean[j] = j < p.n && t.sums.s.c ? row(t.src.pre, CX_FOLD_MEAN, p.k + j) : 0;
    for (int r = threadIdx.x / ACROSS; r < ROWS; r += SHARERS * TOGETHER) {
        k_fetched before[TOGETHER], read[TOGETHER];
        UNROLL for (int i = 0; i < TOGETHER; i++) {
            p.row = rows[r + i * SHARERS].result;
            before[i] = p.row >= 0 && t.dx.p && t.add ? fetch_quad(t.dx, p) : k_fetched{};
            read[i] = p.row >= 0 && normed ? fetch_quad(t.src.x, p) : k_fetched{};
        }
        UNROLL for (int i = 0; i < TOGETHER; i++) {
            const k_float4 q = *(const k_float4 *)(const void *)&result[(r + i * SHARERS) * APART + threadIdx.x % ACROSS * 4];
            float x[4], g[4];
            p.row = rows[r + i * SHARERS].result;
            if (p.row < 0)
                continue;
            unpack_quad(t.src.x, p, read[i], x);
            UNROLL for (int j = 0; j < 4; j++) {
                g[j] = t.src.relu && fmaf(x[j], scale[j], shift[j]) <= 0 ? 0 : q.v[j];
                sum[0][j] += g[j];
                sum[1][j] = fmaf(g[j], x[j] - mean[j], sum[1][j]);
                g[j] = fmaf(g[j], scale[j], before[i].f.v[j]);
            }
            if (t.dx.p)
                store_quad(t.dx, p, g);
        }
    }
    if (!o.part)
        return;
    double both[8];
    UNROLL for (int j = 0; j < 8; j++)
        both[j] = (double)sum[j / 4][j % 4];
    sum_every<SHARERS, 8>(both);
    UNROLL for (int j = 0; j < 8; j++)
        if (threadIdx.x < ACROSS && j % 4 < p.n)
            o.part[(tile * 2 + j / 4) * c + p.k + j % 4] = both[j];
}

/* ---- both products -------------------------------------------------------------------------------------------------- */

/* Pixels x outputs: every place of the result collects from the places of the source that it meets. */
template <bool UP, class Source, class Sink>
static __device__ __forceinline__ void convolve(const k_window &w, const k_blocks &g, const float *weight, const Source &src, const Sink &sink)
{
    SHARED(k_float4, result, TILE * QUADS);
    SHARED(k_row, rows, TILE);
    const k_tile t = find_tile<UP, TILE, TILE>(w, g, rows);
    k_taps<UP, Source> taps(w, t.y, t.x, src, weight, rows, t.column);
    multiply_all(taps, t.empty ? 0 : ((int64_t)t.y.taps * t.x.taps * taps.channels + STEP - 1) / STEP, result);
    keep<TILE, TILE, TILE>(sink, (float *)(void *)result, rows, t.tile, t.column);
}

/* A pixel on its way through a map. */
struct k_pixel {
    int64_t n;
    int y, x;
    __device__ __forceinline__ k_pixel(const cx_shape &s, int64_t pixel) : n(pixel / (s.h * s.w)), y((int)(pixel % (s.h * s.w) / s.w)), x((int)(pixel % s.w)) {}
    __device__ __forceinline__ void advance(const cx_shape &s, int by)
    {
        for (x += by; x >= s.w; x -= (int)s.w)
            if (++y == s.h) {
                y = 0;
                n++;
            }
    }
};

/* Along the pixels of the small side, each beside its taps on the large side. */
template <class Small, class Large> struct k_pairs {
    static constexpr bool A_K_FAST = false, B_K_FAST = false;
    const k_window &w;
    const Small &small;
    const Large &large;
    int64_t pixel, end;             /* of the small side, */
    k_pixel at;                      /* and where it is */
    int row, rows;                  /* the first of this thread's channels of the small side, and how many there are from there on */
    int ty[4], tx[4], channel[4];   /* its taps, and the channels of the large side */

    __device__ __forceinline__ k_pairs(const k_window &w_, const Small &s, const Large &l, int64_t first, int64_t end_, int row_, int column)
        : w(w_), small(s), large(l), pixel(first + my_k<false>()), end(end_), at(w_.small, pixel), row(row_ + my_place<false>()), rows((int)w.small.c - row)
    {
        for (int i = 0; i < 4; i++) {
            const int place = column + my_place<false>() + i * LANES, tap = place / (int)w.large.c;
            channel[i] = place % (int)w.large.c;
            ty[i] = tap < w.kh * w.kw ? tap / w.kw - w.top : NOWHERE;
            tx[i] = tap % w.kw - w.left;
        }
    }
    __device__ __forceinline__ void read(float v[4], float u[4])
    {
        const int ly = at.y * w.stride, lx = at.x * w.stride;
        const int64_t image = at.n * w.large.h;
        for (int i = 0; i < 4; i++)
            v[i] = pixel < end && i * LANES < rows ? number(small, pixel, row + i * LANES) : 0;
        for (int i = 0; i < 4; i++) {
            const int sy = ly + ty[i], sx = lx + tx[i];
            const bool in = pixel < end && sy >= 0 && sy < w.large.h && sx >= 0 && sx < w.large.w;
            u[i] = in ? number(large, (image + sy) * w.large.w + sx, channel[i]) : 0;
        }
        pixel += STEP;
        at.advance(w.small, STEP);
    }
};

/* Channels of the small side x taps and channels of the large side, as the weights lie: one chunk's part of their gradient. */
template <class Small, class Large>
static __device__ __forceinline__ void correlate(const k_window &w, const k_chunks &g, const Small &small, const Large &large, float *part)
{
    SHARED(k_float4, result, TILE * QUADS);
    const int column = blockIdx.x % g.columns * TILE, row = blockIdx.x / g.columns % g.rows * TILE;
    const int64_t chunk = blockIdx.x / g.columns / g.rows, first = chunk * g.length, all = pixels(w.small), width = w.kh * w.kw * w.large.c;
    const int64_t end = first + g.length < all ? first + g.length : all, k = column + threadIdx.x % TILE;
    k_pairs<Small, Large> pairs(w, small, large, first, end, row, column);
    multiply_all(pairs, (end - first + STEP - 1) / STEP, result);
    float *to = part + chunk * w.small.c * width;
    for (int64_t r = threadIdx.x / TILE; k < width && r < TILE && row + r < w.small.c; r += THREADS / TILE)
        to[(row + r) * width + k] = ((const float *)(const void *)result)[r * TILE + threadIdx.x % TILE];
}

#endif
