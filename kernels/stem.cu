/* stem.cu - a network's first convolution, 7x7 of stride 2 over at most three channels, behind it norm, ReLU and max pool (cx_fold.post, pool): the map between
 * them lies in shared memory and nowhere else. x[0] and y[0] in either type; operands and sums are float32.
 *
 * 98 I FLOPs for each number of the map, and a 3x3 pool of stride 2 makes one number of y of four: with 64 outputs 1,176 FLOPs (I = 3) for 4 bytes of y and 3
 * of x, more than a GPU does in the time of 7 bytes, so FLOPs are the floor. Of a 224 px film of a DenseNet-121: 0.6 MB of x and 0.8 MB of y (bf16: 0.4) for
 * 236 MFLOP; a map of its own would be 3.2 MB, written and read again. A block makes 17 x 15 of the map for 8 x 7 of y, 1.14 times what is wanted; a pool whose
 * windows share more is left to two steps. A worker takes 5 neighbouring places of 4 outputs: of each row of taps 15 numbers of x and 28 weights, in 15 reads
 * of shared memory (8 of 8 bytes, 7 of 16), for 140 multiply-adds. */
#include "quads.cuh"
#include "sums.cuh"
#include "workspace.h"

enum { TAPS = 7, STRIDE = 2, MOST_INPUTS = 3, ROWS = 17, COLUMNS = 15, ALONG = 5, GROUP = 32, GROUP_QUADS = GROUP / 4 };
enum { WORKERS = ROWS * (COLUMNS / ALONG) * GROUP_QUADS, STEM_THREADS = (WORKERS + WARP - 1) / WARP * WARP };
enum { WIDE_TAPS = (ALONG - 1) * STRIDE + TAPS, PATCH_ROWS = (ROWS - 1) * STRIDE + TAPS, PATCH_COLUMNS = (COLUMNS - 1) * STRIDE + TAPS, PATCH_PITCH = 36 };
/* In quads: of each input the patch of x, and the weights of a group of outputs; their bias; in the same place later, the map. */
enum { PATCH = PATCH_ROWS * PATCH_PITCH / 4, WEIGHTS = TAPS * TAPS * GROUP_QUADS, MAP = ROWS * COLUMNS * GROUP_QUADS,
    ROOM = MOST_INPUTS * (PATCH + WEIGHTS) + GROUP_QUADS };
static_assert(ROOM >= MAP && PATCH_PITCH >= PATCH_COLUMNS && PATCH_ROWS * PATCH_PITCH % 4 == 0, "room for either");

/* tall x wide numbers of y a block; down x across blocks an image, times the groups of outputs. */
typedef struct { cx_shape map; cx_pool_attr pool; int inputs, top, left, tall, wide, down, across; unsigned groups; bool relu, whole; } k_stem;

static k_stem stem_of(const cx_call *c)
{
    const cx_conv_attr *a = (const cx_conv_attr *)c->attr;
    const cx_pool_attr pool = c->fold.pool;
    const int tall = (ROWS - pool.kernel) / pool.stride + 1, wide = (COLUMNS - pool.kernel) / pool.stride + 1;
    const cx_shape y = c->y[0].s;
    return k_stem{ cx_conv_map(c), pool, (int)c->x[0].s.c, a->pad_top, a->pad_left, tall, wide, (int)parts_of(y.h, tall), (int)parts_of(y.w, wide),
                   (unsigned)parts_of(y.c, GROUP), c->relu, is_wide(c->y[0]) };
}

/* Packed: of each group of outputs its weights, a line of GROUP floats for each (row of taps, input, column of taps), times the scale of post, then a line of
 * what is added. Zeros stand for outputs that are not there. */
static int64_t lines_of(int64_t inputs) { return inputs * TAPS * TAPS + 1; }

__global__ void __launch_bounds__(THREADS) conv2d_stem_weights(const float *w, const float *bias, cx_tensor post, int outputs, int inputs, float *to)
{
    const int taps = inputs * TAPS * TAPS, lines = taps + 1;
    EACH_ELEMENT(e, (int64_t)(outputs + GROUP - 1) / GROUP * GROUP * lines) {
        const int line = (int)(e / GROUP % lines), k = (int)(e / GROUP / lines) * GROUP + (int)(e % GROUP);
        const int x = line % TAPS, i = line / TAPS % inputs, y = line / TAPS / inputs;
        const float scale = k < outputs && post.s.c ? row(post, CX_FOLD_SCALE, k) : 1;
        float v = 0;
        if (k < outputs && line < taps)
            v = w[((int64_t)k * TAPS * TAPS + y * TAPS + x) * inputs + i] * scale;
        else if (k < outputs)
            v = fmaf(bias ? bias[k] : 0, scale, post.s.c ? row(post, CX_FOLD_SHIFT, k) : 0);
        to[e] = v;
    }
}

/* ---- a block ------------------------------------------------------------------------------------------------------------ */

/* The patch of image n that begins at (top,left), a plane for each input; zeros outside. */
static __device__ __forceinline__ void bring_patch(const k_source &x, int inputs, int64_t n, int top, int left, float *patch)
{
    for (int e = threadIdx.x; e < PATCH_ROWS * PATCH_COLUMNS * inputs; e += STEM_THREADS) {
        const int i = e % inputs, column = e / inputs % PATCH_COLUMNS, line = e / inputs / PATCH_COLUMNS, y = top + line, s = left + column;
        const bool in = y >= 0 && y < x.x.s.h && s >= 0 && s < x.x.s.w;
        patch[(i * PATCH_ROWS + line) * PATCH_PITCH + column] = in ? x_at(x, pixel_at(x.x, n, y, s), i) : 0;
    }
}

/* acc += all taps of ALONG neighbouring places. x: at the first tap of the first place; w: at this worker's quad. */
static __device__ __forceinline__ void multiply_taps(int inputs, const float *x, const k_float4 *w, float acc[ALONG][4])
{
    ROLLED for (int r = 0; r < TAPS; r++)
        ROLLED for (int i = 0; i < inputs; i++, w += TAPS * GROUP_QUADS) {
            const float *from = x + (i * PATCH_ROWS + r) * PATCH_PITCH;
            float in[WIDE_TAPS];
            UNROLL for (int t = 0; t < WIDE_TAPS; t++)
                in[t] = from[t];
            UNROLL for (int t = 0; t < TAPS; t++) {
                const k_float4 q = w[t * GROUP_QUADS];
                UNROLL for (int j = 0; j < ALONG; j++)
                    UNROLL for (int k = 0; k < 4; k++)
                        acc[j][k] += in[j * STRIDE + t] * q.v[k];
            }
        }
}

static __device__ __forceinline__ int within(int v, int first, int end) { return min(max(v, first), end - 1); }

/* The largest of each channel in the window of the block's map that begins at (y0,x0); a NaN counts as largest. The map is there from (top,left) to
 * (bottom,right); outside of it places of its border, which every window holds, are read again. */
static __device__ __forceinline__ k_float4 largest_of(const k_float4 *map, int kernel, int y0, int x0, int top, int bottom, int left, int right)
{
    k_float4 best = {};
    for (int i = 0; i < kernel; i++)
        for (int j = 0; j < kernel; j++) {
            const k_float4 q = map[(within(y0 + i, top, bottom) * COLUMNS + within(x0 + j, left, right)) * GROUP_QUADS];
            for (int k = 0; k < 4; k++)
                if (i + j == 0 || q.v[k] > best.v[k] || q.v[k] != q.v[k])
                    best.v[k] = q.v[k];
        }
    return best;
}

__global__ void __launch_bounds__(STEM_THREADS, 2) conv2d_stem(k_stem g, k_source x, const k_float4 *packed, cx_tensor y)
{
    SHARED(k_float4, room, ROOM);
    const int quad = threadIdx.x % GROUP_QUADS, worker = threadIdx.x / GROUP_QUADS, first = worker % (COLUMNS / ALONG) * ALONG;
    const int line = worker / (COLUMNS / ALONG), weights = g.inputs * WEIGHTS;
    const unsigned group = blockIdx.x % g.groups, tile = blockIdx.x / g.groups;
    const int q0 = (int)(tile % g.across) * g.wide, p0 = (int)(tile / g.across % g.down) * g.tall;
    const int64_t n = tile / g.across / g.down;
    const int top = p0 * g.pool.stride - g.pool.pad, left = q0 * g.pool.stride - g.pool.pad;       /* of the block's map */
    k_float4 *const weight = room + g.inputs * PATCH;
    float acc[ALONG][4] = {};
    bring_patch(x, g.inputs, n, top * STRIDE - g.top, left * STRIDE - g.left, (float *)(void *)room);
    for (int e = threadIdx.x; e < weights + GROUP_QUADS; e += STEM_THREADS)
        weight[e] = packed[(int64_t)group * (weights + GROUP_QUADS) + e];
    __syncthreads();
    const k_float4 bias = weight[weights + quad];
    if (line < ROWS)
        multiply_taps(g.inputs, (const float *)(const void *)room + line * STRIDE * PATCH_PITCH + first * STRIDE, weight + quad, acc);
    __syncthreads();
    for (int j = 0; j < ALONG && line < ROWS; j++) {
        k_float4 v;
        UNROLL for (int k = 0; k < 4; k++) {
            v.v[k] = acc[j][k] + bias.v[k];
            v.v[k] = g.relu && v.v[k] < 0 ? 0 : v.v[k];
        }
        room[(line * COLUMNS + first + j) * GROUP_QUADS + quad] = v;
    }
    __syncthreads();
    k_place at = { 0, (int64_t)group * GROUP + quad * 4, 0, false };
    at.n = (int)max((int64_t)0, min(y.s.c - at.k, (int64_t)4));
    at.wide = g.whole && at.n == 4;
    for (int o = worker; o < g.tall * g.wide; o += STEM_THREADS / GROUP_QUADS) {
        const int p = o / g.wide, q = o % g.wide;
        if (p0 + p >= y.s.h || q0 + q >= y.s.w)
            continue;
        at.row = pixel_at(y, n, p0 + p, q0 + q);
        store_quad(y, at, largest_of(room + quad, g.pool.kernel, p * g.pool.stride, q * g.pool.stride, max(-top, 0), (int)min(g.map.h - top, (int64_t)ROWS),
                                     max(-left, 0), (int)min(g.map.w - left, (int64_t)COLUMNS)).v);
    }
}

/* ---- the members of a cx_impl --------------------------------------------------------------------------------------------- */

/* A map of which at most half is made twice. */
extern "C" bool cx_cuda_accepts_conv2d_stem(const cx_call *c)
{
    const cx_conv_attr *a = (const cx_conv_attr *)c->attr;
    const cx_shape w = c->x[1].s;
    const int kernel = c->fold.pool.kernel, stride = c->fold.pool.stride;
    if (w.h != TAPS || w.w != TAPS || w.c > MOST_INPUTS || a->stride != STRIDE || c->fold.stats.s.c || kernel < 1 || kernel > COLUMNS)
        return false;
    return ((ROWS - kernel) / stride + 1) * stride * ((COLUMNS - kernel) / stride + 1) * stride * 3 >= ROWS * COLUMNS * 2;
}

extern "C" size_t cx_cuda_packed_conv2d_stem(const cx_call *c)
{
    return (size_t)(parts_of(c->y[0].s.c, GROUP) * GROUP * lines_of(c->x[0].s.c)) * sizeof(float);
}

extern "C" size_t cx_cuda_workspace_conv2d_stem(const cx_call *c, bool) { return cx_cuda_packed_conv2d_stem(c); }

static void pack_into(const cx_call *c, void *to)
{
    const unsigned blocks = blocks_for((int64_t)(cx_cuda_packed_conv2d_stem(c) / sizeof(float)));
    LAUNCH(conv2d_stem_weights, blocks, THREADS, stream_of(c), c->x[1].p, c->n_in > 2 ? c->x[2].p : nullptr, c->fold.post, (int)c->y[0].s.c,
           (int)c->x[0].s.c, (float *)to);
}

extern "C" cx_status cx_cuda_pack_conv2d_stem(const cx_call *c)
{
    pack_into(c, c->packed);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_conv2d_stem(const cx_call *c)
{
    const k_stem g = stem_of(c);
    if (!c->packed)
        pack_into(c, c->work);
    LAUNCH(conv2d_stem, (unsigned)(g.groups * g.across * g.down * c->y[0].s.n), STEM_THREADS, stream_of(c), g, source_of(c),
           (const k_float4 *)(c->packed ? c->packed : c->work), c->y[0]);
    return launched();
}
