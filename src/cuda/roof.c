/* roof.c - the limits of a GPU: runs the loops of kernels/roof.cu against the host's clock. Depends on check.h, kernels.h. */
#include "roof.h"
#include "check.h"
#include "cxnet/base.h"
#include "kernels.h"

enum { TRIES = 6, LAUNCHES = 16 };
static const int64_t FIRST_TURNS = 1000, MOST_TURNS = 1 << 24;
static const double TRY_S = 0.02;
static const size_t WALKED = (size_t)1 << 30;            /* far more than the second-level cache of any GPU so far (50 to 130 MB) */

/* One loop; `floats` is the length of what is walked over, or turns. */
typedef cx_status (*launch_fn)(cudaStream_t stream, float *memory, float *keep, int64_t amount);

static cx_status fma_loop(cudaStream_t s, float *memory, float *keep, int64_t turns) { (void)memory; return cx_cuda_roof_fma(s, turns, 0.25f, keep); }
static cx_status dot_loop(cudaStream_t s, float *memory, float *keep, int64_t turns) { (void)memory; return cx_cuda_roof_dot(s, turns, 0x1p-10f, keep); }
static cx_status read_loop(cudaStream_t s, float *memory, float *keep, int64_t floats) { return cx_cuda_roof_read(s, floats, memory, keep); }
static cx_status copy_loop(cudaStream_t s, float *memory, float *keep, int64_t floats)
{
    (void)keep;
    return cx_cuda_roof_copy(s, floats / 2, memory, memory + floats / 2);
}

/* Seconds of a launch, of some in a row: what the host needs to start them is hidden behind their running. */
static cx_status time_launches(cudaStream_t stream, launch_fn f, int launches, float *memory, float *keep, int64_t amount, double *seconds, cx_error *err)
{
    CUDA(cudaStreamSynchronize(stream));
    const double t0 = cx_now_s();
    for (int i = 0; i < launches; i++)
        TRY(cx_cuda_launched(err, f(stream, memory, keep, amount), "measuring the roof"));
    CUDA(cudaStreamSynchronize(stream));
    *seconds = (cx_now_s() - t0) / launches;
    return CX_OK;
}

static cx_status fastest(cudaStream_t stream, launch_fn f, int launches, float *memory, float *keep, int64_t amount, double *seconds, cx_error *err)
{
    for (int i = 0; i < TRIES; i++) {
        double s = 0;
        TRY(time_launches(stream, f, launches, memory, keep, amount, &s, err));
        *seconds = i == 0 || s < *seconds ? s : *seconds;
    }
    return CX_OK;
}

/* 1e9 operations a second of a loop of turns: they go up until a launch lasts long enough for the clock; then some more of it. */
static cx_status peak(cudaStream_t stream, launch_fn f, int flops, float *keep, double *gflops, cx_error *err)
{
    int64_t turns = FIRST_TURNS;
    double s = 0;
    for (; s < TRY_S && turns < MOST_TURNS; turns *= 2)
        TRY(time_launches(stream, f, 1, NULL, keep, turns, &s, err));
    TRY(fastest(stream, f, 1, NULL, keep, turns, &s, err));
    *gflops = (double)turns * flops * CX_CUDA_ROOF_THREADS / s / 1e9;
    return CX_OK;
}

static cx_status measure(cudaStream_t stream, float *memory, float *keep, cx_roof *out, cx_error *err)
{
    const int64_t floats = (int64_t)(WALKED / sizeof *memory);
    double s = 0;
    TRY(fastest(stream, read_loop, LAUNCHES, memory, keep, floats, &s, err));
    out->read_gbs = (double)WALKED / s / 1e9;
    TRY(fastest(stream, copy_loop, LAUNCHES, memory, keep, floats, &s, err));
    out->copy_gbs = (double)WALKED / s / 1e9;
    TRY(peak(stream, fma_loop, CX_CUDA_TURN_FLOPS, keep, &out->fp32_gflops, err));
    return peak(stream, dot_loop, CX_CUDA_DOT_FLOPS, keep, &out->bf16_gflops, err);
}

cx_status cx_cuda_roof(cx_backend *b, cx_roof *out, cx_error *err)
{
    cudaStream_t stream = ((const cx_cuda_queue *)b->self)->stream;
    void *memory, *keep;
    *out = (cx_roof){ .memory_bytes = WALKED };
    TRY(b->alloc(b, WALKED, &memory, err));
    cx_status s = b->alloc(b, CX_CUDA_ROOF_THREADS * sizeof(float), &keep, err);
    if (s == CX_OK) {
        s = measure(stream, memory, keep, out, err);
        b->release(b, keep);
    }
    b->release(b, memory);
    return s;
}
