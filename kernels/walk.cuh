/* walk.cuh - kernels that walk all pixels of neighbouring channels, 16 bytes of a pixel (8 in bf16) a thread, with what each channel has of its own (norm, carry,
 * mean) in registers; and the sums over all pixels that they leave. Folds as in common.cuh, four channels at once. */
#ifndef CX_WALK_CUH
#define CX_WALK_CUH
#include "quads.cuh"
#include "sums.cuh"

/* A block of THREADS has ACROSS neighbouring quads of channels, 128 bytes of a pixel in float32, on each of DOWN lines. It walks a chunk of `length` pixels. Chunks
 * follow from the shape only: enough blocks to fill 132 multiprocessors twice over, none so short that its sums cost more than its pixels. */
enum { ACROSS = 8, DOWN = THREADS / ACROSS, FULL_GPU = 2112, SHORT = 2 * DOWN };
typedef struct { int64_t pixels, c, length; unsigned groups, chunks; bool wide; } k_walk;

template <class... T> static inline k_walk walk_of(int64_t pixels, int64_t channels, const T &...tensors)
{
    const int64_t groups = parts_of(channels, 4 * ACROSS), most = parts_of(FULL_GPU, groups), even = parts_of(parts_of(pixels, most), DOWN) * DOWN;
    const int64_t length = even < SHORT ? (int64_t)SHORT : even;
    return k_walk{ pixels, channels, length, (unsigned)groups, (unsigned)parts_of(pixels, length), (is_wide(tensors) && ...) };
}
static inline unsigned blocks_in(const k_walk &w) { return w.groups * w.chunks; }

/* Where this thread begins: its quad, of n <= 0 channels where there are none left. */
static __device__ __forceinline__ k_place first_place(const k_walk &w)
{
    const int64_t k = ((int64_t)(blockIdx.x % w.groups) * ACROSS + threadIdx.x % ACROSS) * 4;
    const int n = (int)max(min(w.c - k, (int64_t)4), (int64_t)0);
    return k_place{ blockIdx.x / w.groups * w.length + threadIdx.x / ACROSS, k, n, w.wide && n == 4 };
}
/* It takes rows first_place, DOWN further on, and so on, before this one. */
static __device__ __forceinline__ int64_t last_place(const k_walk &w, const k_place &p)
{
    return p.n > 0 ? min((int64_t)(blockIdx.x / w.groups + 1) * w.length, w.pixels) : 0;
}
/* i rows of this thread on; no channels beyond the last. */
static __device__ __forceinline__ k_place steps_on(k_place p, int i, int64_t end)
{
    p.row += i * DOWN;
    if (p.row >= end)
        p = k_place{ 0, 0, 0, false };
    return p;
}
/* Row r of vectors over channels, of this thread's. */
static __device__ __forceinline__ void load_row(const cx_tensor &t, int r, const k_place &p, float v[4]) { load_quad(t, k_place{ r, p.k, p.n, false }, v); }

/* ---- sums over all pixels --------------------------------------------------------------------------------------------- */

/* part[chunk][R][c] <- the block's sums of R numbers for each of its channels: v[4 * r + j] for channel j of the quad. All threads call. */
template <int R> static __device__ __forceinline__ void leave_sums(const k_walk &w, double *v, double *part)
{
    const k_place p = first_place(w);
    sum_every<DOWN, 4 * R>(v);
    for (int r = 0; r < R && threadIdx.x < ACROSS; r++)
        for (int j = 0; j < 4; j++)
            if (j < p.n)
                part[((int64_t)(blockIdx.x / w.groups) * R + r) * w.c + p.k + j] = v[4 * r + j];
}
static inline size_t walk_bytes(const k_walk &w, int numbers) { return (size_t)w.chunks * (size_t)numbers * (size_t)w.c * sizeof(double); }

/* ---- folds -------------------------------------------------------------------------------------------------------------- */

/* The norm in front of x[0], of this thread's channels. */
typedef struct { float scale[4], shift[4], mean[4]; } k_pre;
static __device__ __forceinline__ k_pre pre_of(const k_source &s, const k_place &p)
{
    k_pre v = {};
    if (s.pre.s.c) {
        load_row(s.pre, CX_FOLD_SCALE, p, v.scale);
        load_row(s.pre, CX_FOLD_SHIFT, p, v.shift);
        load_row(s.pre, CX_FOLD_MEAN, p, v.mean);
    }
    return v;
}
/* x[0] behind its norm and ReLU. */
static __device__ __forceinline__ void load_x(const k_source &s, const k_pre &pre, const k_place &p, float v[4])
{
    load_quad(s.x, p, v);
    for (int j = 0; j < 4; j++) {
        v[j] = s.pre.s.c ? fmaf(v[j], pre.scale[j], pre.shift[j]) : v[j];
        v[j] = s.relu && v[j] < 0 ? 0 : v[j];
    }
}
/* Four gradients of u on their way into dx[0]; adds their two terms to sum[]: of g, of g (x - mean). */
static __device__ __forceinline__ void pass_gate(const k_gate &t, const k_pre &pre, const k_place &p, double g[4], double sum[8])
{
    float x[4];
    if (t.src.pre.s.c) {
        load_quad(t.src.x, p, x);
        for (int j = 0; j < 4; j++) {
            if (t.src.relu && fmaf(x[j], pre.scale[j], pre.shift[j]) <= 0)
                g[j] = 0;
            sum[j] += g[j];
            sum[4 + j] += g[j] * ((double)x[j] - (double)pre.mean[j]);
            g[j] *= (double)pre.scale[j];
        }
    }
    if (t.dx.p)
        put_quad(t.dx, p, t.add, g);
}
/* Scratch of a backward step that walks so, and what it does with it: fold.sums <- the parts that lie there. */
static inline size_t gate_bytes(const cx_call *c, const k_walk &w) { return c->fold.sums.s.c ? walk_bytes(w, 2) : 0; }
static inline double *gate_parts(const cx_call *c) { return c->fold.sums.s.c ? (double *)c->work : nullptr; }
static inline void add_gate(const cx_call *c, const k_walk &w)
{
    if (c->fold.sums.s.c)
        launch_add<double>(c, w.chunks, c->fold.sums, false);
}
#endif
