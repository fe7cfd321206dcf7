/* conv.cu - conv2d: 2 KH KW I FLOPs for each number of y, as many again for dx and for dw; from 64 channels on these are the floor (gemm.cuh), below it the
 * bytes of x and y. x[0] and y[0] in either type. Statistics and sums cost 16 bytes for each channel of 64 pixels, the bias' gradient one reading of dy. */
#include "gemm.cuh"
#include "workspace.h"

/* ---- parts: what blocks made each by itself, added in order ----------------------------------------------------------- */

/* to (+)= the sum of n parts, each as large as it. A part is added by one thread, or in turns by N. */
template <class T, int N> __global__ void __launch_bounds__(THREADS) add_parts(const T *part, int64_t n, cx_tensor to, bool add)
{
    const int64_t width = elements(to.s), e = (int64_t)blockIdx.x * (THREADS / N) + threadIdx.x % (THREADS / N);
    double sum = 0;
    for (int64_t i = threadIdx.x / (THREADS / N); e < width && i < n; i += N)
        sum += (double)part[i * width + e];
    sum = sum_every<N>(sum);
    if (e < width && threadIdx.x < THREADS / N)
        put(to, e / to.s.c, e % to.s.c, add, sum);
}

/* Many parts of few numbers are added by many threads each, few of many by one. */
enum { MANY = 32 };
template <class T> static void launch_add(const cx_call *c, int64_t n, const cx_tensor &to, bool add)
{
    if (n < 2 * MANY)
        LAUNCH((add_parts<T, 1>), (unsigned)parts_of(cx_elems(to.s), THREADS), THREADS, stream_of(c), (const T *)c->work, n, to, add);
    else
        LAUNCH((add_parts<T, MANY>), (unsigned)parts_of(cx_elems(to.s), THREADS / MANY), THREADS, stream_of(c), (const T *)c->work, n, to, add);
}

/* Mean and variance from those of the tiles (Chan, Golub & LeVeque 1983, all tiles at once): the mean of means, then squares within tiles and between them. */
__global__ void __launch_bounds__(THREADS) merge_statistics(const double *part, int64_t tiles, cx_shape y, cx_tensor stats)
{
    const int64_t k = (int64_t)blockIdx.x * (THREADS / MANY) + threadIdx.x % (THREADS / MANY), line = threadIdx.x / (THREADS / MANY), all = pixels(y);
    const bool in = k < y.c;
    double sum = 0, squares = 0;
    for (int64_t i = line; in && i < tiles; i += MANY)
        sum += (double)min((int64_t)TILE, all - i * TILE) * part[i * 2 * y.c + k];
    const double mean = sum_every<MANY>(sum) / (double)all;
    for (int64_t i = line; in && i < tiles; i += MANY) {
        const double d = part[i * 2 * y.c + k] - mean;
        squares += part[(i * 2 + 1) * y.c + k] + (double)min((int64_t)TILE, all - i * TILE) * d * d;
    }
    squares = sum_every<MANY>(squares);
    if (in && line == 0) {
        put(stats, 0, k, false, mean);
        put(stats, 1, k, false, squares / (double)all);
    }
}

/* ---- gradients of weights and bias ------------------------------------------------------------------------------------ */

enum { BIAS_PIXELS = 1024 };                    /* that one block adds */

__global__ void __launch_bounds__(COLS * LINES) bias_parts(k_gradient g, unsigned columns, double *part)
{
    const int64_t c = g.dy.s.c, k = (int64_t)(blockIdx.x % columns) * COLS + threadIdx.x, at = blockIdx.x / columns, all = pixels(g.dy.s);
    const int64_t end = k < c ? min((at + 1) * BIAS_PIXELS, all) : 0;
    double sum = 0;
    for (int64_t p = at * BIAS_PIXELS + threadIdx.y; p < end; p += LINES)
        sum += dy_at(g, p, k);
    sum = sum_lines(sum);
    if (threadIdx.y == 0 && k < c)
        part[at * c + k] = sum;
}

size_t cx_cuda_gradient_bytes(const cx_call *c, const k_window &w)
{
    const size_t weights = chunks_of(w).chunks * (size_t)cx_elems(c->x[1].s) * sizeof(float);
    const size_t bias = c->n_in > 2 ? (size_t)(parts_of(cx_pixels(c->y[0].s), BIAS_PIXELS) * c->x[2].s.c) * sizeof(double) : 0;
    return weights > bias ? weights : bias;
}

void cx_cuda_add_chunks(const cx_call *c, const k_chunks &g) { launch_add<float>(c, g.chunks, c->dx[1], c->dx_add[1]); }

void cx_cuda_bias_gradient(const cx_call *c)
{
    const unsigned parts = (unsigned)parts_of(cx_pixels(c->dy[0].s), BIAS_PIXELS), columns = channel_blocks(c->dy[0].s.c);
    LAUNCH(bias_parts, parts * columns, dim3(COLS, LINES), stream_of(c), gradient_of(c), columns, (double *)c->work);
    launch_add<double>(c, parts, c->dx[2], c->dx_add[2]);
}

/* ---- conv2d ------------------------------------------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS) conv2d_fwd(k_window w, k_blocks g, const float *weight, k_source x, k_output y)
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

static k_window window_of(const cx_call *c)
{
    const cx_conv_attr *a = (const cx_conv_attr *)c->attr;
    return k_window{ c->y[0].s, c->x[0].s, (int)c->x[1].s.h, (int)c->x[1].s.w, a->stride, a->pad_top, a->pad_left };
}

extern "C" size_t cx_cuda_workspace_conv2d(const cx_call *c, bool backward)
{
    const k_window w = window_of(c);
    if (!backward)
        return c->fold.stats.s.c ? tile_bytes(blocks_down(w), c->y[0].s.c) : 0;
    const size_t sums = c->fold.sums.s.c ? tile_bytes(blocks_up(w), c->x[0].s.c) : 0, gradients = cx_cuda_gradient_bytes(c, w);
    return sums > gradients ? sums : gradients;
}

extern "C" cx_status cx_cuda_fwd_conv2d(const cx_call *c)
{
    const k_window w = window_of(c);
    const k_blocks g = blocks_down(w);
    const bool stats = c->fold.stats.s.c && !c->redo;
    LAUNCH(conv2d_fwd, blocks_in(g), THREADS, stream_of(c), w, g, c->x[1].p, source_of(c), output_of(c, stats));
    if (stats)
        LAUNCH(merge_statistics, (unsigned)parts_of(w.small.c, THREADS / MANY), THREADS, stream_of(c), (const double *)c->work, (int64_t)g.tiles, w.small,
               c->fold.stats);
    return launched();
}

extern "C" cx_status cx_cuda_bwd_conv2d(const cx_call *c)
{
    const k_window w = window_of(c);
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
