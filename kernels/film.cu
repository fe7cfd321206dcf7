/* film.cu - 8-bit films to a network's input: warp, brightness, normalisation; and films of any size to the working size. Both give the bits of the host
 * (src/data/augment.c, src/image/resize.c), so every product that an addition follows is rounded first, where the compiler would have fused them.
 *
 * films: reads 1 byte a pixel and plane (neighbours come from the cache) and 64 a film, writes 4 bytes a value, 2 in bf16: 7 bytes a pixel of 3 channels in
 * bf16, 350 kB for a film of 224 px. Some 40 FLOPs a pixel, 8 of them in double. Greys of a block go through shared memory, so that a thread stores 16 bytes
 * and a warp 512 at once, whatever the channels.
 * resize: reads each byte of the film, writes and reads back 4 bytes for each of its rows and output columns, writes 1 byte a pixel. Two double FLOPs a tap. */
#include "common.cuh"

enum { TILE = 4 * THREADS };      /* greys of one film that a block makes, and then writes */

/* ---- what a draw makes of one pixel: film.h, step by step --------------------------------------------------------------- */

static __device__ __forceinline__ float part_way(float a, float b, float w) { return __fadd_rn(a, __fmul_rn(w, b - a)); }
static __device__ __forceinline__ float grey_or_black(const uint8_t *film, int side, int x, int y)
{
    return x >= 0 && x < side && y >= 0 && y < side ? (float)film[y * side + x] : 0;
}

static __device__ __forceinline__ float between_pixels(const uint8_t *film, int side, float x, float y)
{
    const float fx = floorf(x), fy = floorf(y);
    if (!(fx >= -1 && fx < (float)side && fy >= -1 && fy < (float)side))
        return 0;
    const int ix = (int)fx, iy = (int)fy;
    const float top = part_way(grey_or_black(film, side, ix, iy), grey_or_black(film, side, ix + 1, iy), x - fx);
    const float low = part_way(grey_or_black(film, side, ix, iy + 1), grey_or_black(film, side, ix + 1, iy + 1), x - fx);
    return part_way(top, low, y - fy);
}

/* One coordinate of the place that output pixel (x, y) shows. */
static __device__ __forceinline__ float place(double a, double b, double c, int x, int y)
{
    const int run = x / CX_RUN_PX * CX_RUN_PX;
    const float first = (float)__dadd_rn(__dadd_rn(__dmul_rn(a, run), __dmul_rn(b, y)), c);
    return __fadd_rn(first, __fmul_rn((float)a, (float)(x - run)));
}

static __device__ __forceinline__ float drawn_grey(const uint8_t *film, int side, const cx_film_draw &d, int i)
{
    const int y = i / side, x = i - y * side;
    float v = d.warp ? between_pixels(film, side, place(d.ax, d.bx, d.cx, x, y), place(d.ay, d.by, d.cy, x, y)) : (float)film[i];
    if (d.gain != 1 || d.lift != 0) {
        v = __fadd_rn(__fmul_rn(d.gain, v), d.lift);
        v = v > 0 ? v : 0;
        v = v < 255 ? v : 255;
    }
    return v;
}

/* ---- a batch ------------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ void convert(float v, float *to) { *to = v; }
static __device__ __forceinline__ void convert(float v, uint16_t *to) { *to = to_bf16(v); }
template <class T> struct alignas(16) k_chunk { T v[16 / sizeof(T)]; };

/* Value e of a tile, whose pixels have CHANNELS values each. grey [PLANES, TILE]. */
template <class T, int CHANNELS, int PLANES> static __device__ __forceinline__ void put_value(const float *grey, const cx_lines &l, int e, T *to)
{
    const int pixel = e / CHANNELS, c = e - pixel * CHANNELS;
    const float slope = c == 0 ? l.slope[0] : c == 1 ? l.slope[1] : l.slope[2], shift = c == 0 ? l.shift[0] : c == 1 ? l.shift[1] : l.shift[2];
    convert(__fadd_rn(__fmul_rn(grey[PLANES > 1 ? c * TILE + pixel : pixel], slope), shift), to);
}

/* A block has one of a film's `tiles`. wide: what it writes begins and ends at multiples of 16 bytes. */
template <class T, int CHANNELS, int PLANES>
__global__ void __launch_bounds__(THREADS) film_values(const uint8_t *films, const cx_film_draw *draw, int side, int tiles, cx_lines l, T *out, bool wide)
{
    SHARED(float, grey, TILE * PLANES);
    enum { PER = 16 / sizeof(T) };
    const int k = (int)blockIdx.x / tiles, from = ((int)blockIdx.x - k * tiles) * TILE, px = side * side, count = min((int)TILE, px - from);
    const cx_film_draw d = draw[k];
    const uint8_t *film = films + (int64_t)d.film * PLANES * px;
    T *to = out + ((int64_t)k * px + from) * CHANNELS;
    for (int c = 0; c < PLANES; c++)
        for (int i = (int)threadIdx.x; i < count; i += THREADS)
            grey[c * TILE + i] = drawn_grey(film + (int64_t)c * px, side, d, from + i);
    __syncthreads();
    for (int i = (int)threadIdx.x; wide && i < count * CHANNELS / PER; i += THREADS) {
        k_chunk<T> chunk;
        for (int j = 0; j < PER; j++)
            put_value<T, CHANNELS, PLANES>(grey, l, i * PER + j, &chunk.v[j]);
        ((k_chunk<T> *)(void *)to)[i] = chunk;
    }
    for (int i = (int)threadIdx.x; !wide && i < count * CHANNELS; i += THREADS)
        put_value<T, CHANNELS, PLANES>(grey, l, i, to + i);
}

template <class T, int CHANNELS, int PLANES>
static void launch_values(void *stream, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, int n, int side, T *out)
{
    const int px = side * side, tiles = (px + TILE - 1) / TILE;
    const bool wide = (uintptr_t)out % 16 == 0 && (size_t)px * CHANNELS * sizeof(T) % 16 == 0;
    const cx_lines lines = cx_lines_of(norm);
    LAUNCH((film_values<T, CHANNELS, PLANES>), (unsigned)n * (unsigned)tiles, THREADS, stream, films, draw, side, tiles, lines, out, wide);
}

template <class T>
static void launch_channels(void *stream, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, int n, int side, T *out)
{
    if (norm->channels == 1)
        launch_values<T, 1, 1>(stream, films, draw, norm, n, side, out);
    else if (cx_planes_of(norm) == 1)
        launch_values<T, 3, 1>(stream, films, draw, norm, n, side, out);
    else
        launch_values<T, 3, 3>(stream, films, draw, norm, n, side, out);
}

extern "C" cx_status cx_cuda_films(void *stream, const uint8_t *films, const cx_film_draw *draw, const cx_normalise *norm, const cx_tensor *out)
{
    const int n = (int)out->s.n, side = (int)out->s.h;
    if (n == 0)
        return CX_OK;
    if (out->type == CX_BF16)
        launch_channels(stream, films, draw, norm, n, side, (uint16_t *)(void *)out->p);
    else
        launch_channels(stream, films, draw, norm, n, side, out->p);
    return launched();
}

/* ---- to the working size: a triangle as wide as an output pixel when shrinking, as an input pixel when growing (src/image/resize.c) -------- */

/* One axis. Output i is the weighted sum of count[i] inputs from first[i] on; weights at weight[i * taps]. */
typedef struct { int in, out, taps; int *first, *count; double *weight; } k_filter;

static k_filter filter_of(int in, int out)
{
    const double scale = (double)in / out;
    return k_filter{ in, out, 2 * (int)ceil(scale > 1 ? scale : 1) + 1, nullptr, nullptr, nullptr };
}

static size_t filter_bytes(const k_filter &f) { return (size_t)f.out * ((size_t)f.taps * sizeof(double) + 2 * sizeof(int)); }

static char *place_filter(k_filter *f, char *at)
{
    f->weight = (double *)(void *)at;
    f->first = (int *)(void *)(f->weight + (size_t)f->out * (size_t)f->taps);
    f->count = f->first + f->out;
    return at + (filter_bytes(*f) + 7) / 8 * 8;
}

__global__ void __launch_bounds__(THREADS) make_filter(k_filter f)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= f.out)
        return;
    const double scale = (double)f.in / f.out, width = scale > 1 ? scale : 1, centre = __dmul_rn(i + 0.5, scale);
    const int lo = max((int)(centre - width + 0.5), 0), hi = min((int)(centre + width + 0.5), f.in);
    double *w = f.weight + (int64_t)i * f.taps, sum = 0;
    for (int k = lo; k < hi; k++) {
        const double d = fabs((k - centre + 0.5) / width);
        w[k - lo] = d < 1 ? 1 - d : 0;
        sum += w[k - lo];
    }
    for (int k = 0; k < hi - lo; k++)
        w[k] = sum != 0 ? w[k] / sum : w[k];
    f.first[i] = lo;
    f.count[i] = hi - lo;
}

__global__ void __launch_bounds__(THREADS) resize_across(k_filter f, const uint8_t *px, int height, float *rows)
{
    EACH_ELEMENT(at, (int64_t)height * f.out) {
        const int64_t y = at / f.out;
        const int i = (int)(at - y * f.out);
        const uint8_t *from = px + y * f.in + f.first[i];
        const double *w = f.weight + (int64_t)i * f.taps;
        double sum = 0;
        for (int k = 0; k < f.count[i]; k++)
            sum = __dadd_rn(sum, __dmul_rn(w[k], (double)from[k]));
        rows[at] = (float)sum;
    }
}

__global__ void __launch_bounds__(THREADS) resize_down(k_filter f, const float *rows, int width, uint8_t *out)
{
    EACH_ELEMENT(at, (int64_t)f.out * width) {
        const int i = (int)(at / width);
        const float *from = rows + (int64_t)f.first[i] * width + (at - (int64_t)i * width);
        const double *w = f.weight + (int64_t)i * f.taps;
        double sum = 0;
        for (int k = 0; k < f.count[i]; k++)
            sum = __dadd_rn(sum, __dmul_rn(w[k], (double)from[(int64_t)k * width]));
        const float v = (float)sum;
        out[at] = (uint8_t)(v > 0 ? (v < 255 ? v + 0.5f : 255) : 0);
    }
}

extern "C" size_t cx_cuda_resize_bytes(int width, int height, int side)
{
    return filter_bytes(filter_of(width, side)) + filter_bytes(filter_of(height, side)) + 2 * 8 + (size_t)height * (size_t)side * sizeof(float);
}

extern "C" cx_status cx_cuda_resize(void *stream, const uint8_t *px, int width, int height, int side, uint8_t *out, void *work)
{
    k_filter across = filter_of(width, side), down = filter_of(height, side);
    float *rows = (float *)(void *)place_filter(&down, place_filter(&across, (char *)work));
    LAUNCH(make_filter, (unsigned)((side + THREADS - 1) / THREADS), THREADS, stream, across);
    LAUNCH(make_filter, (unsigned)((side + THREADS - 1) / THREADS), THREADS, stream, down);
    LAUNCH(resize_across, blocks_for((int64_t)height * side), THREADS, stream, across, px, height, rows);
    LAUNCH(resize_down, blocks_for((int64_t)side * side), THREADS, stream, down, rows, side, out);
    return launched();
}
