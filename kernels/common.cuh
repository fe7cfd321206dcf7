/* common.cuh - what kernels share: numbers of a tensor by pixel and channel, x behind its prologue, dy with carry and mask, gradients on their way through a
 * gate, the size of a grid. The folds are those of cx_fold in op.h; src/ops/ref.h is the same on the host. */
#ifndef CX_COMMON_CUH
#define CX_COMMON_CUH
#include "compat.cuh"

enum { THREADS = 256 };

static inline void *stream_of(const cx_call *c) { return c->self ? ((const cx_cuda_queue *)c->self)->stream : nullptr; }
static inline const uint64_t *clock_of(const cx_call *c) { return c->self ? ((const cx_cuda_queue *)c->self)->clock : nullptr; }
static inline cx_status launched(void) { return cudaPeekAtLastError() == cudaSuccess ? CX_OK : CX_E_INTERNAL; }
/* Blocks of THREADS for n elements, each thread taking several where there are very many: kernels step by gridDim.x * blockDim.x. */
static inline unsigned blocks_for(int64_t n)
{
    const int64_t b = (n + THREADS - 1) / THREADS;
    return (unsigned)(b < 1 ? 1 : b > 1 << 20 ? 1 << 20 : b);
}
#define EACH_ELEMENT(i, n) for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

/* Shapes, for code of the device. */
static __device__ __forceinline__ int64_t pixels(const cx_shape &s) { return s.n * s.h * s.w; }

/* Four numbers side by side: one access of memory, global or shared. */
struct alignas(16) k_float4 { float v[4]; };
struct alignas(8) k_half4 { uint16_t v[4]; };

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ float from_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static __device__ __forceinline__ uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)(x != x ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Channel k of a pixel, whatever its type. */
static __device__ __forceinline__ float load(const cx_tensor &t, int64_t pixel, int64_t k)
{
    const int64_t at = pixel * t.ld + k;
    return t.type == CX_BF16 ? from_bf16(((const uint16_t *)(const void *)t.p)[at]) : t.p[at];
}
static __device__ __forceinline__ void store(const cx_tensor &t, int64_t pixel, int64_t k, float v)
{
    const int64_t at = pixel * t.ld + k;
    if (t.type == CX_BF16)
        ((uint16_t *)(void *)t.p)[at] = to_bf16(v);
    else
        t.p[at] = v;
}
/* A gradient, always float32: overwritten, or added to. */
static __device__ __forceinline__ void put(const cx_tensor &t, int64_t pixel, int64_t k, bool add, double v)
{
    float *p = t.p + pixel * t.ld + k;
    *p = (float)(add ? (double)*p + v : v);
}
static __device__ __forceinline__ float row(const cx_tensor &t, int r, int64_t k) { return t.p[r * t.ld + k]; }
static __device__ __forceinline__ int64_t pixel_at(const cx_tensor &t, int64_t n, int64_t y, int64_t x) { return (n * t.s.h + y) * t.s.w + x; }

/* ---- folds -------------------------------------------------------------------------------------------------------- */

/* x[0] behind its norm, before and behind the ReLU. One rounding, as everywhere. */
typedef struct { cx_tensor x, pre; bool relu; } k_source;
static inline k_source source_of(const cx_call *c) { return k_source{ c->x[0], c->fold.pre, c->fold.pre_relu }; }
static __device__ __forceinline__ float u_at(const k_source &s, int64_t pixel, int64_t k)
{
    const float x = load(s.x, pixel, k);
    return s.pre.s.c ? fmaf(x, row(s.pre, CX_FOLD_SCALE, k), row(s.pre, CX_FOLD_SHIFT, k)) : x;
}
static __device__ __forceinline__ float x_at(const k_source &s, int64_t pixel, int64_t k)
{
    const float u = u_at(s, pixel, k);
    return s.relu && u < 0 ? 0 : u;
}

/* dy[0] with its carry, zero where the folded ReLU cut. */
typedef struct { cx_tensor dy, y, carry; bool relu; } k_gradient;
static inline k_gradient gradient_of(const cx_call *c) { return k_gradient{ c->dy[0], c->y[0], c->fold.carry, c->relu }; }
static __device__ __forceinline__ double dy_at(const k_gradient &g, int64_t pixel, int64_t k)
{
    if (g.relu && load(g.y, pixel, k) <= 0)
        return 0;
    const double dy = (double)load(g.dy, pixel, k);
    return g.carry.s.c ? dy + (double)row(g.carry, 0, k) * (double)load(g.y, pixel, k) + (double)row(g.carry, 1, k) : dy;
}

/* The gradient of u on its way into dx[0] and sums. */
typedef struct { k_source src; cx_tensor dx, sums; bool add; } k_gate;
static inline k_gate gate_of(const cx_call *c) { return k_gate{ source_of(c), c->dx[0], c->fold.sums, c->dx_add[0] }; }
static inline bool wants_dx(const cx_call *c) { return c->dx[0].p || c->fold.sums.s.c; }
/* Returns g behind the mask; adds its two terms to sum[], which runs over one channel. */
static __device__ __forceinline__ void pass_gate(const k_gate &t, int64_t pixel, int64_t k, double g, double sum[2])
{
    if (t.src.pre.s.c) {
        if (t.src.relu && u_at(t.src, pixel, k) <= 0)
            g = 0;
        sum[0] += g;
        if (t.sums.s.c)
            sum[1] += g * ((double)load(t.src.x, pixel, k) - (double)row(t.src.pre, CX_FOLD_MEAN, k));
        g *= (double)row(t.src.pre, CX_FOLD_SCALE, k);
    }
    if (t.dx.p)
        put(t.dx, pixel, k, t.add, g);
}

/* ---- blocks of lines ------------------------------------------------------------------------------------------------ */

/* Neighbouring threads have neighbouring channels, lines neighbouring pixels. */
enum { COLS = 32, LINES = 8 };
static inline unsigned channel_blocks(int64_t c) { return (unsigned)((c + COLS - 1) / COLS); }

#endif
