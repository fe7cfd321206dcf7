/* cam.cu - class activation maps: of each pixel the sum over channels of the activation times a weight, which is the gradient there, or the mean of the
 * gradient over the film. Floor: the bytes of both tensors, each read once; 2 FLOPs in double an element of either. */
#include "walk.cuh"

/* weight[film][c] <- the mean of the gradients of a film and channel. A block has some channels of a film. */
__global__ void __launch_bounds__(THREADS) cam_weights(cx_tensor grad, k_walk w, double *weight)
{
    const k_place at = first_place(w);
    const int64_t film = blockIdx.x / w.groups, area = grad.s.h * grad.s.w;
    double sum[4] = { 0, 0, 0, 0 };
    float v[4];
    for (int64_t i = threadIdx.x / ACROSS; at.n > 0 && i < area; i += DOWN) {
        load_quad(grad, in_row(at, film * area + i), v);
        for (int j = 0; j < 4; j++)
            sum[j] += (double)v[j];
    }
    sum_every<DOWN, 4>(sum);
    for (int j = 0; j < 4 && threadIdx.x < ACROSS; j++)
        if (j < at.n)
            weight[film * w.c + at.k + j] = sum[j] / (double)area;
}

/* A warp has a pixel; its lanes, quads of channels. weight NULL: the gradient at the place. */
__global__ void __launch_bounds__(THREADS) cam_pixels(cx_tensor act, cx_tensor grad, const double *weight, bool wide, float *map)
{
    const int64_t pixel = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, c = pixel < pixels(act.s) ? act.s.c : 0;
    const double *of_film = weight ? weight + pixel / (act.s.h * act.s.w) * act.s.c : nullptr;
    double sum = 0;
    for (int64_t k = threadIdx.x % WARP * 4; k < c; k += WARP * 4) {
        const int n = (int)min(c - k, (int64_t)4);
        const k_place p = { pixel, k, n, wide && n == 4 };
        float v[4], g[4] = { 0, 0, 0, 0 };
        load_quad(act, p, v);
        if (!of_film)
            load_quad(grad, p, g);
        for (int j = 0; j < 4; j++)
            sum += (double)v[j] * (of_film && j < n ? of_film[k + j] : (double)g[j]);
    }
    for (int d = WARP / 2; d > 0; d /= 2)
        sum += __shfl_xor_sync(FULL, sum, d);
    if (c > 0 && threadIdx.x % WARP == 0)
        map[pixel] = sum > 0 ? (float)sum : 0;
}

extern "C" int64_t cx_cuda_cam_doubles(cx_shape act) { return act.n * act.c; }

extern "C" cx_status cx_cuda_cam(void *stream, bool by_place, cx_tensor act, cx_tensor grad, double *scratch, float *map)
{
    const bool wide = is_wide(act) && is_wide(grad);
    if (!by_place) {
        k_walk w = walk_of(cx_pixels(grad.s), grad.s.c, grad);
        w.chunks = (unsigned)grad.s.n;
        LAUNCH(cam_weights, blocks_in(w), THREADS, stream, grad, w, scratch);
    }
    LAUNCH(cam_pixels, (unsigned)parts_of(cx_pixels(act.s), THREADS / WARP), THREADS, stream, act, grad, by_place ? nullptr : scratch, wide, map);
    return launched();
}
