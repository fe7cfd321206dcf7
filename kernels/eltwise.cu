/* eltwise.cu - relu, leaky_relu, add, and the copy between types: bytes of what is read and written, nothing else (8 an element in float32, 4 in bf16, 4 more
 * for a second operand or where a gradient is added to); a FLOP or two an element. Every x and y in either type. */
#include "quads.cuh"

/* ---- relu: NaN stays NaN -------------------------------------------------------------------------------------------- */

struct relu_of { __device__ float operator()(float x, float) const { return x < 0 ? 0 : x; } };
struct relu_gradient { __device__ float operator()(float dy, float y) const { return y <= 0 ? 0 : dy; } };

extern "C" cx_status cx_cuda_fwd_relu(const cx_call *c) { return map_into(c, relu_of{}, c->x[0], cx_tensor{}, c->y[0], false); }

extern "C" cx_status cx_cuda_bwd_relu(const cx_call *c)
{
    return c->dx[0].p ? map_into(c, relu_gradient{}, c->dy[0], c->y[0], c->dx[0], c->dx_add[0]) : CX_OK;
}

/* ---- leaky_relu ------------------------------------------------------------------------------------------------------ */

struct leaky_of {
    float slope;
    __device__ float operator()(float x, float) const { return x <= 0 ? x * slope : x; }
};
struct leaky_gradient {
    float slope;
    __device__ float operator()(float dy, float x) const { return x <= 0 ? dy * slope : dy; }
};

extern "C" cx_status cx_cuda_fwd_leaky_relu(const cx_call *c)
{
    const leaky_of f = { ((const cx_leaky_attr *)c->attr)->slope };
    return map_into(c, f, c->x[0], cx_tensor{}, c->y[0], false);
}

extern "C" cx_status cx_cuda_bwd_leaky_relu(const cx_call *c)
{
    const leaky_gradient f = { ((const cx_leaky_attr *)c->attr)->slope };
    return c->dx[0].p ? map_into(c, f, c->dy[0], c->x[0], c->dx[0], c->dx_add[0]) : CX_OK;
}

/* ---- add, and a ReLU behind it --------------------------------------------------------------------------------------- */

struct add_of { __device__ float operator()(float a, float b) const { return a + b; } };
struct add_relu_of { __device__ float operator()(float a, float b) const { return a + b < 0 ? 0 : a + b; } };

/* dy is read once for both. Where dx1 is the memory of dx0, the thread that wrote there adds there. y is absent without a ReLU. */
__global__ void __launch_bounds__(THREADS) add_bwd(k_quads q, cx_tensor dy, cx_tensor y, cx_tensor dx0, cx_tensor dx1, bool add0, bool add1)
{
    k_place p;
    float g[4], v[4];
    if (!find_quad(q, &p))
        return;
    load_quad(dy, p, g);
    if (y.p) {
        load_quad(y, p, v);
        for (int j = 0; j < 4; j++)
            g[j] = v[j] <= 0 ? 0 : g[j];
    }
    if (dx0.p)
        put_quad(dx0, p, add0, g);
    if (dx1.p)
        put_quad(dx1, p, add1, g);
}

extern "C" cx_status cx_cuda_fwd_add(const cx_call *c)
{
    return c->relu ? map_into(c, add_relu_of{}, c->x[0], c->x[1], c->y[0], false) : map_into(c, add_of{}, c->x[0], c->x[1], c->y[0], false);
}

extern "C" cx_status cx_cuda_bwd_add(const cx_call *c)
{
    cx_tensor y = c->relu ? c->y[0] : cx_tensor{}, dx0 = c->dx[0], dx1 = c->dx[1], dy = c->dy[0];
    cx_tensor *const all[] = { &y, &dx0, &dx1, &dy };
    if (!dx0.p && !dx1.p)
        return CX_OK;
    const k_quads q = cut(all, 4);
    LAUNCH(add_bwd, quad_blocks(q), THREADS, stream_of(c), q, dy, y, dx0, dx1, c->dx_add[0], c->dx_add[1]);
    return launched();
}

/* ---- between types --------------------------------------------------------------------------------------------------- */

extern "C" cx_status cx_cuda_fwd_convert(const cx_call *c) { return copy_into(c, c->x[0], c->y[0], false); }
