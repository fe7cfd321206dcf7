/* conv.cu - conv2d: 2 KH KW I FLOPs for each number of y, as many again for dx and for dw; from 64 channels on these are the floor (gemm.cuh), below it the
 * bytes of x and y. x[0] and y[0] in either type. Statistics and sums cost 16 bytes for each channel of 64 pixels, the bias' gradient one reading of dy. */
#include "gemm.cuh"
#include "workspace.h"

/* ---- gradients of weights and bias ------------------------------------------------------------------------------------ */

enum { BIAS_PIXELS = 1024 };                    /* that one block adds */

__global__ void __launch_bounds__(THREADS) bias_parts(k_gradient g, unsigned columns, double *part)
{
    const int64_t c = g.dy.s.c, k = (int64_t)(blockIdx.x % columns) * COLS + threadIdx.x % COLS, at = blockIdx.x / columns, all = pixels(g.dy.s);
    const int64_t end = k < c ? min((at + 1) * BIAS_PIXELS, all) : 0;
    double sum = 0;
    for (int64_t p = at * BIAS_PIXELS + threadIdx.x / COLS; p < end; p += LINES)
        sum += dy_at(g, p, k);
    sum = sum_every<LINES>(sum);
    if (threadIdx.x < COLS && k < c)
        part[at * c + k] = sum;
}

size_t cx_cuda_gradient_bytes(const cx_call *c, const k_chunks &g)
{
    const size_t weights = g.chunks * (size_t)cx_elems(c->x[1].s) * sizeof(float);
    const size_t bias = c->n_in > 2 ? (size_t)(parts_of(cx_pixels(c->y[0].s), BIAS_PIXELS) * c->x[2].s.c) * sizeof(double) : 0;
    return weights > bias ? weights : bias;
}

void cx_cuda_add_chunks(const cx_call *c, const k_chunks &g) { launch_add<float>(c, g.chunks, c->dx[1], c->dx_add[1]); }

void cx_cuda_bias_gradient(const cx_call *c)
{
    const unsigned parts = (unsigned)parts_of(cx_pixels(c->dy[0].s), BIAS_PIXELS), columns = channel_blocks(c->dy[0].s.c);
    LAUNCH(bias_parts, parts * columns, THREADS, stream_of(c), gradient_of(c), columns, (double *)c->work);
    launch_add<double>(c, parts, c->dx[2], c->dx_add[2]);
}

/* ---- conv2d ------------------------------------------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS, 2) conv2d_fwd(k_window w, k_blocks g, const float *weight, k_source x, k_output y)
{
    convolve<false>(w, g, weight, x, y);
}

__global__ void __launch_bounds__(THREADS) conv2d_bwd_x(k_window w, k_blocks g, const float *weight, k_gradient dy, k_gated dx)
{
    convolve<true>(w, g, weight, dy, dx);
}

__global__ void __launch_bounds__(THREADS) conv2d_bwd_weight(k_window w, k_chunks g, k_gradient dy, k_source x, float *part)
{
    correlate(w, g, dy, x, part);
}

extern "C" size_t cx_cuda_workspace_conv2d(const cx_call *c, bool backward)
{
    const k_window w = conv2d_window(c);
    if (!backward)
        return c->fold.stats.s.c ? tile_bytes(blocks_down(w), c->y[0].s.c) : 0;
    const size_t sums = c->fold.sums.s.c ? tile_bytes(blocks_up(w), c->x[0].s.c) : 0, gradients = cx_cuda_gradient_bytes(c, chunks_of(w));
    return sums > gradients ? sums : gradients;
}

extern "C" cx_status cx_cuda_fwd_conv2d(const cx_call *c)
{
    const k_window w = conv2d_window(c);
    const k_blocks g = blocks_down(w);
    const bool stats = c->fold.stats.s.c && !c->redo;
    LAUNCH(conv2d_fwd, blocks_in(g), THREADS, stream_of(c), w, g, c->x[1].p, source_of(c), output_of(c, stats));
    if (stats)
        launch_merge<TILE>(c, g.tiles);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_conv2d(const cx_call *c)
{
    const k_window w = conv2d_window(c);
    if (wants_dx(c)) {
        const k_blocks g = blocks_up(w);
        LAUNCH(conv2d_bwd_x, blocks_in(g), THREADS, stream_of(c), w, g, c->x[1].p, gradient_of(c), gated_of(c));
        if (c->fold.sums.s.c)
            launch_add<double>(c, (int64_t)g.tiles * g.phases, c->fold.sums, false);
    }
    if (c->dx[1].p) {
        const k_chunks g = chunks_of(w);
        LAUNCH(conv2d_bwd_weight, blocks_in(g), THREADS, stream_of(c), w, g, gradient_of(c), source_of(c), (float *)c->work);
        cx_cuda_add_chunks(c, g);
    }
    if (c->n_in > 2 && c->dx[2].p)
        cx_cuda_bias_gradient(c);
    return launched();
}
