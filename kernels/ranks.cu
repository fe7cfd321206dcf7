/* ranks.cu - numbers of several GPUs added in the order of their ranks, so that all have the same bits: 4 bytes read a number and rank, 4 written, one
 * addition a rank less one. Bound by its bytes, and small beside what the wires carry. And what else a step with ranks needs: the share of a part, one thread's
 * work, and running statistics put aside and back, 8 bytes a number. */
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

/* The host's rule (src/graph/share.c); a share and a loss are floats, so their product in double is exact, with or without a fused addition behind it. */
__global__ void __launch_bounds__(1) weigh_parts(const cx_cuda_part *part, int rank, int ranks, float *seed, float *loss)
{
    double all = 0, sum = 0;
    for (int r = 0; r < ranks; r++)
        all += part[r].weight;
    for (int r = 0; r < ranks; r++) {
        const float share = (float)(all > 0 ? part[r].weight / all : 0);
        sum += (double)share * (double)part[r].loss;
        if (r == rank)
            *seed = share;
    }
    *loss = (float)sum;
}

extern "C" cx_status cx_cuda_weigh_parts(void *stream, const cx_cuda_part *part, int rank, int ranks, float *seed, float *loss)
{
    LAUNCH(weigh_parts, 1, 1, stream, part, rank, ranks, seed, loss);
    return launched();
}

__global__ void __launch_bounds__(1) note_lost(const volatile int32_t *lost, cx_cuda_step *step)
{
    if (step->fault == CX_CUDA_SOUND && *lost)
        step->fault = CX_CUDA_LOST;
}

extern "C" cx_status cx_cuda_note_lost(void *stream, const int32_t *lost, cx_cuda_step *step)
{
    LAUNCH(note_lost, 1, 1, stream, lost, step);
    return launched();
}

__global__ void __launch_bounds__(THREADS) copy_when(const cx_cuda_step *step, int32_t when, const float *from, float *to, int64_t n)
{
    if (step->fault == when)
        EACH_ELEMENT(i, n) to[i] = from[i];
}

extern "C" cx_status cx_cuda_copy_when(void *stream, const cx_cuda_step *step, cx_cuda_fault when, const float *from, float *to, int64_t n)
{
    if (n > 0)
        LAUNCH(copy_when, blocks_for(n), THREADS, stream, step, when, from, to, n);
    return launched();
}
