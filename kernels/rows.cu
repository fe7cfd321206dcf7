/* rows.cu - sigmoid, softmax, dropout, and concat and flatten as copies: bytes of what is read and written (8 an element in float32, 4 in bf16, 4 more for y in
 * a backward step or where a gradient is added to). Sigmoid and softmax some 20 FLOPs an element (an exponential; softmax reads its pixel again, from the
 * cache), dropout some 20 integer operations (a quarter of a Philox block), the copies none. Dropout and concat in either type, the others in float32. */
#include "philox.cuh"
#include "quads.cuh"

/* ---- sigmoid --------------------------------------------------------------------------------------------------------- */

/* e^-x overflows to infinity where the result is below the smallest float, and then it is 0. */
struct sigmoid_of { __device__ float operator()(float x, float) const { return 1 / (1 + expf(-x)); } };
struct sigmoid_gradient { __device__ float operator()(float dy, float y) const { return dy * y * (1 - y); } };

extern "C" cx_status cx_cuda_fwd_sigmoid(const cx_call *c) { return map_into(c, sigmoid_of{}, c->x[0], cx_tensor{}, c->y[0], false); }

extern "C" cx_status cx_cuda_bwd_sigmoid(const cx_call *c)
{
    return c->dx[0].p ? map_into(c, sigmoid_gradient{}, c->dy[0], c->y[0], c->dx[0], c->dx_add[0]) : CX_OK;
}

/* ---- softmax over the channels of a pixel ----------------------------------------------------------------------------- */

/* A pixel has the lanes of a warp that it can use: a power of two, so that they meet by exchange in a fixed order and neighbours read neighbours. */
static inline int lanes_for(int64_t channels)
{
    int lanes = 1;
    while (lanes < WARP && lanes < channels)
        lanes *= 2;
    return lanes;
}
static inline unsigned softmax_blocks(const cx_shape &s) { return (unsigned)((cx_pixels(s) * lanes_for(s.c) + THREADS - 1) / THREADS); }

static __device__ __forceinline__ float lanes_max(float v, int lanes)
{
    for (int d = lanes / 2; d > 0; d /= 2)
        v = fmaxf(v, __shfl_xor_sync(FULL, v, d));
    return v;
}
static __device__ __forceinline__ double lanes_sum(double v, int lanes)
{
    for (int d = lanes / 2; d > 0; d /= 2)
        v += __shfl_xor_sync(FULL, v, d);
    return v;
}

/* Lanes without a pixel take part in exchanges with no channels. A NaN is no maximum, but it is in the sum, and so in every channel. */
__global__ void __launch_bounds__(THREADS) softmax_fwd(cx_tensor x, cx_tensor y, int lanes)
{
    const int64_t pixel = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes, c = pixel < pixels(x.s) ? x.s.c : 0;
    const int lane = (int)threadIdx.x & (lanes - 1);
    const float *from = x.p + pixel * x.ld;
    float *to = y.p + pixel * y.ld, largest = -INFINITY;
    double sum = 0;
    for (int64_t k = lane; k < c; k += lanes)
        largest = fmaxf(largest, from[k]);
    largest = lanes_max(largest, lanes);
    for (int64_t k = lane; k < c; k += lanes)
        sum += (double)expf(from[k] - largest);
    sum = lanes_sum(sum, lanes);
    for (int64_t k = lane; k < c; k += lanes)
        to[k] = (float)((double)expf(from[k] - largest) / sum);
}

__global__ void __launch_bounds__(THREADS) softmax_bwd(cx_tensor y, cx_tensor dy, cx_tensor dx, int lanes, bool add)
{
    const int64_t pixel = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes, c = pixel < pixels(dx.s) ? dx.s.c : 0;
    const int lane = (int)threadIdx.x & (lanes - 1);
    const float *v = y.p + pixel * y.ld, *g = dy.p + pixel * dy.ld;
    double dot = 0;
    for (int64_t k = lane; k < c; k += lanes)
        dot += (double)v[k] * (double)g[k];
    dot = lanes_sum(dot, lanes);
    for (int64_t k = lane; k < c; k += lanes)
        put(dx, pixel, k, add, (double)v[k] * ((double)g[k] - dot));
}

extern "C" cx_status cx_cuda_fwd_softmax(const cx_call *c)
{
    LAUNCH(softmax_fwd, softmax_blocks(c->x[0].s), THREADS, stream_of(c), c->x[0], c->y[0], lanes_for(c->x[0].s.c));
    return launched();
}

extern "C" cx_status cx_cuda_bwd_softmax(const cx_call *c)
{
    if (!c->dx[0].p)
        return CX_OK;
    LAUNCH(softmax_bwd, softmax_blocks(c->dx[0].s), THREADS, stream_of(c), c->y[0], c->dy[0], c->dx[0], lanes_for(c->dx[0].s.c), c->dx_add[0]);
    return launched();
}

/* ---- dropout: the mask is drawn again in backward, never stored ------------------------------------------------------- */

/* step * 2^32 is the counter of elements 0 to 3 of the whole batch; the call begins at its element `begin`. seed and step are on the device where there is a
 * clock. */
typedef struct { uint64_t seed, stream, step; const uint64_t *clock; float rate, scale; int64_t begin; } k_drop;

/* Elements are counted in dense order, whatever ld is (dropout_draw in src/ops/dropout.h). In a slice whose channels are no multiple of 4, a quad of channels
 * holds elements of two draws. */
__global__ void __launch_bounds__(THREADS) drop_quads(k_drop d, k_quads q, cx_tensor from, cx_tensor to, bool add)
{
    k_place p;
    float v[4];
    uint32_t word[8] = { 0 };
    if (!find_quad(q, &p))
        return;
    const int64_t element = d.begin + p.row * q.c + p.k;
    const int skip = (int)(element & 3);
    const uint64_t seed = d.clock ? d.clock[0] : d.seed, first = ((d.clock ? d.clock[1] : d.step) << 32) + (uint64_t)(element >> 2);
    philox(seed, d.stream, first, word);
    if (skip > 0)
        philox(seed, d.stream, first + 1, word + 4);
    load_quad(from, p, v);
    for (int j = 0; j < 4; j++) {
        const uint32_t mine = skip == 0 ? word[j] : skip == 1 ? word[j + 1] : skip == 2 ? word[j + 2] : word[j + 3];
        v[j] = (float)(mine >> 8) * 0x1p-24f >= d.rate ? v[j] * d.scale : 0;
    }
    put_quad(to, p, add, v);
}

static cx_status drop(const cx_call *c, cx_tensor from, cx_tensor to, bool add)
{
    const float rate = c->training ? ((const cx_dropout_attr *)c->attr)->rate : 0;
    const k_drop d = { c->seed, c->stream, c->step, clock_of(c), rate, (float)(1 / (1 - (double)rate)), c->first };
    cx_tensor *const all[] = { &from, &to };
    if (!(rate > 0))
        return copy_into(c, from, to, add);
    const k_quads q = cut(all, 2);
    LAUNCH(drop_quads, quad_blocks(q), THREADS, stream_of(c), d, q, from, to, add);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_dropout(const cx_call *c) { return drop(c, c->x[0], c->y[0], false); }

extern "C" cx_status cx_cuda_bwd_dropout(const cx_call *c) { return c->dx[0].p ? drop(c, c->dy[0], c->dx[0], c->dx_add[0]) : CX_OK; }

/* ---- concat, flatten: only where a plan could not make them views ------------------------------------------------------ */

/* Channels from .. from + channels - 1 of a tensor. */
static cx_tensor slice_of(cx_tensor t, int64_t from, int64_t channels)
{
    t.s.c = channels;
    t.p = (float *)(void *)((char *)t.p + from * (int64_t)cx_dtype_bytes(t.type));
    return t;
}

extern "C" cx_status cx_cuda_fwd_concat(const cx_call *c)
{
    cx_status s = CX_OK;
    int64_t from = 0;
    for (int i = 0; i < c->n_in && s == CX_OK; from += c->x[i].s.c, i++)
        s = copy_into(c, c->x[i], slice_of(c->y[0], from, c->x[i].s.c), false);
    return s;
}

/* One launch an input, in their order, as gradients in the same memory want it. */
extern "C" cx_status cx_cuda_bwd_concat(const cx_call *c)
{
    cx_status s = CX_OK;
    int64_t from = 0;
    for (int i = 0; i < c->n_in && s == CX_OK; from += c->x[i].s.c, i++)
        if (c->dx[i].p)
            s = copy_into(c, slice_of(c->dy[0], from, c->x[i].s.c), c->dx[i], c->dx_add[i]);
    return s;
}

/* A line of threads copies the channels of a pixel of a map from or to their place in the flat row of its film. */
__global__ void __launch_bounds__(COLS * LINES) flatten_rows(cx_tensor map, cx_tensor flat, bool back, bool add)
{
    const int64_t pixel = (int64_t)blockIdx.x * LINES + threadIdx.y, area = map.s.h * map.s.w;
    if (pixel >= pixels(map.s))
        return;
    float *in_map = map.p + pixel * map.ld, *in_flat = flat.p + pixel / area * flat.ld + pixel % area * map.s.c;
    const float *from = back ? in_flat : in_map;
    float *to = back ? in_map : in_flat;
    for (int64_t k = threadIdx.x; k < map.s.c; k += COLS)
        to[k] = add ? to[k] + from[k] : from[k];
}

static cx_status flatten(const cx_call *c, const cx_tensor &map, const cx_tensor &flat, bool back, bool add)
{
    const unsigned blocks = (unsigned)((cx_pixels(map.s) + LINES - 1) / LINES);
    LAUNCH(flatten_rows, blocks, dim3(COLS, LINES), stream_of(c), map, flat, back, add);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_flatten(const cx_call *c) { return flatten(c, c->x[0], c->y[0], false, false); }

extern "C" cx_status cx_cuda_bwd_flatten(const cx_call *c)
{
    return c->dx[0].p ? flatten(c, c->dx[0], c->dy[0], true, c->dx_add[0]) : CX_OK;
}
