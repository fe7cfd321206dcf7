/* conv_dot.cu - conv2d and conv_transpose2d of an x in bfloat16, on tensor cores (cx_impl.dot): operands of products rounded to bfloat16, sums and everything
 * else float32. 2 KH KW I FLOPs for each number of y, as many again for dx and for dw. An H100 does some 300 FLOPs in the time of a byte of memory, and a 1x1
 * convolution has 2 I O for the 2 I + 2 O bytes of a pixel of x and y: below 300 channels on the lesser side, so in all of a DenseNet, bytes are the floor.
 *
 *     forward    2 I + 2 O bytes a pixel; x comes from memory once, then from L2 for every further 64 outputs and every tap (dot.cuh), or, where a 3x3 window
 *                keeps the size of the map, for every further 32 outputs (patch.cuh)
 *     backward   dy made ready: 4 O read (6 O with its y, for carry or mask) and 2 O written; dx: 2 O + 4 I, 8 I where it adds, 2 I more behind a norm; dw:
 *                2 O + 2 I, and 8 bytes for each weight and chunk
 * conv_transpose2d goes the same ways from the other end. With a window as wide as its stride, 2 x 2 by 2 in a U-Net, each pixel of y meets one pixel of x and
 * one tap: a 1x1 product for each of the four phases of y, 2 I + 8 O bytes a pixel of x forward, x again from L2 for each phase.
 * Weights are rounded and laid out once a call, or before (cx_impl.pack). dy is made ready by a pass of its own, since both gradients want it, so its bytes are
 * those of reading it twice as it lies. x[0] need not be aligned, but is read in 16 bytes at once only where it and its ld are; y[0] in either type. */
#include "patch.cuh"
#include "workspace.h"

/* ---- making ready ----------------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ octet round_octet(const float v[OCTET])
{
    octet q;
    for (int i = 0; i < 4; i++)
        q.v[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    return q;
}

/* Weights (O, KH * KW, I), times the scale of post, as lines of octets: forward (O, KH * KW, octets of I), UP (I, KH * KW, octets of O). */
typedef struct { const float *w; int outputs, taps, inputs; cx_tensor post; } k_weights;
template <bool UP> __global__ void __launch_bounds__(THREADS) conv2d_dot_weights(k_weights w, octet *to)
{
    const int lines = UP ? w.inputs : w.outputs, along = UP ? w.outputs : w.inputs, octets = (along + OCTET - 1) / OCTET;
    EACH_ELEMENT(i, (int64_t)lines * w.taps * octets) {
        const int line = (int)(UP ? i % lines : i / octets / w.taps), o = (int)(UP ? i / lines % octets : i % octets);      /* neighbours read neighbours */
        const int tap = (int)(UP ? i / lines / octets : i / octets % w.taps);
        float v[OCTET];
        for (int j = 0; j < OCTET; j++) {
            const int k = o * OCTET + j, output = UP ? k : line, input = UP ? line : k;
            const float scale = k < along && w.post.s.c ? row(w.post, CX_FOLD_SCALE, output) : 1;
            v[j] = k < along ? w.w[((int64_t)output * w.taps + tap) * w.inputs + input] * scale : 0;
        }
        to[((int64_t)line * w.taps + tap) * octets + o] = round_octet(v);
    }
}

/* The bias as post leaves it. */
__global__ void __launch_bounds__(THREADS) conv2d_dot_bias(const float *bias, cx_tensor post, int64_t outputs, float *to)
{
    EACH_ELEMENT(k, outputs)
        to[k] = post.s.c ? fmaf(bias ? bias[k] : 0, row(post, CX_FOLD_SCALE, k), row(post, CX_FOLD_SHIFT, k)) : bias[k];
}

/* k_operand.prologue; zeros behind the last channel. */
__global__ void __launch_bounds__(THREADS) conv2d_dot_prologue(cx_tensor pre, int64_t octets, float *to)
{
    EACH_ELEMENT(i, octets * 2 * OCTET) {
        const int64_t k = i / (2 * OCTET) * OCTET + i % OCTET;
        to[i] = k < pre.s.c ? row(pre, i / OCTET % 2 ? CX_FOLD_SHIFT : CX_FOLD_SCALE, k) : 0;
    }
}

/* dy behind carry and mask, one octet a thread; zeros behind the last channel. wide: four channels at once. */
__global__ void __launch_bounds__(THREADS) conv2d_dot_gradient(k_gradient g, bool wide, int64_t octets, octet *to)
{
    EACH_ELEMENT(i, pixels(g.dy.s) * octets) {
        float v[OCTET];
        for (int half = 0; half < OCTET; half += 4) {
            k_place p = { i / octets, i % octets * OCTET + half, 0, false };
            p.n = (int)max((int64_t)0, min(g.dy.s.c - p.k, (int64_t)4));
            p.wide = wide && p.n == 4;
            float y[4] = { 0, 0, 0, 0 }, *dy = v + half;
            load_quad(g.dy, p, dy);
            if (g.relu || g.carry.s.c)
                load_quad(g.y, p, y);
            for (int j = 0; j < p.n; j++) {
                if (g.carry.s.c)
                    dy[j] += fmaf(y[j], row(g.carry, 0, p.k + j), row(g.carry, 1, p.k + j));
                if (g.relu && y[j] <= 0)
                    dy[j] = 0;
            }
        }
        to[i] = round_octet(v);
    }
}

/* ---- scratch: what blocks leave behind comes first (conv.cu) ------------------------------------------------------------ */

typedef struct { size_t weights, bias, prologue, dy, bytes; } k_room;

static size_t take(size_t *at, size_t bytes)
{
    const size_t from = *at;
    *at = (from + bytes + 63) / 64 * 64;
    return from;
}

static int64_t octets_of(int64_t channels) { return parts_of(channels, OCTET); }

/* Weights and bias, from `at` on. */
static void take_weights(k_room *r, const cx_call *c, bool up)
{
    const cx_shape s = c->x[1].s;
    r->weights = take(&r->bytes, (size_t)(s.h * s.w * (up ? s.c * octets_of(s.n) : s.n * octets_of(s.c))) * sizeof(octet));
    r->bias = take(&r->bytes, up ? 0 : (size_t)s.n * sizeof(float));
}

static int width_for(int64_t channels) { return channels <= 32 ? 32 : 64; }

static k_chunks chunks_of_dot(const k_window &w)
{
    if (is_patch(w))
        return chunks_for(cx_pixels(w.small), parts_of(w.small.c, PATCH_COLUMNS), parts_of(w.large.c, RING_CHANNELS), DOT_STEP, RING_TAKES);
    return chunks_for(cx_pixels(w.small), parts_of(w.small.c, width_for(w.small.c)), parts_of(w.kh * w.kw * octets_of(w.large.c) * OCTET, DOT_ROWS), DOT_STEP);
}

static k_blocks dot_down(const k_window &w) { return blocks_down(w, DOT_ROWS, is_patch(w) ? (int)PATCH_COLUMNS : width_for(w.small.c)); }
static k_blocks dot_up(const k_window &w) { return blocks_up(w, DOT_ROWS, is_patch(w) ? (int)PATCH_COLUMNS : width_for(w.large.c)); }

/* up: forward goes up. */
static k_room room_of(const cx_call *c, const k_window &w, bool up, bool backward)
{
    k_room r = { 0, 0, 0, 0, 0 };
    const size_t sums = c->fold.sums.s.c ? tile_bytes(dot_up(w), c->x[0].s.c) : 0, gradients = backward ? cx_cuda_gradient_bytes(c, chunks_of_dot(w)) : 0;
    take(&r.bytes, backward ? (sums > gradients ? sums : gradients) : c->fold.stats.s.c ? tile_bytes(dot_down(w), c->y[0].s.c) : 0);
    take_weights(&r, c, up != backward);
    r.prologue = take(&r.bytes, c->fold.pre.s.c ? (size_t)octets_of(c->x[0].s.c) * PROLOGUE_QUADS * sizeof(k_float4) : 0);
    r.dy = take(&r.bytes, backward ? (size_t)(cx_pixels(c->y[0].s) * octets_of(c->y[0].s.c)) * sizeof(octet) : 0);
    return r;
}

/* ---- launching ---------------------------------------------------------------------------------------------------------- */

static void make_weights(const cx_call *c, bool up, octet *to)
{
    const cx_shape s = c->x[1].s;
    const k_weights w = { c->x[1].p, (int)s.n, (int)(s.h * s.w), (int)s.c, c->fold.post };
    const unsigned blocks = blocks_for(s.h * s.w * (up ? s.c * octets_of(s.n) : s.n * octets_of(s.c)));
    if (up)
        LAUNCH(conv2d_dot_weights<true>, blocks, THREADS, stream_of(c), w, to);
    else
        LAUNCH(conv2d_dot_weights<false>, blocks, THREADS, stream_of(c), w, to);
}

static bool has_bias(const cx_call *c) { return c->fold.post.s.c || (c->n_in > 2 && c->x[2].p); }

/* Weights and bias, where the room has them behind base. */
static void make_ready(const cx_call *c, const k_room &r, char *base)
{
    make_weights(c, false, (octet *)(void *)(base + r.weights));
    if (has_bias(c))
        LAUNCH(conv2d_dot_bias, blocks_for(c->y[0].s.c), THREADS, stream_of(c), c->n_in > 2 ? c->x[2].p : nullptr, c->fold.post, c->y[0].s.c,
               (float *)(void *)(base + r.bias));
}

/* x[0], and its prologue made ready. */
static k_operand operand_x(const cx_call *c, const k_room &r)
{
    const cx_tensor &x = c->x[0];
    const int64_t octets = octets_of(x.s.c);
    k_operand s = { (const uint16_t *)(const void *)x.p, x.ld, (int)x.s.c, (int)octets, (uintptr_t)x.p % sizeof(octet) == 0 && x.ld % OCTET == 0,
                    c->fold.pre_relu, nullptr };
    if (c->fold.pre.s.c) {
        float *to = (float *)(void *)((char *)c->work + r.prologue);
        LAUNCH(conv2d_dot_prologue, blocks_for(octets * 2 * OCTET), THREADS, stream_of(c), c->fold.pre, octets, to);
        s.prologue = (const k_float4 *)(const void *)to;
    }
    return s;
}

/* dy[0], made ready. */
static k_operand operand_dy(const cx_call *c, const k_room &r)
{
    const k_gradient g = gradient_of(c);
    const int64_t octets = octets_of(g.dy.s.c);
    octet *to = (octet *)(void *)((char *)c->work + r.dy);
    const bool wide = is_wide(g.dy) && (is_wide(g.y) || !(g.relu || g.carry.s.c));
    LAUNCH(conv2d_dot_gradient, blocks_for(cx_pixels(g.dy.s) * octets), THREADS, stream_of(c), g, wide, octets, to);
    return k_operand{ (const uint16_t *)(const void *)to, octets * OCTET, (int)g.dy.s.c, (int)octets, true, false, nullptr };
}

/* ---- conv2d --------------------------------------------------------------------------------------------------------- */

template <int COLUMNS> __global__ void __launch_bounds__(THREADS, 2) conv2d_dot_fwd(k_window w, k_blocks g, const octet *weight, k_operand x, k_output y)
{
    convolve_octets<false, false, COLUMNS>(w, g, weight, x, y);
}

__global__ void __launch_bounds__(THREADS, 2) conv2d_dot_fwd_patch(k_window w, k_blocks g, const octet *weight, k_operand x, k_output y)
{
    convolve_patch<false>(w, g, weight, x, y);
}

__global__ void __launch_bounds__(THREADS, 2) conv2d_dot_bwd_x_patch(k_window w, k_blocks g, const octet *weight, k_operand dy, k_gated dx)
{
    convolve_patch<true>(w, g, weight, dy, dx);
}

template <int COLUMNS> __global__ void __launch_bounds__(THREADS, 2) conv2d_dot_bwd_x(k_window w, k_blocks g, const octet *weight, k_operand dy, k_gated dx)
{
    convolve_octets<true, true, COLUMNS>(w, g, weight, dy, dx);
}

template <int COLUMNS> __global__ void __launch_bounds__(THREADS, 2) conv2d_dot_bwd_weight(k_window w, k_chunks g, k_operand dy, k_operand x, float *part)
{
    correlate_octets<false, COLUMNS>(w, g, dy, x, part);
}

__global__ void __launch_bounds__(THREADS, 2) conv2d_dot_bwd_weight_patch(k_window w, k_chunks g, k_operand dy, k_operand x, float *part)
{
    correlate_patch(w, g, dy, x, part);
}

static bool fills_octets(const cx_call *c) { return c->x[0].type == CX_BF16 && c->x[0].s.c >= OCTET && c->y[0].s.c >= OCTET; }

extern "C" bool cx_cuda_accepts_conv2d_dot(const cx_call *c) { return fills_octets(c); }

extern "C" size_t cx_cuda_workspace_conv2d_dot(const cx_call *c, bool backward) { return room_of(c, conv2d_window(c), false, backward).bytes; }

extern "C" size_t cx_cuda_packed_conv2d_dot(const cx_call *c)
{
    k_room r = { 0, 0, 0, 0, 0 };
    take_weights(&r, c, false);
    return r.bytes;
}

extern "C" cx_status cx_cuda_pack_conv2d_dot(const cx_call *c)
{
    k_room r = { 0, 0, 0, 0, 0 };
    take_weights(&r, c, false);
    make_ready(c, r, (char *)c->packed);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_conv2d_dot(const cx_call *c)
{
    const k_window w = conv2d_window(c);
    const k_blocks g = dot_down(w);
    k_room r = room_of(c, w, false, false);
    const bool stats = c->fold.stats.s.c && !c->redo;
    const k_operand x = operand_x(c, r);
    char *ready = (char *)c->work;
    if (c->packed) {
        ready = (char *)c->packed;
        r = k_room{ 0, 0, 0, 0, 0 };
        take_weights(&r, c, false);
    } else {
        make_ready(c, r, ready);
    }
    k_output y = output_of(c, stats);
    y.post = cx_tensor{};
    y.bias = has_bias(c) ? (const float *)(const void *)(ready + r.bias) : nullptr;
    const octet *weight = (const octet *)(const void *)(ready + r.weights);
    if (is_patch(w))
        LAUNCH(conv2d_dot_fwd_patch, blocks_in(g), THREADS, stream_of(c), w, g, weight, x, y);
    else if (width_for(w.small.c) == 32)
        LAUNCH(conv2d_dot_fwd<32>, blocks_in(g), THREADS, stream_of(c), w, g, weight, x, y);
    else
        LAUNCH(conv2d_dot_fwd<64>, blocks_in(g), THREADS, stream_of(c), w, g, weight, x, y);
    if (stats)
        launch_merge<DOT_ROWS>(c, g.tiles);
    return launched();
}

static void data_gradient(const cx_call *c, const k_window &w, const k_room &r, const k_operand &dy)
{
    const k_blocks g = dot_up(w);
    octet *weight = (octet *)(void *)((char *)c->work + r.weights);
    make_weights(c, true, weight);
    if (is_patch(w))
        LAUNCH(conv2d_dot_bwd_x_patch, blocks_in(g), THREADS, stream_of(c), w, g, weight, dy, gated_of(c));
    else if (width_for(w.large.c) == 32)
        LAUNCH(conv2d_dot_bwd_x<32>, blocks_in(g), THREADS, stream_of(c), w, g, weight, dy, gated_of(c));
    else
        LAUNCH(conv2d_dot_bwd_x<64>, blocks_in(g), THREADS, stream_of(c), w, g, weight, dy, gated_of(c));
    if (c->fold.sums.s.c)
        launch_add<double>(c, (int64_t)g.tiles * g.phases, c->fold.sums, false);
}

static void weight_gradient(const cx_call *c, const k_window &w, const k_room &r, const k_operand &dy)
{
    const k_chunks g = chunks_of_dot(w);
    const k_operand x = operand_x(c, r);
    if (is_patch(w))
        LAUNCH(conv2d_dot_bwd_weight_patch, blocks_in(g), THREADS, stream_of(c), w, g, dy, x, (float *)c->work);
    else if (width_for(w.small.c) == 32)
        LAUNCH(conv2d_dot_bwd_weight<32>, blocks_in(g), THREADS, stream_of(c), w, g, dy, x, (float *)c->work);
    else
        LAUNCH(conv2d_dot_bwd_weight<64>, blocks_in(g), THREADS, stream_of(c), w, g, dy, x, (float *)c->work);
    cx_cuda_add_chunks(c, g);
}

extern "C" cx_status cx_cuda_bwd_conv2d_dot(const cx_call *c)
{
    const k_window w = conv2d_window(c);
    const k_room r = room_of(c, w, false, true);
    if (wants_dx(c) || c->dx[1].p) {
        const k_operand dy = operand_dy(c, r);
        if (wants_dx(c))
            data_gradient(c, w, r, dy);
        if (c->dx[1].p)
            weight_gradient(c, w, r, dy);
    }
    if (c->n_in > 2 && c->dx[2].p)
        cx_cuda_bias_gradient(c);
    return launched();
}

/* ---- conv_transpose2d --------------------------------------------------------------------------------------------------- */

template <int COLUMNS>
__global__ void __launch_bounds__(THREADS, 2) conv_transpose2d_dot_fwd(k_window w, k_blocks g, const octet *weight, k_operand x, k_output y)
{
    convolve_octets<true, false, COLUMNS>(w, g, weight, x, y);
}

template <int COLUMNS>
__global__ void __launch_bounds__(THREADS, 2) conv_transpose2d_dot_bwd_x(k_window w, k_blocks g, const octet *weight, k_operand dy, k_gated dx)
{
    convolve_octets<false, true, COLUMNS>(w, g, weight, dy, dx);
}

template <int COLUMNS>
__global__ void __launch_bounds__(THREADS, 2) conv_transpose2d_dot_bwd_weight(k_window w, k_chunks g, k_operand x, k_operand dy, float *part)
{
    correlate_octets<true, COLUMNS>(w, g, x, dy, part);
}

/* With a stride of 1 it is no up-convolution, and might be a patch. */
extern "C" bool cx_cuda_accepts_conv_transpose2d_dot(const cx_call *c) { return fills_octets(c) && conv_transpose2d_window(c).stride > 1; }

extern "C" size_t cx_cuda_workspace_conv_transpose2d_dot(const cx_call *c, bool backward)
{
    return room_of(c, conv_transpose2d_window(c), true, backward).bytes;
}

extern "C" size_t cx_cuda_packed_conv_transpose2d_dot(const cx_call *c)
{
    k_room r = { 0, 0, 0, 0, 0 };
    take_weights(&r, c, true);
    return r.bytes;
}

extern "C" cx_status cx_cuda_pack_conv_transpose2d_dot(const cx_call *c)
{
    make_weights(c, true, (octet *)c->packed);
    return launched();
}

extern "C" cx_status cx_cuda_fwd_conv_transpose2d_dot(const cx_call *c)
{
    const k_window w = conv_transpose2d_window(c);
    const k_blocks g = dot_up(w);
    const k_room r = room_of(c, w, true, false);
    octet *weight = (octet *)c->packed;
    if (!weight) {
        weight = (octet *)(void *)((char *)c->work + r.weights);
        make_weights(c, true, weight);
    }
    if (width_for(w.large.c) == 32)
        LAUNCH(conv_transpose2d_dot_fwd<32>, blocks_in(g), THREADS, stream_of(c), w, g, weight, operand_x(c, r), output_of(c, false));
    else
        LAUNCH(conv_transpose2d_dot_fwd<64>, blocks_in(g), THREADS, stream_of(c), w, g, weight, operand_x(c, r), output_of(c, false));
    return launched();
}

static void transposed_data_gradient(const cx_call *c, const k_window &w, const k_room &r, const k_operand &dy)
{
    const k_blocks g = dot_down(w);
    octet *weight = (octet *)(void *)((char *)c->work + r.weights);
    make_weights(c, false, weight);
    if (width_for(w.small.c) == 32)
        LAUNCH(conv_transpose2d_dot_bwd_x<32>, blocks_in(g), THREADS, stream_of(c), w, g, weight, dy, gated_of(c));
    else
        LAUNCH(conv_transpose2d_dot_bwd_x<64>, blocks_in(g), THREADS, stream_of(c), w, g, weight, dy, gated_of(c));
}

static void transposed_weight_gradient(const cx_call *c, const k_window &w, const k_room &r, const k_operand &dy)
{
    const k_chunks g = chunks_of_dot(w);
    if (width_for(w.small.c) == 32)
        LAUNCH(conv_transpose2d_dot_bwd_weight<32>, blocks_in(g), THREADS, stream_of(c), w, g, operand_x(c, r), dy, (float *)c->work);
    else
        LAUNCH(conv_transpose2d_dot_bwd_weight<64>, blocks_in(g), THREADS, stream_of(c), w, g, operand_x(c, r), dy, (float *)c->work);
    cx_cuda_add_chunks(c, g);
}

extern "C" cx_status cx_cuda_bwd_conv_transpose2d_dot(const cx_call *c)
{
    const k_window w = conv_transpose2d_window(c);
    const k_room r = room_of(c, w, true, true);
    if (c->dx[0].p || c->dx[1].p) {
        const k_operand dy = operand_dy(c, r);
        if (c->dx[0].p)
            transposed_data_gradient(c, w, r, dy);
        if (c->dx[1].p)
            transposed_weight_gradient(c, w, r, dy);
    }
    if (c->n_in > 2 && c->dx[2].p)
        cx_cuda_bias_gradient(c);
    return launched();
}
