/* gemm.cuh - one tile of the matrix products behind convolutions (implicit GEMM, float32): 256 threads make 64 x 64 of the result, 4 x 4 each, in steps of 16
 * along K. A step brings 8 KiB for 131,072 FLOPs, 16 a byte of L2: FLOPs are the floor where K and the outputs are 64 or more, below that the bytes of x and y.
 *
 * Reading (padding, prologue, carry, mask), multiplying and storing (bias, norm, ReLU, gate, sums) are apart and meet in shared memory.
 *
 * A convolution has a small side and a large side: place p of the small one meets place p * stride + tap - pad of the large one, and its weights are
 * (channels of the small side, KH, KW, channels of the large side). conv2d goes down, from large to small, and its gradient up; conv_transpose2d the other way
 * round. Going up, the result is made phase by phase: places that are equal modulo the stride meet the same taps, and no others. */
#ifndef CX_GEMM_CUH
#define CX_GEMM_CUH
#include "sums.cuh"

enum { TILE = 64, STEP = 16, LANES = 16, QUADS = TILE / 4, PITCH = QUADS + 1 };
enum { NOWHERE = -(1 << 30) };                  /* a coordinate outside of every source, at every tap */

typedef struct { cx_shape small, large; int kh, kw, stride, top, left; } k_window;

/* ---- blocks, on the host: from shapes only -------------------------------------------------------------------------- */

/* Of convolve: block (phase * tiles + tile) * columns + column. across: phases along x. */
typedef struct { unsigned columns, tiles, phases, across; } k_blocks;
static inline k_blocks blocks_down(const k_window &w)
{
    return k_blocks{ (unsigned)parts_of(w.small.c, TILE), (unsigned)parts_of(cx_pixels(w.small), TILE), 1, 1 };
}
static inline k_blocks blocks_up(const k_window &w)
{
    const int64_t s = w.stride, h = w.large.h, x = w.large.w, across = s < x ? s : x;
    return k_blocks{ (unsigned)parts_of(w.large.c, TILE), (unsigned)parts_of(w.large.n * parts_of(h, s) * parts_of(x, s), TILE),
                     (unsigned)(across * (s < h ? s : h)), (unsigned)across };
}
static inline unsigned blocks_in(const k_blocks &g) { return g.columns * g.tiles * g.phases; }
/* Two doubles for each tile and channel: sums of a gate, or mean and squares. */
static inline size_t tile_bytes(const k_blocks &g, int64_t channels) { return (size_t)g.tiles * g.phases * (size_t)channels * 2 * sizeof(double); }

/* Of correlate: block (chunk * rows + row) * columns + column. Enough chunks of pixels to fill the GPU several times over, none so long that its float32 sums
 * lose digits, none so short that adding the chunks takes longer than making them. */
enum { FILL = 528, SHORTEST = 256, LONGEST = 4096 };
typedef struct { unsigned columns, rows, chunks; int64_t length; } k_chunks;
static inline k_chunks chunks_of(const k_window &w)
{
    const int64_t pixels = cx_pixels(w.small), columns = parts_of((int64_t)w.kh * w.kw * w.large.c, TILE), rows = parts_of(w.small.c, TILE);
    int64_t length = parts_of(pixels, parts_of(FILL, columns * rows));
    length = length < SHORTEST ? (int64_t)SHORTEST : length > LONGEST ? (int64_t)LONGEST : parts_of(length, STEP) * STEP;
    return k_chunks{ (unsigned)columns, (unsigned)rows, (unsigned)parts_of(pixels, length), length };
}
static inline unsigned blocks_in(const k_chunks &g) { return g.columns * g.rows * g.chunks; }

/* conv.cu: what conv_transpose2d shares. Scratch for the gradients of weights and bias; the chunks of correlate, in c->work, added into dx[1]; dx[2]. */
size_t cx_cuda_gradient_bytes(const cx_call *c, const k_window &w);
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
static __device__ __forceinline__ void place_rows(k_row *rows, const k_axis &y, const k_axis &x, const cx_shape &result, int64_t first)
{
    if (threadIdx.x < TILE) {
        const int64_t at = first + threadIdx.x, per = (int64_t)y.places * x.places, n = at / per;
        const int jy = (int)(at % per) / x.places, jx = (int)(at % per) % x.places;
        const bool in = n < result.n;
        rows[threadIdx.x] = k_row{ in ? (n * result.h + y.out + jy * y.out_step) * result.w + x.out + jx * x.out_step : -1, n * y.extent * x.extent,
                                   in ? y.in + jy * y.in_step : NOWHERE, in ? x.in + jx * x.in_step : NOWHERE };
    }
    __syncthreads();
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

/* ---- storing -------------------------------------------------------------------------------------------------------- */

enum { SHARERS = THREADS / TILE };              /* threads that share a column of the result: each has every SHARERS-th row */

/* y[0]; part: mean and sum of squared deviations of each tile and channel, if statistics are wanted. */
typedef struct { cx_tensor y, post; const float *bias; bool relu; double *part; } k_output;
static inline k_output output_of(const cx_call *c, bool stats)
{
    return k_output{ c->y[0], c->fold.post, c->n_in > 2 ? c->x[2].p : nullptr, c->relu, stats ? (double *)c->work : nullptr };
}
static __device__ __forceinline__ void keep(const k_output &o, float *result, const k_row *rows, int64_t tile, int64_t column)
{
    const int64_t c = o.y.s.c, k = column + threadIdx.x % TILE, left = pixels(o.y.s) - tile * TILE;
    const bool in = k < c, normed = in && o.post.s.c;
    const float bias = in && o.bias ? o.bias[k] : 0, scale = normed ? row(o.post, CX_FOLD_SCALE, k) : 1, shift = normed ? row(o.post, CX_FOLD_SHIFT, k) : 0;
    double sum = 0;
    for (int r = threadIdx.x / TILE; in && r < TILE && rows[r].result >= 0; r += SHARERS) {
        float *at = &result[r * TILE + threadIdx.x % TILE], v = fmaf(*at + bias, scale, shift);
        v = o.relu && v < 0 ? 0 : v;
        store(o.y, rows[r].result, k, v);
        *at = v;
        sum += (double)v;
    }
    if (!o.part)
        return;
    const double mean = sum_every<SHARERS>(sum) / (double)min(left, (int64_t)TILE);
    double squares = 0;
    for (int r = threadIdx.x / TILE; in && r < TILE && rows[r].result >= 0; r += SHARERS) {
        const double d = (double)result[r * TILE + threadIdx.x % TILE] - mean;
        squares += d * d;
    }
    squares = sum_every<SHARERS>(squares);
    if (in && threadIdx.x < TILE) {
        o.part[tile * 2 * c + k] = mean;
        o.part[(tile * 2 + 1) * c + k] = squares;
    }
}

/* dx[0], behind the gate; part: its two sums for each tile and channel, if wanted. */
typedef struct { k_gate gate; double *part; } k_gated;
static inline k_gated gated_of(const cx_call *c) { return k_gated{ gate_of(c), c->fold.sums.s.c ? (double *)c->work : nullptr }; }
static __device__ __forceinline__ void keep(const k_gated &o, float *result, const k_row *rows, int64_t tile, int64_t column)
{
    const int64_t c = o.gate.src.x.s.c, k = column + threadIdx.x % TILE;
    const bool in = k < c;
    double sum[2] = { 0, 0 };
    for (int r = threadIdx.x / TILE; in && r < TILE && rows[r].result >= 0; r += SHARERS)
        pass_gate(o.gate, rows[r].result, k, (double)result[r * TILE + threadIdx.x % TILE], sum);
    if (!o.part)
        return;
    for (int i = 0; i < 2; i++) {
        const double s = sum_every<SHARERS>(sum[i]);
        if (in && threadIdx.x < TILE)
            o.part[(tile * 2 + i) * c + k] = s;
    }
}

/* ---- both products -------------------------------------------------------------------------------------------------- */

/* Pixels x outputs: every place of the result collects from the places of the source that it meets. */
template <bool UP, class Source, class Sink>
static __device__ __forceinline__ void convolve(const k_window &w, const k_blocks &g, const float *weight, const Source &src, const Sink &sink)
{
    SHARED(k_float4, result, TILE * QUADS);
    SHARED(k_row, rows, TILE);
    const unsigned tile = blockIdx.x / g.columns, phase = tile / g.tiles, column = blockIdx.x % g.columns * TILE;
    const int64_t first = (int64_t)(tile % g.tiles) * TILE;
    const k_axis y = UP ? axis_up(w.small.h, w.large.h, w.kh, w.stride, w.top, phase / g.across) : axis_down(w.small.h, w.large.h, w.kh, w.stride, w.top);
    const k_axis x = UP ? axis_up(w.small.w, w.large.w, w.kw, w.stride, w.left, phase % g.across) : axis_down(w.small.w, w.large.w, w.kw, w.stride, w.left);
    place_rows(rows, y, x, UP ? w.large : w.small, first);
    k_taps<UP, Source> taps(w, y, x, src, weight, rows, column);
    const bool empty = first >= w.small.n * y.places * x.places;    /* phases are not all as large as the first */
    multiply_all(taps, empty ? 0 : ((int64_t)y.taps * x.taps * taps.channels + STEP - 1) / STEP, result);
    keep(sink, (float *)(void *)result, rows, tile, column);
}

/* Along the pixels of the small side, each beside its taps on the large side. */
template <class Small, class Large> struct k_pairs {
    static constexpr bool A_K_FAST = false, B_K_FAST = false;
    const k_window &w;
    const Small &small;
    const Large &large;
    int64_t pixel, end, n;          /* of the small side; its image, */
    int y, x;                       /* and where in it */
    int row, rows;                  /* the first of this thread's channels of the small side, and how many there are from there on */
    int ty[4], tx[4], channel[4];   /* its taps, and the channels of the large side */

    __device__ __forceinline__ k_pairs(const k_window &w_, const Small &s, const Large &l, int64_t first, int64_t end_, int row_, int column)
        : w(w_), small(s), large(l), pixel(first + my_k<false>()), end(end_), row(row_ + my_place<false>()), rows((int)w.small.c - row)
    {
        const int64_t per = w.small.h * w.small.w;
        n = pixel / per;
        y = (int)(pixel % per / w.small.w);
        x = (int)(pixel % w.small.w);
        for (int i = 0; i < 4; i++) {
            const int at = column + my_place<false>() + i * LANES, tap = at / (int)w.large.c;
            channel[i] = at % (int)w.large.c;
            ty[i] = tap < w.kh * w.kw ? tap / w.kw - w.top : NOWHERE;
            tx[i] = tap % w.kw - w.left;
        }
    }
    __device__ __forceinline__ void read(float v[4], float u[4])
    {
        const int ly = y * w.stride, lx = x * w.stride;
        const int64_t image = n * w.large.h;
        for (int i = 0; i < 4; i++)
            v[i] = pixel < end && i * LANES < rows ? number(small, pixel, row + i * LANES) : 0;
        for (int i = 0; i < 4; i++) {
            const int sy = ly + ty[i], sx = lx + tx[i];
            const bool in = pixel < end && sy >= 0 && sy < w.large.h && sx >= 0 && sx < w.large.w;
            u[i] = in ? number(large, (image + sy) * w.large.w + sx, channel[i]) : 0;
        }
        pixel += STEP;
        for (x += STEP; x >= w.small.w; x -= (int)w.small.w)
            if (++y == w.small.h) {
                y = 0;
                n++;
            }
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
    for (int64_t r = threadIdx.x / TILE; k < width && r < TILE && row + r < w.small.c; r += SHARERS)
        to[(row + r) * width + k] = ((const float *)(const void *)result)[r * TILE + threadIdx.x % TILE];
}

#endif
