/* equalize.cu - CLAHE and BEASF of batches of 8-bit films, to the bits of src/image/clahe.c and beasf.c, where the formulas are. Counting reads 1 byte a
 * pixel (CLAHE: a little more where tiles reach beyond the film), looking up reads 1 and writes 1: 3 bytes a pixel, and 256 bytes a tile or film. CLAHE
 * takes some 20 FLOPs and four look-ups a pixel. Pixels are counted by atomics on integers, whose sums do not depend on their order. */
#include "common.cuh"

enum { GREYS = CX_GREYS, PER_THREAD = 16, COUNT_PX = 64 * THREADS };
static_assert((int)GREYS == (int)THREADS, "a thread has a grey");

/* ---- out = f(film, pixel, grey), 16 pixels a thread ------------------------------------------------------------------------ */

struct alignas(16) k_greys { uint8_t v[PER_THREAD]; };

/* A block has one of the `parts` of a film of px pixels. wide: every 16 of them lie at a multiple of 16 bytes. */
template <class F> __global__ void __launch_bounds__(THREADS) map_greys(F f, const uint8_t *in, uint8_t *out, int px, int parts, bool wide)
{
    const int k = (int)blockIdx.x / parts, at = (((int)blockIdx.x - k * parts) * THREADS + (int)threadIdx.x) * PER_THREAD;
    const int count = min((int)PER_THREAD, px - at);
    const uint8_t *from = in + (int64_t)k * px + at;
    uint8_t *to = out + (int64_t)k * px + at;
    k_greys g;
    if (count <= 0)
        return;
    if (wide)
        g = *(const k_greys *)(const void *)from;
    else
        for (int i = 0; i < PER_THREAD; i++)
            g.v[i] = i < count ? from[i] : 0;
    for (int i = 0; i < PER_THREAD; i++)
        g.v[i] = i < count ? f(k, at + i, g.v[i]) : (uint8_t)0;
    if (wide)
        *(k_greys *)(void *)to = g;
    else
        for (int i = 0; i < count; i++)
            to[i] = g.v[i];
}

template <class F> static void launch_map(void *stream, F f, const uint8_t *in, uint8_t *out, int n, int px)
{
    const bool wide = px % PER_THREAD == 0 && (uintptr_t)in % PER_THREAD == 0 && (uintptr_t)out % PER_THREAD == 0;
    const int parts = (px + THREADS * PER_THREAD - 1) / (THREADS * PER_THREAD);
    LAUNCH(map_greys<F>, (unsigned)n * (unsigned)parts, THREADS, stream, f, in, out, px, parts, wide);
}

/* ---- CLAHE ------------------------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ int mirrored(int p, int n)
{
    while (n > 1 && (p < 0 || p >= n))
        p = p < 0 ? -p : 2 * n - 2 - p;
    return n > 1 ? p : 0;
}

/* The sum of v over this thread and those before it. All threads call, once. */
static __device__ __forceinline__ int running_sum(int v)
{
    SHARED(int, part, GREYS);
    const int t = (int)threadIdx.x;
    part[t] = v;
    __syncthreads();
    for (int d = 1; d < GREYS; d *= 2) {
        const int before = t >= d ? part[t - d] : 0;
        __syncthreads();
        part[t] += before;
        __syncthreads();
    }
    return part[t];
}

/* A block has a tile of a film, a thread one of its greys. */
__global__ void __launch_bounds__(THREADS) tile_tables(cx_clahe c, const uint8_t *px, uint8_t *tables)
{
    SHARED(int, count, GREYS);
    SHARED(int, over, 1);
    const int t = (int)threadIdx.x, tiles = c.tiles_x * c.tiles_y, k = (int)blockIdx.x / tiles, tile = (int)blockIdx.x - k * tiles;
    const int y0 = tile / c.tiles_x * c.tile_h, x0 = tile % c.tiles_x * c.tile_w;
    const uint8_t *film = px + (int64_t)k * c.width * c.height;
    count[t] = 0;
    if (t == 0)
        over[0] = 0;
    __syncthreads();
    for (int i = t; i < c.tile_w * c.tile_h; i += THREADS) {
        const int y = i / c.tile_w, x = i - y * c.tile_w;
        atomicAdd(&count[film[(int64_t)mirrored(y0 + y, c.height) * c.width + mirrored(x0 + x, c.width)]], 1);
    }
    __syncthreads();
    const int mine = min(count[t], c.limit);
    if (count[t] > mine)
        atomicAdd(&over[0], count[t] - mine);
    __syncthreads();
    const int each = over[0] / GREYS, rest = over[0] % GREYS, step = rest ? GREYS / rest : 1;
    const int sum = running_sum(mine + each + (t % step == 0 && t / step < rest));
    tables[(int64_t)blockIdx.x * GREYS + t] = (uint8_t)__float2int_rn((float)sum * c.scale);
}

/* Along one axis: the tiles whose centres lie around pixel p, and how near to the second one it is. */
typedef struct { int lo, hi; float share; } k_between;
static __device__ __forceinline__ k_between tiles_around(int p, float per, int tiles)
{
    const float t = __fadd_rn(__fmul_rn((float)p, per), -0.5f);
    const int lo = (int)floorf(t);
    return k_between{ max(lo, 0), min(lo + 1, tiles - 1), t - (float)lo };
}

static __device__ __forceinline__ float weighed(float a, float b, float share) { return __fadd_rn(__fmul_rn(a, 1 - share), __fmul_rn(b, share)); }

struct clahe_of {
    cx_clahe c;
    const uint8_t *tables;
    __device__ uint8_t operator()(int film, int i, uint8_t grey) const
    {
        const int y = i / c.width, x = i - y * c.width;
        const k_between v = tiles_around(y, c.per_y, c.tiles_y), u = tiles_around(x, c.per_x, c.tiles_x);
        const uint8_t *table = tables + (int64_t)film * c.tiles_y * c.tiles_x * GREYS + grey;
        const uint8_t *above = table + (int64_t)v.lo * c.tiles_x * GREYS, *below = table + (int64_t)v.hi * c.tiles_x * GREYS;
        const float a = weighed(above[u.lo * GREYS], above[u.hi * GREYS], u.share), b = weighed(below[u.lo * GREYS], below[u.hi * GREYS], u.share);
        return (uint8_t)__float2int_rn(weighed(a, b, v.share));
    }
};

extern "C" size_t cx_cuda_clahe_bytes(const cx_clahe *c, int n) { return (size_t)n * (size_t)c->tiles_x * (size_t)c->tiles_y * GREYS; }

extern "C" cx_status cx_cuda_clahe(void *stream, const cx_clahe *c, const uint8_t *px, int n, uint8_t *out, void *work)
{
    uint8_t *tables = (uint8_t *)work;
    if (n == 0)
        return CX_OK;
    LAUNCH(tile_tables, (unsigned)n * (unsigned)(c->tiles_x * c->tiles_y), THREADS, stream, *c, px, tables);
    launch_map(stream, clahe_of{ *c, tables }, px, out, n, c->width * c->height);
    return launched();
}

/* ---- BEASF ------------------------------------------------------------------------------------------------------------------- */

/* A block counts one of the `parts` of a film, COUNT_PX pixels, for itself, then adds what it has. */
__global__ void __launch_bounds__(THREADS) count_greys(const uint8_t *in, int px, int parts, int *counts)
{
    SHARED(int, count, GREYS);
    const int t = (int)threadIdx.x, k = (int)blockIdx.x / parts, from = ((int)blockIdx.x - k * parts) * COUNT_PX, to = min(px - from, (int)COUNT_PX) + from;
    count[t] = 0;
    __syncthreads();
    for (int i = from + t; i < to; i += THREADS)
        atomicAdd(&count[in[(int64_t)k * px + i]], 1);
    __syncthreads();
    if (count[t])
        atomicAdd(&counts[(int64_t)k * GREYS + t], count[t]);
}

static __device__ __forceinline__ double power(double q, int k)
{
    double p = 1;
    for (; k > 0; k >>= 1) {
        if (k & 1)
            p = __dmul_rn(p, q);
        q = __dmul_rn(q, q);
    }
    return p;
}

static __device__ __forceinline__ double sigmoid(double fall, int k)
{
    const double p = power(fall, k < 0 ? -k : k), one = __dadd_rn(1, p);
    return k < 0 ? p / one : 1 / one;
}

static __device__ __forceinline__ int median(const int *count, int from, int to)
{
    int64_t all = 0, below = 0;
    for (int t = from; t <= to; t++)
        all += count[t];
    for (int t = from; t < to; t++) {
        below += count[t];
        if (2 * below > all)
            return t;
    }
    return to;
}

/* A block has a film, a thread a grey. The three walks over the counts (mean, two medians) are one thread's, 768 steps for a film. */
__global__ void __launch_bounds__(THREADS) beasf_maps(cx_beasf b, const int *counts, int px, uint8_t *maps)
{
    SHARED(int, count, GREYS);
    SHARED(int, found, 3);        /* mean, the two medians */
    const int t = (int)threadIdx.x;
    const int64_t at = (int64_t)blockIdx.x * GREYS + t;
    count[t] = counts[at];
    __syncthreads();
    if (t == 0) {
        int64_t sum = 0;
        for (int g = 0; g < GREYS; g++)
            sum += (int64_t)g * count[g];
        found[0] = (int)(sum / px);
        found[1] = median(count, 0, found[0]);
        found[2] = median(count, found[0], GREYS - 1);
    }
    __syncthreads();
    const bool upper = t > found[0];
    const int from = upper ? found[0] : 0, to = upper ? GREYS - 1 : found[0], h = upper ? found[2] : found[1], w = to - from;
    const double low = sigmoid(b.fall[w], from - h), rise = sigmoid(b.fall[w], to - h) - low;
    const double share = rise > CX_BEASF_FLAT ? (sigmoid(b.fall[w], t - h) - low) / rise : 0;
    maps[at] = (uint8_t)(rise > CX_BEASF_FLAT ? __dadd_rn(__dadd_rn(from, __dmul_rn(w, share)), 0.5) : (double)t);
}

struct beasf_of {
    const uint8_t *maps;
    __device__ uint8_t operator()(int film, int, uint8_t grey) const { return maps[(int64_t)film * GREYS + grey]; }
};

extern "C" size_t cx_cuda_beasf_bytes(int n) { return (size_t)n * GREYS * (sizeof(int) + 1); }

extern "C" cx_status cx_cuda_beasf(void *stream, const cx_beasf *b, const uint8_t *px, int n, int n_px, uint8_t *out, void *work)
{
    const int parts = (n_px + COUNT_PX - 1) / COUNT_PX;
    int *counts = (int *)work;
    uint8_t *maps = (uint8_t *)(counts + (size_t)n * GREYS);
    if (n == 0)
        return CX_OK;
    LAUNCH(count_greys, (unsigned)n * (unsigned)parts, THREADS, stream, px, n_px, parts, counts);
    LAUNCH(beasf_maps, (unsigned)n, THREADS, stream, *b, counts, n_px, maps);
    launch_map(stream, beasf_of{ maps }, px, out, n, n_px);
    return launched();
}
