/* ranks.cu - numbers of several GPUs added in the order of their ranks, so that all have the same bits: 4 bytes read a number and rank, 4 written, one
 * addition a rank less one. Bound by its bytes, and small beside what the wires carry. */
#include "common.cuh"

__global__ void __launch_bounds__(THREADS) add_ranks(float *own, const float *parts, int64_t pitch, int rank, int ranks, int64_t n)
{
    EACH_ELEMENT(i, n) {
        float sum = rank == 0 ? own[i] : parts[i];
        for (int r = 1; r < ranks; r++)
            sum += r == rank ? own[i] : parts[r * pitch + i];
        own[i] = sum;
    }
}

extern "C" cx_status cx_cuda_add_ranks(void *stream, float *own, const float *parts, int64_t pitch, int rank, int ranks, int64_t n)
{
    LAUNCH(add_ranks, blocks_for(n), THREADS, stream, own, parts, pitch, rank, ranks, n);
    return launched();
}
