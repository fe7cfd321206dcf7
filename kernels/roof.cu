/* roof.cu - loops that do nothing but multiply-add, read or copy: the roof that steps are held against (cx_backend.roof). FLOPs of roof_fma and roof_dot:
 * CX_CUDA_TURN_FLOPS and CX_CUDA_DOT_FLOPS a turn and thread, no bytes to speak of. Bytes of the others: 16 read, or 16 read and 16 written, for each quad. */
#include "common.cuh"
#include "tensor.cuh"

enum { CHAINS = 8, IN_A_ROW = 4 };              /* sums that do not wait for each other; terms added to each in one turn */
static_assert(CX_CUDA_TURN_FLOPS == 2 * CHAINS * IN_A_ROW, "a multiply-add is two operations");
static_assert(CX_CUDA_DOT_FLOPS == 2 * 16 * 8 * 16 / 32 * CHAINS, "16 x 8 sums of 16 products by the 32 threads of a warp");

struct alignas(16) roof_quad { float v[4]; };

/* Each sum runs to 1 / (1 - x). */
__global__ void __launch_bounds__(THREADS) roof_fma(int64_t turns, float x, float *out)
{
    float a[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        a[i] = (float)(threadIdx.x + (unsigned)i);
    for (int64_t t = 0; t < turns; t++)
        for (int k = 0; k < IN_A_ROW; k++)
            for (int i = 0; i < CHAINS; i++)
                a[i] = fmaf(a[i], x, 1);
    float sum = 0;
    for (int i = 0; i < CHAINS; i++)
        sum += a[i];
    out[(int64_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

/* On tensor cores, in registers. Each of a thread's CHAINS * 4 sums gains 16 x a turn. */
__global__ void __launch_bounds__(THREADS) roof_dot(int64_t turns, float x, float *out)
{
    const uint32_t all_x = pack_bf16(x, x), ones = pack_bf16(1, 1), a[4] = { all_x, all_x, all_x, all_x }, b[2] = { ones, ones };
    float d[CHAINS][4] = {}, sum = 0;
    for (int64_t t = 0; t < turns; t++)
        for (int i = 0; i < CHAINS; i++)
            mma_bf16(d[i], a, b);
    for (int i = 0; i < CHAINS * 4; i++)
        sum += d[i / 4][i % 4];
    out[(int64_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) roof_read(int64_t quads, const roof_quad *from, float *out)
{
    float sum = 0;
    EACH_ELEMENT(i, quads) {
        const roof_quad q = from[i];
        for (int j = 0; j < 4; j++)
            sum += q.v[j];
    }
    out[(int64_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) roof_copy(int64_t quads, const roof_quad *from, roof_quad *to)
{
    EACH_ELEMENT(i, quads)
        to[i] = from[i];
}

cx_status cx_cuda_roof_fma(void *stream, int64_t turns, float x, float *out)
{
    LAUNCH(roof_fma, CX_CUDA_ROOF_BLOCKS, THREADS, stream, turns, x, out);
    return launched();
}

cx_status cx_cuda_roof_dot(void *stream, int64_t turns, float x, float *out)
{
    LAUNCH(roof_dot, CX_CUDA_ROOF_BLOCKS, THREADS, stream, turns, x, out);
    return launched();
}

cx_status cx_cuda_roof_read(void *stream, int64_t floats, const float *from, float *out)
{
    LAUNCH(roof_read, CX_CUDA_ROOF_BLOCKS, THREADS, stream, floats / 4, (const roof_quad *)(const void *)from, out);
    return launched();
}

cx_status cx_cuda_roof_copy(void *stream, int64_t floats, const float *from, float *to)
{
    LAUNCH(roof_copy, CX_CUDA_ROOF_BLOCKS, THREADS, stream, floats / 4, (const roof_quad *)(const void *)from, (roof_quad *)(void *)to);
    return launched();
}
