/* sums.cuh - sums over the threads of a block and, by way of scratch, over blocks: always in double, in an order that depends on shapes only, without atomics.
 * A kernel whose blocks each leave their part in scratch is followed by one small launch that adds the parts. */
#ifndef CX_SUMS_CUH
#define CX_SUMS_CUH
#include "common.cuh"

static inline int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- over a block of THREADS threads, all in x ------------------------------------------------------------------------- */

/* v[m], for each m < M, becomes its sum over the N threads that are equal modulo THREADS / N, N a power of two, for each of them: over the lanes of a warp by
 * halves, then over warps (over lines of THREADS / N threads, where these are wider) in order. All threads call. May be called again at once. */
template <int N, int M> static __device__ __forceinline__ void sum_every(double *v)
{
    constexpr int COLUMNS = THREADS / N, LINE = COLUMNS < WARP ? (int)WARP : COLUMNS, LINES_HELD = THREADS / LINE;
    const int column = (int)threadIdx.x % COLUMNS, line = (int)threadIdx.x / LINE;
    SHARED(double, part, M * LINES_HELD * COLUMNS);
    for (int d = COLUMNS; d < WARP; d *= 2)
        for (int m = 0; m < M; m++)
            v[m] += __shfl_xor_sync(FULL, v[m], d);
    for (int m = 0; m < M; m++)
        if ((int)threadIdx.x % LINE < COLUMNS)
            part[(m * LINES_HELD + line) * COLUMNS + column] = v[m];
    __syncthreads();
    for (int m = 0; m < M; m++) {
        v[m] = 0;
        for (int i = 0; i < LINES_HELD; i++)
            v[m] += part[(m * LINES_HELD + i) * COLUMNS + column];
    }
    __syncthreads();
}
template <int N> static __device__ __forceinline__ double sum_every(double v)
{
    sum_every<N, 1>(&v);
    return v;
}

/* ---- over blocks: part[n][R][width] ------------------------------------------------------------------------------------- */

/* done(e, sum) for each e < width, with R sums over n. A part is added by one thread, or in turns by N. */
template <class T, int N, int R, class F> __global__ void __launch_bounds__(THREADS) add_parts(const T *part, int64_t n, int64_t width, F done)
{
    const int64_t e = (int64_t)blockIdx.x * (THREADS / N) + threadIdx.x % (THREADS / N);
    double sum[R];
    for (int r = 0; r < R; r++)
        sum[r] = 0;
    for (int64_t i = threadIdx.x / (THREADS / N); e < width && i < n; i += N)
        for (int r = 0; r < R; r++)
            sum[r] += (double)part[(i * R + r) * width + e];
    if (N > 1)
        sum_every<N, R>(sum);
    if (e < width && threadIdx.x < THREADS / N)
        done(e, sum);
}

/* Many parts of few numbers are added by many threads each, few of many by one. */
enum { MANY = 32 };
template <int R, class T, class F> static inline void launch_parts(const cx_call *c, const T *part, int64_t n, int64_t width, F done)
{
    if (n < 2 * MANY)
        LAUNCH((add_parts<T, 1, R, F>), (unsigned)parts_of(width, THREADS), THREADS, stream_of(c), part, n, width, done);
    else
        LAUNCH((add_parts<T, MANY, R, F>), (unsigned)parts_of(width, THREADS / MANY), THREADS, stream_of(c), part, n, width, done);
}

/* to (+)= the sum of n parts, each as large as it, at the beginning of c->work. */
struct put_sum {
    cx_tensor to;
    bool add;
    __device__ void operator()(int64_t e, const double *sum) const { put(to, e / to.s.c, e % to.s.c, add, sum[0]); }
};
template <class T> static inline void launch_add(const cx_call *c, int64_t n, const cx_tensor &to, bool add)
{
    launch_parts<1>(c, (const T *)c->work, n, cx_elems(to.s), put_sum{ to, add });
}

/* Mean and variance from those of tiles of PIXELS pixels, part[tiles][2][C]: mean and sum of squared deviations (Chan, Golub & LeVeque 1983, all tiles at
 * once): the mean of means, then squares within tiles and between them. Blocks of THREADS / MANY channels. */
template <int PIXELS> __global__ void __launch_bounds__(THREADS) merge_statistics(const double *part, int64_t tiles, cx_shape y, cx_tensor stats)
{
    const int64_t k = (int64_t)blockIdx.x * (THREADS / MANY) + threadIdx.x % (THREADS / MANY), line = threadIdx.x / (THREADS / MANY), all = pixels(y);
    const bool in = k < y.c;
    double sum = 0, squares = 0;
    for (int64_t i = line; in && i < tiles; i += MANY)
        sum += (double)min((int64_t)PIXELS, all - i * PIXELS) * part[i * 2 * y.c + k];
    const double mean = sum_every<MANY>(sum) / (double)all;
    for (int64_t i = line; in && i < tiles; i += MANY) {
        const double d = part[i * 2 * y.c + k] - mean;
        squares += part[(i * 2 + 1) * y.c + k] + (double)min((int64_t)PIXELS, all - i * PIXELS) * d * d;
    }
    squares = sum_every<MANY>(squares);
    if (in && line == 0) {
        put(stats, 0, k, false, mean);
        put(stats, 1, k, false, squares / (double)all);
    }
}
template <int PIXELS> static inline void launch_merge(const cx_call *c, int64_t tiles)
{
    const cx_shape y = c->y[0].s;
    LAUNCH(merge_statistics<PIXELS>, (unsigned)parts_of(y.c, THREADS / MANY), THREADS, stream_of(c), (const double *)c->work, tiles, y, c->fold.stats);
}
#endif
