/* conv_transpose.cu - conv_transpose2d: conv2d with the roles exchanged (gemm.cuh). 2 KH KW O FLOPs for each number of x, as many again for dx and for dw: the
 * floor from 64 channels on, below it the bytes of x and y. x[0] and y[0] in either type. */
#include "gemm.cuh"
#include "workspace.h"

__global__ void __launch_bounds__(THREADS) conv_transpose2d_fwd(k_window w, k_blocks g, const float *weight, k_source x, k_output y)
{
    convolve<true>(w, g, weight, x, y);
}

__global__ void __launch_bounds__(THREADS) conv_transpose2d_bwd_x(k_window w, k_blocks g, const float *weight, k_gradient dy, k_gated dx)
{
    convolve<false>(w, g, weight, dy, dx);
}

__global__ void __launch_bounds__(THREADS) conv_transpose2d_bwd_weight(k_window w, k_chunks g, k_source x, k_gradient dy, float *part)
{
    correlate(w, g, x, dy, part);
}

extern "C" size_t cx_cuda_workspace_conv_transpose2d(const cx_call *c, bool backward)
{
    return backward ? cx_cuda_gradient_bytes(c, chunks_of(conv_transpose2d_window(c))) : 0;
}

extern "C" cx_status cx_cuda_fwd_conv_transpose2d(const cx_call *c)
{
    const k_window w = conv_transpose2d_window(c);
    const k_blocks g = blocks_up(w);
    LAUNCH(conv_transpose2d_fwd, blocks_in(g), THREADS, stream_of(c), w, g, c->x[1].p, source_of(c), output_of(c, false));
    return launched();
}

extern "C" cx_status cx_cuda_bwd_conv_transpose2d(const cx_call *c)
{
    const k_window w = conv_transpose2d_window(c);
    if (c->dx[0].p) {
        const k_blocks g = blocks_down(w);
        LAUNCH(conv_transpose2d_bwd_x, blocks_in(g), THREADS, stream_of(c), w, g, c->x[1].p, gradient_of(c), gated_of(c));
    }
    if (c->dx[1].p) {
        const k_chunks g = chunks_of(w);
        LAUNCH(conv_transpose2d_bwd_weight, blocks_in(g), THREADS, stream_of(c), w, g, source_of(c), gradient_of(c), (float *)c->work);
        cx_cuda_add_chunks(c, g);
    }
    if (c->n_in > 2 && c->dx[2].p)
        cx_cuda_bias_gradient(c);
    return launched();
}
