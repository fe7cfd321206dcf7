/* linear.cu - linear: conv2d of single pixels with a 1x1 window. Few rows against many weights: the floor is the bytes of the weights, read once for each 64
 * rows; 2 I FLOPs for each number of y, as many again for dx and for dw. */
#include "common.cuh"
#include "workspace.h"

static const cx_conv_attr one = { 1, 0, 0, 0, 0 };

static cx_call as_conv2d(const cx_call *c)
{
    cx_call d = *c;
    d.attr = &one;
    return d;
}

extern "C" size_t cx_cuda_workspace_linear(const cx_call *c, bool backward)
{
    const cx_call d = as_conv2d(c);
    return cx_cuda_workspace_conv2d(&d, backward);
}

extern "C" cx_status cx_cuda_fwd_linear(const cx_call *c)
{
    const cx_call d = as_conv2d(c);
    return cx_cuda_fwd_conv2d(&d);
}

extern "C" cx_status cx_cuda_bwd_linear(const cx_call *c)
{
    const cx_call d = as_conv2d(c);
    return cx_cuda_bwd_conv2d(&d);
}
